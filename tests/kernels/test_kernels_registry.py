"""Which implementation of a kernel runs, and what is said where one is missing."""

import importlib.util
import logging

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from blocknerf.kernels import registry
from blocknerf.kernels.hash_grid.ops import hash_encode
from blocknerf.kernels.proposal.ops import proposal_density
from blocknerf.kernels.registry import backend_for, kernels_for, preferred_backend, use_backend
from blocknerf.kernels.splats import reference
from blocknerf.kernels.splats.ops import rasterize


@pytest.fixture
def on_cuda(monkeypatch):
    """Tensors without values may stand on a device that is not there; the test says whether triton is."""

    def has_triton(found: bool) -> None:
        monkeypatch.setattr(importlib.util, "find_spec", lambda name: object() if found else None)

    registry._has_triton.cache_clear()
    with FakeTensorMode():
        yield has_triton
    registry._has_triton.cache_clear()


def test_a_processor_runs_numba_in_float32_alone():
    assert preferred_backend(torch.zeros(1)) == "numba"
    assert preferred_backend(torch.zeros(1, dtype=torch.float64)) == "torch"
    assert preferred_backend(torch.zeros(1, dtype=torch.float16)) == "torch"


@pytest.mark.parametrize(
    ("dtype", "backend"), [(torch.float32, "triton"), (torch.float16, "triton"), (torch.float64, "torch")]
)
def test_cuda_runs_triton(on_cuda, dtype, backend):
    on_cuda(True)
    assert preferred_backend(torch.zeros(1, dtype=dtype, device="cuda")) == backend


def test_cuda_without_triton_is_slow_and_says_so_once(on_cuda, caplog, monkeypatch):
    on_cuda(False)
    monkeypatch.setattr(registry, "log", logging.getLogger("test_kernels_registry"))  # which nobody has set up
    with caplog.at_level(logging.WARNING):
        assert [preferred_backend(torch.zeros(1, device="cuda")) for _ in range(2)] == ["torch", "torch"]
    assert [record.message for record in caplog.records] == [
        "Kernels on CUDA run in plain torch, many times slower: triton is missing (pip install triton)."
    ]


def test_a_forced_backend_is_forgotten_at_the_end():
    with use_backend("torch"):
        assert preferred_backend(torch.zeros(1)) == "torch"
        with use_backend("triton"):
            assert preferred_backend(torch.zeros(1)) == "triton"
        assert preferred_backend(torch.zeros(1)) == "torch"
    assert preferred_backend(torch.zeros(1)) == "numba"


def test_numba_writes_into_the_tensors_that_it_is_given():
    weights = torch.full((1, 2), 7.0)
    walls, edges = torch.tensor([[0.0, 1e9]]), torch.tensor([[0.0, 1.0, 2.0]])
    kernels_for("compositing", weights).weights(walls, edges, weights)
    assert weights.tolist() == [[0.0, 1.0]]


@pytest.mark.parametrize("kind", ["table", "grid"])
def test_what_has_no_kernel_collects_gradients_of_rows_as_well(kind):
    """The optimiser looks nowhere else: a table whose gradient went to `grad` would not learn."""
    rng = torch.Generator().manual_seed(0)
    points, edges = torch.rand(20, 3, generator=rng), torch.rand(20, 5, generator=rng).cumsum(-1)
    collected = []
    for backend in ("torch", "numba"):
        learned = torch.rand((2, 64, 4) if kind == "table" else (5, 5, 5), generator=rng.manual_seed(1))
        learned.requires_grad_()
        gradient = torch.zeros(2, 64, 4) if kind == "table" else torch.zeros(1, 125, 1)
        with use_backend(backend):
            for _ in range(2):
                if kind == "table":
                    out = hash_encode(points, learned, torch.tensor([2, 9]), gradient)
                else:
                    out = proposal_density(points, points, edges, learned, gradient)
                out.square().sum().backward()
        assert learned.grad is None
        collected.append(gradient)
    expected, kernel = collected
    assert torch.allclose(expected, kernel, rtol=1e-4, atol=1e-4)


def test_where_a_backend_has_no_such_kernel_the_reference_runs_and_that_is_said_once(caplog):
    registry._has_kernel.cache_clear()
    splats = torch.rand(3, 2), torch.tensor([[1.0, 0, 1]]).expand(3, 3), torch.rand(3, 3), torch.rand(3)
    with use_backend("triton"), caplog.at_level(logging.INFO):
        pictures = [rasterize(*splats, 4, 4) for _ in range(2)]
    assert all(torch.equal(picture, reference.rasterize(*splats, 4, 4)) for picture in pictures)
    assert caplog.messages == ["splats.forward has no kernel in triton; its torch reference runs instead."]


def test_one_kernel_of_an_operation_may_be_missing():
    """triton has networks of two layers, none of three."""
    pytest.importorskip("triton", reason="triton is made for Linux alone")
    kernels = ("mlp.forward", "mlp.forward_three", "log_density.density")
    values = torch.zeros(1)
    with use_backend("triton"):
        assert [backend_for(kernel, values) for kernel in kernels] == ["triton", "torch", "torch"]
    assert [backend_for(kernel, values) for kernel in kernels] == ["numba", "numba", "numba"]
