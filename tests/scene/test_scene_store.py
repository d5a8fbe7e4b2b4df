"""The store against the photographs themselves, and against damage."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from blocknerf.core.config.dataset import DatasetConfig
from blocknerf.core.errors import UserError
from blocknerf.scene.photographs import area_mean, read_mask, read_rgb
from blocknerf.scene.rays import camera_directions, directions_at
from blocknerf.scene.readers.read import read_scene
from blocknerf.scene.scene import Scene
from blocknerf.scene.store import ImageStore
from tests.support.scene_builders import colmap_capture, picture, poses, transforms_capture, write_transforms

CONFIG = DatasetConfig()


def opened(scene: Scene, folder: Path, downsample: int = 1) -> ImageStore:
    return ImageStore.open(scene, downsample, folder, progress=False)


def brute_mean(pixels: np.ndarray, factor: int) -> np.ndarray:
    height, width = pixels.shape[0] // factor, pixels.shape[1] // factor
    result = np.zeros((height, width, 3))
    for row in range(height):
        for column in range(width):
            block = pixels[row * factor : (row + 1) * factor, column * factor : (column + 1) * factor]
            result[row, column] = block.reshape(-1, 3).mean(axis=0)
    return result


@pytest.mark.parametrize("downsample", [1, 2, 3])
def test_pixels_are_the_photographs_reduced_by_area(tmp_path: Path, downsample: int):
    colmap_capture(tmp_path, size=(49, 37))
    scene = read_scene(tmp_path, CONFIG)
    store = opened(scene, tmp_path / "store", downsample)
    assert store.num_levels == 3
    assert store.image_ids == tuple(image.id for image in scene.images)
    for image in scene.images:
        pixels = np.asarray(Image.open(image.path))
        for level in range(3):
            expected = brute_mean(pixels, downsample * 2**level)
            rgb = store.rgb(image.id, level)
            assert rgb.dtype == np.uint8
            assert rgb.shape[:2] == store.size(image.id, level) == expected.shape[:2]
            assert np.abs(rgb - expected).max() <= 0.6  # Pillow rounds its reciprocals
        assert store.valid(image.id).all()


def test_a_pixel_of_the_store_looks_through_the_middle_of_the_pixels_it_is_the_mean_of(tmp_path: Path):
    colmap_capture(tmp_path, size=(50, 37), model="OPENCV")
    scene = read_scene(tmp_path, CONFIG)
    (camera,) = scene.cameras.values()
    store = opened(scene, tmp_path / "store", 3)
    for level, factor in enumerate((3, 6, 12)):
        directions = store.directions_cam(store.image_ids[0], level)
        expected = directions_at(camera, np.array([[(2 + 0.5) * factor, (1 + 0.5) * factor]]))
        assert np.allclose(directions[1, 2], expected[0], atol=1e-6)


def test_rays_are_directions_in_the_world(tmp_path: Path):
    colmap_capture(tmp_path)
    scene = read_scene(tmp_path, CONFIG)
    store = opened(scene, tmp_path / "store", 2)
    image = scene.images[3]
    rays = store.rays(image.id)
    expected = store.directions_cam(image.id).reshape(-1, 3) @ image.world_from_cam[:, :3].T
    assert np.allclose(rays.directions.numpy(), expected, atol=1e-6)
    assert np.allclose(rays.directions.norm(dim=1).numpy(), 1, atol=1e-5)
    assert np.allclose(rays.origins.numpy(), image.world_from_cam[:, 3])
    assert len(rays) == 24 * 18


def test_observed_points_lie_on_the_rays_of_their_pixels(tmp_path: Path):
    model = colmap_capture(tmp_path, model="SIMPLE_RADIAL")
    scene = read_scene(tmp_path, CONFIG)
    store = opened(scene, tmp_path / "store")
    for record in scene.images:
        image = model.find_image_with_name(record.name)
        assert image is not None
        height, width = store.size(record.id)
        directions = store.rays(record.id).directions.numpy().reshape(height, width, 3)
        one_pixel = np.linalg.norm(directions[18, 24] - directions[18, 25])
        for point in scene.points_world[record.point_rows]:
            xy = image.project_point(point)
            assert xy is not None
            if not (0 <= xy[0] < width and 0 <= xy[1] < height):
                continue
            towards = point - record.world_from_cam[:, 3]
            error = np.linalg.norm(directions[int(xy[1]), int(xy[0])] - towards / np.linalg.norm(towards))
            assert error < 0.8 * one_pixel


def test_masks_shrink_so_that_no_hidden_pixel_is_touched(tmp_path: Path):
    tree = transforms_capture(tmp_path, size=(41, 30))
    mask = np.full((30, 41), 255, np.uint8)
    mask[7, 9] = 0
    mask[:, 40] = 0  # cut off by the reduction
    (tmp_path / "masks").mkdir()
    Image.fromarray(mask).save(tmp_path / "masks/0002.png")
    write_transforms(tmp_path, tree)
    scene = read_scene(tmp_path, CONFIG)
    store = opened(scene, tmp_path / "store", 4)
    valid = {image.name: store.valid(image.id) for image in scene.images}
    assert valid["0000.png"].all()
    assert np.argwhere(~valid["0002.png"]).tolist() == [[7 // 4, 9 // 4]]


def test_pixels_that_the_lens_does_not_reach_are_not_valid(tmp_path: Path):
    colmap_capture(tmp_path, model="SIMPLE_FISHEYE", size=(200, 40))  # focal length 50: 90 degrees at 78.5 pixels
    scene = read_scene(tmp_path, CONFIG)
    (camera,) = scene.cameras.values()
    store = opened(scene, tmp_path / "store", 2)
    missing = np.isnan(camera_directions(camera, 100, 20)).any(axis=2)
    assert 0 < missing.sum() < missing.size
    for image_id in store.image_ids:
        assert np.array_equal(store.valid(image_id), ~missing)
        assert np.isfinite(store.directions_cam(image_id)).all()


def photograph(path: Path, array: np.ndarray, mode: str | None = None) -> Image.Image:
    Image.fromarray(array, mode).save(path) if mode else Image.fromarray(array).save(path)
    return read_rgb(path)


def test_every_kind_of_pixel_becomes_8_bit_rgb(tmp_path: Path):
    path = tmp_path / "a.png"
    gray = np.arange(12, dtype=np.uint8).reshape(3, 4) * 20
    assert np.array_equal(np.asarray(photograph(path, gray)), np.repeat(gray[..., None], 3, 2))
    deep = gray.astype(np.uint16) * 257
    assert np.array_equal(np.asarray(photograph(path, deep)), np.repeat(gray[..., None], 3, 2))
    rgba = np.stack([gray, gray, gray, np.where(gray > 100, 255, 0).astype(np.uint8)], -1)
    assert np.array_equal(np.asarray(photograph(path, rgba))[..., 0], np.where(gray > 100, gray, 0))
    picture(4, 3).quantize(8).save(path)
    assert read_rgb(path).mode == "RGB"
    Image.fromarray(gray.astype(np.float32)).save(tmp_path / "f.tiff")
    with pytest.raises(ValueError, match="floating point"):
        read_rgb(tmp_path / "f.tiff")


def test_orientation_tags_do_not_turn_the_pixels(tmp_path: Path):
    exif = Image.Exif()
    exif[0x0112] = 6
    picture(8, 6).save(tmp_path / "a.png", exif=exif)
    assert np.array_equal(np.asarray(read_rgb(tmp_path / "a.png")), np.asarray(picture(8, 6)))


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA", "I;16"])
def test_masks_of_every_kind(tmp_path: Path, mode: str):
    hidden = np.zeros((3, 4), bool)
    hidden[1, 2] = True
    gray = Image.fromarray(np.where(hidden, 0, 255).astype(np.uint8))
    deep = Image.fromarray(np.where(hidden, 0, 1).astype(np.uint16))
    (deep if mode == "I;16" else gray.convert(mode)).save(tmp_path / "m.png")
    assert np.array_equal(read_mask(tmp_path / "m.png"), ~hidden)


def test_area_mean_of_a_constant_is_the_constant():
    assert (area_mean(Image.new("RGB", (13, 9), (10, 200, 31)), 4) == np.array([10, 200, 31])).all()


def test_it_is_made_once(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    colmap_capture(tmp_path)
    scene, folder = read_scene(tmp_path, CONFIG), tmp_path / "store"
    caplog.set_level("INFO")
    first = opened(scene, folder, 2)
    assert "no image store yet" in caplog.text
    before = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    caplog.clear()
    again = opened(scene, folder, 2)
    assert caplog.text == ""
    assert {path.name: path.stat().st_mtime_ns for path in folder.iterdir()} == before
    assert all(np.array_equal(first.rgb(i), again.rgb(i)) for i in first.image_ids)
    assert not [path for path in folder.iterdir() if path.name.startswith(".")]
    moved = replace(scene, images=tuple(replace(image, world_from_cam=poses(1)[0]) for image in scene.images))
    opened(moved, folder, 2)  # other poses, same pixels
    assert caplog.text == ""


def corrupt(path: Path, how: str) -> None:
    content = bytearray(path.read_bytes())
    if how == "gone":
        path.unlink()
    elif how == "shorter":
        path.write_bytes(content[:-20])
    elif how == "longer":
        path.write_bytes(content + b"x")
    else:
        content[len(content) // 2] ^= 0xFF
        path.write_bytes(content)


@pytest.mark.parametrize("how", ["gone", "shorter", "longer", "changed"])
@pytest.mark.parametrize("name", ["manifest.json", "level_0.rgb", "level_1.directions", "level_2.rgb"])
def test_damage_is_found_and_mended(tmp_path: Path, caplog: pytest.LogCaptureFixture, name: str, how: str):
    colmap_capture(tmp_path)
    scene, folder = read_scene(tmp_path, CONFIG), tmp_path / "store"
    opened(scene, folder)
    whole = {path.name: path.read_bytes() for path in folder.iterdir()}
    corrupt(folder / name, how)
    caplog.set_level("INFO")
    store = opened(scene, folder)
    assert "image store" in caplog.text
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == whole
    image = scene.images[0]
    assert np.array_equal(store.rgb(image.id), np.asarray(Image.open(image.path)))


def test_other_photographs_masks_or_sizes_are_noticed(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    colmap_capture(tmp_path)
    folder = tmp_path / "store"
    opened(read_scene(tmp_path, CONFIG), folder)
    caplog.set_level("INFO")

    def rebuilt(downsample: int = 1) -> bool:
        caplog.clear()
        opened(read_scene(tmp_path, CONFIG), folder, downsample)
        return "of other photographs, masks or sizes" in caplog.text

    assert not rebuilt()
    assert rebuilt(2)
    picture(48, 36, seed=99).save(tmp_path / "images/001.png")
    assert rebuilt(2)
    (tmp_path / "masks").mkdir()
    mask = np.full((36, 48), 255, np.uint8)
    Image.fromarray(mask).save(tmp_path / "masks/001.png")
    assert rebuilt(2)
    mask[3] = 0
    Image.fromarray(mask).save(tmp_path / "masks/001.png")
    assert rebuilt(2)
    assert not rebuilt(2)


def test_photographs_that_cannot_be_decoded_are_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    colmap_capture(tmp_path)
    path = tmp_path / "images/002.png"
    path.write_bytes(path.read_bytes()[:1500])  # the header is whole
    scene = read_scene(tmp_path, CONFIG)
    assert len(scene.images) == 5
    for _ in range(2):
        store = opened(scene, tmp_path / "store")
        assert len(store.image_ids) == 4
        assert scene.images[2].id not in store.image_ids
        assert [name for name, _ in store.skipped] == ["002.png"]
        assert str(path) in store.skipped[0][1]
    assert "The image 002.png is skipped" in caplog.text
    for number in (0, 1, 3):
        other = tmp_path / f"images/{number:03d}.png"
        other.write_bytes(other.read_bytes()[:1500])
    with pytest.raises(UserError, match="Fewer than two photographs .* can be decoded. Skipped"):
        opened(read_scene(tmp_path, CONFIG), tmp_path / "store")


def test_too_strong_a_reduction(tmp_path: Path):
    colmap_capture(tmp_path)
    scene = read_scene(tmp_path, CONFIG)
    with pytest.raises(UserError, match=r"image_downsample=37 .* shorter side is 36"):
        opened(scene, tmp_path / "store", 37)
    store = opened(scene, tmp_path / "store", 12)
    assert (store.num_levels, store.size(store.image_ids[0])) == (2, (3, 4))


def test_a_full_disk_is_a_sentence_and_leaves_no_debris(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    colmap_capture(tmp_path)
    scene, folder = read_scene(tmp_path, CONFIG), tmp_path / "store"

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(UserError, match="Cannot write the image store in .*: No space"):
        opened(scene, folder)
    assert not folder.exists()
    monkeypatch.undo()
    assert len(opened(scene, folder).image_ids) == 5


def test_the_manifest_carries_no_paths_of_this_machine(tmp_path: Path):
    colmap_capture(tmp_path)
    opened(read_scene(tmp_path, CONFIG), tmp_path / "store")
    text = (tmp_path / "store/manifest.json").read_text()
    assert str(tmp_path) not in text
    assert json.loads(text)["version"] == 1


CUT = """
import os, sys
from pathlib import Path
from blocknerf.core.config.dataset import DatasetConfig
from blocknerf.scene.readers.read import read_scene
from blocknerf.scene.store import ImageStore

scene = read_scene(Path(sys.argv[1]), DatasetConfig())
store = ImageStore.open(scene, 1, Path(sys.argv[1]) / "store", progress=False)
os.truncate(Path(sys.argv[1]) / "store" / "level_0.rgb", 0)
print(store.level(0).rgb.sum())
"""


def test_a_store_that_is_cut_while_it_is_mapped_ends_in_a_sentence_and_is_made_anew(tmp_path: Path):
    colmap_capture(tmp_path, size=(160, 120))
    done = subprocess.run(
        [sys.executable, "-c", CUT, tmp_path], capture_output=True, text=True, timeout=120, check=False
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert f"Does another program write to the image store {tmp_path / 'store'}?" in done.stderr.splitlines()[-1]
    store = opened(read_scene(tmp_path, CONFIG), tmp_path / "store")
    assert len(store.level(0).rgb) == len(store.image_ids) * 160 * 120
