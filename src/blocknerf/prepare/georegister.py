"""From a model's frame to east, north, up in metres, by GPS that may be partly wrong.

Up follows from the cameras, never from altitudes. Scale, heading and place follow from horizontal positions. Altitudes
give only the height of the whole.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Complex, Float

from blocknerf.blocks.ground import estimate_up
from blocknerf.core.seeds import derive_seed
from blocknerf.geometry.similarity import Similarity
from blocknerf.prepare.shots import CapturedImage
from blocknerf.scene.colmap_module import pycolmap

LEAST_POSITIONS = 5
COARSE_M = 10.0
"""A telephone's GPS is not better than this: positions that are all closer together give no scale."""
BY_CHANCE = 0.5
"""A fit is accepted if its residual is below this share of that of the same positions in random order."""
_HYPOTHESES = 2000
_SHUFFLES = 20
_ROUNDS = 30
_GAUSS = 1.4826  # standard deviation over median of absolute values, of a normal distribution
_TUKEY = 4.685


@dataclass(frozen=True, slots=True)
class Places:
    """GPS in metres east, north and up of an origin; nan where a picture has none."""

    enu_m: Float[np.ndarray, "n 3"]
    origin: tuple[float, float, float]  # latitude and longitude in degrees, altitude in metres

    @property
    def horizontal_m(self) -> Float[np.ndarray, "n 2"]:
        return self.enu_m[:, :2]


@dataclass(frozen=True, slots=True)
class Fit:
    """`residuals_m` are horizontal, nan without GPS; `chance_m` is the residual of positions in random order."""

    world_from_model: Similarity
    residuals_m: Float[np.ndarray, "n"]
    chance_m: float
    altitude_residual_m: float | None

    @property
    def typical_m(self) -> float:
        return float(np.nanmedian(self.residuals_m))

    @property
    def is_believed(self) -> bool:
        return self.typical_m <= BY_CHANCE * self.chance_m


def places_of(shots: Sequence[CapturedImage]) -> Places | None:
    """Positions around the median of all; None if fewer than LEAST_POSITIONS are known."""
    known = np.array([shot.has_gps for shot in shots])
    if known.sum() < LEAST_POSITIONS:
        return None
    degrees = np.array([[shot.latitude_deg, shot.longitude_deg] for shot in shots], np.float64)
    altitude = np.array([shot.altitude_m for shot in shots], np.float64)
    altitude_0 = float(np.nanmedian(altitude)) if np.isfinite(altitude).any() else 0.0
    latitude_0, longitude_0 = _middle(degrees[known])
    flat = np.column_stack([degrees[known], np.full(known.sum(), altitude_0)])
    to_enu = pycolmap.GPSTransform(pycolmap.GPSTransformEllipsoid.WGS84).ellipsoid_to_enu
    enu_m = np.full((len(shots), 3), np.nan)
    enu_m[known, :2] = to_enu(flat, latitude_0, longitude_0, altitude_0)[:, :2]
    enu_m[:, 2] = altitude - altitude_0
    return Places(enu_m, (latitude_0, longitude_0, altitude_0))


def _middle(degrees: Float[np.ndarray, "n 2"]) -> tuple[float, float]:
    """Median latitude and longitude, also across the meridian of 180 degrees."""
    longitude = degrees[:, 1]
    if np.ptp(longitude) > 180:
        longitude = longitude % 360
    middle = float(np.median(longitude))
    return float(np.median(degrees[:, 0])), middle - 360 if middle > 180 else middle


def level(world_from_cam: Float[np.ndarray, "n 3 4"]) -> Similarity:
    """Up becomes z, the cameras' centroid the origin; the scale does not change."""
    up = estimate_up(world_from_cam)
    across = np.eye(3)[0 if abs(up[0]) < 0.9 else 1]
    east = across - (across @ up) * up
    east /= np.linalg.norm(east)
    rotation = np.stack([east, np.cross(up, east), up])
    return Similarity(1.0, rotation, -rotation @ world_from_cam[:, :, 3].mean(axis=0))


