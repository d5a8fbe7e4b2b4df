"""Kernels compile for a real device, on any machine: what the interpreter forgives, the compiler does not.

In a process of its own: kernels of this one were decorated for the interpreter.
"""

import os
import subprocess
import sys

import pytest

pytest.importorskip("triton", reason="triton is made for Linux alone")

MODULES = {"compositing": 4, "hash_grid": 3, "histograms": 3, "marching": 3, "mlp": 3, "proposal": 2, "sparse_adam": 1}
"""How many kernels each has that are started: a call that no longer reaches one is noticed."""

SCRIPT = """
import importlib
from collections import Counter

import torch
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource, compile
from blocknerf.kernels.compositing.ops import accumulate, render_weights
from blocknerf.kernels.hash_grid.ops import hash_encode
from blocknerf.kernels.histograms.ops import distortion_loss, interlevel_loss, resample
from blocknerf.kernels.marching.ops import s_to_t, unit_cube_points
from blocknerf.kernels.mlp.ops import fused_mlp
from blocknerf.kernels.proposal.ops import proposal_density
from blocknerf.kernels.registry import use_backend
from blocknerf.kernels.sparse_adam.ops import sparse_adam_step

KINDS = {torch.float32: "*fp32", torch.float16: "*fp16", torch.int64: "*i64", torch.uint8: "*u8"}
KINDS |= {int: "i32", float: "fp32"}
done = set()


def compile_it(kernel, grid, *arguments, num_warps=4, **sizes):
    given = dict(zip(kernel.arg_names, arguments, strict=False)) | sizes
    kinds = {name: KINDS[getattr(value, "dtype", type(value))] for name, value in given.items()}
    ones = [name for name, value in given.items() if type(value) is int and value == 1]  # as at a launch
    kinds |= {name: "constexpr" for name in (*sizes, *ones)}
    constants = {name: given[name] for name, kind in kinds.items() if kind == "constexpr"}
    source = ASTSource(kernel, kinds, constants)
    compiled = compile(source, target=GPUTarget("cuda", 90, 32), options={"num_warps": num_warps})
    assert compiled.asm["cubin"] and compiled.metadata.shared <= 99_000, kernel
    done.add((kernel.__module__.split(".")[-2], kernel.__name__))


for module in MODULES:
    importlib.import_module(f"blocknerf.kernels.{module}.triton").launch = compile_it
rays, samples = 6, 5
like = lambda *shape: torch.rand(shape, requires_grad=True)
origins, directions, density, edges = like(rays, 3), like(rays, 3), like(rays, samples), torch.rand(rays, samples + 1)
with use_backend("triton"):
    s_to_t(origins, directions, edges, torch.tensor([0.1, 9.0], device=origins.device).expand(len(origins), 2))
    unit_cube_points(origins, directions, edges).sum().backward()
    weights = render_weights(density, edges)
    (accumulate(weights, like(rays, samples, 15)).sum() + weights.sum()).backward()
    resample(edges, density, 7)
    interlevel_loss(edges, density, edges, weights).backward()
    distortion_loss(edges, density).backward()
    proposal_density(origins, directions, edges, like(5, 5, 5)).sum().backward()
    for dtype, features in ((torch.float32, 4), (torch.float16, 2)):
        table = torch.zeros(2, 16, features, dtype=dtype, requires_grad=True)
        hash_encode(like(rays, 3), table, torch.tensor([2, 4])).sum().backward()
        moments = torch.zeros(2, 16, features), torch.zeros(2, 16, features)
        sparse_adam_step(table, torch.zeros(2, 16, features), *moments, 1, 0.1)
    torch.cat(fused_mlp(like(rays, 32), like(64, 32), like(64), like(16, 64), like(16)), -1).sum().backward()
assert Counter(module for module, _ in done) == MODULES, done
"""


def test_every_kernel_compiles_for_a_gpu(tmp_path):
    """Of compute capability 9.0."""
    variables = {"TRITON_INTERPRET": "0", "TRITON_CACHE_DIR": str(tmp_path), "TRITON_DEFAULT_FP_FUSION": "1"}
    command = [sys.executable, "-c", f"MODULES = {MODULES}\n{SCRIPT}"]
    ran = subprocess.run(command, env=os.environ | variables, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr[-2000:]
