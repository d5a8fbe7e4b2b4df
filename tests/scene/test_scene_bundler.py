"""bundle.out, written by hand from Bundler's manual; pixels by Bundler's own formula."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from blocknerf.core.config.dataset import DatasetConfig
from blocknerf.core.errors import UserError
from blocknerf.scene.rays import directions_at, pixels_of
from blocknerf.scene.readers.read import read_scene

CONFIG = DatasetConfig()
WIDTH, HEIGHT = 64, 48
RNG = np.random.default_rng(0)


def bundlers_cameras(count: int = 3) -> list[dict]:
    """(R, t) that map the world to cameras which look along -z at the origin, each turned its own way."""
    cameras = []
    for number in range(count):
        center = RNG.normal(size=3) + (0, 0, 8)
        backwards = center / np.linalg.norm(center)
        right = np.cross(RNG.normal(size=3), backwards)
        right /= np.linalg.norm(right)
        rotation = np.stack([right, np.cross(backwards, right), backwards])
        cameras.append({"f": 60.0 + number, "k": (-0.12, 0.03 * number), "R": rotation, "t": -rotation @ center})
    return cameras


def bundlers_pixel(camera: dict, point: np.ndarray) -> np.ndarray:
    """From the middle of the photograph, to the right and up."""
    behind = camera["R"] @ point + camera["t"]
    p = -behind[:2] / behind[2]
    return camera["f"] * (1 + camera["k"][0] * (p @ p) + camera["k"][1] * (p @ p) ** 2) * p


def entry(camera: dict) -> str:
    rows = [(camera["f"], *camera["k"]), *camera["R"], camera["t"]]
    return "".join(" ".join(f"{value:.17g}" for value in row) + "\n" for row in rows)


NOWHERE = "0 0 0\n0 0 0\n0 0 0\n0 0 0\n0 0 0\n"


def capture(root: Path, bundle: str, names: str) -> None:
    root.mkdir(parents=True, exist_ok=True)
    (root / "bundle.out").write_text(f"# Bundle file v0.3\n{bundle}")
    (root / "list.txt").write_text(names)
    for line in names.splitlines():
        path = root / line.split(" 0 ")[0]
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (WIDTH, HEIGHT)).save(path)


def test_pixels_are_those_of_bundlers_formula(tmp_path):
    cameras = bundlers_cameras()
    capture(tmp_path, "3 0\n" + "".join(map(entry, cameras)), "a.png\nb.png 0 61.25\n./c.png 0 6e1\n")
    scene = read_scene(tmp_path, CONFIG)
    assert [image.name for image in scene.images] == ["a.png", "b.png", "c.png"]
    points = RNG.uniform(-1.5, 1.5, (20, 3))
    for image, written in zip(scene.images, cameras, strict=True):
        camera, pose = scene.cameras[image.camera_key], image.world_from_cam
        np.testing.assert_allclose(pose[:, 3], -written["R"].T @ written["t"], atol=1e-12)
        truth = np.array([bundlers_pixel(written, point) for point in points]) * (1, -1) + (WIDTH / 2, HEIGHT / 2)
        points_cam = (points - pose[:, 3]) @ pose[:, :3]
        np.testing.assert_allclose(pixels_of(camera, points_cam), truth, atol=1e-4)
        ways = points_cam / np.linalg.norm(points_cam, axis=1, keepdims=True)
        np.testing.assert_allclose(directions_at(camera, truth), ways, atol=1e-6)  # the lens is undone the same way


def test_points_their_colours_and_who_sees_them(tmp_path):
    cameras = bundlers_cameras()
    points = "1 2 3\n255 0 9\n2 2 7 1.5 -2 0 8 3 4\nnan 0 0\n1 1 1\n1 1 0 0 0\n4 5 6\n300 1 2\n1 2 0\n-3 0\n"
    capture(tmp_path, "3 3\n" + "".join(map(entry, cameras)) + points, "a.png\nb.png\nc.png\n")
    scene = read_scene(tmp_path, CONFIG)
    assert scene.points_world.tolist() == [[1, 2, 3], [4, 5, 6]]
    assert scene.points_rgb.tolist() == [[255, 0, 9], [255, 1, 2]]
    assert [image.point_rows.tolist() for image in scene.images] == [[0], [], [0, 1]]


def test_a_photograph_that_bundler_could_not_place_is_listed(tmp_path):
    first, second = bundlers_cameras(2)
    text = f"3 1\n{entry(first)}{NOWHERE}{entry(second)}1 1 1\n9 9 9\n2 0 0 1 1 2 0 1 1\n"
    capture(tmp_path, text, "x/a.png\nx/b.png\ny/c.png\n")
    scene = read_scene(tmp_path, CONFIG)
    assert scene.skipped == (("x/b.png", "Bundler could not place it (its focal length is 0)"),)
    assert [(image.name, image.drive, len(image.point_rows)) for image in scene.images] == [
        ("x/a.png", "x", 1),
        ("y/c.png", "y", 1),
    ]


def test_bundlers_own_folders(tmp_path):
    capture(tmp_path, "2 0\n" + "".join(map(entry, bundlers_cameras(2))), "images/my a.png 0 60\nimages/b.png\n")
    (tmp_path / "bundle").mkdir()
    (tmp_path / "bundle.out").rename(tmp_path / "bundle" / "bundle.out")
    assert [image.name for image in read_scene(tmp_path, CONFIG).images] == ["b.png", "my a.png"]
    (tmp_path / "list.txt").rename(tmp_path / "bundle" / "list.txt")
    assert len(read_scene(tmp_path, DatasetConfig(type="bundler")).images) == 2
    (tmp_path / "bundle" / "list.txt").unlink()
    with pytest.raises(UserError, match="There is no .*list.txt, which says whose"):
        read_scene(tmp_path, CONFIG)


@pytest.mark.parametrize(
    ("bundle", "message"),
    [
        ("", "is truncated: it ends in the numbers of cameras and points"),
        ("2.5 0\n", "line 2: the numbers of cameras and points must be whole numbers"),
        ("2 0\n" + NOWHERE, "is truncated: it ends in camera 1"),
        ("2 0\n" + NOWHERE + "60 x 0\n", "line 8: 'x' is not a number, in camera 1"),
        ("2 1\n" + 2 * NOWHERE + "1 2 3\n1 1 1\n2 0 0 1 1", "is truncated: it ends in the views of point 0"),
        ("2 1\n" + 2 * NOWHERE + "1 2 3\n1 -1 1\n", "line 14: the colour of point 0 must be whole numbers"),
        ("3 0\n" + 3 * NOWHERE, "has 3 cameras, but its list.txt names 2 photographs"),
        ("2 0\n" + 2 * NOWHERE, "lists 2 images of which 0 can be used"),
    ],
)
def test_damage_is_said(tmp_path, bundle, message):
    capture(tmp_path, bundle, "a.png\nb.png\n")
    with pytest.raises(UserError, match=message):
        read_scene(tmp_path, CONFIG)


def test_another_version_is_refused(tmp_path):
    capture(tmp_path, "", "a.png\n")
    (tmp_path / "bundle.out").write_text("drwtns v1\n")
    with pytest.raises(UserError, match="does not begin with '# Bundle file v0.3'"):
        read_scene(tmp_path, CONFIG)
