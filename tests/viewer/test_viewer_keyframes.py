"""A recorded path arrives at `blocknerf render` as it was recorded."""

import functools
import inspect
import math
import shlex

import numpy as np
import pytest
import tyro

from blocknerf.cli.render import render
from blocknerf.core.errors import UserError
from blocknerf.core.types import Appearance
from blocknerf.export.paths import read_camera_path
from blocknerf.viewer import keyframes as keyframes_module
from blocknerf.viewer.keyframes import FPS, Keyframes, path_file, render_command, write_path
from blocknerf.viewer.render_request import Viewpoint


def at(x: float) -> Viewpoint:
    return Viewpoint(np.column_stack([np.eye(3), [x, 0.0, 0.0]]), math.radians(50), 16 / 9)


def test_the_file_is_read_by_render(tmp_path):
    keyframes = Keyframes().and_then(at(0.0)).and_then(at(2.0)).and_then(at(3.0))
    path = path_file(tmp_path, "a_walk")
    assert write_path(path, keyframes, 2.0, "dusk") == 2 * FPS
    views = read_camera_path(path)
    assert len(views) == 2 * FPS
    np.testing.assert_allclose(views[0].world_from_cam, at(0.0).world_from_cam, atol=1e-9)
    np.testing.assert_allclose(views[-1].world_from_cam, at(3.0).world_from_cam, atol=1e-9)
    assert {view.drive for view in views} == {"dusk"}
    assert (views[0].width, views[0].height) == (960, 540)
    assert views[0].camera.params[0] == pytest.approx(270 / math.tan(math.radians(25)))
    write_path(path, keyframes, 0.001, None)
    assert [view.drive for view in read_camera_path(path)] == [None, None]


def test_what_makes_no_path_is_said(tmp_path):
    one = Keyframes().and_then(at(0.0))
    with pytest.raises(UserError, match="two keyframes at least"):
        write_path(tmp_path / "p.json", one, 1.0, None)
    with pytest.raises(UserError, match="stands still"):
        write_path(tmp_path / "p.json", one.and_then(at(0.0)), 1.0, None)
    assert one.and_then(at(1.0)).without_last() == one
    for name in ("", "../up", "a/b", ".hidden", "test", "x" * 99):
        with pytest.raises(UserError, match="cannot be a file's"):
            path_file(tmp_path, name)


@pytest.mark.parametrize(
    ("appearance", "photographs", "parsed"),
    [
        (Appearance(drive="dusk"), [], {"image": None, "appearance": None, "share": None, "exposure": 0.0}),
        (Appearance("id", "dusk", exposure_stops=-0.5), ["a b.png"], {"image": "a b.png", "exposure": -0.5}),
        (
            Appearance("id", "n", blend_towards=Appearance("other", "n"), share=0.25),
            ["a.png", "b.png"],
            {"appearance": "a.png:b.png", "share": 0.25},
        ),
    ],
)
def test_the_command_is_one_that_render_understands(tmp_path, appearance, photographs, parsed):
    out = tmp_path / "a city"
    words = shlex.split(render_command(out, path_file(out, "walk"), appearance, photographs))
    assert words[:3] == ["blocknerf", "render", str(out)]
    heard = {}

    @functools.wraps(render)
    def listen(*values, **named):
        heard.update(inspect.signature(render).bind(*values, **named).arguments)

    tyro.cli(listen, args=words[2:])
    assert heard["path"] == str(out / "paths" / "walk.json")
    assert heard["video"] == out / "renders" / "walk.mp4"
    for key, value in parsed.items():
        assert heard[key] == value


@pytest.mark.parametrize("seconds", [0.0, -1.0, 601.0, 1e9, math.inf, math.nan])
def test_seconds_that_no_path_has_are_refused(tmp_path, seconds):
    keyframes = Keyframes().and_then(at(0.0)).and_then(at(1.0))
    with pytest.raises(UserError, match=r"seconds cannot be saved"):
        write_path(tmp_path / "paths/a.json", keyframes, seconds, None)
    assert not (tmp_path / "paths").exists()


def test_paths_and_their_keyframes_are_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr(keyframes_module, "MOST_KEYFRAMES", 2)
    monkeypatch.setattr(keyframes_module, "MOST_PATHS", 1)
    full = Keyframes().and_then(at(0.0)).and_then(at(1.0))
    with pytest.raises(UserError, match="has 2 keyframes at most"):
        full.and_then(at(2.0))
    write_path(path_file(tmp_path, "one"), full, 1.0, None)
    path_file(tmp_path, "one")  # the same again is no further one
    with pytest.raises(UserError, match="There are 1 paths in"):
        path_file(tmp_path, "two")
