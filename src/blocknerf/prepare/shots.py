"""The metadata of a photograph: size, camera, clock, position."""

import calendar
import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from PIL import ExifTags, Image

from blocknerf.scene.orientation import Orientation, exif_orientation
from blocknerf.scene.photographs import DECODE_ERRORS

_WIDTH_OF_35MM, _HEIGHT_OF_35MM = 36.0, 24.0
_MM_OF_UNIT = {2: 25.4, 3: 10.0, 4: 1.0}
"""Of FocalPlaneResolutionUnit: inch, centimetre, millimetre."""
_LEAST_FOCAL, _LARGEST_FOCAL = 0.2, 20.0
"""In units of the picture's longer side."""


@dataclass(frozen=True, slots=True)
class CapturedImage:
    """A picture in the scene's image folder. Images of one `camera` share their intrinsics.

    `folder` is the one it came from, or its video. `time_s` is the camera's clock in seconds since 1970, in its time
    zone; None for frames of a video, which are in order by name. `altitude_m` is the receiver's, often wrong.
    """

    name: str
    width: int
    height: int
    camera: str
    folder: str
    time_s: float | None = None
    latitude_deg: float | None = None
    longitude_deg: float | None = None
    altitude_m: float | None = None
    focal_px: float | None = None

    @property
    def has_gps(self) -> bool:
        return self.latitude_deg is not None and self.longitude_deg is not None

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def shot_of(image: Image.Image, name: str, folder: str) -> CapturedImage:
    """Reads the header of a photograph whose pixels count as upright: see `is_upright`."""
    exif = image.getexif()
    tags, gps = _directory(exif, ExifTags.IFD.Exif), _directory(exif, ExifTags.IFD.GPSInfo)
    latitude, longitude, altitude = position_of(gps)
    width, height = size_upright(image)
    return CapturedImage(
        name=name,
        width=width,
        height=height,
        camera=_camera_key(exif, tags, folder, width, height),
        folder=folder,
        time_s=time_of(tags),
        latitude_deg=latitude,
        longitude_deg=longitude,
        altitude_m=altitude,
        focal_px=focal_of(tags, width, height),
    )


def is_upright(image: Image.Image) -> bool:
    """Whether EXIF requests no turn or mirroring."""
    return exif_orientation(image) == 1


def size_upright(image: Image.Image) -> tuple[int, int]:
    """(width, height) after the turn of EXIF."""
    if image.format == "TIFF":  # Pillow turns it while it decodes
        image.load()
    return Orientation(exif_orientation(image), is_turned=True).picture_size(image.size)


def position_of(gps: dict[int, Any]) -> tuple[float | None, float | None, float | None]:
    """Latitude and longitude in degrees (None unless both are there and possible), altitude in metres or None.

    Receivers without a fix write zeros, or a status of V; both count as nothing.
    """
    latitude = _degrees(gps, ExifTags.GPS.GPSLatitude, ExifTags.GPS.GPSLatitudeRef, "S", 90.0)
    longitude = _degrees(gps, ExifTags.GPS.GPSLongitude, ExifTags.GPS.GPSLongitudeRef, "W", 180.0)
    if latitude is None or longitude is None or gps.get(ExifTags.GPS.GPSStatus) == "V" or latitude == longitude == 0:
        return None, None, None
    return latitude, longitude, _altitude(gps)


def time_of(tags: dict[int, Any]) -> float | None:
    """Seconds since 1970 by the camera's clock, with its fraction where it has one; None where it is not set."""
    written = tags.get(ExifTags.Base.DateTimeOriginal) or tags.get(ExifTags.Base.DateTimeDigitized)
    try:
        date, clock = str(written).strip("\0 ").split(" ")
        year, month, day = (int(part) for part in date.split(":"))
        hour, minute, second = (int(part) for part in clock.split(":"))
    except ValueError:
        return None
    if not (1900 <= year <= 9999 and 1 <= month <= 12 and 1 <= day <= 31):
        return None
    fraction = str(tags.get(ExifTags.Base.SubsecTimeOriginal, "")).strip("\0 ")
    seconds = calendar.timegm((year, month, day, hour, minute, second))
    return seconds + (float(f"0.{fraction}") if fraction.isascii() and fraction.isdigit() else 0.0)


def focal_of(tags: dict[int, Any], width: int, height: int) -> float | None:
    """Focal length in pixels from EXIF, None if EXIF has none.

    From the length that would give the same angle on 35 mm film (its diagonal, CIPA DCG-001), or from the resolution of
    the sensor. That resolution counts the original pixels: a photograph reduced later is recognised by its tag of the
    original width.
    """
    largest = max(width, height)
    of_film = _number(tags.get(ExifTags.Base.FocalLengthIn35mmFilm))
    if of_film:
        focal = of_film * math.hypot(width, height) / math.hypot(_WIDTH_OF_35MM, _HEIGHT_OF_35MM)
        return focal if _LEAST_FOCAL <= focal / largest <= _LARGEST_FOCAL else None
    focal_mm, per_unit = (
        _number(tags.get(tag)) for tag in (ExifTags.Base.FocalLength, ExifTags.Base.FocalPlaneXResolution)
    )
    unit_mm = _MM_OF_UNIT.get(tags.get(ExifTags.Base.FocalPlaneResolutionUnit, 2))
    taken = max(_number(tags.get(tag)) or 0 for tag in (ExifTags.Base.ExifImageWidth, ExifTags.Base.ExifImageHeight))
    if not (focal_mm and per_unit and unit_mm and taken):
        return None
    focal = focal_mm * per_unit / unit_mm * largest / taken
    return focal if _LEAST_FOCAL <= focal / largest <= _LARGEST_FOCAL else None


def _camera_key(exif: Image.Exif, tags: dict[int, Any], folder: str, width: int, height: int) -> str:
    """Photographs of one folder, camera, zoom and size have one lens."""
    maker = (exif.get(ExifTags.Base.Make, ""), exif.get(ExifTags.Base.Model, ""))
    zoom = (tags.get(ExifTags.Base.FocalLength, ""), tags.get(ExifTags.Base.FocalLengthIn35mmFilm, ""))
    parts = (folder, *(str(part).strip("\0 ") for part in (*maker, *zoom)), f"{width}x{height}")
    return " ".join(part for part in parts if part)


def _directory(exif: Image.Exif, which: int) -> dict[int, Any]:
    try:
        return dict(exif.get_ifd(which))
    except (*DECODE_ERRORS, KeyError, TypeError):
        return {}


def _number(value: Any) -> float | None:
    try:
        number = float(np.ravel(value)[0])
    except (TypeError, ValueError, IndexError, ZeroDivisionError, OverflowError):
        return None
    return number if math.isfinite(number) and number > 0 else None


def _degrees(gps: dict[int, Any], tag: int, ref_tag: int, negative: str, largest: float) -> float | None:
    try:
        degrees, minutes, seconds = (float(part) for part in gps[tag])
    except (KeyError, TypeError, ValueError, ZeroDivisionError):
        return None
    value = degrees + minutes / 60 + seconds / 3600
    if not (math.isfinite(value) and abs(value) <= largest):
        return None
    return -value if str(gps.get(ref_tag, "")).strip("\0 ").upper() == negative else value


def _altitude(gps: dict[int, Any]) -> float | None:
    try:
        altitude = float(gps[ExifTags.GPS.GPSAltitude])
    except (KeyError, TypeError, ValueError, ZeroDivisionError):
        return None
    below = gps.get(ExifTags.GPS.GPSAltitudeRef) in (1, b"\x01")
    return (-altitude if below else altitude) if math.isfinite(altitude) else None
