"""What two neighbouring blocks both see well: the areas in which their appearances are compared."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from blocknerf.city.city import City
from blocknerf.core.logging import log
from blocknerf.core.types import RayBatch
from blocknerf.models.renderer import BlockRenderer
from blocknerf.scene.rays import camera_rays
from blocknerf.scene.scene import ImageRecord, Scene

CANDIDATES = 32
"""Number of cameras, nearest to both blocks, whose pictures are searched for such places."""
PLACES = 16
"""Maximum number of pictures for fitting, and as many for measuring: alternating, by how well both blocks see them."""
LONG_SIDE_PX = 32
SEEN_WELL = 0.5
"""A ray belongs to the area if both blocks see it at least this well, from 0 to 1."""
TILE_PX = 8
FEWEST_RAYS, FEWEST_IN_PART = 64, 8
SURELY_VISIBLE = 0.5
"""Minimum visibility of a place that counts as seen. On a surface, much of the light is already absorbed."""
SAME_SURFACE = 0.1
"""Maximum relative difference of distances at which both blocks show the same thing."""

Links = Mapping[str, Sequence[str]]
"""Neighbours by block id."""


@dataclass(frozen=True, slots=True)
class Overlap:
    """What two neighbours both see well: one area to which codes are fitted, and another for measuring."""

    fitted: tuple[RayBatch, ...]  # one entry for each part of a picture
    measured: RayBatch


Overlaps = Mapping[tuple[str, str], Overlap]
"""Overlaps by the sorted ids of two neighbours."""


def find_overlaps(city: City, links: Links, scene: Scene, ids: Iterable[str]) -> dict[tuple[str, str], Overlap]:
    """The overlaps of all pairs of neighbours among `ids`. Pairs without one are skipped, with a warning."""
    known = set(ids)
    pairs = sorted(
        {(min(a, b), max(a, b)) for a, others in links.items() for b in others if a in known and b in known and a != b}
    )
    overlaps = {}
    for pair in pairs:
        found = _find_overlap(city, pair, scene)
        if found is None:
            log.warning("Blocks %s and %s cannot be aligned: they see no place well together.", *pair)
        else:
            overlaps[pair] = found
    return overlaps


def seen_by_both(a: BlockRenderer, b: BlockRenderer, rays: RayBatch) -> Float[Tensor, " rays"]:
    """How well both blocks see what they show along each ray, from 0 to 1; low if they show different things.

    The opacity of both, times the agreement of their distances, times the lower visibility if both have a visibility
    network. Beyond a block's radius, distances may differ by more: they are less accurate there, and hardly matter for
    a picture.
    """
    one, other = a.render(rays), b.render(rays)
    nearer = torch.minimum(one.distance_m, other.distance_m)
    farther = torch.maximum(one.distance_m, other.distance_m)
    apart = (farther - nearer) / farther.clamp(min=1e-6)
    apart = apart * (max(a.radius_m, b.radius_m) / nearer.clamp(min=1e-6)).clamp(max=1)
    seen = one.opacity * other.opacity * torch.exp(-((apart / SAME_SURFACE) ** 2))
    if not (a.has_visibility and b.has_visibility):
        return seen
    visible = torch.minimum(a.visibility_along(rays, one.distance_m), b.visibility_along(rays, other.distance_m))
    return seen * (visible / SURELY_VISIBLE).clamp(max=1)


def _find_overlap(city: City, pair: tuple[str, str], scene: Scene) -> Overlap | None:
    a, b = (city.model(block_id) for block_id in pair)
    views, tiles = zip(*(_coarse_rays(scene, image) for image in cameras_between(city, pair, scene)), strict=True)
    scores = [seen_by_both(a, b, view) for view in views]
    best = sorted(range(len(views)), key=lambda i: -float(scores[i].mean()))[: 2 * PLACES]
    fitted, measured = best[0::2], best[1::2] or best
    parts = [part for i in fitted for part in _parts(views[i], tiles[i], scores[i])]
    kept = RayBatch.concatenate([views[i][scores[i] >= SEEN_WELL] for i in measured])
    if min(sum(map(len, parts)), len(kept)) < FEWEST_RAYS:
        return None
    return Overlap(tuple(parts), kept)


def _parts(view: RayBatch, tiles: Int[Tensor, " rays"], scores: Float[Tensor, " rays"]) -> list[RayBatch]:
    """The rays that both see well, tile by tile; tiles with few such rays are skipped."""
    well = scores >= SEEN_WELL
    rows = [torch.nonzero(well & (tiles == tile))[:, 0] for tile in tiles.unique().tolist()]
    return [view[row] for row in rows if len(row) >= FEWEST_IN_PART]


def cameras_between(city: City, pair: tuple[str, str], scene: Scene) -> list[ImageRecord]:
    """Training images of either block whose cameras are nearest to both; those of both blocks come first."""
    learned = [set(city.meta(block_id).image_ids) for block_id in pair]
    anchors = [torch.tensor(city.anchor(block_id), dtype=torch.float64) for block_id in pair]

    def rank(image: ImageRecord) -> tuple[bool, float, str]:
        center = torch.from_numpy(image.world_from_cam[:, 3].copy())
        return not all(image.id in ids for ids in learned), max(float((center - x).norm()) for x in anchors), image.name

    images = sorted((image for image in scene.images if image.id in learned[0] | learned[1]), key=rank)
    return images[:CANDIDATES]


def _coarse_rays(scene: Scene, image: ImageRecord) -> tuple[RayBatch, Int[Tensor, " rays"]]:
    """A small picture of the image's camera, and for each ray its tile of TILE_PX."""
    camera = scene.cameras[image.camera_key]
    scale = LONG_SIDE_PX / max(camera.width, camera.height)
    width, height = (max(1, round(scale * side)) for side in (camera.width, camera.height))
    rows, columns = torch.arange(height) // TILE_PX, torch.arange(width) // TILE_PX
    tiles = (rows[:, None] * width + columns).flatten()
    return camera_rays(camera, image.world_from_cam, width, height), tiles
