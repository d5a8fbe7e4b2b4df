"""The net under the other tests: shapes in signatures are really checked while tests run."""

import jaxtyping
import pytest
import torch
from beartype import beartype
from jaxtyping import Float, TypeCheckError
from torch import Tensor

from blocknerf.core.seeds import derive_seed
from blocknerf.core.types import RayBatch
from blocknerf.geometry.contraction import contract


def test_a_wrong_shape_is_caught():
    with pytest.raises(TypeCheckError):
        RayBatch(torch.zeros(2, 3), torch.zeros(2, 4), torch.zeros(2, dtype=torch.int64), torch.zeros(2))


def test_lengths_that_do_not_agree_are_caught():
    with pytest.raises(TypeCheckError):
        RayBatch(torch.zeros(2, 3), torch.zeros(3, 3), torch.zeros(2, dtype=torch.int64), torch.zeros(2))


def test_a_wrong_kind_of_number_is_caught():
    with pytest.raises(TypeCheckError):
        RayBatch(torch.zeros(2, 3), torch.zeros(2, 3), torch.zeros(2), torch.zeros(2))


def test_a_wrong_argument_of_a_function_is_caught():
    with pytest.raises(TypeCheckError):
        contract(torch.zeros(5, 2))
    with pytest.raises(TypeCheckError):
        derive_seed("42")  # pyright: ignore[reportArgumentType]


def test_a_wrong_result_is_caught():
    @jaxtyping.jaxtyped(typechecker=beartype)  # as the hook writes it
    def repeated(points: Float[Tensor, "n 3"], times: int) -> Float[Tensor, "n 3"]:
        return points.repeat(times, 1)

    assert len(repeated(torch.zeros(2, 3), 1)) == 2
    with pytest.raises(TypeCheckError):
        repeated(torch.zeros(2, 3), 2)


def test_a_warning_is_an_error():
    with pytest.raises(UserWarning, match="canary"):
        __import__("warnings").warn("canary", UserWarning, stacklevel=1)
