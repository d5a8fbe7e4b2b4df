"""One capture written in every format that is read, from the formats' own descriptions and not from our readers.

Tests compare the rays that come back with `true_rays`; `benchmarks.interop.formats` trains on each.
"""

import gzip
import io
import json
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from PIL import Image


@dataclass(frozen=True)
class Shot:
    name: str  # relative to the image folder
    rgb: np.ndarray  # [h, w, 3] uint8
    right: np.ndarray  # [3] unit vectors in the world
    down: np.ndarray
    forward: np.ndarray
    center: np.ndarray  # [3] metres
    moving: np.ndarray  # [h, w] bool: where something moves
    drive: str = "0"
    exposure: float = 1.0
    is_test: bool = False


@dataclass(frozen=True)
class Capture:
    """One pinhole camera with square pixels and its principal point in the middle, as LLFF wants it."""

    width: int
    height: int
    focal_px: float
    shots: list[Shot]

    def true_rays(self, shot: Shot) -> tuple[np.ndarray, np.ndarray]:
        """Origins and unit directions, [h, w, 3] float64, through the middles of pixels."""
        columns = (np.arange(self.width) + 0.5 - self.width / 2) / self.focal_px
        rows = (np.arange(self.height) + 0.5 - self.height / 2) / self.focal_px
        ways = columns[None, :, None] * shot.right + rows[:, None, None] * shot.down + shot.forward
        directions = ways / np.linalg.norm(ways, axis=2, keepdims=True)
        return np.broadcast_to(shot.center, directions.shape), directions


def save_png(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(png(pixels))


def png(pixels: np.ndarray) -> bytes:
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, "PNG")
    return content.getvalue()


# --- what files name themselves: photographs in images/, and our sidecar for what the format cannot say --------------


def _photographs(root: Path, capture: Capture) -> None:
    for shot in capture.shots:
        save_png(root / "images" / shot.name, shot.rgb)


def write_sidecar(root: Path, capture: Capture, names: list[str]) -> None:
    """Drives, exposures, masks and the split, under the names that the format gives the shots."""
    images = {}
    for name, shot in zip(names, capture.shots, strict=True):
        save_png(root / "masks_of_shots" / f"{name}.png", np.where(shot.moving, 0, 255).astype(np.uint8))
        images[name] = {"drive": shot.drive, "exposure": shot.exposure, "mask": f"masks_of_shots/{name}.png"}
    tests = [name for name, shot in zip(names, capture.shots, strict=True) if shot.is_test]
    (root / "blocknerf_scene.json").write_text(json.dumps({"version": 1, "images": images, "test_names": tests}))


def write_colmap(root: Path, capture: Capture) -> list[str]:
    """https://colmap.github.io/format.html: cam_from_world as a quaternion (w, x, y, z) and a translation."""
    _photographs(root, capture)
    model = root / "sparse" / "0"
    model.mkdir(parents=True)
    size = f"{capture.width} {capture.height}"
    middle = f"{capture.width / 2} {capture.height / 2}"
    (model / "cameras.txt").write_text(f"1 PINHOLE {size} {capture.focal_px!r} {capture.focal_px!r} {middle}\n")
    lines = []
    for number, shot in enumerate(capture.shots, 1):
        cam_from_world = np.stack([shot.right, shot.down, shot.forward])
        pose = [*_quaternion(cam_from_world), *(-cam_from_world @ shot.center)]
        lines.append(f"{number} {' '.join(f'{value:.17g}' for value in pose)} 1 {shot.name}\n\n")
    (model / "images.txt").write_text("".join(lines))
    (model / "points3D.txt").write_text("")
    return [shot.name for shot in capture.shots]


def _quaternion(rotation: np.ndarray) -> np.ndarray:
    """(w, x, y, z): the eigenvector of the largest eigenvalue of Bar-Itzhack's matrix (2000)."""
    (xx, xy, xz), (yx, yy, yz), (zx, zy, zz) = rotation
    matrix = np.array(
        [
            [xx + yy + zz, zy - yz, xz - zx, yx - xy],
            [zy - yz, xx - yy - zz, xy + yx, xz + zx],
            [xz - zx, xy + yx, yy - xx - zz, yz + zy],
            [yx - xy, xz + zx, yz + zy, zz - xx - yy],
        ]
    )
    return np.linalg.eigh(matrix)[1][:, -1]


