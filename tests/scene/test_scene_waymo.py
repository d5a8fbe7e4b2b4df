"""The Waymo Block-NeRF data set: TFRecords, rays as the truth, masks, and damaged records."""

import contextlib
import gzip
import struct
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from blocknerf.core.config.dataset import DatasetConfig
from blocknerf.core.errors import UserError
from blocknerf.scene.crc32c_numba import crc32c, masked_crc32c
from blocknerf.scene.ray_tables import reduced_rays, write_ray_table
from blocknerf.scene.readers.ray_camera import fit_rays
from blocknerf.scene.readers.read import read_scene
from blocknerf.scene.readers.tfrecord import parse_example, read_examples
from blocknerf.scene.sampler import PixelSampler
from blocknerf.scene.scene import Scene
from blocknerf.scene.store import ImageStore
from tests.support.writers import (
    BYTES,
    FLOATS,
    INTS,
    Capture,
    Shot,
    example,
    framed,
    png,
    waymo_fields,
    write_tfrecord,
    write_waymo,
)

CONFIG = DatasetConfig()
WIDTH, HEIGHT = 14, 10
SHARD = "v1.0_waymo_block_nerf_mission_bay_train.tfrecord-00000-of-00001"


def shot(number: int, rng: np.random.Generator) -> Shot:
    right, down, forward = np.linalg.qr(rng.normal(size=(3, 3)))[0].T
    return Shot(
        name=f"{number}.png",
        rgb=rng.integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8),
        right=right,
        down=down,
        forward=forward * np.sign(np.cross(right, down) @ forward),
        center=rng.uniform(-20, 20, 3),
        moving=rng.random((HEIGHT, WIDTH)) < 0.3,
        exposure=0.25 * (number + 1),
        is_test=number == 2,
    )


@pytest.fixture(scope="module")
def capture() -> Capture:
    rng = np.random.default_rng(1)
    return Capture(WIDTH, HEIGHT, 13.0, [shot(number, rng) for number in range(5)])


def bent(capture: Capture, one: Shot) -> tuple[np.ndarray, np.ndarray]:
    """A lens with distortion and a rolling shutter: the camera moves and turns while rows are read."""
    origins, directions = capture.true_rays(one)
    rows = np.linspace(-1, 1, HEIGHT)[:, None, None]
    origins = origins + rows * (0.3 * one.forward + 0.1 * one.right)
    across = (directions @ one.right)[..., None]
    directions = directions + 0.15 * across**3 * one.right + 0.02 * rows * one.right
    return origins, directions / np.linalg.norm(directions, axis=2, keepdims=True)


def opened(scene: Scene, folder: Path) -> ImageStore:
    return ImageStore.open(scene, 1, folder / "store", progress=False)


def test_what_records_say_of_images(tmp_path: Path, capture: Capture):
    names = write_waymo(tmp_path, capture)
    scene = read_scene(tmp_path, CONFIG)
    images = {image.name: image for image in scene.images}
    store = opened(scene, tmp_path)
    assert scene.test_names == {names[2]}
    assert len(scene.cameras) == 1
    for one, name in zip(capture.shots, names, strict=True):
        assert images[name].exposure == one.exposure
        assert images[name].drive == "0"
        assert images[name].rays_path is None
        assert np.array_equal(store.valid(images[name].id), ~one.moving)  # in the records, 1 is what moves
        assert np.array_equal(store.rgb(images[name].id), one.rgb)
    assert read_scene(tmp_path, DatasetConfig(use_masks=False)).images[0].mask_paths == ()


@pytest.mark.parametrize("polarity", [0, 1])
def test_a_mask_of_one_value(tmp_path: Path, capture: Capture, polarity: int):
    moving = np.full((HEIGHT, WIDTH), polarity, bool)
    shots = [replace(one, moving=moving) if number else one for number, one in enumerate(capture.shots)]
    names = write_waymo(tmp_path, replace(capture, shots=shots))
    scene = read_scene(tmp_path, CONFIG)
    store = opened(scene, tmp_path)
    by_name = {image.name: image.id for image in scene.images}
    assert [store.valid(by_name[name]).mean() for name in names[1:]] == [1 - polarity] * 4


