"""Trajectories: places between the images of a drive, and drives that have none."""

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from blocknerf.core.types import TrajectoryPoint
from blocknerf.scene.scene import ImageRecord
from blocknerf.scene.segments import with_segments
from blocknerf.scene.trajectories import NO_TRAJECTORIES, Trajectories
from tests.support.scene_builders import poses


def image(name: str, x: float, forward: tuple[float, float, float] = (0.0, 0.0, 1.0), drive: str = "0") -> ImageRecord:
    ahead = np.array(forward) / np.linalg.norm(forward)
    right = np.cross([0.0, 1.0, 0.0], ahead)
    rotation = np.stack([right, np.cross(ahead, right), ahead], axis=1)
    pose = np.concatenate([rotation, [[x], [0.0], [0.0]]], axis=1)
    return ImageRecord(name, name, Path(name), "camera", pose, drive)


def walk(count: int = 12, drive: str = "0") -> list[ImageRecord]:
    """Along x, a metre from frame to frame; by letters, frame 10 would come before frame 2."""
    return with_segments([image(f"{drive}/frame_{k}.png", float(k), drive=drive) for k in range(count)], {})


def neighbours(point: TrajectoryPoint | None, images: list[ImageRecord]) -> list[tuple[str, float]]:
    assert point is not None
    return point.neighbours({one.id for one in images})


def near(trajectories: Trajectories, x: float, z: float = 0.0, drive: str | None = "0") -> TrajectoryPoint | None:
    pose = np.concatenate([np.eye(3), [[x], [0.0], [z]]], axis=1)
    return trajectories.appearance_near(pose, drive).trajectory_point


def test_a_point_at_an_image_is_that_image_and_between_two_it_is_linear():
    ids, moments = tuple("abcd"), (0.0, 1.0, 4.0, 4.5)
    for name, moment in zip(ids, moments, strict=True):
        weights = dict(TrajectoryPoint(ids, moments, moment).neighbours(ids))
        assert weights.pop(name) == 1
        assert not any(weights.values())
    for moment in np.linspace(0, 4.5, 50)[1:-1].tolist():
        found = TrajectoryPoint(ids, moments, moment).neighbours(ids)
        assert sum(weight for _, weight in found) == pytest.approx(1)
        assert all(0 <= weight <= 1 for _, weight in found)
        assert sum(weight * moments[ids.index(name)] for name, weight in found) == pytest.approx(moment)


def test_beyond_the_ends_it_is_the_last_image_and_without_known_images_nothing():
    ids, moments = tuple("abc"), (0.0, 1.0, 2.0)
    assert TrajectoryPoint(ids, moments, -3.0).neighbours(ids) == [("a", 1.0)]
    assert TrajectoryPoint(ids, moments, 9.0).neighbours(ids) == [("c", 1.0)]
    assert TrajectoryPoint(ids, moments, 1.5).neighbours(()) == []


def test_images_that_a_block_does_not_know_are_passed_over():
    ids, moments = tuple("abcde"), (0.0, 1.0, 2.0, 3.0, 4.0)
    assert TrajectoryPoint(ids, moments, 2.0).neighbours({"a", "e"}) == [("a", 0.5), ("e", 0.5)]
    assert TrajectoryPoint(ids, moments, 3.0).neighbours({"a", "b"}) == [("b", 1.0)]


def test_images_of_one_moment_are_no_division_by_zero():
    ids, moments = tuple("abcd"), (1.0, 1.0, 1.0, 2.0)
    assert dict(TrajectoryPoint(ids, moments, 1.0).neighbours(ids)) == {"c": 1.0, "d": 0.0}
    assert TrajectoryPoint(ids[:3], moments[:3], 1.0).neighbours(ids[:3]) == [("c", 1.0)]


def test_a_held_out_image_is_between_those_before_and_after_it_in_natural_order():
    images = walk()
    trajectories = Trajectories.of(images)
    known = [one for one in images if one.name != "0/frame_9.png"]
    found = neighbours(trajectories.point_of(images[9]), known)
    assert found == [("0/frame_8.png", 0.5), ("0/frame_10.png", 0.5)]
    assert trajectories.unordered == {}


def test_neither_the_order_in_which_images_are_given_nor_other_drives_matter():
    images = [*walk(), *walk(9, drive="other")]
    one, other = Trajectories.of(images), Trajectories.of(images[::-1])
    for held_out in images:
        known = [each for each in images if each is not held_out]
        expected = neighbours(
            Trajectories.of([each for each in images if each.drive == held_out.drive]).point_of(held_out), known
        )
        assert neighbours(one.point_of(held_out), known) == neighbours(other.point_of(held_out), known) == expected


def test_a_view_on_the_path_is_where_it_stands_and_one_beside_it_where_it_is_nearest():
    images = walk()
    trajectories = Trajectories.of(images)
    for x in (0.0, 0.25, 3.0, 7.6, 11.0):
        for z in (0.0, 2.0):
            found = dict(neighbours(near(trajectories, x, z), images))
            assert sum(weight * images_x(name) for name, weight in found.items()) == pytest.approx(x)
    assert neighbours(near(trajectories, -5.0), images)[0] == ("0/frame_0.png", 1.0)
    assert near(trajectories, 3.0, drive="another") is None
    assert near(trajectories, 3.0, drive=None) is None


def images_x(name: str) -> float:
    return float(name.removeprefix("0/frame_").removesuffix(".png"))


