"""Where images saw sparse points: pixels whose distance is known before anything is learned."""

from dataclasses import dataclass

import numpy as np

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
REPROJECTION_ERROR_PX, LEAST_ERROR_PX = 1.0, 0.25
"""Of a ray in pixels of the photograph: where unknown, and at least."""
COMPARED_PX = 200
"""Longer side of the pictures whose colours are compared, at least, if the store has such: smaller ones show no detail,
and larger ones show errors of a pixel."""
_LEAST = 100
"""Sights that the checks need."""


@dataclass(frozen=True, slots=True)
class ObservedPoints:
    """Sights of points: one row for each image that saw a point.

    `deviation_m` is the standard deviation of `distance_m` when a point is the least-squares intersection of its rays,
    each off by its reprojection error: d e / sqrt(n (1 - |m|^2)) at distance d, with n rays of mean direction m and an
    error of angle e. It falls with the length of the track and grows as the rays become parallel.
    """

    slots: np.ndarray  # [sights] int64: position of the image in `image_ids`
    xy_px: np.ndarray  # [sights, 2] float64: place in the photograph, the first pixel's centre at 0.5, 0.5
    distance_m: np.ndarray  # [sights] float32, from the camera's centre
    deviation_m: np.ndarray  # [sights] float32

    def __len__(self) -> int:
        return len(self.slots)


