"""What was captured: cameras, images with poses, sparse points. Every reader returns one `Scene`."""

import hashlib
import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np

from blocknerf.core.camera import Camera
from blocknerf.core.errors import UserError
from blocknerf.core.stored import Number, Place
from blocknerf.scene.orientation import AS_STORED, Orientation

Offset = Place
NO_OFFSET: Offset = (0.0, 0.0, 0.0)
FARTHEST_M = 1e12
"""Maximum distance from the origin. Rays are float32 and reach a hundred radii; their squares must stay below its
largest number."""
_POSE_DIGITS = 7
"""As many as float32 rays can distinguish."""

_HIGHEST_M = 1e6
_HASHED = 4096
"""Images whose poses are rounded at a time."""
_NO_ROWS = np.zeros(0, np.int64)
_NO_ROWS.flags.writeable = False

# Shapes of the numpy arrays below are in the comments beside them: these classes cross into numpy-only code.


@dataclass(frozen=True, slots=True)
class ImageRecord:
    """One photograph. `id` is a hash of its path and content and never changes; look things up by it."""

    id: str
    name: str  # also of every file made from it: a relative path that stays in its folder, unique (see core/names.py)
    path: Path
    camera_key: str
    world_from_cam: np.ndarray  # [3, 4] float64, OpenCV camera axes, metres
    drive: str = "0"
    segment: str = "0"  # of its drive, between two gaps (see scene/segments.py)
    trajectory: str | None = None  # of its camera in that segment (see scene/trajectories.py); None: no order is known
    moment: float = 0.0  # when it was taken, or the number in its name: only comparable within its trajectory
    mask_paths: tuple[Path, ...] = ()  # 0 = ignore this pixel; a pixel that any of them hides is ignored
    exposure: float | None = None  # relative exposure (shutter s x ISO / 100 / f-number^2, or the data set's own)
    depth_path: Path | None = None  # depth along the optical axis (see scene/depth.py); None unless dataset.use_depth
    alpha: Literal["opaque", "unchosen", "white", "black", "mask"] = "opaque"
    """Whether its file has transparency, and what that becomes (see DatasetConfig.alpha)."""
    depth_unit_m: float | None = None  # metres per unit of the depth file; None: by its kind
    point_rows: np.ndarray = field(default_factory=lambda: _NO_ROWS)  # rows of Scene.points_world seen
    rays_path: Path | None = None
    """A table of its rays, if camera and pose cast them only approximately (see scene/ray_tables.py)."""
    orientation: Orientation = AS_STORED
    """Orientation of the file's pixels; `world_from_cam` and the camera belong to the result of `Orientation.picture`.
    """
    listed_name: str | None = None
    """Its name in the capture, from which its id is made; None: the same as `name`."""

    @property
    def is_cut_out(self) -> bool:
        """Whether it shows an object without what is around it: transparent pixels are put on one colour."""
        return self.alpha in ("white", "black")


@dataclass(frozen=True, slots=True)
class GeoOrigin:
    """Where on Earth (WGS 84) the world's origin is; x is east, y north and z up, in metres.

    Raises UserError if that is not a place.
    """

    latitude_deg: Number
    longitude_deg: Number
    altitude_m: Number | None = None

    def __post_init__(self) -> None:
        if not (-90 <= self.latitude_deg <= 90 and -180 <= self.longitude_deg <= 180):
            raise UserError(
                f"Latitude {self.latitude_deg:g} and longitude {self.longitude_deg:g} are not a place: latitudes go "
                "from -90 to 90 degrees, longitudes from -180 to 180."
            )
        if self.altitude_m is not None and not abs(self.altitude_m) <= _HIGHEST_M:
            raise UserError(f"An altitude of {self.altitude_m:g} m is not a place on Earth; leave 'altitude_m' out.")


@dataclass(frozen=True, slots=True)
class Scene:
    """A capture. `images` are sorted by their names in the capture; `skipped` are (name, reason) of skipped images."""

    root: Path
    cameras: dict[str, Camera]
    images: tuple[ImageRecord, ...]
    points_world: np.ndarray  # [P, 3] float64 metres, possibly empty
    points_rgb: np.ndarray  # [P, 3] uint8
    test_names: frozenset[str] | None = None  # the scene's own split, if it has one
    skipped: tuple[tuple[str, str], ...] = ()
    geo_origin: GeoOrigin | None = None  # None: axes and place of the world are unknown
    world_offset_m: Offset = NO_OFFSET  # capture's own coordinates = the scene's + this (see scene/world_offset.py)
    points_error_px: np.ndarray | None = None
    """[P] float64: mean reprojection error of each point in pixels of the photographs, 0 where unknown; None: all are
    unknown."""

    @property
    def centers_world(self) -> np.ndarray:
        """Camera centres [N, 3] in metres."""
        return poses_of(self.images)[:, :, 3]


def by_name(images: Iterable[ImageRecord]) -> dict[str, ImageRecord]:
    """Images by their names, and by their names in the capture if these differ."""
    images = tuple(images)
    return {image.listed_name or image.name: image for image in images} | {image.name: image for image in images}


def poses_of(images: Sequence[ImageRecord]) -> np.ndarray:
    """world_from_cam of all of them, [N, 3, 4] float64."""
    return np.concatenate([image.world_from_cam for image in images]).reshape(-1, 3, 4)


def upright_poses_of(images: Sequence[ImageRecord]) -> np.ndarray:
    """`poses_of` for upright pictures: if stored pixels lie on their side, x and y of the camera are turned."""
    return np.stack([image.orientation.upright_pose(image.world_from_cam) for image in images])


def image_id(name: str, content_sha256: str) -> str:
    """16 hex digits that identify an image by its name in the capture and the hash of its file."""
    return hashlib.sha256(f"{name}\0{content_sha256}".encode("utf-8", "surrogatepass")).hexdigest()[:16]


def scene_hash(scene: Scene) -> str:
    """16 hex digits over the images' ids, poses and cameras: what was learned belongs to this scene.

    Poses count to _POSE_DIGITS digits, positions relative to the scene's size: the last bits of a rotation depend on
    the processor that made it exact.
    """
    digest = hashlib.sha256()
    scale = np.ones(4)
    poses = poses_of(scene.images)
    scale[3] = 2.0 ** np.frexp(np.abs(poses[:, :, 3]).max())[1]  # a power of two divides without rounding
    cameras = {key: repr(camera).encode() for key, camera in scene.cameras.items()}
    for first in range(0, len(poses), _HASHED):
        rounded = np.round(poses[first : first + _HASHED] / scale, _POSE_DIGITS) + 0.0  # + 0.0: minus zero becomes zero
        content = rounded.astype("<f8").tobytes()
        chunk = enumerate(scene.images[first : first + _HASHED])
        pieces = [
            (image.id.encode(), content[row * 96 : row * 96 + 96], cameras[image.camera_key]) for row, image in chunk
        ]
        digest.update(b"".join(itertools.chain.from_iterable(pieces)))
    return digest.hexdigest()[:16]
