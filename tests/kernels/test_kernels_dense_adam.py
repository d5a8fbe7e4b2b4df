"""Adam of whole tensors: byte for byte torch's own fused one, its reference within rounding of torch's plain one."""

import pytest
import torch

from blocknerf.kernels.dense_adam import AdamMoments, dense_adam_step
from blocknerf.kernels.registry import use_backend

STEPS = 5


def dense_adam(dtype, weight_decay):
    rng = torch.Generator().manual_seed(0)
    parameter = torch.nn.Parameter(torch.randn(7, 3, generator=rng, dtype=dtype))
    moments = AdamMoments.of(parameter)
    for step in range(STEPS):
        parameter.grad = torch.randn(7, 3, generator=rng, dtype=dtype)
        dense_adam_step([parameter], [moments], 0.1 / (step + 1), weight_decay)
    return parameter.detach(), moments


def torch_adam(dtype, weight_decay, **kind):
    rng = torch.Generator().manual_seed(0)
    parameter = torch.nn.Parameter(torch.randn(7, 3, generator=rng, dtype=dtype))
    optimizer = torch.optim.Adam([parameter], betas=(0.9, 0.99), eps=1e-15, weight_decay=weight_decay, **kind)
    for step in range(STEPS):
        parameter.grad = torch.randn(7, 3, generator=rng, dtype=dtype)
        optimizer.param_groups[0]["lr"] = 0.1 / (step + 1)
        optimizer.step()
    state = optimizer.state[parameter]
    return parameter.detach(), AdamMoments(state["exp_avg"], state["exp_avg_sq"], state["step"])


@pytest.mark.parametrize("weight_decay", [0.0, 0.3])
def test_it_is_torchs_fused_adam_byte_for_byte(weight_decay):
    (values, moments), (expected, torch_moments) = (
        dense_adam(torch.float32, weight_decay),
        torch_adam(torch.float32, weight_decay, fused=True),
    )
    assert torch.equal(values, expected)
    for name in ("first", "second", "step"):
        assert torch.equal(getattr(moments, name), getattr(torch_moments, name)), name


@pytest.mark.parametrize("weight_decay", [0.0, 0.3])
def test_its_reference_is_torchs_plain_adam(weight_decay):
    with use_backend("torch"):
        values, moments = dense_adam(torch.float64, weight_decay)
    expected, torch_moments = torch_adam(torch.float64, weight_decay, foreach=False)
    assert torch.allclose(values, expected, rtol=1e-12)
    assert torch.allclose(moments.first, torch_moments.first, rtol=1e-12)
    assert torch.allclose(moments.second, torch_moments.second, rtol=1e-12)
    assert float(moments.step) == STEPS