def write_nerfstudio(root: Path, capture: Capture) -> list[str]:
    """https://docs.nerf.studio/quickstart/data_conventions.html: the camera looks along -z, y is up."""
    _photographs(root, capture)
    frames = []
    for shot in capture.shots:
        rows = np.stack([shot.right, -shot.down, -shot.forward, shot.center], axis=1)
        frames.append({"file_path": f"images/{shot.name}", "transform_matrix": [*rows.tolist(), [0, 0, 0, 1]]})
    lens = {"fl_x": capture.focal_px, "fl_y": capture.focal_px, "cx": capture.width / 2, "cy": capture.height / 2}
    tree = {"camera_model": "OPENCV", **lens, "w": capture.width, "h": capture.height, "frames": frames}
    (root / "transforms.json").write_text(json.dumps(tree))
    return [shot.name for shot in capture.shots]


def write_llff(root: Path, capture: Capture) -> list[str]:
    """https://github.com/Fyusion/LLFF: 3 x 5 matrices [down, right, backwards, centre, (h, w, f)], and two depths."""
    _photographs(root, capture)
    rows = []
    for shot in sorted(capture.shots, key=lambda shot: shot.name):
        hwf = [capture.height, capture.width, capture.focal_px]
        matrix = np.stack([shot.down, shot.right, -shot.forward, shot.center, hwf], axis=1)
        rows.append([*matrix.ravel(), 0.1, 100.0])
    np.save(root / "poses_bounds.npy", np.array(rows))
    return [shot.name for shot in capture.shots]


def write_bundler(root: Path, capture: Capture) -> list[str]:
    """https://www.cs.cornell.edu/~snavely/bundler/bundler-v0.4-manual.html: P = R X + t, looking along -z with y up."""
    _photographs(root, capture)
    lines = ["# Bundle file v0.3", f"{len(capture.shots)} 0"]
    for shot in capture.shots:
        cam_from_world = np.stack([shot.right, -shot.down, -shot.forward])
        rows = [[capture.focal_px, 0, 0], *cam_from_world, -cam_from_world @ shot.center]
        lines += [" ".join(f"{value:.17g}" for value in row) for row in rows]
    (root / "bundle.out").write_text("\n".join([*lines, ""]))
    (root / "list.txt").write_text("".join(f"images/{shot.name} 0 {capture.focal_px}\n" for shot in capture.shots))
    return [shot.name for shot in capture.shots]


# --- formats with names and folders of their own ---------------------------------------------------------------------


def write_mega_nerf(root: Path, capture: Capture, scale_m: float = 2.5, origin: tuple = (0.0, 0.0, 0.0)) -> list[str]:
    """The world's axes are down, right, backwards: the capture's own are taken for these. Names are the originals."""
    lines = []
    for number, shot in enumerate(capture.shots):
        folder = root / ("val" if shot.is_test else "train")
        save_png(folder / "rgbs" / f"{number:06d}.png", shot.rgb)
        (folder / "metadata").mkdir(exist_ok=True)
        place = (shot.center - np.array(origin)) / scale_m
        fields = {
            "H": capture.height,
            "W": capture.width,
            "c2w": torch.tensor(np.stack([shot.right, -shot.down, -shot.forward, place], axis=1), dtype=torch.float32),
            "intrinsics": torch.tensor([capture.focal_px] * 2 + [capture.width / 2, capture.height / 2]),
            "distortion": torch.zeros(4),
        }
        torch.save(fields, folder / "metadata" / f"{number:06d}.pt")
        lines.append(f"{shot.name},{number:06d}.pt\n")
    torch.save({"origin_drb": torch.tensor(origin), "pose_scale_factor": scale_m}, root / "coordinates.pt")
    (root / "mappings.txt").write_text("".join(lines))
    return [shot.name for shot in capture.shots]


