"""The part of a scene that one block needs, and a scene whose folder lies elsewhere."""

from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest

from blocknerf.core.camera import Camera
from blocknerf.core.errors import UserError
from blocknerf.scene.part import files_of, part_of, relocated, require_unchanged
from blocknerf.scene.scene import ImageRecord, Scene

ROOT = Path("/captures/street")


def scene() -> Scene:
    rng = np.random.default_rng(0)
    rows = {"a": [0, 3], "b": [3, 5, 1], "c": [2]}
    images = tuple(
        ImageRecord(
            name, f"{name}.jpg", ROOT / f"images/{name}.jpg", camera, np.eye(3, 4), point_rows=np.array(rows[name])
        )
        for name, camera in zip("abc", ("left", "right", "left"), strict=True)
    )
    camera = Camera("PINHOLE", 4, 3, (1.0, 1.0, 2.0, 1.5))
    points, errors_px = rng.random((6, 3)), rng.random(6)
    cameras = {"left": camera, "right": camera}
    return Scene(ROOT, cameras, images, points, np.zeros((6, 3), np.uint8), points_error_px=errors_px)


def test_a_part_sees_the_points_that_it_saw():
    whole = scene()
    part = part_of(whole, ["b", "a"])
    assert [image.id for image in part.images] == ["a", "b"]
    assert len(part.points_world) == 4
    for image in part.images:
        (before,) = (other for other in whole.images if other.id == image.id)
        assert np.array_equal(part.points_world[image.point_rows], whole.points_world[before.point_rows])
        assert np.array_equal(part.points_error_px[image.point_rows], whole.points_error_px[before.point_rows])  # pyright: ignore[reportOptionalSubscript]


def test_a_part_has_its_own_cameras_alone():
    assert part_of(scene(), ["a", "c"]).cameras.keys() == {"left"}
    assert len(part_of(scene(), []).points_world) == 0


def paths_in(value) -> set[Path]:
    if isinstance(value, Path):
        return {value}
    return {path for item in value for path in paths_in(item)} if isinstance(value, tuple) else set()


def with_every_path(image: ImageRecord) -> ImageRecord:
    """So that a path which is added to ImageRecord and forgotten here is found."""
    named = [field.name for field in fields(ImageRecord) if "Path" in str(field.type)]
    assert len(named) >= 4
    given = {name: ROOT / name / image.name for name in named}
    return replace(image, **{**given, "mask_paths": (ROOT / "masks/1.png", Path("/elsewhere/bonnet.png"))})


def test_all_paths_move_and_are_listed_but_those_outside_of_the_folder():
    whole = scene()
    whole = replace(whole, images=tuple(with_every_path(image) for image in whole.images))
    copy = relocated(whole, Path("/copy"))
    assert copy.root == Path("/copy")
    for before, after in zip(whole.images, copy.images, strict=True):
        for field in fields(ImageRecord):
            expected = {
                Path("/copy") / path.relative_to(ROOT) if path.is_relative_to(ROOT) else path
                for path in paths_in(getattr(before, field.name))
            }
            assert paths_in(getattr(after, field.name)) == expected
    every = {path for image in copy.images for field in fields(image) for path in paths_in(getattr(image, field.name))}
    assert set(files_of(copy)) == every
    assert len(files_of(copy)) == len(every)


def test_another_photograph_under_the_same_name_is_refused(tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"another")
    image = replace(scene().images[0], path=tmp_path / "a.jpg")
    with pytest.raises(UserError, match="The photograph a.jpg has changed since the blocks"):
        require_unchanged(image)
