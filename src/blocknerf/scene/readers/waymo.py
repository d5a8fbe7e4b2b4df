"""The Waymo Block-NeRF data set (https://waymo.com/research/block-nerf): TFRecords with an image and its rays each.

A record has image_hash, cam_idx, equivalent_exposure, height, width, image (PNG), ray_origins and ray_dirs (float32
[height, width, 3]), and in the validation shards mask (int64 [height, width, 1], 1 = a moving thing). There are no
poses, nor times, and hashes have no order: rays are the truth, and the data set is one drive, of which gaps between
positions tell the segments. Lengths are in units of UNIT_M: a drive of 1.08 km spans 10.5 of them.

Records can only be read from the beginning of a shard. So each shard is unpacked once, into `unpacked/` beside it, from
where pictures and rays are read as those of any other capture.
"""

import io
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from PIL import Image
from pydantic import Field

from blocknerf.core import disk
from blocknerf.core.camera import Camera
from blocknerf.core.errors import UserError
from blocknerf.core.files import fingerprint, write_bytes, write_json, write_picture
from blocknerf.core.logging import log
from blocknerf.core.names import owned
from blocknerf.core.progress import bars
from blocknerf.core.reading import read_json
from blocknerf.core.stored import Above0, Number, Text, Truth, Whole, fitted
from blocknerf.scene.photographs import DECODE_ERRORS
from blocknerf.scene.ray_tables import write_ray_table
from blocknerf.scene.readers.candidates import Candidate, Capture
from blocknerf.scene.readers.ray_camera import fit_rays
from blocknerf.scene.readers.tfrecord import Example, Kind, read_examples

UNIT_M = 100.0
UNPACKED, INDEX = "unpacked", "index.json"
VERSION = 1
_OF_A_RECORD = re.compile(r"-?[0-9]{1,20}\.(png|mask\.png|rays\.npy)")
_TEST_SHARDS = "validation"


def finds_waymo(data_root: Path) -> bool:
    return bool(_shards(data_root))


def read_waymo(data_root: Path) -> Capture:
    """Images of shards that have "validation" in their names are the test set.

    Raises UserError that names shard and record where one is damaged or lacks a field.
    """
    candidates, test_names = [], []
    shards = _shards(data_root)
    with bars() as progress:
        for shard in progress.track(shards, description="Shards"):
            folder = data_root / UNPACKED / shard.name
            of_shard = [_candidate(folder, entry) for entry in _unpacked(shard, folder)]
            candidates += of_shard
            test_names += [candidate.name for candidate in of_shard if _TEST_SHARDS in shard.name]
    return Capture(candidates, test_names=frozenset(test_names) or None, names_tell_order=False)


def _shards(data_root: Path) -> list[Path]:
    return sorted(path for path in data_root.glob("[!.]*.tfrecord*") if path.is_file())


@dataclass(frozen=True)
class _Entry:
    """An unpacked record, as the index has it."""

    image_hash: Annotated[Text, Field(pattern="^-?[0-9]{1,20}$")]
    cam_idx: Whole
    equivalent_exposure: Above0 | None
    width: Whole
    height: Whole
    masked: Truth
    camera: tuple[Number, Number, Number, Number]
    world_from_cam: tuple[Number, ...]
    own_rays: Truth
    problem: Text | None


@dataclass(frozen=True)
class _Index:
    images: list[_Entry]


def _candidate(folder: Path, entry: _Entry) -> Candidate:
    stem, pose = entry.image_hash, np.array(entry.world_from_cam)
    if len(pose) != 12:
        raise UserError(f"{folder / INDEX}: the pose of {stem} has {len(pose)} numbers, not 12. Remove {folder}.")
    return Candidate(
        name=f"cam_{entry.cam_idx:02d}/{stem}.png",
        path=folder / f"{stem}.png",
        camera=Camera("PINHOLE", entry.width, entry.height, entry.camera),
        camera_key=f"cam_{entry.cam_idx:02d} {entry.camera}",
        world_from_cam=pose.reshape(3, 4),
        mask_path=folder / f"{stem}.mask.png" if entry.masked else None,
        exposure=entry.equivalent_exposure,
        drive="0",
        rays_path=folder / f"{stem}.rays.npy" if entry.own_rays else None,
        problem=entry.problem,
    )


def _unpacked(shard: Path, folder: Path) -> list[_Entry]:
    """What the shard's index says; the shard is unpacked where there is none, or one of another shard."""
    source = fingerprint(shard)
    if (folder / INDEX).is_file():
        index = read_json(folder / INDEX, "index of unpacked records")
        if not isinstance(index, dict) or "source" not in index:
            raise UserError(f"{folder / INDEX} is no index of unpacked records. Move it elsewhere.")
        if (index.get("version"), index["source"]) == (VERSION, source):
            return fitted(_Index, index, "index of unpacked records", folder / INDEX, f"Remove {folder}.").images
    owned(shard.parent, f"{UNPACKED}/{shard.name}/{INDEX}")
    _clear(folder)
    entries = []
    for number, example in enumerate(read_examples(shard)):
        entries.append(_unpack(example, folder, f"{shard}, record {number}"))
    index = {"version": VERSION, "source": source, "images": entries}
    images = fitted(_Index, index, "shard of records", shard, "Get the file again.").images
    write_json(folder / INDEX, index)
    return images


