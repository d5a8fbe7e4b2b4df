"""Where images saw sparse points: pixels whose distance is known before anything is learned."""

from dataclasses import dataclass, replace

import numpy as np

from blocknerf.core.camera import Camera
from blocknerf.core.logging import log
from blocknerf.scene.rays import focal_lengths, pixels_of
from blocknerf.scene.scene import ImageRecord, Scene
from blocknerf.scene.store import ImageStore

LEAST_SEEN_SHARE = 0.8
"""Of the sights of right points, nearly all lie inside their image."""
MOST_DISAGREEMENT = 0.75
"""Between the colours of one point, relative to those where it is not."""
AWAY = 1.25
"""Factor of the distance from its cameras at which a point is not."""
REPROJECTION_ERROR_PX = 1.0
"""Typical, in pixels of the photograph."""
_LEAST = 100
"""Sights that the checks need."""


@dataclass(frozen=True, slots=True)
class ObservedPoints:
    """Sights of points: one row for each image that saw a point.

    `deviation_m` is the standard deviation of `distance_m` when a point is the least-squares intersection of its rays,
    each off by REPROJECTION_ERROR_PX: d e / sqrt(n (1 - |m|^2)) at distance d, with n rays of mean direction m and
    pixels of angle e. It falls with the length of the track and grows as the rays become parallel.
    """

    slots: np.ndarray  # [sights] int64: position of the image in `image_ids`
    xy_shares: np.ndarray  # [sights, 2] float64: place in the image, as shares of its width and height, in [0, 1)
    distance_m: np.ndarray  # [sights] float32, from the camera's centre
    deviation_m: np.ndarray  # [sights] float32

    def __len__(self) -> int:
        return len(self.slots)


def observed_points(scene: Scene, store: ImageStore, image_ids: tuple[str, ...]) -> ObservedPoints | None:
    """Sights by `image_ids` that agree with the photographs; None if there are none, or they contradict these.

    Points that are wrong (of another scale, of another capture, moved to a plane) project to places that look
    different in each image, or outside of it. They are recognised together: the colours of a point must agree between
    its images better than those of the place AWAY times as far. Says why if points are not used.
    """
    records = [store.records[image_id] for image_id in image_ids]
    if not any(len(record.point_rows) for record in records):
        return None
    sights = _sights(scene, records, 1.0)
    if len(sights.rows) < _LEAST:
        log.warning("The images saw only %d sparse points; distances are learned without them.", len(sights.rows))
        return None
    seen_share = float(sights.inside.mean())
    disagreement = _disagreement(sights, store, image_ids) / max(
        _disagreement(_sights(scene, records, AWAY), store, image_ids), 1e-9
    )
    if seen_share < LEAST_SEEN_SHARE or disagreement > MOST_DISAGREEMENT:
        log.warning(
            "The sparse points do not fit the photographs: %.0f %% of them lie inside the images that saw them, and "
            "their colours differ between images %.2f times as much as those of places beside them (at most %.2f is "
            "expected). Distances are learned without them. Do points and poses have the same scale?",
            100 * seen_share,
            disagreement,
            MOST_DISAGREEMENT,
        )
        return None
    kept = sights.inside & (sights.tracks[sights.rows] >= 2)
    return ObservedPoints(sights.slots[kept], sights.xy_shares[kept], sights.distance_m[kept], sights.deviation_m[kept])


@dataclass(frozen=True, slots=True)
class _Sights:
    slots: np.ndarray
    rows: np.ndarray  # [sights] int64: of the points
    xy_shares: np.ndarray
    inside: np.ndarray  # [sights] bool
    distance_m: np.ndarray
    deviation_m: np.ndarray
    tracks: np.ndarray  # [points] number of images that saw it


