"""The door of the viewer: strangers' pages stay out, junk is dropped, and whoever is inside goes on seeing pictures."""

import math
import os
import random
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("viser", reason="the viewer needs: pip install 'blocknerf[view]'")

import msgspec.msgpack
from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosed, InvalidStatus

from blocknerf.core.errors import UserError
from blocknerf.viewer import door as door_module
from blocknerf.viewer.door import MOST_BROWSERS, MOST_BYTES, Door, host_names, may_become, read_message, refusal
from blocknerf.viewer.render_request import RenderRequest, Viewpoint
from blocknerf.viewer.viewer import Viewer
from tests.support.browser import CAMERA, come_in, heard, junk, say, wait_for_picture, widgets

PATIENCE_S = 60
UNIT = st.floats(-1, 1)


@pytest.fixture(scope="module")
def viewer(built, tmp_path_factory):
    viewer = Viewer(built[0], built[1], port=0, max_width=100)
    yield viewer
    viewer.stop()


# --- messages ---------------------------------------------------------------------------------------------------------


def test_what_a_page_says_passes():
    for message in (
        CAMERA,
        CAMERA | {"position": [0, 0, 1]},  # whole numbers come as integers
        {"type": "GuiUpdateMessage", "uuid": "abc", "updates": {"value": True}},
        {"type": "GuiUpdateMessage", "uuid": "abc", "updates": {"value": 0.5}},
        {"type": "GuiUpdateMessage", "uuid": "abc", "updates": {"value": "depth"}},
        {
            "type": "SceneNodeClickMessage",
            "name": "/photographs/a.jpg",
            "instance_index": None,
            "modifier": None,
            "ray_origin": [0.0, 0.0, 0.0],
            "ray_direction": [0.0, 0.0, 1.0],
            "screen_pos": [0.5, 0.5],
            "owner": "1",
        },
    ):
        assert read_message(msgspec.msgpack.encode(message)).type == message["type"]


@pytest.mark.parametrize(
    "wrong",
    [
        {"fov": -1.0},
        {"fov": math.nan},
        {"fov": 4.0},
        {"image_height": 10**9},
        {"image_height": 0},
        {"image_width": -4},
        {"position": [math.inf, 0, 0]},
        {"position": [0, 0]},
        {"position": [1e30, 0, 0]},
        {"wxyz": [0, 0, 0, 0]},
        {"image_width": 16000, "image_height": 2},
        {"wxyz": "abcd"},
        {"more": 1},
        {"type": "ShareUrlRequest"},
        {"type": None},
        {"type": ["a"]},
    ],
)
def test_what_no_camera_says_does_not(wrong):
    with pytest.raises(ValueError, match=r"."):
        read_message(msgspec.msgpack.encode(CAMERA | wrong))


@given(st.integers(0, 2**32))
def test_whatever_arrives_is_refused_or_makes_a_camera(seed):
    """Of what passes, a picture can be drawn: nothing behind the door needs to look again."""
    raw = junk(random.Random(seed), ["abc"])
    try:
        message = read_message(raw)
    except ValueError:
        return
    if message.type == "ViewerCameraMessage":
        Viewpoint(pose_of(message), message.fov, message.image_width / message.image_height).camera(100)


def pose_of(message):
    import numpy as np

    from blocknerf.geometry.spline import rotations_of

    rotation = rotations_of(np.array([message.wxyz]))[0]
    assert np.isfinite(rotation).all()
    return np.concatenate([rotation, np.array(message.position)[:, None]], axis=1)


@pytest.mark.parametrize(
    ("widget", "may", "may_not"),
    [
        (SimpleNamespace(value=0.5, min=0.0, max=1.0), [0.0, 1.0, 0.3], [1.1, -1.0, True, "0.5"]),
        (SimpleNamespace(value="a", options=("a", "b")), ["b"], ["c", 1.0, True]),
        (SimpleNamespace(value=True), [False], [1.0, "x"]),
        (SimpleNamespace(value="path"), ["other"], [1.0, False]),
    ],
)
def test_a_widget_takes_what_the_page_offers(widget, may, may_not):
    assert all(may_become(widget, value) for value in may)
    assert not any(may_become(widget, value) for value in may_not)


