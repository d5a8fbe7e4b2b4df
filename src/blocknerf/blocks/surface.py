"""What a picture shows of the ground, tile by tile: which of its pixels a block learns when surfaces divide the work.

From the air a picture shows far more ground than that under its camera, and most of it belongs to other blocks. Sparse
points show where: each tile of a picture gets the median distance of the points seen in it, or of the nearest tile that
has some.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float

from blocknerf.blocks.assignment import Claims, gather_claims
from blocknerf.blocks.ground import GroundFrame
from blocknerf.blocks.image_visibility import FEWEST_POINTS, typical_distances_m
from blocknerf.blocks.placement import Cells
from blocknerf.blocks.plan import BlockSpec, Plan
from blocknerf.scene.rays import camera_directions, pixels_of
from blocknerf.scene.scene import ImageRecord, Scene, poses_of

TILES = 16
"""Tiles along either side of a picture."""
SHARE_SHOWN = 0.02
"""An image belongs to a block when the block learns at least this share of its tiles."""


def visible_ground(
    scene: Scene, images: Sequence[ImageRecord], frame: GroundFrame, open_m: float
) -> Float[np.ndarray, "images tiles tiles 2"]:
    """Where on the ground plane the surface stands that each tile shows (rows downwards); NaN where the lens is blind.

    Images with fewer than FEWEST_POINTS sparse points show what lies at the distance typical of the capture, with
    `open_m` as in `typical_distances_m`.
    """
    poses = poses_of(images)
    typical_m = typical_distances_m(scene, images, frame, poses, open_m)
    tables = {key: camera_directions(camera, TILES, TILES) for key, camera in scene.cameras.items()}
    ground_xy = np.empty((len(images), TILES, TILES, 2))
    for i, image in enumerate(images):
        distances_m = np.full((TILES, TILES), typical_m[i])
        if len(image.point_rows) >= FEWEST_POINTS:
            distances_m = _tile_distances(scene, image, typical_m[i])
        along = tables[image.camera_key].astype(np.float64) @ poses[i, :, :3].T
        places = poses[i, :, 3] + distances_m[..., None] * along
        ground_xy[i] = frame.to_ground(places.reshape(-1, 3))[:, :2].reshape(TILES, TILES, 2)
    return ground_xy


def claim_surfaces(
    cells: Cells, cameras_xy: Float[np.ndarray, "images 2"], tiles_xy: Float[np.ndarray, "images tiles tiles 2"]
) -> list[Claims]:
    """Claims only by what images show. An image's home is the cell that learns most of it, or else the one nearest to
    its camera."""
    images = len(cameras_xy)
    distances_m = np.stack([cells.distance_m(_known(tiles_xy), cell) for cell in range(len(cells))])
    within = _learned(distances_m, distances_m.min(axis=0), cells).reshape(len(cells), images, -1).mean(axis=2)
    seen = (distances_m <= cells.half_edge_m).reshape(len(cells), images, -1).mean(axis=2)
    near = within.T >= SHARE_SHOWN
    near[np.arange(images), np.where(within.any(axis=0), within.argmax(axis=0), cells.nearest(cameras_xy)[0])] = True
    near_images, near_cells = np.nonzero(near)
    seen_images, seen_cells = np.nonzero(seen.T)
    shares = seen[seen_cells, seen_images]
    return gather_claims(len(cells), (near_images, near_cells), (seen_images, seen_cells), shares)


def tiles_of_block(
    scene: Scene, plan: Plan, block: BlockSpec, open_m: float
) -> dict[str, Bool[np.ndarray, "tiles tiles"]]:
    """By image id, for every training image of the block: the tiles that it learns (see `_learned`)."""
    layout, wanted = plan.ground(), set(block.train_images)
    images = [image for image in scene.images if image.id in wanted]
    xy = _known(visible_ground(scene, images, layout.frame(), open_m))
    cells, everyone = layout.cells(block.cells_xy), layout.cells(tuple(c for b in plan.blocks for c in b.cells_xy))
    learned = _learned(cells.nearest(xy)[1], everyone.nearest(xy)[1], cells).reshape(len(images), TILES, TILES)
    return {image.id: learned[i] for i, image in enumerate(images)}


def _learned(
    distances_m: Float[np.ndarray, "*cells places"], nearest_m: Float[np.ndarray, " places"], cells: Cells
) -> Bool[np.ndarray, "*cells places"]:
    """Whether a cell at `distances_m` learns a place whose nearest cell is at `nearest_m`: if it is within reach, or,
    beyond every cell, nearly as near as the nearest cell.

    So the rim of a site and the horizon belong to the outermost blocks.
    """
    overlap_m = cells.reach_m - cells.half_edge_m
    return np.isfinite(distances_m) & (distances_m <= np.maximum(cells.reach_m, nearest_m + overlap_m))


def _known(tiles_xy: np.ndarray) -> np.ndarray:
    """Places one under the other, [n, 2]; infinitely far where the lens is blind."""
    return np.nan_to_num(tiles_xy.reshape(-1, 2), nan=np.inf)


def _tile_distances(scene: Scene, image: ImageRecord, typical_m: float) -> np.ndarray:
    """Median distance (along the ray) of the image's points in each tile, taken from the nearest tile that has any."""
    camera = scene.cameras[image.camera_key]
    offsets = scene.points_world[image.point_rows] - image.world_from_cam[:, 3]
    pixels_xy = pixels_of(camera, offsets @ image.world_from_cam[:, :3])
    columns_rows = np.floor(pixels_xy * TILES / (camera.width, camera.height))
    inside = ((columns_rows >= 0) & (columns_rows < TILES)).all(axis=1)
    tile = (columns_rows[inside] @ (1, TILES)).astype(np.int64)
    if not len(tile):
        return np.full((TILES, TILES), typical_m)
    distances_m = np.linalg.norm(offsets[inside], axis=1)
    filled = np.unique(tile)
    medians_m = np.array([np.median(distances_m[tile == one]) for one in filled])
    every = np.stack(np.divmod(np.arange(TILES * TILES), TILES), axis=1)
    apart = np.abs(every[:, None] - every[filled][None]).max(axis=2)
    return medians_m[apart.argmin(axis=1)].reshape(TILES, TILES)
