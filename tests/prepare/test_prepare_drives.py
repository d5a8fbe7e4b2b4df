"""Drives by folders and pauses."""

from blocknerf.prepare.drives import drives_of
from blocknerf.prepare.shots import CapturedImage

PAUSE_S = 600.0
DAY_S = 1_767_225_600.0  # 2026-01-01, midnight


def shots_at(folder: str, *times_s: float | None) -> list[CapturedImage]:
    return [
        CapturedImage(f"{folder}/{n}.jpg", 4, 3, "", folder, None if time_s is None else DAY_S + time_s)
        for n, time_s in enumerate(times_s)
    ]


def test_one_walk_without_folders_is_drive_0():
    assert drives_of(shots_at("", 0.0, 300.0, 800.0), PAUSE_S) == ["0", "0", "0"]


def test_folders_are_drives():
    shots = [*shots_at("noon", 0.0, 5.0), *shots_at("dusk", 20.0, 25.0)]
    assert drives_of(shots, PAUSE_S) == ["noon", "noon", "dusk", "dusk"]


def test_a_pause_begins_another_drive_named_by_its_beginning():
    shots = shots_at("", 0.0, 5.0, 3600.0, 3605.0)
    assert drives_of(shots, PAUSE_S) == ["2026-01-01_000000"] * 2 + ["2026-01-01_010000"] * 2
    assert drives_of(shots, 4000.0) == ["0"] * 4


def test_cameras_that_ran_together_are_one_drive():
    shots = [*shots_at("left", 0.0, 50.0, 100.0), *shots_at("right", 1.0, 51.0, 99.0), *shots_at("later", 200.0, 300.0)]
    assert drives_of(shots, PAUSE_S) == ["left+right"] * 6 + ["later"] * 2


def test_two_cameras_with_a_pause_are_two_drives_of_two_cameras():
    shots = [*shots_at("left", 0.0, 9.0, 7200.0, 7209.0), *shots_at("right", 1.0, 8.0, 7201.0, 7208.0)]
    first, second = "left+right_2026-01-01_000000", "left+right_2026-01-01_020000"
    assert drives_of(shots, PAUSE_S) == [first, first, second, second] * 2


def test_without_a_clock_folders_decide():
    shots = [*shots_at("a", None, None), *shots_at("", None)]
    assert drives_of(shots, PAUSE_S) == ["a", "a", "0"]