def write_kitti(root: Path, capture: Capture, beside_m: tuple = (0.06, -0.01, 0.002)) -> list[str]:
    """The file has poses of camera 0, where camera 2 stands at `beside_m`; pixel 0 has its centre at 0."""
    k = np.diag([capture.focal_px, capture.focal_px, 1.0])
    k[:2, 2] = capture.width / 2 - 0.5, capture.height / 2 - 0.5
    projections = [np.concatenate([k, np.zeros((3, 1))], axis=1)] * 2
    projections += [np.concatenate([k, -k @ np.array(beside_m)[:, None]], axis=1)] * 2
    names, poses = [], []
    for number, shot in enumerate(capture.shots):
        axes = np.stack([shot.right, shot.down, shot.forward], axis=1)
        poses.append(np.concatenate([axes, (shot.center - axes @ beside_m)[:, None]], axis=1))
        names.append(f"image_2/{number:06d}.png")
        save_png(root / names[-1], shot.rgb)
    _write_rows(root / "calib.txt", projections, [f"P{index}: " for index in range(4)])
    _write_rows(root / "poses.txt", poses, [""] * len(poses))
    (root / "times.txt").write_text("".join(f"{0.1 * index:e}\n" for index in range(len(poses))))
    return names


def _write_rows(path: Path, matrices: list[np.ndarray], labels: list[str]) -> None:
    lines = (label + " ".join(f"{v:.12e}" for v in m.ravel()) for label, m in zip(labels, matrices, strict=True))
    path.write_text("\n".join(lines) + "\n")


def write_nuscenes(root: Path, capture: Capture) -> list[str]:
    """https://www.nuscenes.org/nuscenes#data-format: tables that name each other's rows by tokens.

    The camera sits 1.7 m ahead and 1.5 m high, and looks to the left: x of the car is ahead, y left, z up.
    """
    car_from_cam = np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]])  # columns: right is ahead, down is down, forward left
    place = np.array([1.7, 0.0, 1.5])
    lens = [[capture.focal_px, 0, capture.width / 2 - 0.5], [0, capture.focal_px, capture.height / 2 - 0.5], [0, 0, 1]]
    seat = {"translation": place.tolist(), "rotation": _quaternion(car_from_cam).tolist(), "camera_intrinsic": lens}
    tables: dict[str, list[dict]] = {
        "scene": [{"token": "sc", "name": "scene-0061"}],
        "sensor": [{"token": "cam", "modality": "camera"}, {"token": "lid", "modality": "lidar"}],
        "calibrated_sensor": [
            {"token": "cam0", "sensor_token": "cam", **seat},
            {"token": "lid0", "sensor_token": "lid", **seat, "camera_intrinsic": []},
        ],
        "sample": [],
        "sample_data": [],
        "ego_pose": [],
    }
    names = []
    for number, shot in enumerate(capture.shots):
        world_from_car = np.stack([shot.right, shot.down, shot.forward], axis=1) @ car_from_cam.T
        center = (shot.center - world_from_car @ place).tolist()
        ego = {"token": f"e{number}", "translation": center, "rotation": _quaternion(world_from_car).tolist()}
        names.append(f"samples/CAM_LEFT/{number:06d}.png")
        save_png(root / names[-1], shot.rgb)
        of_sample = {"sample_token": f"s{number}", "ego_pose_token": f"e{number}"}
        size = {"width": capture.width, "height": capture.height}
        tables["ego_pose"].append(ego)
        tables["sample"].append({"token": f"s{number}", "scene_token": "sc"})
        tables["sample_data"] += [
            {"token": f"d{number}", "calibrated_sensor_token": "cam0", **of_sample, "filename": names[-1], **size},
            {"token": f"l{number}", "calibrated_sensor_token": "lid0", **of_sample, "filename": f"{number}.bin"},
        ]
    (root / "v1.0-mini").mkdir()
    for name, rows in tables.items():
        (root / "v1.0-mini" / f"{name}.json").write_text(json.dumps(rows))
    return names


# --- Waymo: TFRecords of tf.train.Example ----------------------------------------------------------------------------

BYTES, FLOATS, INTS = 1, 2, 3


def write_waymo(
    root: Path,
    capture: Capture,
    rays: Callable[[Shot], tuple[np.ndarray, np.ndarray]] | None = None,
    per_shard: int = 3,
) -> list[str]:
    """Shards of a few records, test shots in those called validation; lengths in units of 100 m.

    `rays`: those of a shot, where its own are not to be written. Masks are 1 where things move.
    """
    root.mkdir(parents=True, exist_ok=True)
    for split, is_test in (("train", False), ("validation", True)):
        shots = [(number, shot) for number, shot in enumerate(capture.shots) if shot.is_test == is_test]
        shards = [shots[first : first + per_shard] for first in range(0, len(shots), per_shard)]
        for index, shard in enumerate(shards):
            records = []
            for number, shot in shard:
                fields = waymo_fields(capture, number, shot, (rays or capture.true_rays)(shot))
                records.append(example(fields))
            name = f"v1.0_waymo_block_nerf_mission_bay_{split}.tfrecord-{index:05d}-of-{len(shards):05d}"
            write_tfrecord(root / name, records)
    return [f"cam_03/{1000 + number}.png" for number in range(len(capture.shots))]


