"""Samples of the campaigns of benchmarks/robustness, in a process of its own: theirs must never have computed."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.results import RESULTS_VARIABLE
from benchmarks.robustness import forks

ROOT = Path(__file__).parents[2]
QUICK = "train,resume,train --update,align,export depth npy,export mesh,export blocks,merge,masks,export cameras"


@pytest.fixture(autouse=True)
def _results(tmp_path, monkeypatch):
    """Figures of samples do not stand with those of whole campaigns."""
    monkeypatch.setenv(RESULTS_VARIABLE, str(tmp_path / "results"))


def campaign(name: str, *options: object) -> str:
    """What it printed; its children have one thread, as theirs who measure."""
    alone = {**os.environ, "OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}
    command = [sys.executable, "-m", f"benchmarks.robustness.{name}", *map(str, options)]
    done = subprocess.run(command, cwd=ROOT, env=alone, capture_output=True, text=True, timeout=7200, check=False)
    assert done.returncode == 0, f"{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return done.stdout


def test_a_fault_at_some_calls_of_many_commands_loses_nothing(tmp_path):
    output = campaign("io_faults", "--one", "--sample", 2, "--commands", QUICK, "--folder", tmp_path)
    rows = {line.split("|")[1].strip() for line in output.splitlines() if line.startswith("| ")}
    assert {*QUICK.split(","), "all"} <= rows


def test_a_few_kills_and_pairs_lose_nothing(tmp_path):
    campaign("kills", "--kills", 4, "--pairs", 2, "--workers", 0, "--commands", "train,merge", "--folder", tmp_path)


def test_time_in_which_the_campaign_is_stopped_is_not_the_command_s(monkeypatch):
    stops = iter([0.0, 0.1, 1000.0])
    monkeypatch.setattr(forks.time, "monotonic", lambda: next(stops, 1000.1))
    assert forks.wait(os.spawnlp(os.P_NOWAIT, "sleep", "sleep", "0.05"), longest_s=10) == 0


def test_a_command_that_hangs_is_ended():
    assert forks.wait(os.spawnlp(os.P_NOWAIT, "sleep", "sleep", "60"), longest_s=0.1) == -100


@pytest.mark.slow
def test_a_fault_at_every_call_of_every_command_loses_nothing(tmp_path):
    """Some 2300 faults in about an hour; all kinds of errors at each call are a day for the campaign itself."""
    campaign("io_faults", "--one", "--folder", tmp_path)


@pytest.mark.slow
def test_hundreds_of_kills_lose_nothing(tmp_path):
    campaign("kills", "--folder", tmp_path)
