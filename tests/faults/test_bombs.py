"""Small files that announce or unpack to gigabytes: refused by what they say, before anything is allocated."""

import gzip
import os
import struct
import tracemalloc
import zlib
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from benchmarks.robustness.targets import TARGETS
from blocknerf.core.errors import UserError
from blocknerf.export.splats import Splats
from blocknerf.export.splats_file import read_splats, write_splats
from blocknerf.scene.depth import read_depth_z_m
from tests.support.writers import framed

MOST_BYTES = 64 << 20


@pytest.fixture(autouse=True)
def _within_memory() -> Iterator[None]:
    tracemalloc.start()
    yield
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert most < MOST_BYTES


def made(name: str, folder: Path) -> Path:
    TARGETS[name].make(folder)
    return folder


def refused(name: str, folder: Path, message: str) -> None:
    with pytest.raises(UserError, match=message):
        TARGETS[name].read(folder)


def gray_png(path: Path, width: int, height: int) -> None:
    """Of one gray, 8 bits, without ever having all of its pixels in memory."""
    packer = zlib.compressobj(9)
    packed = b"".join(packer.compress(bytes(width + 1)) for _ in range(height)) + packer.flush()
    chunks = ((b"IHDR", struct.pack(">2I5B", width, height, 8, 0, 0, 0, 0)), (b"IDAT", packed), (b"IEND", b""))
    content = b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + content)


def test_a_small_png_with_a_hundred_megapixels(tmp_path: Path):
    made("sidecar", tmp_path)
    mask = tmp_path / "masks_of_shots" / "002.png.png"
    assert mask.is_file()
    gray_png(mask, 12_000, 9_000)
    assert mask.stat().st_size < 200_000
    scene = TARGETS["sidecar"].read(tmp_path)
    assert "has 12000 x 9000 pixels, which is far more than the image has" in dict(scene.skipped)["002.png"]
    with pytest.raises(ValueError, match="far more than the image has"):
        read_depth_z_m(mask, (8, 6))


def test_an_spz_that_grows(tmp_path: Path):
    head = struct.pack("<4sIIBBBB", b"NGSP", 3, 70_000_000, 3, 12, 0, 0)
    (tmp_path / "a.spz").write_bytes(gzip.compress(head + bytes(1 << 20)))
    with pytest.raises(UserError, match=r"announces 70000000 splats, .* more than 24 times the file"):
        read_splats(tmp_path / "a.spz")


@pytest.mark.parametrize("kind", ["ply", "spz"])
def test_no_splats_are_written_and_read(tmp_path: Path, kind: str):
    none = np.zeros((0, 3), np.float32)
    empty = Splats(none, none, np.zeros((0, 4), np.float32), none[:, 0], np.zeros((0, 4, 3), np.float32))
    write_splats(tmp_path / f"a.{kind}", empty)
    read = read_splats(tmp_path / f"a.{kind}")
    assert (len(read), read.degree) == (0, 1)


@pytest.mark.parametrize("length", [2**31, 2**40, 2**63])
def test_a_record_of_terabytes(tmp_path: Path, length: int):
    made("waymo", tmp_path)
    shard = next(tmp_path.glob("*train*"))
    length_and_checksum = framed(struct.pack("<Q", length))[12:]  # a record is framed as its length is
    shard.write_bytes(gzip.compress(length_and_checksum + bytes(100)))
    refused("waymo", tmp_path, f"record 0 announces {length} bytes")


@pytest.mark.parametrize("count", [2**32, 2**60, 2**64 - 1])
@pytest.mark.parametrize("part", ["cameras", "images", "points3D"])
def test_colmap_counts(tmp_path: Path, part: str, count: int):
    made("colmap_binary", tmp_path)
    path = tmp_path / "sparse" / "0" / f"{part}.bin"
    path.write_bytes(struct.pack("<Q", count) + path.read_bytes()[8:])
    refused("colmap_binary", tmp_path, f"{part}.bin is truncated: {count} records do not fit")


@pytest.mark.parametrize("counts", ["1000000000000 2", "4 1000000000000", "1e300 0", f"{'9' * 400} 1"])
def test_bundler_counts(tmp_path: Path, counts: str):
    made("bundler", tmp_path)
    lines = (tmp_path / "bundle.out").read_text().split("\n")
    (tmp_path / "bundle.out").write_text("\n".join([lines[0], counts, *lines[2:]]))
    refused("bundler", tmp_path, "is truncated: it ends in|must be whole numbers")


@pytest.mark.parametrize(
    ("target", "file"),
    [
        ("transforms", "transforms.json"),
        ("sidecar", "blocknerf_scene.json"),
        ("plan", "plan.json"),
        ("configuration", "c.yaml"),
        ("llff", "poses_bounds.npy"),
        ("bundler", "bundle.out"),
        ("kitti", "poses.txt"),
        ("ply", "points.ply"),
        ("block", "latest.json"),
        ("camera_paths", "own.json"),
        ("city", "city.json"),
        ("colmap_text", "sparse/0/points3D.txt"),
        ("colmap_binary", "sparse/0/images.bin"),
        ("mega_nerf", "mappings.txt"),
    ],
)
def test_files_without_an_end_and_pipes_that_nobody_writes(tmp_path: Path, target: str, file: str):
    made(target, tmp_path)
    for endless in ("/dev/zero", str(tmp_path / "pipe")):
        if endless.endswith("pipe"):
            os.mkfifo(endless)
        (tmp_path / file).unlink()
        (tmp_path / file).symlink_to(endless)
        with suppress(UserError):  # or it is a file that may be missing
            TARGETS[target].read(tmp_path)