def waymo_fields(
    capture: Capture, number: int, shot: Shot, rays: tuple[np.ndarray, np.ndarray]
) -> dict[str, tuple[int, list]]:
    origins, directions = rays
    return {
        "image_hash": (INTS, [1000 + number]),
        "cam_idx": (INTS, [3]),
        "equivalent_exposure": (FLOATS, [shot.exposure]),
        "height": (INTS, [capture.height]),
        "width": (INTS, [capture.width]),
        "image": (BYTES, [png(shot.rgb)]),
        "ray_origins": (FLOATS, (origins / 100).ravel().tolist()),
        "ray_dirs": (FLOATS, directions.ravel().tolist()),
        "intrinsics": (FLOATS, [capture.focal_px, capture.focal_px]),
        "mask": (INTS, shot.moving.astype(int).ravel().tolist()),
    }


def write_tfrecord(path: Path, records: list[bytes]) -> None:
    path.write_bytes(gzip.compress(b"".join(map(framed, records)), 1))


def framed(record: bytes) -> bytes:
    """Length, its masked checksum, the record, its masked checksum; all little-endian."""
    length = struct.pack("<Q", len(record))
    return length + struct.pack("<I", _masked(length)) + record + struct.pack("<I", _masked(record))


def _masked(content: bytes) -> int:
    crc = 0xFFFFFFFF
    for byte in content:
        crc = _CRC_OF_BYTE[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    crc ^= 0xFFFFFFFF
    return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF


def _crc_of_byte(byte: int) -> int:
    """Long division by the Castagnoli polynomial, lowest bit first."""
    for _ in range(8):
        byte = (byte >> 1) ^ (0x82F63B78 * (byte & 1))
    return byte


_CRC_OF_BYTE = [_crc_of_byte(byte) for byte in range(256)]


def example(fields: dict[str, tuple[int, list]], packed: bool = True) -> bytes:
    """Example { Features features = 1 }, Features { map<string, Feature> feature = 1 }."""
    entries = b""
    for name, (kind, values) in fields.items():
        feature = _delimited(kind, _list(kind, values, packed))
        entries += _delimited(1, _delimited(1, name.encode()) + _delimited(2, feature))
    return _delimited(1, entries)


def _list(kind: int, values: list, packed: bool) -> bytes:
    """BytesList, FloatList or Int64List, each with its values in field 1."""
    if kind == BYTES:
        return b"".join(_delimited(1, value) for value in values)
    one = (lambda value: struct.pack("<f", value)) if kind == FLOATS else _varint
    if packed:
        return _delimited(1, b"".join(map(one, values)))
    key = _varint(1 << 3 | (5 if kind == FLOATS else 0))
    return b"".join(key + one(value) for value in values)


def _delimited(field_number: int, content: bytes) -> bytes:
    return _varint(field_number << 3 | 2) + _varint(len(content)) + content


def _varint(value: int) -> bytes:
    value &= 0xFFFFFFFFFFFFFFFF
    content = bytearray()
    while value > 0x7F:
        content.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*content, value])


Writer = Callable[[Path, Capture], list[str]]


@dataclass(frozen=True)
class Format:
    """`says`: what the format tells by itself; the sidecar file tells the rest."""

    write: Writer
    says: frozenset[str] = field(default_factory=frozenset)


FORMATS: dict[str, Format] = {
    "colmap": Format(write_colmap),
    "nerfstudio": Format(write_nerfstudio),
    "mega_nerf": Format(write_mega_nerf, frozenset({"split"})),
    "waymo": Format(write_waymo, frozenset({"split", "masks", "exposure"})),
    "kitti": Format(write_kitti),
    "nuscenes": Format(write_nuscenes),
    "llff": Format(write_llff),
    "bundler": Format(write_bundler),
}