def test_a_flood_is_one_line_a_second(caplog, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(door_module.time, "monotonic", lambda: now[0])
    door = Door("127.0.0.1")
    for _ in range(1000):
        assert not door.lets_in(b"junk")
    now[0] = 1.5
    door.lets_in(b"junk")
    assert [record.getMessage().count("dropped") for record in caplog.records] == [1, 1]
    assert "(999 more since)" in caplog.text


# --- who comes in -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("listens", "host", "origin", "comes_in"),
    [
        ("127.0.0.1", "127.0.0.1:8080", None, True),
        ("127.0.0.1", "localhost:8080", "http://localhost:8080", True),
        ("127.0.0.1", "localhost:9000", "http://localhost:9000", True),  # through a tunnel
        ("127.0.0.1", "[::1]:8080", "http://[::1]:8080", True),
        ("127.0.0.1", "localhost:8080", "http://localhost:3000", False),
        ("127.0.0.1", "localhost:8080", "https://evil.example", False),
        ("127.0.0.1", "localhost:8080", "null", False),
        ("127.0.0.1", "evil.example:8080", "http://evil.example:8080", False),  # DNS rebinding
        ("127.0.0.1", "localhost.evil.example", None, False),
        ("127.0.0.1", "localhost@evil.example", None, False),
        ("127.0.0.1", "192.0.2.7:8080", None, False),
        ("127.0.0.1", "", None, False),
        ("127.0.0.1", "[", None, False),
        ("0.0.0.0", "192.0.2.7:8080", "http://192.0.2.7:8080", True),
        ("0.0.0.0", "evil.example:8080", "http://evil.example:8080", False),
        ("0.0.0.0", "proxy.example", "https://proxy.example", True),
    ],
)
def test_only_our_own_pages_and_names(listens, host, origin, comes_in):
    headers = Headers({"Host": host} | ({} if origin is None else {"Origin": origin}))
    names = host_names(listens, ["Proxy.example"] if listens == "0.0.0.0" else [])
    assert (refusal(headers, names, listens == "0.0.0.0") is None) == comes_in


def test_two_hosts_and_no_host_stay_out():
    names = host_names("127.0.0.1")
    twice = Headers([("Host", "localhost"), ("Host", "localhost")])
    assert refusal(twice, names, False) is not None
    assert refusal(Headers(), names, False) is not None


def test_a_page_of_another_origin_stays_out(viewer):
    for origin in ("http://evil.example", "null", f"http://127.0.0.1:{viewer.port + 1}"):
        with pytest.raises(InvalidStatus) as refused:
            come_in(viewer.port, origin)
        assert refused.value.response.status_code == 403
    come_in(viewer.port, f"http://127.0.0.1:{viewer.port}").close()
    request = urllib.request.Request(viewer.url, headers={"Host": "evil.example"})
    with pytest.raises(urllib.error.HTTPError, match="403"):
        urllib.request.urlopen(request)
    assert b"<html" in urllib.request.urlopen(viewer.url).read()


def test_a_viser_that_serves_in_another_way_is_not_served(built, monkeypatch):
    from contextlib import nullcontext

    monkeypatch.setattr(Door, "hung", lambda self: nullcontext())
    with pytest.raises(UserError, match="serves in another way"):
        Viewer(built[0], built[1], port=0)


# --- pictures go on ---------------------------------------------------------------------------------------------------


def test_what_is_not_taken_is_said_on_the_page_that_asked(viewer):
    with come_in(viewer.port) as page:
        say(page, CAMERA)
        seconds, is_drawn = None, False
        while seconds is None or not is_drawn:
            for message in heard(page, PATIENCE_S):
                if message.get("props", {}).get("label") == "Seconds":
                    seconds = message["uuid"]
                is_drawn |= "pixels in" in str(message) and "follows" not in str(message)
        for value in (1e9, math.nan, "ten"):
            say(page, {"type": "GuiUpdateMessage", "uuid": seconds, "updates": {"value": value}})
            until(lambda: any("Seconds stays as it was" in str(message) for message in heard(page, PATIENCE_S)))


