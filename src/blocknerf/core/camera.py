"""Cameras, and which pixels of a picture by one are looked at."""

from dataclasses import dataclass, replace

from jaxtyping import Float, Int
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Camera:
    """A COLMAP camera: model name, size in pixels, parameters in COLMAP's order; pixel centres at half integers."""

    model: str
    width: int
    height: int
    params: tuple[float, ...]

    @staticmethod
    def pinhole(width: int, height: int, focal_px: float) -> "Camera":
        """Square pixels, the principal point in the middle."""
        return Camera("PINHOLE", width, height, (focal_px, focal_px, width / 2, height / 2))


@dataclass(frozen=True, slots=True)
class CameraView:
    """Pixels of a camera's picture: what a backbone that rasterises needs to know of rays.

    The camera's image is resized to `width` x `height` pixels: column i and row j look through the point
    ((i + 1/2) W / width, (j + 1/2) H / height) of it. `pixels` are numbers in that picture, row by row.
    `world_from_cam` has OpenCV axes, and is in the units of the rays.
    """

    camera: Camera
    world_from_cam: Float[Tensor, "3 4"]
    width: int
    height: int
    pixels: Int[Tensor, " rays"]

    def __getitem__(self, index: slice | Tensor) -> "CameraView":
        return replace(self, pixels=self.pixels[index])

    @property
    def tile(self) -> tuple[int, int, int, int]:
        """Left, top, width and height of the smallest rectangle that holds the pixels."""
        columns, rows = self.pixels % self.width, self.pixels // self.width
        left, top = int(columns.min()), int(rows.min())
        return left, top, int(columns.max()) + 1 - left, int(rows.max()) + 1 - top
