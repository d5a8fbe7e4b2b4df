"""Every Nth by name, or the scene's own names."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from blocknerf.core.camera import Camera
from blocknerf.core.errors import UserError
from blocknerf.scene.scene import ImageRecord, Scene
from blocknerf.scene.splits import split_images


def scene_of(count: int) -> Scene:
    pose = np.eye(4)[:3]
    images = tuple(ImageRecord(f"id{i}", f"{i:02d}.png", Path(f"{i}.png"), "0", pose) for i in reversed(range(count)))
    return Scene(Path("capture"), {"0": Camera("PINHOLE", 2, 2, (1.0, 1.0, 1.0, 1.0))}, images, *[np.zeros((0, 3))] * 2)


@pytest.mark.parametrize("every", [0, 2, 3, 8, 100])
def test_every_nth_by_name(every: int):
    train, test = split_images(scene_of(17), every)
    assert [image.name for image in test] == [f"{i:02d}.png" for i in range(17) if every and i % every == 0]
    assert sorted(image.id for image in train + test) == sorted(f"id{i}" for i in range(17))
    assert [image.name for image in train] == sorted(image.name for image in train)


def test_the_scenes_own_names_go_first():
    train, test = split_images(replace(scene_of(5), test_names=frozenset({"03.png", "absent.png"})), 2)
    assert [image.name for image in test] == ["03.png"]
    assert len(train) == 4


def test_nothing_to_train_on():
    with pytest.raises(UserError, match="All 3 usable images of capture are test images"):
        split_images(scene_of(3), 1)
