"""A table's gradient that knows which rows it touched."""

from dataclasses import dataclass, field

import torch
from jaxtyping import Float, UInt8
from torch import Tensor


@dataclass(eq=False)
class RowGradient:
    """`seen` is 1 for touched rows; `values` is zero in all others."""

    values: Float[Tensor, "levels rows features"]
    seen: UInt8[Tensor, "levels rows"] = field(init=False)

    def __post_init__(self) -> None:
        self.seen = torch.zeros(self.values.shape[:2], dtype=torch.uint8, device=self.values.device)
