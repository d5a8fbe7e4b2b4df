"""Lenses that COLMAP has no model for, as the nearest of its models: fitted over the picture, and refused where that is
not exact to a small part of a pixel.
"""

from functools import cache

import numpy as np
from numpy.polynomial import polynomial

from blocknerf.core.camera import Camera

_MOST_PX = 0.02
_SAMPLES = 512
_WIDEST = 20.0
"""Tangent of the angle to the axis up to which a perspective lens is looked at: 87 degrees."""


class NoFit(ValueError):
    """Why no model of COLMAP is this lens: half a sentence."""


@cache
def polynomial_lens(
    size: tuple[int, int],
    focal_px: tuple[float, float],
    center_px: tuple[float, float],
    k: tuple[float, float, float, float],
    p: tuple[float, float],
) -> Camera:
    """FULL_OPENCV for 1 + k1 r^2 + k2 r^4 + k3 r^6 + k4 r^8, as Metashape and nerfstudio have it.

    FULL_OPENCV's k4, k5 and k6 stand in a denominator; its six terms follow these four. Raises NoFit.
    """
    reach = _reach(size, focal_px, center_px)
    radii = np.linspace(0, _WIDEST, 1 << 15)
    with np.errstate(all="ignore"):
        distorted = radii * polynomial.polyval(radii**2, (1, *k))
    beyond = np.flatnonzero(distorted >= reach * (1 + 4 * max(map(abs, p)) * reach))
    if len(beyond) == 0 or np.diff(distorted[: beyond[0] + 1]).min() <= 0:
        raise NoFit("its lens, k1 to k4, folds the picture over inside of its corners")
    squares = np.linspace(0, 1, _SAMPLES)[1:]  # of the largest radius
    largest = radii[beyond[0]] ** 2
    wanted = polynomial.polyval(squares * largest, (1, *k))
    powers = np.stack([squares, squares**2, squares**3], axis=1)
    terms = np.linalg.lstsq(np.hstack([powers, -wanted[:, None] * powers]), wanted - 1, rcond=None)[0]
    fitted = (1 + powers @ terms[:3]) / (1 + powers @ terms[3:])
    _require_exact((fitted - wanted) * np.sqrt(squares * largest) * max(focal_px))
    k1, k2, k3, k4, k5, k6 = terms / np.tile(largest ** np.arange(1, 4), 2)
    return Camera("FULL_OPENCV", *size, (*focal_px, *center_px, *map(float, (k1, k2, *p, k3, k4, k5, k6))))


@cache
def angle_lens(size: tuple[int, int], center_px: tuple[float, float], angles: tuple[float, ...]) -> Camera:
    """OPENCV_FISHEYE for a lens whose angle to the axis is a polynomial of the distance from the centre in pixels.

    instant-ngp's f-theta: angles are a0 + a1 r + a2 r^2 + ... radians. Raises NoFit.
    """
    radii = np.linspace(0, _reach(size, (1.0, 1.0), center_px), _SAMPLES)
    with np.errstate(all="ignore"):
        theta = polynomial.polyval(radii, angles)
    if not (np.diff(theta) > 0).all() or not 0 < theta[-1] < np.pi:
        raise NoFit("the angles of its lens, ftheta_p0 to ftheta_p4, do not rise from 0 towards its corners")
    if angles[0] != 0:
        raise NoFit("the angle in the middle of its lens, ftheta_p0, is not 0")
    share = theta[1:] / theta[-1]
    powers = np.stack([share**exponent for exponent in (1, 3, 5, 7, 9)], axis=1)
    terms = np.linalg.lstsq(powers, radii[1:], rcond=None)[0]
    _require_exact(powers @ terms - radii[1:])
    coefficients = terms / theta[-1] ** np.array([1, 3, 5, 7, 9])
    focal_px = float(coefficients[0])
    k1, k2, k3, k4 = map(float, coefficients[1:] / focal_px)
    return Camera("OPENCV_FISHEYE", *size, (focal_px, focal_px, *center_px, k1, k2, k3, k4))


def _reach(size: tuple[int, int], focal_px: tuple[float, float], center_px: tuple[float, float]) -> float:
    """From the principal point to the farthest corner, in focal lengths."""
    across, down = (
        max(abs(center), abs(side - center)) / focal
        for side, focal, center in zip(size, focal_px, center_px, strict=True)
    )
    return float(np.hypot(across, down))


def _require_exact(errors_px: np.ndarray) -> None:
    worst = float(np.abs(errors_px).max())
    if not worst <= _MOST_PX:
        raise NoFit(f"its lens is none of COLMAP's; the nearest is {worst:.2g} pixels off")
