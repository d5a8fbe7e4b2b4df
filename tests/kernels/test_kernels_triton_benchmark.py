"""benchmarks/kernels/cuda/device.py: its calls are right, though there may be no device to run them on."""

import contextlib
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from blocknerf.kernels.registry import use_backend

pytest.importorskip("triton", reason="triton is made for Linux alone")
from benchmarks.kernels.cuda import device
from benchmarks.kernels.cuda.checks import checks
from benchmarks.kernels.cuda.speeds import cases, training_step
from benchmarks.results import RESULTS_VARIABLE, all_results, measured
from blocknerf.kernels.compositing import triton as compositing_triton


def test_every_case_runs_and_moves_bytes(monkeypatch):
    monkeypatch.setattr("benchmarks.kernels.cuda.speeds.GRIDS", {"2x2": (2, 2, 6)})
    with use_backend("triton"):
        for case in cases(torch.device("cpu"), 128):
            case.run()
            assert case.bytes > 0, case.name


def test_a_training_step_learns():
    step = training_step(torch.device("cpu"), 32)
    step()
    step()


@pytest.mark.parametrize("spoilt", [False, True])
def test_it_tells_all_and_ends_with_a_sentence_where_a_kernel_is_wrong(monkeypatch, tmp_path, capsys, spoilt):
    """As where there is a device, whose kernels are interpreted, and whose speeds and cities are given."""
    weights = compositing_triton.weights

    def wrong(density, edges, out):
        weights(density, edges, out)
        out.mul_(1.01)

    if spoilt:
        monkeypatch.setattr(compositing_triton, "weights", wrong)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "a device")
    on_processor = [each for each in checks(torch.device("cpu"), 5) if each.module == "compositing"]
    monkeypatch.setattr(device, "checks", lambda of, rays: on_processor)
    monkeypatch.setattr(device, "speeds", lambda *sizes: [{"kernel": "encode", "seconds": 0.5}])
    monkeypatch.setattr(device, "city", lambda out, backbone, *rest: {"city": backbone, "psnr_cuda": 21.5, "ok": True})
    monkeypatch.setattr(sys, "argv", ["device", "--out", str(tmp_path)])
    monkeypatch.setenv(RESULTS_VARIABLE, str(tmp_path / "results"))
    with pytest.raises(SystemExit) if spoilt else contextlib.nullcontext() as ended:
        device.main()
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines() if line.startswith("{")]
    assert "a device" in rows[0]["machine"]
    names = [each.name for each in on_processor]
    assert [row.get("kernel") or row["city"] for row in rows[1:]] == [
        *(f"compositing: {name}" for name in names),
        "encode",
        "hash",
        "mlp",
    ]
    wrongs = [f"compositing: {name}" for name in names if name.startswith("weights") and spoilt]
    assert [row["kernel"] for row in rows[1:] if row.get("ok") is False] == wrongs
    (results,) = all_results("kernels/cuda/device")
    assert results.machine.gpu == "a device"
    assert list(results.tables) == ["correctness", "speed", "city"]
    assert [row.name for row in results.tables["correctness"] if row.cells["ok"] == "**no**"] == wrongs
    assert results.tables["city"][0].name == "the city of hash"
    assert results.tables["city"][0].cells == {"psnr cuda": measured(21.5, format=".4g"), "ok": "yes"}
    if spoilt:
        sentence = f"Wrong on this device, by more than rounding explains: {'; '.join(wrongs)}."
        assert ended.value.code == sentence  # which python prints, and ends with code 1


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is something to measure")
def test_without_a_device_it_says_so():
    command = [sys.executable, "-m", "benchmarks.kernels.cuda.device"]
    ran = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True, check=False)
    assert ran.returncode == 2
    assert ran.stdout == "There is no CUDA device on this machine: nothing was measured.\n"
