"""The rendering thread: draws the newest request of every browser, small at first, then as large as time allows.

Only this thread uses blocks, because kernels share their threads.
"""

import math
import threading
import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field

from blocknerf.core.errors import UserError
from blocknerf.core.logging import log
from blocknerf.viewer.drawing import Drawn, KeepGoing
from blocknerf.viewer.render_request import RenderRequest

PREVIEW_PX, SMALLEST_PX = 160, 80
PREVIEW_S, FULL_S = 0.2, 1.5
LARGER, AT_ONCE = 1.25, 1.1
"""A next picture must be wider by this factor. The largest is drawn at once if it is hardly wider."""
REST_S = 0.1
"""A camera rests when it has not moved for this long; then larger pictures start."""
REFRESH_S = 1.0
GUESSED_PX_PER_S = 150_000.0
"""Speed before anything has been drawn: two blocks on two cores."""


@dataclass(frozen=True, slots=True)
class RenderedFrame:
    """A picture for a browser; `is_last` if no larger one of the same request follows."""

    drawn: Drawn
    seconds: float
    is_last: bool


@dataclass(slots=True)
class _Pending:
    """A request and the widths still to draw; None: the first picture determines them."""

    wish: RenderRequest
    number: int
    widths: list[int] = field(default_factory=list)
    is_begun: bool = False
    px_per_s: float = GUESSED_PX_PER_S
    since_s: float = field(default_factory=time.monotonic)


