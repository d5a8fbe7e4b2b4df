"""The intrinsics of transforms.json as a camera of COLMAP."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from blocknerf.core.camera import Camera
from blocknerf.core.errors import UserError, quote
from blocknerf.scene.readers.candidates import Unusable
from blocknerf.scene.readers.lens_fits import NoFit, angle_lens, polynomial_lens
from blocknerf.scene.readers.transforms_keys import NUMBERS

_PERSPECTIVE = ("PINHOLE", "SIMPLE_PINHOLE", "SIMPLE_RADIAL", "RADIAL", "OPENCV", "FULL_OPENCV")
_FISHEYE = ("OPENCV_FISHEYE", "SIMPLE_RADIAL_FISHEYE", "RADIAL_FISHEYE")
_PANORAMA, _POLYNOMIAL, _ANGLES = "EQUIRECTANGULAR", "polynomial", "f-theta"
_OF_ANGLES = tuple(f"ftheta_p{exponent}" for exponent in range(5))
_DISTORTION = {
    "PINHOLE": (),
    "OPENCV": ("k1", "k2", "p1", "p2"),
    "FULL_OPENCV": ("k1", "k2", "p1", "p2", "k3", "k4", "k5", "k6"),
    "OPENCV_FISHEYE": ("k1", "k2", "k3", "k4"),
    "THIN_PRISM_FISHEYE": ("k1", "k2", "p1", "p2", "k3", "k4", "sx1", "sy1"),
}
_IN_DISTORTION_PARAMS = ("k1", "k2", "k3", "k4", "p1", "p2")
_SAME_SIZE = 0.05
"""Tolerance between the scales that a principal point implies along x and y, as a share."""


@dataclass(frozen=True, slots=True)
class Lens:
    """The intrinsics of a frame; equal ones are one camera."""

    model: str
    values: tuple[tuple[str, float | None], ...]

    def camera(self) -> Camera | Callable[[int, int], Camera]:
        """If the file has no size, or the lens is invalid: a function of the photograph's (width, height).

        It may raise Unusable.
        """
        width, height = (dict(self.values)[key] for key in "wh")
        if width is None or height is None:
            return self.of_photograph
        size = (_pixels(width), _pixels(height))
        try:
            return self._checked(size)
        except Unusable:
            return lambda *_: self._checked(size)

    def of_photograph(self, width: int, height: int) -> Camera:
        scale = self.scale_of(width, height)
        return self._checked((round(width * scale), round(height * scale)))

    def scale_of(self, width: int, height: int) -> float:
        """The size, relative to the photograph, of the picture in whose middle the principal point is: N or 1 / N. 1 if
        the principal point fits the photograph."""
        values = dict(self.values)
        cx, cy = values["cx"], values["cy"]
        if (
            values["w"] is not None
            or values["h"] is not None
            or not (cx and cy and 0 < cx < math.inf and 0 < cy < math.inf)
        ):
            return 1.0
        across, down = 2 * cx / width, 2 * cy / height
        scale = float(round(across)) if across > 1 else 1.0 / round(1 / across)
        return scale if all(abs(times / scale - 1) <= _SAME_SIZE for times in (across, down)) else 1.0

    def _checked(self, size: tuple[int, int]) -> Camera:
        if not self._is_inside(size):
            values = dict(self.values)
            raise Unusable(
                f"its principal point ({values['cx']:g}, {values['cy']:g}) lies outside of the picture of "
                f"{size[0]} x {size[1]} pixels; give 'w' and 'h', the size that the intrinsics are for"
            )
        return self._of_size(size)

    def _is_inside(self, size: tuple[int, int]) -> bool:
        if self.model == _PANORAMA:
            return True
        values = dict(self.values)
        centers = ((values["cx"], size[0]), (values["cy"], size[1]))
        return not any(value is not None and math.isfinite(value) and not 0 <= value <= side for value, side in centers)

    def _of_size(self, size: tuple[int, int]) -> Camera:
        width, height = size
        values = dict(self.values)
        if self.model == _PANORAMA:
            return Camera(self.model, width, height, (float(width), float(height)))
        cx, cy = values["cx"], values["cy"]
        center = (width / 2 if cx is None else cx, height / 2 if cy is None else cy)
        fl_x, fl_y = (_focal(values, axis, side) for axis, side in (("x", width), ("y", height)))
        focal = (fl_x or 0.0, (fl_x or 0.0) if fl_y is None else fl_y)
        k1, k2, k3, k4, p1, p2 = (values[key] or 0.0 for key in _IN_DISTORTION_PARAMS)
        finite = all(map(math.isfinite, (*focal, *center, k1, k2, k3, k4, p1, p2)))
        try:
            if self.model == _ANGLES:
                return angle_lens(size, center, tuple(values[key] or 0.0 for key in _OF_ANGLES))
            if self.model == _POLYNOMIAL and finite and min(focal) > 0:
                return polynomial_lens(size, focal, center, (k1, k2, k3, k4), (p1, p2))
        except NoFit as problem:
            raise Unusable(str(problem)) from problem
        model = "FULL_OPENCV" if self.model == _POLYNOMIAL else self.model
        distortion = (values.get(key) or 0.0 for key in _DISTORTION[model])
        return Camera(model, width, height, (*focal, *center, *distortion))


def lens_of(tree: dict[str, Any], frame: dict[str, Any], where: str) -> Lens:
    """Keys of a frame override those at the top. Raises UserError for an unknown lens."""
    both = {**tree, **frame}
    values = {key: number(both, key, where) for key in NUMBERS}
    values |= _distortion_params(both, where)
    model = _model(both, values, where)
    if model not in (_PANORAMA, _ANGLES) and all(values[key] is None for key in ("fl_x", "camera_angle_x", "x_fov")):
        raise UserError(
            f"{where}: there is neither 'fl_x' nor 'camera_angle_x' nor 'x_fov', so the focal length is unknown."
        )
    return Lens(model, tuple(values.items()))


def number(values: dict[str, Any], key: str, where: str) -> float | None:
    """A number, which may be written as text ("135"). Raises UserError for anything else."""
    value = values.get(key)
    if value is None:
        return None
    try:
        if isinstance(value, bool) or not isinstance(value, int | float | str):
            raise ValueError(value)
        return float(value)
    except ValueError as error:
        raise UserError(f"{where}: {key!r} must be a number, not {quote(value)}.") from error


def _model(both: dict[str, Any], values: dict[str, float | None], where: str) -> str:
    """COLMAP's model, or one that must be fitted."""
    named = both.get("camera_model")
    fisheye = bool(both.get("is_fisheye"))
    if both.get("equirectangular"):
        raise UserError(
            f"{where}: 'equirectangular' of instant-ngp keeps areas and not angles, and is not read. For an ordinary "
            'panorama, of twice the width of its height, write "camera_model": "EQUIRECTANGULAR" in its place.'
        )
    if named is not None and named not in (*_PERSPECTIVE, *_FISHEYE, _PANORAMA):
        known = ", ".join((*_PERSPECTIVE, *_FISHEYE, _PANORAMA))
        raise UserError(f"{where}: the camera model {quote(named)} cannot be read; known are {known}.")
    if fisheye and named in (*_PERSPECTIVE, _PANORAMA):
        raise UserError(f"{where}: 'is_fisheye' is true, but 'camera_model' is {named!r}. Remove one of them.")
    if both.get("latlong") or named == _PANORAMA:
        return _PANORAMA
    if any(values[key] for key in _OF_ANGLES):
        return _ANGLES
    if fisheye or named in _FISHEYE:
        return "THIN_PRISM_FISHEYE" if values["p1"] or values["p2"] else "OPENCV_FISHEYE"
    if named != "FULL_OPENCV" and values["k4"] and not (values["k5"] or values["k6"]):
        return _POLYNOMIAL
    if any(values[key] for key in ("k3", "k4", "k5", "k6")):
        return "FULL_OPENCV"
    return "OPENCV" if any(values[key] for key in ("k1", "k2", "p1", "p2")) else "PINHOLE"


def _distortion_params(both: dict[str, Any], where: str) -> dict[str, float | None]:
    """nerfstudio's list of k1, k2, k3, k4, p1, p2."""
    params = both.get("distortion_params")
    if params is None:
        return {}
    if not isinstance(params, list) or len(params) != len(_IN_DISTORTION_PARAMS):
        raise UserError(f"{where}: 'distortion_params' must be a list of k1, k2, k3, k4, p1, p2, not {quote(params)}.")
    return {key: number({key: value}, key, where) for key, value in zip(_IN_DISTORTION_PARAMS, params, strict=True)}


def _focal(values: dict[str, float | None], axis: str, size: int) -> float | None:
    """In pixels; 0 for an impossible angle."""
    fov_deg, focal, angle_rad = (values[key] for key in (f"{axis}_fov", f"fl_{axis}", f"camera_angle_{axis}"))
    if focal is not None:
        return focal
    angle_rad = math.radians(fov_deg) if fov_deg is not None else angle_rad
    if angle_rad is None:
        return None
    return size / 2 / math.tan(angle_rad / 2) if 0 < angle_rad < math.pi else 0.0


def _pixels(size: float) -> int:
    return round(size) if math.isfinite(size) else 0
