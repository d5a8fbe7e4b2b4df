"""Surface maps of the training cameras of a city, rendered block by block and kept on the disk."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float, Float32, Int, Int16, UInt8
from rich.progress import track

from blocknerf.blocks.plan import BlockSpec, Plan
from blocknerf.city.city import City
from blocknerf.core import disk
from blocknerf.core.camera import Camera
from blocknerf.core.errors import UserError
from blocknerf.core.logging import console, log
from blocknerf.core.names import natural_order
from blocknerf.core.types import Appearance
from blocknerf.export.surfaces import SurfaceMap, pinhole_of, surface_map
from blocknerf.export.voronoi_cells import VoronoiCells
from blocknerf.scene.scene import ImageRecord, Scene

CUBES = 2.0
"""Half edges of a block's cube up to which it contributes: space is contracted beyond one, to half of its size at two.
"""


@dataclass(frozen=True)
class InnerRegions:
    """The region to which each block contributes: its territory, up to CUBES half edges of its cube. Borders are
    half-way between blocks."""

    voronoi_cells: VoronoiCells
    cubes: Float[np.ndarray, "blocks 4"]  # centre and half edge, metres, in the order of the cells' ids

    @staticmethod
    def of(plan: Plan) -> "InnerRegions":
        voronoi_cells = VoronoiCells.of(plan)
        specs = [plan.block(block_id) for block_id in voronoi_cells.ids]
        return InnerRegions(voronoi_cells, np.array([(*spec.center_world, spec.radius_m) for spec in specs]))

    @property
    def ids(self) -> tuple[str, ...]:
        return self.voronoi_cells.ids

    def owners(self, places_world: Float[np.ndarray, "n 3"]) -> Int16[np.ndarray, " n"]:
        """Rows of `ids`; -1 for places too far from their block."""
        owners = self.voronoi_cells.owners(places_world)
        cubes = self.cubes[owners]
        inside = np.abs(places_world - cubes[:, :3]).max(axis=1) <= CUBES * cubes[:, 3]
        return np.where(inside, owners, -1).astype(np.int16)


@dataclass(frozen=True, slots=True)
class Maps:
    """Maps of many views as flat arrays in files: the pixels of view v begin at row `first_rows[v]`.

    `inverse_depths` is 1 / depth_z_m, 0 where a ray hits nothing.
    """

    cam_from_world: Float[np.ndarray, "views 3 4"]
    focal_px: Float[np.ndarray, " views"]
    sizes: Int[np.ndarray, "views 2"]  # width, height
    first_rows: Int[np.ndarray, " views"]
    blocks: Int16[np.ndarray, " views"]  # rows of the regions' ids
    inverse_depths: Float32[np.ndarray, " pixels"]
    spreads_m: Float32[np.ndarray, " pixels"]
    cosines: Float32[np.ndarray, " pixels"]
    normals_world: Float32[np.ndarray, "pixels 3"]
    colours: UInt8[np.ndarray, "pixels 3"]

    def __len__(self) -> int:
        return len(self.focal_px)

    def rows(self, view: int) -> slice:
        width, height = self.sizes[view]
        return slice(int(self.first_rows[view]), int(self.first_rows[view] + width * height))

    def points_world(self, view: int) -> tuple[Float[np.ndarray, "n 3"], Int[np.ndarray, " n"]]:
        """Surface points of a view and their rows; rays that hit nothing are skipped."""
        rows = self.rows(view)
        width, height = self.sizes[view]
        x, y = np.meshgrid(np.arange(width) + 0.5 - width / 2, np.arange(height) + 0.5 - height / 2)
        inverse = np.asarray(self.inverse_depths[rows])
        hits = np.flatnonzero(inverse > 0)
        z = 1 / inverse[hits].astype(float)
        focal, pose = self.focal_px[view], self.cam_from_world[view]
        points_cam = np.stack([x.ravel()[hits] / focal * z, y.ravel()[hits] / focal * z, z], -1)
        return (points_cam - pose[:, 3]) @ pose[:, :3], hits + rows.start

    def may_see(self, center_world: Float[np.ndarray, "3"], radius_m: float) -> Bool[np.ndarray, " views"]:
        """Views into whose pyramid a ball reaches."""
        x, y, z = (self.cam_from_world[:, :, :3] @ center_world + self.cam_from_world[:, :, 3]).T
        half = self.sizes.T / (2 * self.focal_px)
        slack = radius_m * np.sqrt(1 + half**2)
        return (z > -radius_m) & (np.abs(x) < half[0] * z + slack[0]) & (np.abs(y) < half[1] * z + slack[1])


def render_maps(
    city: City, plan: Plan, scene: Scene, regions: InnerRegions, folder: Path, longest_px: int, most_views: int
) -> Maps:
    """What every trained block shows to at most `most_views` of its training cameras; arrays are files in `folder`.

    All have the appearance of the city's main drive, so that colours of different hours do not mix.
    """
    chosen = [
        (block, image) for block in plan.blocks if block.id in city.ids for image in _spread(block, scene, most_views)
    ]
    if not chosen:
        raise UserError("No training image of the city is in its scene. Give the original scene with --data-root.")
    cameras = [pinhole_of(scene.cameras[image.camera_key], longest_px) for _, image in chosen]
    poses = np.stack([image.world_from_cam for _, image in chosen]).astype(np.float64)
    maps = new_maps(folder, cameras, poses, np.array([regions.ids.index(block.id) for block, _ in chosen]))
    for view in track(range(len(maps)), "Rendering depth", console=console, transient=True):
        block, image = chosen[view]
        model = city.model(block.id)
        code = city.code_for(block.id, Appearance(drive=city.main_drive))
        keep(maps, view, surface_map(model, cameras[view], image.world_from_cam, code))
    log.info("%d views of %d blocks were rendered.", len(maps), len(np.unique(maps.blocks)))
    return maps


def new_maps(
    folder: Path,
    cameras: Sequence[Camera],
    poses: Float[np.ndarray, "views 3 4"],
    blocks: Int[np.ndarray, " views"],
) -> Maps:
    """Empty maps for views of pinhole cameras with these world_from_cam."""
    sizes = np.array([(camera.width, camera.height) for camera in cameras])
    ends = np.cumsum(sizes.prod(axis=1))
    rotations = poses[:, :, :3].transpose(0, 2, 1)
    return Maps(
        np.concatenate([rotations, -rotations @ poses[:, :, 3:]], axis=2),
        np.array([camera.params[0] for camera in cameras]),
        sizes,
        ends - sizes.prod(axis=1),
        blocks.astype(np.int16),
        *(disk.mapped(folder / name, dtype, (int(ends[-1]), *width)) for name, dtype, width in _ARRAYS),
    )


def keep(maps: Maps, view: int, surface: SurfaceMap) -> None:
    """Writes what a view shows into its rows."""
    rows = maps.rows(view)
    depth = surface.depth_z_m.ravel()
    maps.inverse_depths[rows] = np.divide(1, depth, out=np.zeros_like(depth), where=depth > 0)
    maps.spreads_m[rows] = surface.depth_std_m.ravel()
    maps.cosines[rows] = surface.cosine.ravel()
    maps.normals_world[rows] = surface.normals_world.reshape(-1, 3)
    maps.colours[rows] = surface.rgb.reshape(-1, 3)


_ARRAYS = (
    ("inverse_depths", np.float32, ()),
    ("spreads_m", np.float32, ()),
    ("cosines", np.float32, ()),
    ("normals_world", np.float32, (3,)),
    ("colours", np.uint8, (3,)),
)


def _spread(block: BlockSpec, scene: Scene, most: int) -> Iterator[ImageRecord]:
    """The block's training images in the order of their names, or at most `most` of them, evenly chosen."""
    training_ids = set(block.train_images)
    images = sorted(
        (image for image in scene.images if image.id in training_ids), key=lambda image: natural_order(image.name)
    )
    rows = np.unique(np.linspace(0, len(images) - 1, min(most, len(images))).round().astype(int)) if images else []
    return (images[row] for row in rows)