def georegister(world_from_cam: Float[np.ndarray, "n 3 4"], enu_m: Float[np.ndarray, "n 3"], seed: int) -> Fit | None:
    """Fits the cameras of a model to positions; None if fewer than LEAST_POSITIONS of them have one."""
    known = np.isfinite(enu_m[:, :2]).all(axis=1)
    if known.sum() < LEAST_POSITIONS:
        return None
    levelled = level(world_from_cam)
    centers = levelled.points(world_from_cam[:, :, 3])
    rng = np.random.default_rng(derive_seed(seed, "georegister"))
    model, gps = _as_complex(centers[known]), _as_complex(enu_m[known])
    turn, shift = fit_plane(model, gps, rng)
    shuffled = [rng.permutation(gps) for _ in range(_SHUFFLES)]
    chance = [
        np.median(np.abs(other - model * a - b)) for other in shuffled for a, b in (fit_plane(model, other, rng),)
    ]
    flat = Similarity(float(abs(turn)), _about_z(turn), np.array([shift.real, shift.imag, 0.0]))
    height, off = _height(flat.points(centers)[:, 2], enu_m[:, 2])
    rotation = flat.rotation @ levelled.rotation
    translation = flat.points(levelled.translation[None])[0] + np.array([0.0, 0.0, height])
    world_from_model = Similarity(flat.scale, rotation, translation)
    residuals = np.linalg.norm((world_from_model.points(world_from_cam[:, :, 3]) - enu_m)[:, :2], axis=1)
    return Fit(world_from_model, residuals, float(np.median(chance)), off)


def fit_plane(
    model: Complex[np.ndarray, "n"], gps: Complex[np.ndarray, "n"], rng: np.random.Generator
) -> tuple[complex, complex]:
    """a, b of gps = a * model + b: a turn, a scale and a shift of the plane.

    Least median of squares over pairs (Rousseeuw 1984), then least squares with Tukey's weights: up to half of the
    positions may be anywhere.
    """
    a, b = _least_median(model, gps, rng)
    for _ in range(_ROUNDS):
        residual = np.abs(gps - a * model - b)
        scale = _TUKEY * max(_GAUSS * float(np.median(residual)), 1e-9 + 1e-6 * float(np.abs(gps - gps.mean()).max()))
        weights = np.clip(1 - (residual / scale) ** 2, 0, None) ** 2
        model_mean, gps_mean = (np.average(values, weights=weights) for values in (model, gps))
        spread = float(weights @ np.abs(model - model_mean) ** 2)
        if spread <= 0:
            break
        a = complex((weights * np.conj(model - model_mean)) @ (gps - gps_mean) / spread)
        b = complex(gps_mean - a * model_mean)
    return a, b


def _least_median(model: np.ndarray, gps: np.ndarray, rng: np.random.Generator) -> tuple[complex, complex]:
    one, other = (
        np.triu_indices(len(model), 1)
        if len(model) ** 2 <= 2 * _HYPOTHESES
        else rng.integers(len(model), size=(2, _HYPOTHESES))
    )
    apart = np.abs(model[one] - model[other]) > 1e-9 * np.ptp(np.abs(model - model.mean())) + 1e-300
    one, other = one[apart], other[apart]
    a = (gps[one] - gps[other]) / (model[one] - model[other])
    b = gps[one] - a * model[one]
    half = (len(model) + 3) // 2
    if not len(a):
        return 0j, complex(gps.mean())
    medians = np.array(
        [np.partition(np.abs(gps - x * model - y), half - 1)[half - 1] for x, y in zip(a, b, strict=True)]
    )
    best = int(np.argmin(medians))
    return complex(a[best]), complex(b[best])


def _height(z_m: Float[np.ndarray, "n"], altitude_m: Float[np.ndarray, "n"]) -> tuple[float, float | None]:
    """What to add to z, and the typical error of altitudes; without altitudes, cameras are around 0."""
    known = np.isfinite(altitude_m)
    if not known.any():
        return -float(np.median(z_m)), None
    off = altitude_m[known] - z_m[known]
    height = float(np.median(off))
    return height, float(np.median(np.abs(off - height)))


def scale_against_gps(
    centers_m: Float[np.ndarray, "n 3"], enu_m: Float[np.ndarray, "n 3"], least_m: float
) -> float | None:
    """Median of horizontal distances over those by GPS, of pairs at least `least_m` apart by GPS; None without any."""
    known = np.flatnonzero(np.isfinite(enu_m[:, :2]).all(axis=1))
    one, other = np.triu_indices(len(known), 1)
    by_gps = np.linalg.norm((enu_m[known[one]] - enu_m[known[other]])[:, :2], axis=1)
    by_model = np.linalg.norm((centers_m[known[one]] - centers_m[known[other]])[:, :2], axis=1)
    far = by_gps >= least_m
    return float(np.median(by_model[far] / by_gps[far])) if far.any() else None


def _as_complex(points: Float[np.ndarray, "n 3"]) -> Complex[np.ndarray, "n"]:
    return points[:, 0] + 1j * points[:, 1]


def _about_z(turn: complex) -> Float[np.ndarray, "3 3"]:
    size = abs(turn)
    c, s = (turn.real / size, turn.imag / size) if size > 0 else (1.0, 0.0)
    return np.array([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]])