def test_a_view_by_its_pose_is_the_held_out_image_by_its_name():
    images = walk()
    trajectories = Trajectories.of(images)
    for one in images:
        by_name = trajectories.point_of(one)
        by_pose = trajectories.appearance_near(one.world_from_cam, "0").trajectory_point
        assert by_name is not None
        assert by_pose is not None
        assert by_pose.moment == pytest.approx(by_name.moment)


def test_on_the_way_back_the_viewing_direction_tells_the_frames_apart():
    outward = [image(f"{k:03d}.png", float(k)) for k in range(12)]
    back = [image(f"{12 + k:03d}.png", 11.0 - k, (0.0, 0.0, -1.0)) for k in range(12)]
    images = with_segments([*outward, *back], {})
    trajectories = Trajectories.of(images)
    for k in range(12):
        for one in (outward[k], back[11 - k]):
            found = max(
                neighbours(trajectories.appearance_near(one.world_from_cam, "0").trajectory_point, images),
                key=lambda pair: pair[1],
            )
            assert found[0] == one.id


def test_a_camera_that_turns_on_one_spot_has_an_order_by_its_direction():
    images = [image(f"{k:03d}.png", 0.0, (np.sin(0.2 * k), 0.0, np.cos(0.2 * k))) for k in range(16)]
    images = with_segments(images, {})
    trajectories = Trajectories.of(images)
    assert trajectories.unordered == {}
    ahead = image("new", 0.0, (np.sin(0.9), 0.0, np.cos(0.9))).world_from_cam
    found = neighbours(trajectories.appearance_near(ahead, "0").trajectory_point, images)
    assert found == [("004.png", pytest.approx(0.5)), ("005.png", pytest.approx(0.5))]


def test_times_win_over_names():
    images = [image(f"{(7 * k) % 12:03d}.png", float(k)) for k in range(12)]
    timed = with_segments(images, {one.id: 3.5 * k for k, one in enumerate(images)})
    trajectories = Trajectories.of(timed)
    known = [one for one in timed if one.id != timed[5].id]
    assert [name for name, _ in neighbours(trajectories.point_of(timed[5]), known)] == [timed[4].id, timed[6].id]


def strangers() -> list[ImageRecord]:
    """As many people took a landmark: names say nothing of places."""
    shuffled = np.random.default_rng(3).permutation(40)
    around = poses(40)
    return with_segments(
        [
            replace(image(f"{k:03d}.jpg", 0.0), world_from_cam=around[row], camera_key=f"{k}")
            for k, row in enumerate(shuffled)
        ],
        {},
    )


def test_photographs_of_strangers_have_no_order_and_that_is_said():
    images = strangers()
    trajectories = Trajectories.of(images)
    assert trajectories.of_drive == {}
    assert all(trajectories.point_of(one) is None for one in images)
    assert trajectories.appearance_near(images[0].world_from_cam, "0").trajectory_point is None
    assert trajectories.adjacent([one.id for one in images]) == []
    (sentence,) = trajectories.without_order(["0", "unknown", None])
    assert "Drive 0 has no order" in sentence
    assert "hardly nearer" in sentence


def test_the_same_cameras_in_order_have_one():
    images = [replace(one, world_from_cam=pose) for one, pose in zip(strangers(), poses(40), strict=True)]
    assert Trajectories.of(images).unordered == {}


@pytest.mark.parametrize(
    ("images", "reason"),
    [
        (walk(4), "by chance"),
        ([replace(one, trajectory=None) for one in walk()], "neither names nor times"),
        (with_segments([image(f"{k:03d}.png", 0.0) for k in range(12)], {}), "hardly nearer"),
    ],
)
def test_too_few_images_no_names_and_no_motion_are_no_order(images, reason):
    assert reason in Trajectories.of(images).unordered["0"]


def test_a_drive_per_photograph_has_no_order():
    trajectories = Trajectories.of(with_segments([image(f"{k}.png", float(k), drive=str(k)) for k in range(9)], {}))
    assert trajectories.of_drive == {}
    assert len(trajectories.unordered) == 9


def test_adjacent_images_are_those_of_one_camera_without_the_others_between():
    rig = [
        replace(one, camera_key=camera, name=f"{camera}/{k}.png", id=f"{camera}{k}")
        for camera in "lr"
        for k, one in enumerate(walk(8))
    ]
    trajectories = Trajectories.of(with_segments(rig, {}))
    ids = [one.id for one in rig]
    expected = {pair for camera in "lr" for pair in pairwise(f"{camera}{k}" for k in range(8))}
    assert set(trajectories.adjacent(ids)) == expected
    without = trajectories.adjacent([name for name in ids if name != "l4"])
    assert ("l3", "l5") in without
    assert len(without) == len(expected) - 1


def test_a_gap_ends_a_trajectory():
    images = with_segments([image(f"{k:03d}.png", float(k + (100 if k > 7 else 0))) for k in range(16)], {})
    trajectories = Trajectories.of(images)
    assert len({one.segment for one in images}) == 2
    known = [one for one in images if one.id != images[7].id]
    assert neighbours(trajectories.point_of(images[7]), known) == [("006.png", 1.0)]
    assert (images[7].id, images[8].id) not in trajectories.adjacent([one.id for one in images])


def test_no_trajectories_know_no_place():
    assert NO_TRAJECTORIES.point_of(walk()[3]) is None
    assert NO_TRAJECTORIES.without_order(["0"]) == []