class RenderLoop:
    """Draws for any number of browsers, each known by a key. Its methods may be called from any thread.

    A preview is always finished, so that a moving camera sees something. Larger pictures are cancelled as soon as their
    browser requests something else or leaves, or another browser waits for a preview.
    """

    def __init__(
        self,
        draw: Callable[[RenderRequest, int, KeepGoing], Drawn | None],
        show: Callable[[Hashable, RenderedFrame], None],
        fail: Callable[[Hashable, str], None],
        refresh: Callable[[], bool],
        start: Callable[[], None],
        max_width: int,
    ):
        """`draw`, `refresh` and `start` (before anything else) are called in the thread, and so are `show` and `fail`.

        `refresh` is asked every second whether there is something new, after which all pictures are drawn again. If any
        of them raises, the thread continues; the error appears once in the log, and on the page of the picture.
        """
        self._draw, self._show, self._fail, self._refresh, self._start = draw, show, fail, refresh, start
        self._max_width = max_width
        self._pending: dict[Hashable, _Pending] = {}
        self._latest: dict[Hashable, RenderRequest] = {}
        self._condition = threading.Condition()
        self._is_stopped = False
        self._numbers = 0
        self._px_per_s = GUESSED_PX_PER_S
        self._gain = 1.0  # by how much larger pictures have more pixels a second than their previews
        self._refreshed_s = time.monotonic()
        self._logged: set[tuple[str, type]] = set()
        self._thread = threading.Thread(target=self._run, name="render", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Ends the thread and cancels its picture."""
        with self._condition:
            self._is_stopped = True
            self._condition.notify()
        self._thread.join()

    def wish(self, key: Hashable, wish: RenderRequest) -> None:
        """Replaces the request of that browser."""
        with self._condition:
            self._put(key, wish)
            self._condition.notify()

    def forget(self, key: Hashable) -> None:
        """Removes the request of that browser."""
        with self._condition:
            self._pending.pop(key, None)
            self._latest.pop(key, None)

    def _put(self, key: Hashable, wish: RenderRequest) -> None:
        self._numbers += 1
        self._latest[key] = wish
        waiting = self._pending.get(key)
        number = waiting.number if waiting is not None and not waiting.is_begun else self._numbers
        self._pending[key] = _Pending(wish, number)

    def _run(self) -> None:
        self._safely("could not prepare its threads", self._start)
        while (turn := self._next()) is not None:
            if time.monotonic() - self._refreshed_s > REFRESH_S:
                self._refreshed_s = time.monotonic()
                self._safely("could not look for new blocks", self._look_for_news)
            if turn:
                self._turn(*turn)

    def _turn(self, key: Hashable, pending: _Pending) -> None:
        trouble = self._safely("could not draw a picture", lambda: self._draw_one(key, pending))
        if trouble is not None:
            sentence = f"This picture cannot be drawn ({trouble!r:.200}); the console says more."
            self._safely("could not tell a page so", lambda: self._give_up(key, pending, sentence))

    def _safely(self, what: str, act: Callable[[], None]) -> Exception | None:
        """Calls it; an exception is logged once per kind and returned, so that the thread continues."""
        try:
            act()
        except Exception as error:
            if (what, type(error)) not in self._logged:
                log.exception("The viewer %s.", what)
            self._logged.add((what, type(error)))
            return error
        return None

    def _next(self) -> tuple[Hashable, _Pending] | tuple[()] | None:
        """The next browser: previews first, then the one that has waited longest; () for none, None at the end."""
        with self._condition:
            if not self._pending and not self._is_stopped:
                self._condition.wait(REFRESH_S)
            if self._is_stopped:
                return None
            turns = sorted(self._pending.items(), key=lambda item: (item[1].is_begun, item[1].number))
            if not turns:
                return ()
            moving_s = REST_S - (time.monotonic() - turns[0][1].since_s)
            if turns[0][1].is_begun and moving_s > 0:
                self._condition.wait(moving_s)
                return ()
            return turns[0]

    def _draw_one(self, key: Hashable, pending: _Pending) -> None:
        aspect = pending.wish.viewpoint.aspect
        max_width = widest(aspect, self._max_width)
        width = pending.widths[0] if pending.is_begun else preview_width(self._px_per_s, aspect, max_width)
        was_preview, pending.is_begun = not pending.is_begun, True
        begin_s = time.perf_counter()
        try:
            drawn = self._draw(pending.wish, width, lambda: self._is_wanted(key, pending, was_preview))
        except UserError as error:
            self._give_up(key, pending, str(error))
            return
        seconds = time.perf_counter() - begin_s
        if drawn is None:
            return
        px_per_s = width * width / aspect / max(seconds, 1e-6)
        if was_preview:
            self._px_per_s = pending.px_per_s = px_per_s
            pending.widths = later_widths(width, self._gain * px_per_s, aspect, max_width)
        else:
            self._gain = px_per_s / pending.px_per_s
            pending.widths = pending.widths[1:]
        with self._condition:
            if not pending.widths and self._pending.get(key) is pending:
                del self._pending[key]
            is_known = key in self._latest
        if is_known:
            self._show(key, RenderedFrame(drawn, seconds, not pending.widths))

    def _is_wanted(self, key: Hashable, pending: _Pending, is_preview: bool) -> bool:
        with self._condition:
            if self._is_stopped or key not in self._latest:
                return False
            if is_preview:
                return True
            others_wait = any(not other.is_begun for other in self._pending.values())
            return self._pending.get(key) is pending and not others_wait

    def _give_up(self, key: Hashable, pending: _Pending, sentence: str) -> None:
        with self._condition:
            if self._pending.get(key) is pending:
                del self._pending[key]
        self._fail(key, sentence)

    def _look_for_news(self) -> None:
        try:
            if not self._refresh():
                return
        except UserError as error:
            for key in list(self._latest):
                self._fail(key, str(error))
            return
        with self._condition:
            for key, wish in self._latest.items():
                self._put(key, wish)


def widest(aspect: float, max_width: int) -> int:
    """`max_width`; for a window that is higher than wide, the width with as many pixels as a square of that side."""
    return max(1, min(max_width, int(max_width * math.sqrt(aspect))))


def preview_width(pixels_per_s: float, aspect: float, max_width: int) -> int:
    """PREVIEW_PX, or less if that takes longer than PREVIEW_S, but at least SMALLEST_PX."""
    return min(max(min(PREVIEW_PX, _width_in(PREVIEW_S, pixels_per_s, aspect)), SMALLEST_PX), max_width)


def later_widths(drawn: int, pixels_per_s: float, aspect: float, max_width: int) -> list[int]:
    """Widths after a preview of width `drawn`: PREVIEW_PX, what takes FULL_S, `max_width`; if they are worth it."""
    full = max(_width_in(FULL_S, pixels_per_s, aspect), PREVIEW_PX)
    if AT_ONCE * full > max_width:
        full = max_width
    widths = []
    for width in sorted({min(PREVIEW_PX, max_width), full, max_width}):
        if width >= LARGER * drawn or (width == max_width and width > drawn):
            widths.append(width)
            drawn = width
    return widths


def _width_in(seconds: float, pixels_per_s: float, aspect: float) -> int:
    return int(math.sqrt(pixels_per_s * seconds * aspect))