def observed_points(scene: Scene, store: ImageStore, image_ids: tuple[str, ...]) -> ObservedPoints | None:
    """Sights by `image_ids` that agree with the photographs; None if there are none, or they contradict these.

    Points that are wrong (of another scale, of another capture, moved to a plane) project to places that look
    different in each image, or outside of it. They are recognised together: the colours of a point must agree between
    its images better than those of the place AWAY times as far. Says why if points are not used. Images that the store
    skipped, and those whose rays are in a table, have no sights.
    """
    records = {slot: store.records[name] for slot, name in enumerate(image_ids) if name in store.records}
    seeing = {slot: record for slot, record in records.items() if len(record.point_rows) and record.rays_path is None}
    if not seeing:
        return None
    sights = _sights(scene, seeing, 1.0)
    if len(sights.rows) < _LEAST:
        log.warning(
            "The images saw sparse points only %d times (at least %d are needed); distances are learned without them.",
            len(sights.rows),
            _LEAST,
        )
        return None
    seen_share = float(sights.inside.mean())
    disagreement = _disagreement(sights, store, image_ids) / max(
        _disagreement(_sights(scene, seeing, AWAY), store, image_ids), 1e-9
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
    return ObservedPoints(sights.slots[kept], sights.xy_px[kept], sights.distance_m[kept], sights.deviation_m[kept])


@dataclass(frozen=True, slots=True)
class _Sights:
    slots: np.ndarray  # [sights] int64, ascending
    rows: np.ndarray  # [sights] int64: of the points
    xy_px: np.ndarray  # [sights, 2]
    inside: np.ndarray  # [sights] bool
    distance_m: np.ndarray
    deviation_m: np.ndarray
    tracks: np.ndarray  # [points] number of images that saw it


def _sights(scene: Scene, seeing: dict[int, ImageRecord], factor: float) -> _Sights:
    """All sights, with points moved to `factor` times their distance from the mean of the cameras that saw them."""
    counts = [len(record.point_rows) for record in seeing.values()]
    rows = np.concatenate([record.point_rows for record in seeing.values()])
    centers = np.repeat([record.world_from_cam[:, 3] for record in seeing.values()], counts, axis=0)
    tracks = np.bincount(rows, minlength=len(scene.points_world))
    mean_center = _means(centers, rows, tracks)
    away = (mean_center + factor * (scene.points_world - mean_center))[rows] - centers
    distance_m = np.linalg.norm(away, axis=1)
    mean_direction = _means(away / np.maximum(distance_m, 1e-12)[:, None], rows, tracks)
    spread = tracks * np.maximum(1 - np.square(mean_direction).sum(1), 1e-9)
    xy_px, pixel_rad = np.empty((len(rows), 2)), np.repeat([_pixel_rad(scene, r) for r in seeing.values()], counts)
    inside = np.empty(len(rows), bool)
    for run, record in zip(_runs(counts), seeing.values(), strict=True):
        camera = scene.cameras[record.camera_key]
        xy_px[run] = pixels_of(camera, away[run] @ record.world_from_cam[:, :3])
        with np.errstate(invalid="ignore"):  # NaN where the lens does not reach
            inside[run] = ((xy_px[run] >= 0) & (xy_px[run] < (camera.width, camera.height))).all(1)
    deviation_m = _errors_px(scene)[rows] * distance_m * pixel_rad / np.sqrt(np.maximum(spread[rows], 1e-9))
    slots = np.repeat(list(seeing), counts)
    return _Sights(slots, rows, xy_px, inside, distance_m.astype(np.float32), deviation_m.astype(np.float32), tracks)


def _runs(counts: list[int]) -> list[slice]:
    ends = np.cumsum(counts).tolist()
    return [slice(end - count, end) for end, count in zip(ends, counts, strict=True)]


def _pixel_rad(scene: Scene, record: ImageRecord) -> float:
    camera = scene.cameras[record.camera_key]
    focal_px = focal_lengths(camera)
    return 1 / float(np.mean(focal_px)) if focal_px else 2 * np.pi / camera.width


def _errors_px(scene: Scene) -> np.ndarray:
    """[points] of one ray. What is stored is smaller: of 2 n measured coordinates, 3 were fitted."""
    if scene.points_error_px is None:
        return np.full(len(scene.points_world), REPROJECTION_ERROR_PX)
    seen = np.concatenate([image.point_rows for image in scene.images])
    measured = 2 * np.bincount(seen, minlength=len(scene.points_world)).clip(min=2)
    errors_px = scene.points_error_px * np.sqrt(measured / (measured - 3))
    return np.where(errors_px > 0, errors_px.clip(min=LEAST_ERROR_PX), REPROJECTION_ERROR_PX)


def _means(values: np.ndarray, rows: np.ndarray, tracks: np.ndarray) -> np.ndarray:
    """Mean of `values` [sights, 3] by point; 0 for points that no image saw."""
    sums = np.stack([np.bincount(rows, values[:, axis], len(tracks)) for axis in range(3)], 1)
    return sums / np.maximum(tracks, 1)[:, None]


def _disagreement(sights: _Sights, store: ImageStore, image_ids: tuple[str, ...]) -> float:
    """Variance of the colours of one point between its images, in which each image has mean 0 and deviation 1."""
    slots, rows, xy_px = sights.slots[sights.inside], sights.rows[sights.inside], sights.xy_px[sights.inside]
    if len(slots) == 0:
        return 0.0
    images, counts = np.unique(slots, return_counts=True)
    sides_px = [store.longer_side([image_ids[slot] for slot in images], level) for level in range(store.num_levels)]
    level = max((level for level, side_px in enumerate(sides_px) if side_px >= COMPARED_PX), default=0)
    colours = np.zeros((len(slots), 3))
    for run, slot in zip(_runs(counts.tolist()), images, strict=True):
        rgb = store.rgb(image_ids[slot], level)
        columns, lines = (xy_px[run] * store.scale(image_ids[slot], level)).astype(np.int64).T
        seen = rgb[np.minimum(lines, len(rgb) - 1), np.minimum(columns, rgb.shape[1] - 1)].astype(np.float64)
        colours[run] = (seen - seen.mean(0)) / (seen.std(0) + 1)
    tracks = np.bincount(rows, minlength=len(sights.tracks))
    several = tracks[rows] >= 2
    apart = np.square(colours - _means(colours, rows, tracks)[rows]).sum(1)
    unbiased = apart[several] * (tracks / np.maximum(tracks - 1, 1))[rows[several]]
    return float(unbiased.mean()) if several.any() else 0.0
