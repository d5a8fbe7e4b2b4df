"""A camera by its lens model; without torch, for scenes are read without it."""

from dataclasses import dataclass


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
