"""The thread that renders, with pictures that are numbers: who gets what, when, and what is given up."""

import re
import threading
import time

import numpy as np
import pytest

from blocknerf.core.errors import UserError
from blocknerf.viewer import loop as loop_module
from blocknerf.viewer.drawing import Drawn
from blocknerf.viewer.loop import RenderLoop, later_widths, preview_width, widest
from blocknerf.viewer.render_request import RenderRequest, Viewpoint

PATIENCE_S = 30
POSE = np.eye(4)[:3]


def wish(aspect: float = 1.0) -> RenderRequest:
    """Wishes are told apart by their aspect."""
    return RenderRequest(Viewpoint(POSE, 1.0, aspect))


class Studio:
    """Draws nothing; larger pictures wait at the gate until they are let through or given up."""

    def __init__(self, max_width: int = 400):
        self.pictures, self.failures, self.begun, self.given_up = [], [], [], []
        self.gate, self.news, self.fault = threading.Event(), threading.Event(), None
        self.seconds = 0.0
        self.gate.set()
        self.loop = RenderLoop(self.draw, self.show, self.fail, self.refresh, lambda: None, max_width)

    def __enter__(self):
        self.loop.start()
        return self

    def __exit__(self, *error):
        self.gate.set()
        self.loop.stop()

    def draw(self, wish, width, keep_going):
        self.begun.append((wish, width))
        if self.fault is not None:
            fault, self.fault = self.fault, None
            raise fault
        time.sleep(self.seconds)
        while width > 160 and not self.gate.is_set():
            if not keep_going():
                self.given_up.append((wish, width))
                return None
            time.sleep(0.001)
        return Drawn(np.zeros((width, width, 3), np.uint8), {"a": 1.0}, None)

    def show(self, key, frame):
        self.pictures.append((key, frame.drawn.rgb.shape[1], frame.is_last))

    def fail(self, key, sentence):
        self.failures.append((key, sentence))

    def refresh(self):
        fresh = self.news.is_set()
        self.news.clear()
        return fresh


def until(condition) -> None:
    end = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < end, "nothing came of it"
        time.sleep(0.002)


def test_a_wish_is_drawn_small_first_and_then_larger_until_the_last():
    with Studio() as studio:
        studio.loop.wish("me", wish())
        until(lambda: studio.pictures and studio.pictures[-1][2])
    widths = [width for _, width, _ in studio.pictures]
    assert widths == sorted(set(widths))
    assert widths[0] <= 160
    assert widths[-1] == 400
    assert [is_last for *_, is_last in studio.pictures] == [False] * (len(widths) - 1) + [True]


def test_a_larger_picture_is_given_up_when_the_camera_moves_and_the_newest_wish_counts():
    with Studio() as studio:
        studio.gate.clear()
        first, last = wish(), wish(1.5)
        studio.loop.wish("me", first)
        until(lambda: studio.begun and studio.begun[-1][1] > 160)
        studio.loop.wish("me", last)
        until(lambda: studio.given_up)
        studio.gate.set()
        until(lambda: studio.pictures and studio.pictures[-1][1] == 400)
    assert studio.given_up[0][0] is first
    assert studio.begun[-1][0] is last


def test_a_camera_that_never_rests_sees_every_preview_and_nothing_larger():
    with Studio() as studio:
        for _ in range(30):
            before = len(studio.pictures)
            studio.loop.wish("me", wish())
            until(lambda before=before: len(studio.pictures) > before)
    assert max(width for _, width in studio.begun) <= 160


def test_of_wishes_that_come_faster_than_pictures_only_the_newest_is_drawn(monkeypatch):
    studio = Studio()
    wishes = [wish() for _ in range(50)]
    for one in wishes:
        studio.loop.wish("me", one)
    with studio:
        until(lambda: studio.pictures)
    assert {id(begun) for begun, _ in studio.begun} == {id(wishes[-1])}


def test_a_browser_that_goes_away_stops_what_is_drawn_for_it():
    with Studio() as studio:
        studio.gate.clear()
        studio.loop.wish("me", wish())
        until(lambda: studio.begun and studio.begun[-1][1] > 160)
        count = len(studio.pictures)
        studio.loop.forget("me")
        until(lambda: studio.given_up)
        time.sleep(0.02)
        assert len(studio.pictures) == count


def test_a_preview_for_one_browser_comes_before_a_large_picture_for_another():
    with Studio() as studio:
        studio.gate.clear()
        studio.loop.wish("me", wish())
        until(lambda: studio.begun and studio.begun[-1][1] > 160)
        studio.loop.wish("you", wish())
        until(lambda: any(key == "you" for key, *_ in studio.pictures))
        studio.gate.set()
        until(lambda: {key for key, _, is_last in studio.pictures if is_last} == {"me", "you"})


