"""Samples of the campaigns of benchmarks/robustness, in a process of its own: theirs must never have computed."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
QUICK = "train,resume,train --update,align,export depth npy,export mesh,export blocks,merge,masks,export cameras"


def campaign(name: str, *options: object) -> str:
    """What it printed; its children have one thread, as theirs who measure."""
    alone = {**os.environ, "OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}
    command = [sys.executable, "-m", f"benchmarks.robustness.{name}", *map(str, options)]
    done = subprocess.run(command, cwd=ROOT, env=alone, capture_output=True, text=True, timeout=1800, check=False)
    assert done.returncode == 0, f"{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return done.stdout


def test_a_fault_at_some_calls_of_many_commands_loses_nothing(tmp_path):
    shown = campaign("io_faults", "--one", "--sample", 2, "--commands", QUICK, "--folder", tmp_path)
    assert len([line for line in shown.splitlines() if line.startswith("| ")]) == 2 + len(QUICK.split(",")) + 1


def test_a_few_kills_and_pairs_lose_nothing(tmp_path):
    campaign("kills", "--kills", 4, "--pairs", 2, "--workers", 0, "--commands", "train,merge", "--folder", tmp_path)


@pytest.mark.slow
def test_a_fault_at_every_call_of_every_command_loses_nothing(tmp_path):
    campaign("io_faults", "--folder", tmp_path)


@pytest.mark.slow
def test_hundreds_of_kills_lose_nothing(tmp_path):
    campaign("kills", "--folder", tmp_path)
