"""The two-layer network in triton, interpreted: against its twin at odd sizes."""

import sys
from pathlib import Path

import pytest
import torch

from blocknerf.kernels.mlp import two_layers

pytest.importorskip("triton", reason="triton is made for Linux alone")
sys.path.insert(0, str(Path(__file__).parents[1] / "support"))
from twins import compare, random


@pytest.mark.parametrize("sizes", [(0, 4, 8, 3), (1, 4, 8, 3), (64, 32, 64, 16), (1000, 20, 37, 5), (700, 33, 130, 17)])
def test_network_and_its_gradients_agree(sizes):
    points, inputs, width, outputs = sizes
    shapes = [(points, inputs), (width, inputs), (width,), (outputs, width), (outputs,)]
    tensors = [random(*shape, seed=seed).requires_grad_() for seed, shape in enumerate(shapes)]
    cotangent = random(points, outputs, seed=9)

    def call():
        out = torch.cat(two_layers(*tensors), -1)
        return out, *torch.autograd.grad((out * cotangent).sum(), tensors)

    compare(call, "triton", 2e-6)


def test_any_order_of_memory_is_read():
    shapes = [(20, 300), (37, 20), (37,), (37, 5), (5,)]
    values, weight1, bias1, weight2, bias2 = (random(*shape, seed=seed) for seed, shape in enumerate(shapes))
    tensors = [values.T.requires_grad_(), weight1.requires_grad_(), bias1, weight2.T.requires_grad_(), bias2]
    cotangent = random(5, 300, seed=9).T
    learned = (tensors[0], tensors[1], tensors[3])
    compare(lambda: torch.autograd.grad(torch.cat(two_layers(*tensors), -1), learned, cotangent), "triton", 2e-6)
