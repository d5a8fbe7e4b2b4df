"""Half precision: which one a device has, and the scale that keeps small gradients in it."""

from collections.abc import Iterable

import torch
from torch import Tensor

START, GROWTH, INTERVAL, LARGEST = 2.0**16, 2.0, 2000, 2.0**24


def half_precision(device_type: str) -> torch.dtype | None:
    """float16 on CUDA, bfloat16 on a CPU that supports it, else None."""
    if device_type == "cuda":
        return torch.float16
    has = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return torch.bfloat16 if has else None


class LossScale:
    """Multiplies a loss so that float16 gradients do not vanish (Micikevicius et al. 2018, section 3.2).

    A step whose gradients overflow is skipped and halves the scale; `INTERVAL` steps without one double it.
    torch.amp.GradScaler does the same for gradients of parameters, but does not see the rows of tables.
    """

    def __init__(self, scale: float = START):
        self.scale, self.good_steps = scale, 0

    def unscale(self, gradients: Iterable[Tensor]) -> bool:
        """Divides gradients by the scale, in place, and updates the scale; False: they overflowed, skip the step."""
        finite = True
        for gradient in gradients:
            gradient.mul_(1 / self.scale)
            finite = finite and bool(gradient.isfinite().all())
        if not finite:
            self.scale, self.good_steps = max(self.scale / GROWTH, 1.0), 0
        elif self.good_steps + 1 == INTERVAL:
            self.scale, self.good_steps = min(self.scale * GROWTH, LARGEST), 0
        else:
            self.good_steps += 1
        return finite
