"""benchmarks/cuda.py: its calls are right, though there may be no device to time them on."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from blocknerf.kernels.registry import use_backend

pytest.importorskip("triton", reason="triton is made for Linux alone")
sys.path.insert(0, str(Path(__file__).parents[2]))
from benchmarks.cuda import cases, training_step


def test_every_case_runs_and_moves_bytes(monkeypatch):
    monkeypatch.setattr("benchmarks.cuda.GRIDS", {"2x2": (2, 2, 6)})
    with use_backend("triton"):
        for case in cases(torch.device("cpu"), 128):
            case.run()
            assert case.bytes > 0, case.name


def test_a_training_step_learns():
    step = training_step(torch.device("cpu"), 32)
    step()
    step()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is something to measure")
def test_without_a_device_it_says_so():
    command = [sys.executable, "-m", "benchmarks.cuda"]
    ran = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True, check=False)
    assert ran.returncode == 2
    assert ran.stdout == "There is no CUDA device on this machine: nothing was measured.\n"
