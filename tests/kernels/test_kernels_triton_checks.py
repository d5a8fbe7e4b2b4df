"""Every triton kernel, interpreted, against its reference; and the checks themselves: a wrong kernel is noticed."""

import importlib
import inspect
from pathlib import Path

import pytest
import torch
from torch import Tensor

pytest.importorskip("triton", reason="triton is made for Linux alone")
from benchmarks.kernels.cuda import checks as cuda_checks
from blocknerf import kernels

CHECKS = list(cuda_checks.checks(torch.device("cpu"), 25))


def _functions() -> list[tuple[str, str]]:
    """What an operation offers: each function that starts a kernel."""
    found = []
    for path in sorted(Path(kernels.__path__[0]).glob("*/triton.py")):
        operation = path.parent.name
        module = importlib.import_module(f"blocknerf.kernels.{operation}.triton")
        functions = inspect.getmembers(module, inspect.isfunction)
        found += [
            (operation, name) for name, each in functions if each.__module__ == module.__name__ and name[0] != "_"
        ]
    return found


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: f"{check.module}: {check.name}")
def test_kernels_agree_with_their_references(check):
    row = cuda_checks.checked(check, "triton")
    assert row["ok"], row


@pytest.mark.parametrize(("operation", "function"), _functions())
def test_a_kernel_that_is_a_part_in_a_hundred_off_is_noticed(monkeypatch, operation, function):
    """Of each kernel, its last tensor: what it writes."""
    spoilt = importlib.import_module(f"blocknerf.kernels.{operation}.triton")
    right = getattr(spoilt, function)

    def wrong(*arguments):
        right(*arguments)
        [each for each in arguments if isinstance(each, Tensor)][-1].mul_(1.01)

    monkeypatch.setattr(spoilt, function, wrong)
    of_operation = [check for check in CHECKS if check.module == operation]
    assert any(not cuda_checks.checked(check, "triton")["ok"] for check in of_operation)


def test_errors_are_shares_of_the_largest_number():
    one = torch.tensor([4.0, 1.0, 0.0])
    assert cuda_checks.relative_error(one, one) == 0
    assert cuda_checks.relative_error(one, one + 0.5) == 0.125
    for other in (one[:2], one.double(), one / 0, torch.full((3,), torch.nan)):
        assert cuda_checks.relative_error(one, other) == torch.inf
    assert cuda_checks.relative_error(torch.zeros(3), one) == torch.inf