def test_rays_that_no_pinhole_casts_are_kept_as_they_are(tmp_path: Path, capture: Capture):
    names = write_waymo(tmp_path, capture, rays=lambda one: bent(capture, one))
    scene = read_scene(tmp_path, CONFIG)
    store = opened(scene, tmp_path)
    images = {image.name: image for image in scene.images}
    for one, name in zip(capture.shots, names, strict=True):
        origins, directions = bent(capture, one)
        rays = store.rays(images[name].id)
        assert np.abs(rays.directions.numpy() - directions.reshape(-1, 3)).max() < 1e-5
        assert np.abs(rays.origins.numpy() - origins.reshape(-1, 3)).max() < 1e-5
        pose = images[name].world_from_cam
        assert pose[:, 2] @ one.forward > 0.99
        assert np.abs(pose[:, 3] - one.center).max() < 1e-5


def test_the_sampler_draws_these_rays(tmp_path: Path, capture: Capture):
    write_waymo(tmp_path, capture, rays=lambda one: bent(capture, one))
    store = opened(read_scene(tmp_path, DatasetConfig(use_masks=False)), tmp_path)
    for level in range(store.num_levels):
        sampler = PixelSampler(store, store.image_ids, 64, seed=0, level=level, patch_size=0)
        batch = sampler.next()
        for ray in range(len(batch.rays)):
            image_id = store.image_ids[int(batch.rays.image_slots[ray])]
            x, y = (batch.pixels_xy[ray] - 0.5).long().tolist()
            whole = store.rays(image_id, level)
            row = y * store.size(image_id, level)[1] + x
            assert torch.allclose(batch.rays.origins[ray], whole.origins[row], atol=1e-5)
            assert torch.allclose(batch.rays.directions[ray], whole.directions[row], atol=1e-6)
            assert batch.rays.radii[ray] == whole.radii[row]
    assert (store.rays(store.image_ids[0]).origins.std(dim=0) > 1e-3).any()


def test_images_with_rays_of_their_own_stand_beside_others(tmp_path: Path, capture: Capture):
    names = write_waymo(
        tmp_path, capture, rays=lambda one: bent(capture, one) if one is capture.shots[1] else capture.true_rays(one)
    )
    scene = read_scene(tmp_path, CONFIG)
    store = opened(scene, tmp_path)
    images = {image.name: image for image in scene.images}
    assert [name for name in names if images[name].rays_path is not None] == [names[1]]
    for one, name in zip(capture.shots, names, strict=True):
        origins, directions = bent(capture, one) if name == names[1] else capture.true_rays(one)
        rays = store.rays(images[name].id)
        assert np.abs(rays.origins.numpy() - origins.reshape(-1, 3)).max() < 1e-5
        assert np.abs(rays.directions.numpy() - directions.reshape(-1, 3)).max() < 1e-5


def test_directions_need_not_have_unit_length(tmp_path: Path, capture: Capture):
    def stretched(one: Shot) -> tuple[np.ndarray, np.ndarray]:
        origins, directions = capture.true_rays(one)
        return origins, directions * np.linspace(0.5, 40, WIDTH)[:, None]

    write_waymo(tmp_path, capture, rays=stretched)
    scene = read_scene(tmp_path, CONFIG)
    assert all(image.rays_path is None for image in scene.images)
    assert next(iter(scene.cameras.values())).params == pytest.approx((13.0, 13.0, 7.0, 5.0), rel=1e-6)


def test_shards_are_unpacked_once_and_anew_when_they_change(tmp_path: Path, capture: Capture):
    write_waymo(tmp_path, capture)
    read_scene(tmp_path, CONFIG)
    pictures = sorted((tmp_path / "unpacked").rglob("*.png"))
    stamps = [path.stat().st_mtime_ns for path in pictures]
    assert read_scene(tmp_path, CONFIG).images[0].exposure == 0.25
    assert [path.stat().st_mtime_ns for path in pictures] == stamps
    write_waymo(tmp_path, replace(capture, shots=[replace(one, exposure=3.0) for one in capture.shots]))
    assert {image.exposure for image in read_scene(tmp_path, CONFIG).images} == {3.0}


