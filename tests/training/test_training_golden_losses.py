"""The first 50 losses of two blocks of each backbone are those that are stored."""

import json
import os
import platform
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from blocknerf.runtime.cores import available_cores
from blocknerf.runtime.pool import num_threads, set_num_threads
from tests.support import golden_losses
from tests.support.golden_losses import BACKBONES, STEPS, logged_terms, losses, processor_type, stored, terms_of

ROOT = Path(__file__).parents[2]
ON_OTHER_PROCESSORS = 1e-5
"""How far a loss may be off where code is compiled for another processor, or by other versions of it."""
HOW_TO_REWRITE = "Where a change is meant to change losses, `make golden` stores the new ones."


@pytest.fixture(params=[1, 2])
def cores(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """So many the run may use, as the product is told it."""
    monkeypatch.delenv("NUMBA_NUM_THREADS", raising=False)
    monkeypatch.setenv("OMP_NUM_THREADS", str(request.param))
    if available_cores() < request.param:
        pytest.skip(f"needs {request.param} cores")
    before = num_threads(), torch.get_num_threads()
    yield request.param
    set_num_threads(before[0])
    torch.set_num_threads(before[1])


@pytest.mark.parametrize("backbone", BACKBONES)
def test_losses_are_those_that_are_stored(backbone, cores, tmp_path):
    golden = stored()
    allowed = 0.0 if golden["made_on"] == processor_type() else ON_OTHER_PROCESSORS
    _compare(losses(backbone, tmp_path), golden["losses"][backbone], allowed)
    steps = [step for file in tmp_path.rglob("metrics.jsonl") for step in logged_terms(file)]
    assert {name for step in steps for name in step} - {"mse"} == terms_of(backbone).keys()


@pytest.mark.parametrize("backbone", BACKBONES)
def test_two_blocks_are_stored(backbone):
    assert [len(of_block) for of_block in stored()["losses"][backbone].values()] == [STEPS, STEPS]


@pytest.mark.slow
@pytest.mark.skipif(platform.machine() != "x86_64", reason="the other processors are of this kind")
@pytest.mark.parametrize(("processor", "torch_code"), [("haswell", "avx2"), ("x86-64", "default")])
def test_another_processor_is_near(processor, torch_code, tmp_path):
    """Its code, compiled and run here: with shorter vectors; without multiply-add."""
    other = {"NUMBA_CPU_NAME": processor, "ATEN_CPU_CAPABILITY": torch_code, "NUMBA_CACHE_DIR": str(tmp_path / "cache")}
    command = [sys.executable, "-W", "ignore", "-m", golden_losses.__name__, str(tmp_path / "other.json")]
    subprocess.run(command, cwd=ROOT, env=os.environ | other, check=True)
    made = json.loads((tmp_path / "other.json").read_text())
    golden = stored()
    assert made["made_on"] != golden["made_on"]
    for backbone, blocks in made["losses"].items():
        values = {block: [*map(float.fromhex, of_block)] for block, of_block in blocks.items()}
        _compare(values, golden["losses"][backbone], ON_OTHER_PROCESSORS)


def _compare(found: dict[str, list[float]], golden: dict[str, list[str]], allowed: float) -> None:
    assert found.keys() == golden.keys()
    for block, of_block in found.items():
        for step, (loss, golden_hex) in enumerate(zip(of_block, golden[block], strict=True), 1):
            expected = float.fromhex(golden_hex)
            off = abs(loss - expected) / expected
            assert off <= allowed, (
                f"block {block}, step {step}: the loss is {loss!r} and was {expected!r}, off by {off:.1e}, and "
                f"{allowed:g} is allowed. {HOW_TO_REWRITE}"
            )
