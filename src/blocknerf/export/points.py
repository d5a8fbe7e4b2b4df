"""A city's surface as points on which several pictures of a block agree."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Float32, Int, UInt8
from rich.progress import track

from blocknerf.core.errors import UserError
from blocknerf.core.logging import console
from blocknerf.export.maps import InnerRegions, Maps


@dataclass(frozen=True, slots=True)
class PointCloud:
    """World metres; unit normals towards the cameras."""

    places: Float[np.ndarray, "n 3"]
    normals: Float[np.ndarray, "n 3"]
    colours: UInt8[np.ndarray, "n 3"]


@dataclass(frozen=True, slots=True)
class Agreement:
    """Which points are kept: the ray's spread is at most `spread_share` of the depth, and at least `least_views` other
    pictures of the block confirm the depth to `tolerance_share`, more than see something behind the point. Points in a
    cube with edge `spacing_m` are replaced by their mean."""

    spacing_m: float = 0.05
    least_views: int = 2
    tolerance_share: float = 0.02
    spread_share: float = 0.05


def extract_points(maps: Maps, regions: InnerRegions, agreement: Agreement) -> PointCloud:
    """Every block's points in its territory, block after block. Raises UserError if no point is left."""
    parts = []
    blocks = np.unique(maps.blocks)
    for block in track(blocks, "Comparing views", console=console, transient=True):
        views = np.flatnonzero(maps.blocks == block)
        found = [_confirmed(view, views, maps, regions, agreement) for view in views.tolist()]
        rows = np.concatenate([rows for _, rows in found])
        if len(rows):
            parts.append(_thinned(np.concatenate([places for places, _ in found]), rows, maps, agreement.spacing_m))
    if not parts:
        raise UserError(
            f"No point was confirmed by {agreement.least_views} other pictures. Train the city for longer, or ask for "
            "less with --least-views or --tolerance."
        )
    return PointCloud(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))


def _confirmed(
    view: int, views: Int[np.ndarray, " views"], maps: Maps, regions: InnerRegions, agreement: Agreement
) -> tuple[Float[np.ndarray, "n 3"], Int[np.ndarray, " n"]]:
    """The points of a view that are kept, and their rows."""
    from blocknerf.export.agreement_numba import count_agreeing

    places, rows = maps.points_world(view)
    sure = maps.spreads_m[rows] * maps.inverse_depths[rows] <= agreement.spread_share
    places, rows = places[sure], rows[sure]
    is_inside = regions.owners(places) == maps.blocks[view]
    places, rows = places[is_inside], rows[is_inside]
    votes = np.zeros((2, len(rows)), np.int64)
    others = views[(views != view) & _shares_sight(places, maps)[views]]
    count_agreeing(
        places,
        others,
        maps.cam_from_world,
        maps.focal_px,
        maps.sizes,
        maps.first_rows,
        maps.inverse_depths,
        agreement.tolerance_share,
        votes[0],
        votes[1],
    )
    kept = (votes[0] >= agreement.least_views) & (votes[0] > votes[1])
    return places[kept], rows[kept]


def _shares_sight(places: Float[np.ndarray, "n 3"], maps: Maps) -> Bool[np.ndarray, " views"]:
    if len(places) == 0:
        return np.zeros(len(maps), bool)
    middle = (places.min(axis=0) + places.max(axis=0)) / 2
    return maps.may_see(middle, float(np.linalg.norm(places - middle, axis=1).max()))


def _thinned(
    places: Float[np.ndarray, "n 3"], rows: Int[np.ndarray, " n"], maps: Maps, spacing_m: float
) -> tuple[Float[np.ndarray, "m 3"], Float[np.ndarray, "m 3"], UInt8[np.ndarray, "m 3"]]:
    """Means over cubes, weighted by the certainty of the rays."""
    cubes = np.floor(places / spacing_m).astype(np.int64)
    _, cube, counts = np.unique(cubes, axis=0, return_inverse=True, return_counts=True)
    sureness = 1 / (spacing_m**2 + maps.spreads_m[rows].astype(float) ** 2)

    def mean(values: Float[np.ndarray, "n 3"] | Float32[np.ndarray, "n 3"] | UInt8[np.ndarray, "n 3"]) -> np.ndarray:
        sums = [np.bincount(cube, sureness * column, len(counts)) for column in values.T]
        return np.stack(sums, -1) / np.bincount(cube, sureness, len(counts))[:, None]

    normals = mean(maps.normals_world[rows])
    normals /= np.linalg.norm(normals, axis=1, keepdims=True).clip(min=1e-9)
    return mean(places), normals, mean(maps.colours[rows]).round().astype(np.uint8)