def test_unpacking_that_was_interrupted_goes_on(tmp_path: Path, capture: Capture):
    write_waymo(tmp_path, capture, per_shard=2)
    read_scene(tmp_path, CONFIG)
    indices = sorted((tmp_path / "unpacked").rglob("index.json"))
    indices[0].unlink()
    untouched = indices[1].stat().st_mtime_ns
    assert len(read_scene(tmp_path, CONFIG).images) == 5
    assert indices[1].stat().st_mtime_ns == untouched


def test_unpacking_anew_removes_no_file_but_its_own(tmp_path: Path, capture: Capture):
    write_waymo(tmp_path, capture, rays=lambda one: bent(capture, one))
    read_scene(tmp_path, CONFIG)
    folder = next((tmp_path / "unpacked").iterdir())
    foreign_files = [folder / "notes.txt", folder / "holiday.png", folder / "1.png.txt", folder / "sub" / "1.png"]
    (folder / "sub").mkdir()
    for path in foreign_files:
        path.write_bytes(b"precious")
    (folder / "77.png").write_bytes(b"of a record that is no more")
    write_waymo(tmp_path, replace(capture, shots=[replace(one, exposure=3.0) for one in capture.shots]))
    assert {image.exposure for image in read_scene(tmp_path, CONFIG).images} == {3.0}
    assert [path.read_bytes() for path in foreign_files] == [b"precious"] * 4
    assert not (folder / "77.png").exists()
    assert not list(folder.glob("*.rays.npy"))


def test_nothing_is_unpacked_through_a_link_or_over_an_index_of_somebody_else(tmp_path: Path, capture: Capture):
    write_waymo(tmp_path / "capture", capture)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "capture" / "unpacked").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UserError, match="leads out of"):
        read_scene(tmp_path / "capture", CONFIG)
    assert not list((tmp_path / "elsewhere").iterdir())
    (tmp_path / "capture" / "unpacked").unlink()
    read_scene(tmp_path / "capture", CONFIG)
    index = next((tmp_path / "capture" / "unpacked").rglob("index.json"))
    index.write_text("[]")
    with pytest.raises(UserError, match="is not an index of unpacked records"):
        read_scene(tmp_path / "capture", CONFIG)
    assert index.read_text() == "[]"


# --- damaged and foreign records -------------------------------------------------------------------------------------


def fields_of(capture: Capture, number: int = 0) -> dict:
    one = capture.shots[number]
    return waymo_fields(capture, number, one, capture.true_rays(one))


def write_records(root: Path, *records: bytes) -> Path:
    write_tfrecord(root / SHARD, list(records))
    return root / SHARD


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"ray_dirs": None}, r"record 1 has no field 'ray_dirs'. It has: cam_idx, equivalent_exposure, height"),
        ({"image": None}, "record 1 has no field 'image'"),
        ({"cam_idx": None}, "record 1 has no field 'cam_idx'"),
        ({"equivalent_exposure": None}, "record 1 has no field 'equivalent_exposure'"),
        ({"width": (FLOATS, [14.0])}, "'width' must hold 1 numbers of int64, not 1 of float32"),
        ({"ray_origins": (FLOATS, [1.0] * 7)}, "'ray_origins' must hold 420 numbers of float32, not 7"),
        ({"mask": (INTS, [1, 0])}, "'mask' must hold 140 numbers of int64, not 2"),
        ({"height": (INTS, [-3])}, "an image of 14 x -3 pixels cannot be"),
        ({"image": (BYTES, [b"GIF?"])}, "'image' is not a picture"),
        ({"image": (BYTES, [])}, "'image' must hold one PNG, not 0 of bytes"),
        ({"image": (BYTES, [png(np.zeros((4, 5, 3), np.uint8))])}, r"'image' has \(5, 4\) pixels .* say \(14, 10\)"),
    ],
)
def test_a_record_that_lacks_something_is_named(tmp_path: Path, capture: Capture, changes: dict, message: str):
    fields = {key: value for key, value in (fields_of(capture) | changes).items() if value is not None}
    write_records(tmp_path, example(fields_of(capture, 1)), example(fields))
    with pytest.raises(UserError, match=message) as caught:
        read_scene(tmp_path, CONFIG)
    assert f"{SHARD}, record 1" in str(caught.value)


