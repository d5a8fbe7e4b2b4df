"""Photographs of the synthetic town as on a camera card, with clock, position and exposure in EXIF; and true poses."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image

from blocknerf.core.camera import Camera
from blocknerf.synth import generate
from blocknerf.synth.develop import develop
from blocknerf.synth.drives import _pose
from blocknerf.synth.lighting import lighting_at
from blocknerf.synth.presets import PRESETS
from blocknerf.synth.town import build_town
from blocknerf.synth.tracer import Tracer, render_image

LATITUDE_DEG, LONGITUDE_DEG = 48.2, 16.37
METRES_PER_DEGREE_NORTH = 111_199.0  # of WGS84 at this latitude, to a part in 10^4
METRES_PER_DEGREE_EAST = 74_336.0
NOON_S = 1_700_000_000
WIDTH, HEIGHT, FOCAL = 320, 240, 250.0


@dataclass(frozen=True)
class Walk:
    """`world_from_cam` are true: x east, y north, z up, metres."""

    names: tuple[str, ...]
    world_from_cam: np.ndarray
    pictures: tuple[np.ndarray, ...]


def photograph_walk(count: int = 10, step_m: float = 1.8, start_m: float = -12.0, yaw_deg: float = 70.0) -> Walk:
    """A walk along the synthetic street, looking at the houses across it and a little ahead."""
    town = build_town(PRESETS["tiny"].plan, generate._rng(0, "town"))
    tracer, light = Tracer(town, len(town.triangles)), lighting_at(10.0)
    camera = Camera("PINHOLE", WIDTH, HEIGHT, (FOCAL, FOCAL, WIDTH / 2, HEIGHT / 2))
    poses = [
        _pose(
            np.array([start_m + step_m * n, -4.2 + 0.5 * np.sin(n), 1.7 + 0.1 * np.cos(2 * n)]),
            np.deg2rad(yaw_deg + 4 * np.sin(1.3 * n)),
            np.deg2rad(6.0),
            np.deg2rad(np.cos(n)),
        )
        for n in range(count)
    ]
    pictures = [develop(render_image(tracer, camera, pose, light, 1).radiance, 0.8) for pose in poses]
    return Walk(tuple(f"{n:02d}.jpg" for n in range(count)), np.array(poses), tuple(pictures))


def write_photographs(
    folder: Path,
    walk: Walk,
    altitudes_m: np.ndarray | None = None,
    gps_m: np.ndarray | None = None,
    gap_at: int = -1,
    exposures_s: tuple[float, ...] = (0.01,),
) -> None:
    """Writes the walk as JPEG; GPS says `gps_m` [n, 2] (the truth where None) and `altitudes_m` (none where None).

    Five seconds lie between two pictures, and an hour before picture `gap_at`. `exposures_s` take turns.
    """
    folder.mkdir(parents=True, exist_ok=True)
    places = walk.world_from_cam[:, :2, 3] if gps_m is None else gps_m
    for n, (name, pixels) in enumerate(zip(walk.names, walk.pictures, strict=True)):
        altitude = None if altitudes_m is None else float(altitudes_m[n])
        seconds = 5 * n + (3600 if 0 <= gap_at <= n else 0)
        exif = exif_of(places[n], altitude, seconds, exposures_s[n % len(exposures_s)])
        Image.fromarray(pixels).save(folder / name, quality=95, subsampling=0, exif=exif.tobytes())


def exif_of(place_m: np.ndarray, altitude_m: float | None, seconds: int, exposure_s: float = 0.01) -> Image.Exif:
    exif = Image.Exif()
    exif[ExifTags.Base.Make], exif[ExifTags.Base.Model] = "Made", "Up"
    tags = exif.get_ifd(ExifTags.IFD.Exif)
    tags[ExifTags.Base.FocalLengthIn35mmFilm] = round(FOCAL / np.hypot(WIDTH, HEIGHT) * np.hypot(36, 24))
    tags[ExifTags.Base.ExposureTime], tags[ExifTags.Base.FNumber] = exposure_s, 4.0
    tags[ExifTags.Base.ISOSpeedRatings] = 100
    hours, minutes, rest = 10 + seconds // 3600, seconds // 60 % 60, seconds % 60
    tags[ExifTags.Base.DateTimeOriginal] = f"2026:05:01 {hours:02d}:{minutes:02d}:{rest:02d}"
    gps = exif.get_ifd(ExifTags.IFD.GPSInfo)
    gps[ExifTags.GPS.GPSLatitudeRef], gps[ExifTags.GPS.GPSLongitudeRef] = "N", "E"
    gps[ExifTags.GPS.GPSLatitude] = _sexagesimal(LATITUDE_DEG + place_m[1] / METRES_PER_DEGREE_NORTH)
    gps[ExifTags.GPS.GPSLongitude] = _sexagesimal(LONGITUDE_DEG + place_m[0] / METRES_PER_DEGREE_EAST)
    if altitude_m is not None:
        gps[ExifTags.GPS.GPSAltitudeRef] = b"\x01" if altitude_m < 0 else b"\x00"
        gps[ExifTags.GPS.GPSAltitude] = abs(altitude_m)
    return exif


def _sexagesimal(degrees: float) -> tuple[float, float, float]:
    minutes = degrees % 1 * 60
    return float(int(degrees)), float(int(minutes)), round(minutes % 1 * 60, 6)
