"""The map of a city as objects in the page: blocks, photographs, sparse points."""

from collections.abc import Callable
from itertools import pairwise

import numpy as np
from jaxtyping import Float

from blocknerf.blocks.map import block_colours, drive_colours
from blocknerf.blocks.plan import Layout
from blocknerf.city.city import City
from blocknerf.city.manifest import CityBlock
from blocknerf.scene.rays import focal_lengths
from blocknerf.scene.scene import ImageRecord, Scene
from blocknerf.viewer.page_frame import PageFrame
from blocknerf.viewer.render_request import Viewpoint
from blocknerf.viewer.viser_module import viser

MOST_CAMERAS = 400
MOST_POINTS = 60_000
UNTRAINED = (0.55, 0.55, 0.55)
_DISC = np.linspace(0, 2 * np.pi, 49)
_UNIT_DISC = np.stack([np.cos(_DISC), np.sin(_DISC)], axis=1)
_UNIT_SQUARE = np.array([[-1.0, -1.0], [1.0, -1.0], [1.0, 1.0], [-1.0, 1.0], [-1.0, -1.0]])


def draw_blocks(scene_api: "viser.SceneApi", frame: PageFrame, city: City) -> None:
    """Every block of the plan as the outlines of its cells on the ground, its cube, its name; gray while untrained."""
    layout = city.manifest.layout
    blocks = city.manifest.blocks
    for block, colour in zip(blocks, block_colours(len(blocks)), strict=True):
        is_trained = block.id in city.ids
        rgb = _bytes(colour if is_trained else UNTRAINED)
        if layout is not None:
            _lines(scene_api, f"/blocks/{block.id}/cells", _outlines(frame, layout, block), rgb, 2)
        if is_trained:
            model = city.meta(block.id).model
            cube = _cube(frame, np.array(model.center_world), model.radius_m)
            _lines(scene_api, f"/cubes/{block.id}", cube, rgb, 1)
        text = block.id if is_trained else f"{block.id}, not trained yet"
        where = frame.points(np.array([block.anchor_world]))[0]
        scene_api.add_label(f"/blocks/{block.id}/name", text, position=where, anchor="center-center")


def draw_points(scene_api: "viser.SceneApi", frame: PageFrame, scene: Scene) -> None:
    """The sparse points of the capture, thinned out."""
    every = len(scene.points_world) // MOST_POINTS + 1
    if len(scene.points_world):
        scene_api.add_point_cloud(
            "/points/sparse",
            frame.points(scene.points_world[::every]).astype(np.float32),
            scene.points_rgb[::every],
            point_size=0.001 * _extent(frame, scene),
            precision="float32",
        )


def draw_cameras(scene_api: "viser.SceneApi", frame: PageFrame, scene: Scene, on_click: Callable[[str], None]) -> None:
    """Photographs as frustums in the colours of their drives, thinned out evenly; a click tells the name."""
    drives = sorted({image.drive for image in scene.images})
    colours = dict(zip(drives, drive_colours(len(drives)), strict=True))
    size = 0.002 * _extent(frame, scene)
    for image in scene.images[:: len(scene.images) // MOST_CAMERAS + 1]:
        camera = scene.cameras[image.camera_key]
        width, height = image.orientation.upright_size((camera.width, camera.height))
        view = photograph_view(scene, image, width / height)
        wxyz, position = frame.place(view.world_from_cam)
        frustum = scene_api.add_camera_frustum(
            f"/photographs/{image.name}",
            view.fov_y_rad,
            view.aspect,
            scale=size,
            thickness=1,
            thickness_units="screen",
            color=_bytes(colours[image.drive][:3]),
            wxyz=wxyz,
            position=position,
        )
        frustum.on_click(lambda _, name=image.name: on_click(name))


def draw_way(scene_api: "viser.SceneApi", frame: PageFrame, poses: Float[np.ndarray, "n 3 4"]) -> None:
    """The line of a recorded path."""
    points = frame.points(poses[:, :, 3])
    _lines(scene_api, "/way", np.stack([points[:-1], points[1:]], axis=1), (230, 60, 40), 3)


def photograph_view(scene: Scene, image: ImageRecord, aspect: float) -> Viewpoint:
    """The photograph's viewpoint, with all of it in a picture of that aspect, as far as a flat picture can hold it.

    Upright, even if its pixels lie on their side.
    """
    camera = scene.cameras[image.camera_key]
    width, height = image.orientation.upright_size((camera.width, camera.height))
    focal_px = min(focal_lengths(camera), default=height / 2)
    tangent = max(height, width / aspect) / (2 * focal_px)
    return Viewpoint(image.orientation.upright_pose(image.world_from_cam), 2 * float(np.arctan(tangent)), aspect)


def first_view(city: City, scene: Scene | None, aspect: float) -> Viewpoint:
    """The first viewpoint: the middle photograph of the drive with most; without photographs, the first anchor."""
    if scene is not None:
        images = [image for image in scene.images if image.drive == city.main_drive] or list(scene.images)
        return photograph_view(scene, images[len(images) // 2], aspect)
    forward, up = np.eye(3)[0], np.eye(3)[2]
    if city.manifest.layout is not None:
        forward, _, up = np.array(city.manifest.layout.axes_world)
    rotation = np.stack([np.cross(forward, up), -up, forward], axis=1)
    pose = np.concatenate([rotation, np.array(city.blocks[0].anchor_world)[:, None]], axis=1)
    return Viewpoint(pose, float(np.radians(60)), aspect)


def _lines(
    scene_api: "viser.SceneApi", name: str, ends: Float[np.ndarray, "n 2 3"], rgb: tuple[int, int, int], width_px: int
) -> None:
    scene_api.add_line_segments(name, ends.astype(np.float32), rgb, thickness=width_px, thickness_units="screen")


def _outlines(frame: PageFrame, layout: Layout, block: CityBlock) -> Float[np.ndarray, "segments 2 3"]:
    shape = _UNIT_SQUARE if layout.cell_shape == "square" else _UNIT_DISC
    height_m = float(frame.ground.to_ground(np.array([block.anchor_world]))[0, 2]) - 1.0
    lines = []
    for cell in block.cells_xy:
        corners = frame.on_ground(np.array(cell) + layout.cell_half_edge_m * shape, height_m)
        lines += [np.stack(pair) for pair in pairwise(corners)]
    return np.array(lines)


def _cube(frame: PageFrame, center_world: np.ndarray, radius_m: float) -> Float[np.ndarray, "12 2 3"]:
    """The edges of the cube inside which a block's space is not contracted; its sides are along the world's axes."""
    corners = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)], dtype=np.float64)
    ends = [(a, b) for a in range(8) for b in range(a) if np.abs(corners[a] - corners[b]).sum() == 2]
    points = frame.points(center_world + radius_m * corners)
    return np.array([[points[a], points[b]] for a, b in ends])


def _extent(frame: PageFrame, scene: Scene) -> float:
    return max(float(np.ptp(frame.points(scene.centers_world), axis=0).max()), 1e-3)


def _bytes(rgb) -> tuple[int, int, int]:
    r, g, b = (round(255 * float(channel)) for channel in rgb)
    return r, g, b