def test_rays_that_are_none_leave_the_image_out(tmp_path: Path, capture: Capture):
    bad = [fields_of(capture, number) for number in range(2)]
    bad[0]["ray_dirs"] = (FLOATS, [float("nan")] * 420)
    bad[1]["ray_dirs"] = (FLOATS, [0.0, 0.0, 1.0] * 140)
    good = [fields_of(capture, number) for number in (2, 3)]
    write_records(tmp_path, *map(example, [*bad, *good]))
    scene = read_scene(tmp_path, CONFIG)
    assert len(scene.images) == 2
    assert ["not finite" in scene.skipped[0][1], "no camera" in scene.skipped[1][1]] == [True, True]


def test_an_exposure_of_zero_is_said(tmp_path: Path, capture: Capture, caplog: pytest.LogCaptureFixture):
    records = [fields_of(capture, number) for number in range(2)]
    records[0]["equivalent_exposure"] = (FLOATS, [0.0])
    write_records(tmp_path, *map(example, records))
    assert [image.exposure for image in read_scene(tmp_path, CONFIG).images] == [None, 0.5]
    assert "record 0: equivalent_exposure is 0.0" in caplog.text


@pytest.mark.parametrize("where", ["length", "content", "checksum"])
def test_a_wrong_checksum_is_told(tmp_path: Path, capture: Capture, where: str):
    good, bad = (bytearray(framed(example(fields_of(capture, number)))) for number in range(2))
    bad[{"length": 0, "content": 500, "checksum": -1}[where]] ^= 1
    (tmp_path / SHARD).write_bytes(gzip.compress(bytes(good + bad)))
    with pytest.raises(UserError, match=rf"{SHARD}, record 1: .*checksum.* wrong; the file is damaged"):
        read_scene(tmp_path, CONFIG)


def test_files_that_are_cut_off_or_not_gzip(tmp_path: Path, capture: Capture):
    path = write_records(tmp_path, *(example(fields_of(capture, number)) for number in range(2)))
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) * 3 // 4])
    with pytest.raises(UserError, match="is cut off or damaged in record 1"):
        read_scene(tmp_path, CONFIG)
    raw = gzip.decompress(whole)
    path.write_bytes(gzip.compress(raw[:-20]))
    with pytest.raises(UserError, match="ends in the middle of record 1"):
        read_scene(tmp_path, CONFIG)
    path.write_bytes(raw)
    with pytest.raises(UserError, match="is not compressed with gzip"):
        read_scene(tmp_path, CONFIG)
    path.write_bytes(gzip.compress(framed(b"\x0a\xff\x01")))
    with pytest.raises(UserError, match="record 0 is not a tf.train.Example: it ends"):
        read_scene(tmp_path, CONFIG)


# --- the parts -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "crc"),
    [(b"123456789", 0xE3069283), (bytes(32), 0x8A9136AA), (b"\xff" * 32, 0x62A8AB43), (bytes(range(32)), 0x46DD794E)],
)
def test_crc32c_of_the_vectors_in_rfc_3720(content: bytes, crc: int):
    assert crc32c(content) == crc
    assert crc32c(memoryview(content)) == crc


def test_crc32c_by_long_division_at_every_length():
    rng = np.random.default_rng(0)
    for length in range(40):
        content = rng.integers(0, 256, length, np.uint8).tobytes()
        (written,) = struct.unpack("<I", framed(content)[-4:])
        assert masked_crc32c(content) == written


@pytest.mark.parametrize("packed", [True, False])
def test_examples_packed_and_not(packed: bool):
    numbers = [0, 1, -1, 127, 128, -(2**63), 2**63 - 1, 300]
    fields = {"a": (INTS, numbers), "b": (FLOATS, [0.5, -2.0]), "c": (BYTES, [b"x", b""]), "d": (INTS, [])}
    parsed = parse_example(memoryview(example(fields, packed)))
    assert parsed["a"].values.tolist() == numbers
    assert parsed["b"].values.tolist() == [0.5, -2.0]
    assert parsed["c"].values == [b"x", b""]
    assert len(parsed["d"].values) == 0


