"""Records of a block's training: figures in a plain file, curves and pictures in TensorBoard."""

import errno
import json
import math
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, BinaryIO

import yaml
from jaxtyping import Float
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

from blocknerf.core import disk
from blocknerf.core.config.config import Config
from blocknerf.core.config.load import config_to_json
from blocknerf.core.logging import log

FILE = "metrics.jsonl"
CLOCK = "clock/"
"""Prefix of figures that depend on the machine; all others are equal in every run of one configuration."""
_HIGHER_IS_BETTER = ("psnr", "ssim")


class TrainingMetrics:
    """Writes figures to metrics.jsonl in `folder`, one object per line, and figures and pictures to TensorBoard in
    `tensorboard_dir`, if it is given.

    On a full disk, the files end with a warning, but training continues. Thanks to `state` and `restore`, a run that
    was killed and resumed has the same file as one that was not: lines after the saved state are cut off.
    """

    def __init__(self, config: Config, folder: Path, tensorboard_dir: Path | None):
        self.best: dict[str, float] = {}
        """Best value of each validation figure so far: highest for PSNR and SSIM, lowest for distances."""
        self._config, self._folder, self._tensorboard_dir = config, folder, tensorboard_dir
        self._num_bytes = 0
        self._file: BinaryIO | None = None
        self._writer: SummaryWriter | None = None

    @property
    def shows_pictures(self) -> bool:
        """Whether pictures and histograms are written."""
        return self._writer is not None

    def start(self, step: int) -> None:
        """Opens both files when training begins, or resumes after `restore`."""
        self._guarded("_file", self._open_file)
        if self._tensorboard_dir is not None:
            self._guarded("_writer", lambda: self._open_writer(step))

    def log(self, figures: dict[str, float], step: int) -> None:
        """Writes figures by name, such as "loss/rgb". Values that are not finite are null in the file."""
        self._guarded("_file", lambda: self._append(figures, step))
        for name, value in figures.items():
            self._draw("scalar", name, value, step)

    def validated(self, figures: dict[str, float], step: int) -> bool:
        """Logs the figures of a validation ("psnr", "ssim", ...). Returns whether its PSNR is the best so far."""
        self.log({f"validation/{name}": value for name, value in figures.items()}, step)
        better = {name: value for name, value in figures.items() if self._is_best(name, value)}
        self.best |= better
        return "psnr" in better

    def images(self, pictures: dict[str, Float[Tensor, "h w 3"]], step: int) -> None:
        """Writes pictures by name; colours are clamped to [0, 1]."""
        for name, rgb in pictures.items():
            self._draw("image", name, rgb.clamp(0, 1), step, dataformats="HWC")

    def histograms(self, tensors: Iterable[tuple[str, Tensor]], step: int) -> None:
        """Writes a histogram of the finite values of each tensor."""
        for name, tensor in tensors:
            values = tensor.detach().flatten()
            values = values[values.isfinite()]
            if len(values):
                self._draw("histogram", name, values, step)

    def state(self) -> dict[str, Any]:
        """Length of the file, which is on the disk by then, and the best figures."""
        self._guarded("_file", lambda: self._file and disk.fsync(self._file))
        return {"num_bytes": self._num_bytes, "best": dict(self.best)}

    def restore(self, state: dict[str, Any]) -> None:
        best = {str(name): float(value) for name, value in state["best"].items()}
        if state["num_bytes"] < 0 or not all(map(math.isfinite, best.values())):
            raise ValueError(f"{FILE} cannot have {state['num_bytes']} bytes, or a figure is not finite")
        self._num_bytes, self.best = int(state["num_bytes"]), best

    def close(self) -> None:
        self._guarded("_file", lambda: self._file and self._file.close())
        self._guarded("_writer", lambda: self._writer and self._writer.close())
        self._file = self._writer = None

    def _open_file(self) -> None:
        """Opens the file, cut off after the last whole line of the restored state."""
        disk.make_folder(self._folder)
        self._file = disk.reopen(self._folder / FILE)
        file_bytes = os.fstat(self._file.fileno()).st_size
        self._num_bytes = self._file.read(min(self._num_bytes, file_bytes)).rfind(b"\n") + 1
        disk.truncate(self._file, self._num_bytes)

    def _open_writer(self, step: int) -> None:
        purge_step = step + 1 if step else None
        folder = str(self._tensorboard_dir)
        self._writer = disk.by_library(Path(folder), lambda: SummaryWriter(folder, purge_step=purge_step))
        configuration = yaml.safe_dump(config_to_json(self._config), sort_keys=False)
        self._writer.add_text("configuration", f"```yaml\n{configuration}```", step)

    def _append(self, figures: dict[str, float], step: int) -> None:
        if self._file is None:
            return
        values = {name: value if math.isfinite(value) else None for name, value in figures.items()}
        line = json.dumps({"step": step, **values}).encode() + b"\n"
        self._file.seek(self._num_bytes)
        if self._file.write(line) < len(line):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self._num_bytes += len(line)

    def _draw(self, kind: str, *content: Any, **options: Any) -> None:
        if self._writer is not None:
            self._guarded("_writer", lambda: getattr(self._writer, f"add_{kind}")(*content, **options))

    def _guarded(self, place: str, write: Callable[[], object]) -> None:
        try:
            write()
        except OSError as error:
            setattr(self, place, None)
            what = FILE if place == "_file" else "TensorBoard's curves"
            log.warning("%s of %s ends here: %s.", what, self._folder, error.strerror or error)

    def _is_best(self, name: str, value: float) -> bool:
        if name not in self.best:
            return True
        return value > self.best[name] if name in _HIGHER_IS_BETTER else value < self.best[name]