@pytest.mark.parametrize(
    ("fault", "sentence"),
    [(UserError("Block 7 cannot."), "Block 7 cannot."), (ZeroDivisionError("oh"), "cannot be drawn .*oh")],
)
def test_what_goes_wrong_is_said_and_the_next_wish_is_drawn(fault, sentence):
    with Studio() as studio:
        studio.fault = fault
        studio.loop.wish("me", wish())
        until(lambda: studio.failures)
        assert studio.pictures == []
        studio.loop.wish("me", wish())
        until(lambda: studio.pictures)
    ((key, message),) = studio.failures
    assert key == "me"
    assert re.search(sentence, message)


def test_news_draw_the_pictures_again(monkeypatch):
    monkeypatch.setattr(loop_module, "REFRESH_S", 0.01)
    with Studio() as studio:
        studio.loop.wish("me", wish())
        until(lambda: studio.pictures and studio.pictures[-1][2])
        before = len(studio.pictures)
        studio.news.set()
        until(lambda: len(studio.pictures) >= 2 * before)


def test_stopping_gives_up_what_is_drawn():
    studio = Studio()
    with studio:
        studio.gate.clear()
        studio.loop.wish("me", wish())
        until(lambda: studio.begun and studio.begun[-1][1] > 160)
        studio.loop.stop()
        assert studio.given_up
        studio.loop.stop = lambda: None


def test_widths_follow_the_machines_speed():
    fast, slow = 1e9, 1e3
    assert preview_width(fast, 1.5, 960) == 160
    assert preview_width(slow, 1.5, 960) == 80
    assert preview_width(fast, 1.5, 64) == 64
    assert later_widths(160, fast, 1.5, 960) == [960]
    assert later_widths(80, slow, 1.5, 960) == [160, 960]
    assert later_widths(64, fast, 1.5, 64) == []
    in_time = later_widths(160, 100_000.0, 1.5, 960)
    assert in_time[-1] == 960
    assert in_time[0] ** 2 / 1.5 / 100_000 == pytest.approx(1.5, rel=0.01)
    assert later_widths(160, 100_000.0, 1.5, 170) == [170]
    assert later_widths(160, 100_000.0, 1.5, 510) == [510]


def test_larger_pictures_that_were_fast_are_tried_larger_the_next_time():
    """Drawing a picture of any width takes as long: the larger, the more pixels a second."""
    with Studio(max_width=4000) as studio:
        studio.seconds = 0.1
        studio.loop.wish("me", wish())
        until(lambda: studio.pictures and studio.pictures[-1][2])
        first = [width for _, width, _ in studio.pictures]
        studio.pictures.clear()
        studio.loop.wish("me", wish(1.01))
        until(lambda: studio.pictures and studio.pictures[-1][2])
    second = [width for _, width, _ in studio.pictures]
    assert first[-1] == second[-1] == 4000
    assert len(first) > len(second) == 2


def test_no_picture_has_more_pixels_than_a_square_of_the_largest_width():
    """Whatever a window's sides: one that is a thousand times as high as wide asked for terabytes."""
    for aspect in (1 / 32, 0.1, 0.5, 1.0, 1.5, 32.0):
        width = widest(aspect, 400)
        assert 1 <= width <= 400
        assert Viewpoint(POSE, 1.0, aspect).camera(width).height * width <= 1.1 * 400**2
    for aspect in (1e-6, -1.0, 0.0, float("nan"), float("inf")):
        with pytest.raises(UserError, match="times as wide as high"):
            wish(aspect)
    for fov in (0.0, -1.0, 3.2, float("nan")):
        with pytest.raises(UserError, match="field of view"):
            Viewpoint(POSE, fov, 1.0)


@pytest.mark.parametrize("part", ["draw", "show", "fail", "refresh"])
def test_whatever_goes_wrong_the_thread_goes_on(part, caplog, monkeypatch):
    monkeypatch.setattr(loop_module, "REFRESH_S", 0.01)
    with Studio() as studio:
        faults = [RuntimeError("broken"), MemoryError(), ZeroDivisionError(), KeyError("gone")]

        def broken(*_):
            if faults:
                raise faults.pop()
            return getattr(studio, part)(*_)

        setattr(studio.loop, f"_{part}", broken)
        if part == "fail":
            studio.fault = RuntimeError("of a picture")
        for key in range(6):
            studio.loop.wish(key, wish())
        until(lambda: (5, 400, True) in studio.pictures or part == "fail")
        studio.loop.wish("last", wish())
        until(lambda: any(key == "last" and is_last for key, _, is_last in studio.pictures))
        assert studio.loop._thread.is_alive()
    assert "Traceback" in caplog.text or part == "fail"
