"""Kernels are compiled by processes of their own, into the cache that training reads."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from blocknerf.kernels.histograms import numba as histograms_numba
from blocknerf.kernels.jit import precompile

ROOT = Path(__file__).parents[2]
COMPILE = """
from blocknerf.kernels.jit.compiled import is_compiled
from blocknerf.kernels.jit import precompile
from blocknerf.models.backbones.hash_grid.config import HashConfig
wanted = [precompile.kernel_of(name) for name in {step} or HashConfig.kernels]
precompile.is_compiled = lambda kernel: kernel not in wanted or is_compiled(kernel)
assert not any(map(is_compiled, wanted))
precompile.start_compiling({step} or HashConfig.kernels, 2)
assert len(precompile._compilers) == 2
precompile.finish_compiling()
assert all(map(is_compiled, wanted))
precompile.start_compiling({step} or HashConfig.kernels, 2)
assert not precompile._compilers
"""
STEP = """
import sys
from pathlib import Path
from tests.support.room import write_room
from blocknerf.blocks.output import plan_scene
from blocknerf.core.config.load import load_config
from blocknerf.scene.store import ImageStore
from blocknerf.kernels.jit.precompile import kernel_of
from blocknerf.models.backbones.hash_grid.config import HashConfig
from blocknerf.training.block.warmup import warmup
folder = Path("{folder}")
write_room(folder / "room")
config, scene, plan = plan_scene(load_config(None, ["block_manager.max_blocks=1"]), folder / "room", folder / "out")
store = ImageStore.open(scene, 1, folder / "store", progress=False)
warmup(store, plan.blocks[0].train_images, config)
called = [sys.modules[name] for name in sys.modules if name.startswith("blocknerf.kernels") and name.endswith(".numba")]
called = [kernel for module in called for kernel in vars(module).values() if getattr(kernel, "signatures", ())]
called = [kernel for kernel in called if hasattr(kernel, "called_with")]
assert not [kernel for kernel in called if kernel.stats.cache_misses]
assert set(called) == {{kernel_of(name) for name in HashConfig.kernels}}
"""


def _run(code: str, cache: os.PathLike) -> None:
    environment = os.environ | {"NUMBA_CACHE_DIR": str(cache)}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_processes_compile_what_is_not_in_the_cache(tmp_path):
    _run(COMPILE.format(step=("histograms.distortion", "histograms.resample")), tmp_path)


@pytest.mark.slow
def test_a_step_finds_all_that_it_calls_and_nothing_is_compiled_in_vain(tmp_path):
    _run(COMPILE.format(step=()), tmp_path / "cache")
    _run(STEP.format(folder=tmp_path), tmp_path / "cache")


def test_nothing_is_started_where_all_is_compiled():
    values = np.zeros((1, 1), np.float32)
    histograms_numba.distortion(np.array([[0, 1]], np.float32), values, values[0], values.copy())
    precompile.start_compiling(("histograms.distortion",), 2)
    assert not precompile._compilers