def _sights(scene: Scene, records: list[ImageRecord], factor: float) -> _Sights:
    """All sights, with points moved to `factor` times their distance from the mean of the cameras that saw them."""
    used = [(slot, record) for slot, record in enumerate(records) if record.rays_path is None]
    rows = np.concatenate([np.zeros(0, np.int64), *(record.point_rows for _, record in used)])
    slots = np.repeat([slot for slot, _ in used], [len(record.point_rows) for _, record in used]).astype(np.int64)
    centers = np.array([record.world_from_cam[:, 3] for record in records])[slots].reshape(-1, 3)
    tracks = np.bincount(rows, minlength=len(scene.points_world))
    mean_center = _means(centers, rows, tracks)
    points = mean_center + factor * (scene.points_world - mean_center)
    away = points[rows] - centers
    distance_m = np.linalg.norm(away, axis=1)
    mean_direction = _means(away / np.maximum(distance_m, 1e-12)[:, None], rows, tracks)
    spread = tracks * np.maximum(1 - np.square(mean_direction).sum(1), 1e-9)
    pixel_rad, xy_shares = np.empty(len(rows)), np.full((len(rows), 2), -1.0)
    first = 0
    for _, record in used:
        own = slice(first, first + len(record.point_rows))
        first = own.stop
        camera = scene.cameras[record.camera_key]
        points_cam = away[own] @ record.world_from_cam[:, :3]
        xy_shares[own] = _places(camera, points_cam)
        pixel_rad[own] = _pixel_rad(camera)
    inside = ((xy_shares >= 0) & (xy_shares < 1)).all(1)
    deviation_m = REPROJECTION_ERROR_PX * distance_m * pixel_rad / np.sqrt(np.maximum(spread[rows], 1e-9))
    return _Sights(
        slots, rows, xy_shares, inside, distance_m.astype(np.float32), deviation_m.astype(np.float32), tracks
    )


def _places(camera: Camera, points_cam: np.ndarray) -> np.ndarray:
    """Places in the image as shares of its sides; -1 where the lens does not reach."""
    shares = pixels_of(camera, points_cam) / (camera.width, camera.height)
    return np.where(np.isfinite(shares).all(1, keepdims=True), shares, -1.0)


def _pixel_rad(camera: Camera) -> float:
    focal_px = focal_lengths(camera)
    return 1 / float(np.mean(focal_px)) if focal_px else 2 * np.pi / camera.width


def _means(values: np.ndarray, rows: np.ndarray, tracks: np.ndarray) -> np.ndarray:
    """Mean of `values` [sights, 3] by point; 0 for points that no image saw."""
    sums = np.stack([np.bincount(rows, values[:, axis], len(tracks)) for axis in range(3)], 1)
    return sums / np.maximum(tracks, 1)[:, None]


def _disagreement(sights: _Sights, store: ImageStore, image_ids: tuple[str, ...]) -> float:
    """Variance of the colours of one point between its images, in which each image has mean 0 and deviation 1."""
    level = store.num_levels - 1
    sights = replace(
        sights,
        slots=sights.slots[sights.inside],
        rows=sights.rows[sights.inside],
        xy_shares=sights.xy_shares[sights.inside],
    )
    colours = np.zeros((len(sights.slots), 3))
    for slot in np.unique(sights.slots):
        own = sights.slots == slot
        rgb = store.rgb(image_ids[slot], level)
        columns, rows = (sights.xy_shares[own] * (rgb.shape[1], rgb.shape[0])).astype(np.int64).T
        seen = rgb[rows, columns].astype(np.float64)
        colours[own] = (seen - seen.mean(0)) / (seen.std(0) + 1)
    tracks = np.bincount(sights.rows, minlength=len(sights.tracks))
    several = tracks[sights.rows] >= 2
    apart = np.square(colours - _means(colours, sights.rows, tracks)[sights.rows]).sum(1)
    unbiased = apart[several] * (tracks / np.maximum(tracks - 1, 1))[sights.rows[several]]
    return float(unbiased.mean()) if several.any() else 0.0