def _clear(folder: Path) -> None:
    """Removes what was unpacked before, and no other file; the index last, by which the next run would know of it."""
    if (folder / INDEX).is_file():
        for path in sorted(folder.iterdir()):
            if _OF_A_RECORD.fullmatch(path.name) and not path.is_symlink():
                disk.unlink(path)
        disk.unlink(folder / INDEX)


def _unpack(example: Example, folder: Path, where: str) -> dict[str, Any]:
    """Writes picture, mask, and rays where a camera does not say them exactly; returns the entry of the index."""
    height, width = (int(_numbers(example, key, "int64", 1, where)[0]) for key in ("height", "width"))
    if not (0 < height < 2**20 and 0 < width < 2**20):
        raise UserError(f"{where}: an image of {width} x {height} pixels cannot be.")
    stem = str(int(_numbers(example, "image_hash", "int64", 1, where)[0]))
    write_bytes(folder / f"{stem}.png", _picture(example, (width, height), where))
    if "mask" in example:
        moving = _numbers(example, "mask", "int64", height * width, where).reshape(height, width) != 0
        write_picture(folder / f"{stem}.mask.png", Image.fromarray(np.where(moving, 0, 255).astype(np.uint8)), "PNG")
    entry = {
        "image_hash": stem,
        "cam_idx": int(_numbers(example, "cam_idx", "int64", 1, where)[0]),
        "equivalent_exposure": _exposure(example, where),
        "width": width,
        "height": height,
        "masked": "mask" in example,
    }
    origins, directions = (
        _numbers(example, key, "float32", 3 * height * width, where).astype(np.float64).reshape(height, width, 3)
        for key in ("ray_origins", "ray_dirs")
    )
    return entry | _unpack_rays(origins, directions, folder, stem)


def _unpack_rays(origins: np.ndarray, directions: np.ndarray, folder: Path, stem: str) -> dict[str, Any]:
    no_rays = {"camera": [1.0, 1.0, 0.0, 0.0], "world_from_cam": [0.0] * 12, "own_rays": False}
    lengths = np.linalg.norm(directions, axis=2, keepdims=True)
    if not (np.isfinite(origins).all() and np.isfinite(lengths).all() and lengths.min() > 0):
        return no_rays | {"problem": "its rays hold a value that is not finite, or no direction"}
    rounding_m = 2 * float(np.spacing(np.float32(np.abs(origins).max()))) * UNIT_M
    try:
        found = fit_rays(origins * UNIT_M, directions / lengths, rounding_m)
        if not np.isfinite([*found.camera.params, *found.world_from_cam.ravel()]).all():
            return no_rays | {"problem": "its rays are those of no camera"}
    except (ValueError, np.linalg.LinAlgError):
        return no_rays | {"problem": "its rays are those of no camera"}
    if found.table is not None:
        write_ray_table(folder / f"{stem}.rays.npy", found.table)
    return {
        "camera": list(found.camera.params),
        "world_from_cam": found.world_from_cam.ravel().tolist(),
        "own_rays": found.table is not None,
        "problem": None,
    }


def _exposure(example: Example, where: str) -> float | None:
    exposure = float(_numbers(example, "equivalent_exposure", "float32", 1, where)[0])
    if not 0 < exposure < np.inf:
        log.warning("%s: equivalent_exposure is %s, so the image counts as exposed like the mean.", where, exposure)
        return None
    return exposure


def _picture(example: Example, size: tuple[int, int], where: str) -> bytes:
    feature = example.get("image")
    if feature is None or feature.kind != "bytes" or len(feature.values) != 1:
        raise UserError(_wrong(example, "image", "one PNG", where))
    content = bytes(feature.values[0])
    try:
        with Image.open(io.BytesIO(content)) as image:
            found = image.size
    except DECODE_ERRORS as error:
        raise UserError(f"{where}: 'image' is no picture: {error}.") from error
    if found != size:
        raise UserError(f"{where}: 'image' has {found} pixels (width, height), but its fields say {size}.")
    return content


def _numbers(example: Example, key: str, kind: Kind, count: int, where: str) -> np.ndarray:
    feature = example.get(key)
    if feature is None or feature.kind != kind or len(feature.values) != count:
        raise UserError(_wrong(example, key, f"{count} numbers of {kind}", where))
    return np.asarray(feature.values)


def _wrong(example: Example, key: str, wanted: str, where: str) -> str:
    feature = example.get(key)
    if feature is None:
        return f"{where} has no field {key!r}. It has: {', '.join(sorted(example)) or 'none'}."
    return f"{where}: {key!r} must hold {wanted}, not {len(feature.values)} of {feature.kind}."
