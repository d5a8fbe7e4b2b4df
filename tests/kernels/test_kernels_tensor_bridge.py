"""Kernels give the same bytes in every process: one kind of array whatever a tensor's strides, one code for all."""

import inspect
import os
import re
import subprocess
import sys

import pytest
import torch
from torch import Tensor

from blocknerf.kernels.compositing import numba as compositing_numba
from blocknerf.kernels.compositing.ops import accumulate, render_weights
from blocknerf.kernels.hash_grid import numba as hash_grid_numba
from blocknerf.kernels.hash_grid.ops import hash_encode
from blocknerf.kernels.histograms import numba as histograms_numba
from blocknerf.kernels.histograms.ops import distortion_loss, interlevel_loss
from blocknerf.kernels.jit.tensor_bridge import array_of
from blocknerf.kernels.log_density import numba as log_density_numba
from blocknerf.kernels.marching import numba as marching_numba
from blocknerf.kernels.marching.ops import s_to_t, unit_cube_points
from blocknerf.kernels.mlp import numba as mlp_numba
from blocknerf.kernels.mlp.ops import fused_mlp
from blocknerf.kernels.proposal import numba as proposal_numba
from blocknerf.kernels.sparse_adam import numba as sparse_adam_numba
from blocknerf.kernels.splats import numba as splats_numba

RAYS, SAMPLES = 6, 5
MODULES = (
    *(compositing_numba, hash_grid_numba, histograms_numba, marching_numba),
    *(log_density_numba, mlp_numba, proposal_numba, sparse_adam_numba, splats_numba),
)
BYTES_OF_A_GRADIENT = """
import hashlib, torch
from blocknerf.kernels.mlp.ops import fused_mlp
rng = torch.Generator().manual_seed(0)
tensors = [torch.randn(shape, generator=rng).requires_grad_() for shape in [(99, 32), (64, 32), (64,), (16, 64), (16,)]]
gradients = torch.autograd.grad(torch.cat(fused_mlp(*tensors), -1).square().sum(), tensors)
print(hashlib.sha256(b"".join(gradient.numpy().tobytes() for gradient in gradients)).hexdigest())
"""


def _apart(*shape: int) -> Tensor:
    """Positive values whose neighbours do not lie beside each other in memory."""
    return torch.rand(*shape, 2, generator=torch.Generator().manual_seed(0))[..., 0]


def _call_everything() -> None:
    edges = _apart(RAYS, SAMPLES + 1).cumsum(-1)
    edges = torch.stack([edges, edges], -1)[..., 0]
    density, rays = _apart(RAYS, SAMPLES).requires_grad_(), _apart(RAYS, 3).requires_grad_()
    weights = render_weights(density, edges)
    accumulate(_apart(RAYS, SAMPLES).requires_grad_(), _apart(RAYS, SAMPLES, 3).requires_grad_()).sum().backward()
    (weights * _apart(RAYS, SAMPLES)).sum().backward()
    interlevel_loss(edges, density, edges, _apart(RAYS, SAMPLES)).backward()
    distortion_loss(edges, density).backward()
    s_to_t(rays, rays, edges, torch.tensor([0.1, 9.0]).expand(len(rays), 2))
    unit_cube_points(rays, rays, edges).sum().backward()
    table = _apart(2, 16, 4).requires_grad_()
    hash_encode(rays, table, torch.tensor([2, 4])).sum().backward()
    layers = (_apart(4, 3), _apart(4), _apart(2, 4), _apart(2))
    torch.cat(fused_mlp(rays, *(layer.requires_grad_() for layer in layers)), -1).sum().backward()


def test_kernels_are_compiled_for_one_order_of_memory():
    _call_everything()
    kernels = [kernel for module in MODULES for kernel in vars(module).values() if hasattr(kernel, "signatures")]
    layouts = {
        kind.layout for kernel in kernels for types in kernel.signatures for kind in types if hasattr(kind, "layout")
    }
    assert layouts == {"C"}


def test_kernels_are_called_with_the_types_that_are_compiled_beforehand():
    _call_everything()
    kernels = [kernel for module in MODULES for kernel in vars(module).values() if hasattr(kernel, "called_with")]
    called = [kernel for kernel in kernels if kernel.signatures]
    assert len(called) > 10
    for kernel in called:
        assert kernel.signatures == [kernel.called_with], kernel


def test_no_helper_is_a_symbol_that_kernels_share():
    helpers = {
        (module, name): kernel.targetoptions
        for module in MODULES
        for name, kernel in vars(module).items()
        if hasattr(kernel, "targetoptions") and kernel.stats.cache_path is None
    }
    assert helpers
    for (module, name), options in helpers.items():
        is_part_of_one = re.findall(rf"\b{name}\b", inspect.getsource(module)) == [name, name]  # there, and shared out
        assert is_part_of_one or options.get("inline") == "always" or options.get("forceinline"), name


def test_a_process_that_compiles_computes_what_one_does_that_finds_kernels_compiled(tmp_path):
    command = [sys.executable, "-c", BYTES_OF_A_GRADIENT]
    environment = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path)}
    first, second = (subprocess.run(command, env=environment, capture_output=True, check=True) for _ in range(2))
    assert first.stdout == second.stdout


@pytest.mark.parametrize(
    "make", [lambda: torch.rand(3, 4), lambda: torch.rand(4, 3).T, lambda: torch.rand(3, 8)[:, ::2]]
)
def test_an_array_holds_the_tensors_values(make):
    tensor = make()
    array = array_of(tensor.requires_grad_())
    assert array.flags.c_contiguous
    assert array.tolist() == tensor.tolist()


def test_nothing_is_copied_without_need():
    tensor = torch.rand(3, 4)
    array_of(tensor)[0, 0] = 7
    assert tensor[0, 0] == 7