def test_fields_of_a_later_version_are_passed_over():
    known = example({"a": (INTS, [7])})
    unknown = b"\x12\x03abc" + b"\x18\x05" + b"\x21" + bytes(8) + b"\x2d" + bytes(4)
    assert parse_example(memoryview(known + unknown))["a"].values.tolist() == [7]


@pytest.mark.parametrize("content", [b"\x0b", b"\x0a", b"\x0a\x80", b"\x08" + b"\xff" * 11, b"\x0a\x02\x0a\x00"])
def test_bytes_that_are_no_example(content: bytes):
    with pytest.raises(ValueError, match=r"wire type|ends in the middle|no name"):
        parse_example(memoryview(content))


def test_random_damage_is_a_sentence_or_harmless(tmp_path: Path, capture: Capture):
    """Whatever one byte of a record becomes, with a checksum that is right again."""
    content = bytearray(example(fields_of(capture)))
    rng = np.random.default_rng(2)
    for _ in range(200):
        damaged = content.copy()
        damaged[rng.integers(len(content))] ^= 1 << rng.integers(8)
        write_tfrecord(tmp_path / "one.tfrecord", [bytes(damaged)])
        with contextlib.suppress(UserError):
            assert len(list(read_examples(tmp_path / "one.tfrecord"))) == 1


def test_a_camera_comes_back_from_its_rays(capture: Capture):
    one = capture.shots[0]
    origins, directions = (np.array(array) for array in capture.true_rays(one))
    fitted = fit_rays(origins, directions, 1e-9)
    assert fitted.table is None
    assert fitted.camera.params == pytest.approx((13.0, 13.0, 7.0, 5.0), rel=1e-6)
    assert np.allclose(fitted.world_from_cam, np.stack([one.right, one.down, one.forward, one.center], 1), atol=1e-6)
    mirrored = directions * [1, 1, -1]
    assert fit_rays(origins, mirrored, 1e-9).table is not None  # no camera has a mirrored picture
    assert fit_rays(*bent(capture, one), 1e-9).table.shape == (HEIGHT, WIDTH, 6)
    assert fit_rays(origins, bent(capture, one)[1], 1e-9).table.shape == (HEIGHT, WIDTH, 3)


@pytest.mark.parametrize("factor", [1, 2, 3, 4])
def test_smaller_tables_look_through_the_middles_of_their_pixels(tmp_path: Path, factor: int):
    """A long lens, in which directions are nearly linear in pixels."""
    columns, rows = (np.arange(16) + 0.5 - 8) / 2000, (np.arange(12) + 0.5 - 6) / 2000
    ways = np.stack([*np.meshgrid(columns, rows), np.ones((12, 16))], axis=2)
    rays = np.concatenate([ways / np.linalg.norm(ways, axis=2, keepdims=True), 10 * ways], axis=2).astype(np.float32)
    write_ray_table(tmp_path / "rays.npy", rays)
    small = reduced_rays(tmp_path / "rays.npy", 16, 12, factor)
    assert small.shape == (12 // factor, 16 // factor, 6)
    middles = [(np.arange(count // factor) + 0.5) * factor for count in (16, 12)]
    expected = np.stack([*np.meshgrid((middles[0] - 8) / 2000, (middles[1] - 6) / 2000)], axis=2)
    assert np.abs(small[..., :2] / small[..., 2:3] - expected).max() < 1e-6
    assert np.abs(small[..., 3:5] / 10 - expected).max() < 1e-6
    assert np.abs(np.linalg.norm(small[..., :3], axis=2) - 1).max() < 1e-6


def test_a_table_that_is_none_or_of_another_size(tmp_path: Path):
    path = tmp_path / "rays.npy"
    write_ray_table(path, np.zeros((2, 3, 3), np.float32))
    with pytest.raises(UserError, match="has rays of 3 x 2 pixels, the image 4 x 2"):
        reduced_rays(path, 4, 2, 1)
    np.save(path, np.zeros(3))
    with pytest.raises(UserError, match=r"holds float64 of \(3,\), and no rays"):
        reduced_rays(path, 4, 2, 1)
    path.unlink()
    with pytest.raises(UserError, match="cannot be read"):
        reduced_rays(path, 4, 2, 1)
