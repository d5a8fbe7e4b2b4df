"""A table's gradient that knows which rows it touched."""

from dataclasses import dataclass, field

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor


@dataclass(eq=False)
class RowGradient:
    """Zero in every row not listed: `rows[l, :counts[l]]` are the touched rows of level l, `seen` marks them."""

    values: Float[Tensor, "levels rows features"]
    rows: Int[Tensor, "levels rows"] = field(init=False)
    counts: Int[Tensor, " levels"] = field(init=False)
    seen: UInt8[Tensor, "levels rows"] = field(init=False)

    def __post_init__(self) -> None:
        levels, rows, _ = self.values.shape
        self.rows = torch.zeros(levels, rows, dtype=torch.int32)
        self.counts = torch.zeros(levels, dtype=torch.int64)
        self.seen = torch.zeros(levels, rows, dtype=torch.uint8)