def test_a_picture_that_cannot_be_drawn_stops_nobody_elses(viewer, monkeypatch, caplog):
    draw = viewer._loop._draw
    monkeypatch.setattr(viewer._loop, "_refresh", lambda: 1 / 0)
    monkeypatch.setattr(viewer._loop, "_draw", lambda *_: 1 / 0)
    for key in range(3):
        viewer._loop.wish(
            f"broken {key}", RenderRequest(Viewpoint(pose_of(read_message(msgspec.msgpack.encode(CAMERA))), 1.0, 1.0))
        )
    until(lambda: "could not draw a picture" in caplog.text)
    monkeypatch.setattr(viewer._loop, "_draw", draw)
    with come_in(viewer.port) as page:
        say(page, CAMERA)
        wait_for_picture(page)
    assert viewer._loop._thread.is_alive()
    assert caplog.text.count("The viewer could not draw a picture") == 1
    assert caplog.text.count("The viewer could not look for new blocks") <= 1


def until(condition, patience_s: float = PATIENCE_S) -> None:
    end = time.monotonic() + patience_s
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


# --- many browsers, of which most mean no good ------------------------------------------------------------------------


def pester(port: int, seed: int, messages: int) -> None:
    """One browser that says junk, and comes back when its connection is closed."""
    rng = random.Random(seed)
    sent = 0
    while sent < messages:
        try:
            with come_in(port) as page:
                say(page, CAMERA)
                known = widgets(heard(page, PATIENCE_S) + heard(page, PATIENCE_S))
                while sent < messages:
                    sent += 1
                    page.send(bytes(MOST_BYTES + 1) if rng.random() < 0.02 else junk(rng, known))
        except (ConnectionClosed, TimeoutError):
            sent += 1
        except InvalidStatus as refused:
            if refused.response.status_code != 503:  # as many as may look are looking
                raise
            time.sleep(0.2)


def _hear_ctrl_c() -> None:
    """A job that a shell starts in the background has SIGINT ignored, and all that it starts."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.mark.parametrize(("browsers", "messages"), [(5, 30), pytest.param(50, 200, marks=pytest.mark.slow)])
def test_junk_of_many_browsers_leaves_the_viewer_as_it_was(built, tmp_path, browsers, messages):
    log = tmp_path / "said.txt"
    command = [sys.executable, "-m", "blocknerf", "view", str(built[0]), "--port", "0", "--max-width", "120"]
    with log.open("w") as output:
        process = subprocess.Popen(
            command, stderr=output, stdout=output, env=os.environ | {"COLUMNS": "200"}, preexec_fn=_hear_ctrl_c
        )
    try:
        until(lambda: "The city is at" in log.read_text() or process.poll() is not None, 4 * PATIENCE_S)
        port = int(re.search(r"http://127.0.0.1:(\d+)", log.read_text()).group(1))
        with come_in(port) as page:
            say(page, CAMERA)
            wait_for_picture(page, 2 * PATIENCE_S)
        before = resident_mb(process.pid)
        assert before < 4000
        threads = [threading.Thread(target=pester, args=(port, seed, messages)) for seed in range(browsers)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        with come_in(port) as page:
            say(page, CAMERA)
            wait_for_picture(page, 2 * PATIENCE_S)
        assert resident_mb(process.pid) < before + 200 + 8 * min(browsers, MOST_BROWSERS)
        process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE_S) == 130
    finally:
        process.kill()
    text = log.read_text()
    assert "Traceback" not in text
    assert "dropped what a browser sent" in text
    assert not (built[0] / "paths").exists()


def resident_mb(process_id: int) -> float:
    status = Path(f"/proc/{process_id}/status").read_text()
    return int(re.search(r"VmRSS:\s+(\d+)", status).group(1)) / 1024
