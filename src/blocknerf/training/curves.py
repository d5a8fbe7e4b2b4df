"""Curves and pictures for TensorBoard."""

from collections.abc import Callable
from pathlib import Path

from jaxtyping import Float
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

from blocknerf.core.logging import log


class Curves:
    """Writes to `folder`, or nowhere where there is none. A disk that is full costs the curves, not the training."""

    def __init__(self, folder: Path | None):
        self._writer: SummaryWriter | None = None
        if folder is not None:
            self._guarded(lambda: setattr(self, "_writer", SummaryWriter(str(folder))))

    def scalars(self, figures: dict[str, float], step: int) -> None:
        for name, value in figures.items():
            self._guarded(lambda name=name, value=value: self._writer and self._writer.add_scalar(name, value, step))

    def image(self, name: str, rgb: Float[Tensor, "h w 3"], step: int) -> None:
        self._guarded(lambda: self._writer and self._writer.add_image(name, rgb, step, dataformats="HWC"))

    def close(self) -> None:
        self._guarded(lambda: self._writer and self._writer.close())

    def _guarded(self, write: Callable[[], object]) -> None:
        try:
            write()
        except OSError as error:
            self._writer = None
            log.warning("TensorBoard's curves end here: %s.", error.strerror or error)
