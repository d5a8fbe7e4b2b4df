"""The two-layer network in triton, interpreted: read in any order of memory."""

import pytest
import torch

from blocknerf.kernels.mlp.ops import fused_mlp

pytest.importorskip("triton", reason="triton is made for Linux alone")
from benchmarks.kernels.cuda.checks import random
from tests.support.reference import compare


def test_any_order_of_memory_is_read():
    shapes = [(20, 300), (37, 20), (37,), (37, 5), (5,)]
    values, weight1, bias1, weight2, bias2 = (random(*shape, seed=seed) for seed, shape in enumerate(shapes))
    tensors = [values.T.requires_grad_(), weight1.requires_grad_(), bias1, weight2.T.requires_grad_(), bias2]
    cotangent = random(5, 300, seed=9).T
    learned = (tensors[0], tensors[1], tensors[3])
    compare(lambda: torch.autograd.grad(torch.cat(fused_mlp(*tensors), -1), learned, cotangent), "triton", 2e-6)
