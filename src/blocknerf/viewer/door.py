"""The door of the viewer: which browsers may connect, and which messages they may send.

Every page open in a browser on this machine can send requests to a local server, and everyone on the network if it
listens there. So pages of other origins are refused, and only messages of a few kinds pass, with finite numbers within
bounds. Code behind the door can trust messages.
"""

import asyncio
import http
import ipaddress
import logging
import math
import socket
import threading
import time
from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from blocknerf.core.extras import Extra
from blocknerf.core.logging import log
from blocknerf.viewer.render_request import LARGEST_ASPECT, LARGEST_FOV_RAD, LEAST_FOV_RAD
from blocknerf.viewer.viser_module import EXTRA, input_widget

LOCAL = ("127.0.0.1", "localhost", "::1")
MOST_BROWSERS = 64
MOST_BYTES = 64 * 1024
"""Maximum bytes of a message. A browser's longest is a few hundred; a longer one closes the connection."""
MESSAGES_PER_S, MESSAGES_AT_ONCE = 100.0, 200
"""Rate limit of one browser; beyond it, messages wait."""
LARGEST_WINDOW_PX = 16_384.0
FARTHEST = 1e6
"""Maximum distance from the origin, in units of the page: 10,000 times the size of a city."""
LONGEST_TEXT = 200
LOG_EVERY_S = 1.0

_websockets = Extra("websockets.asyncio.server", "view", "The viewer")
_msgpack = Extra("msgspec.msgpack", "view", "The viewer")


# --- what may be said -------------------------------------------------------------------------------------------------


def _within(least: float, largest: float) -> Any:
    return Field(strict=True, ge=least, le=largest, allow_inf_nan=False)


def _count(count: int) -> Any:
    return Field(min_length=count, max_length=count)


_UpToTwo = Annotated[float, _within(-2.0, 2.0)]
_Quaternion = Annotated[list[_UpToTwo], _count(4)]
_Direction = Annotated[list[_UpToTwo], _count(3)]
_Position = Annotated[list[Annotated[float, _within(-FARTHEST, FARTHEST)]], _count(3)]
_Target = Annotated[list[Annotated[float, _within(-2 * FARTHEST, 2 * FARTHEST)]], _count(3)]
_RayOrigin = Annotated[list[Annotated[float, _within(-1e9, 1e9)]], _count(3)]
_OnScreen = Annotated[list[Annotated[float, _within(-1e6, 1e6)]], _count(2)]
_Angle = Annotated[float, _within(LEAST_FOV_RAD, LARGEST_FOV_RAD)]
_Distance = Annotated[float, _within(0.0, 1e12)]
_Side = Annotated[float, _within(1.0, LARGEST_WINDOW_PX)]
_Setting = Annotated[float, _within(-1e9, 1e9)]
_Text = Annotated[str, Field(strict=True, max_length=LONGEST_TEXT)]
_Name = Annotated[str, Field(strict=True, max_length=4096)]


class _Message(BaseModel):
    model_config = ConfigDict(extra="forbid")


class _Camera(_Message):
    """Where the camera of a browser is, and how large its window."""

    type: Literal["ViewerCameraMessage"]
    wxyz: _Quaternion
    position: _Position
    fov: _Angle
    near: _Distance
    far: _Distance
    image_height: _Side
    image_width: _Side
    look_at: _Target
    up_direction: _Direction

    def fault(self) -> str | None:
        """Checks that concern several fields."""
        if not 0.5 <= math.hypot(*self.wxyz) <= 2.0:
            return "a rotation that is none"
        if not 1 / LARGEST_ASPECT <= self.image_width / self.image_height <= LARGEST_ASPECT:
            return "a window whose sides differ too much"
        return None


class _Value(_Message):
    value: Annotated[bool, Field(strict=True)] | _Setting | _Text


class _Widget(_Message):
    """A widget was set or pressed."""

    type: Literal["GuiUpdateMessage"]
    uuid: _Text
    updates: _Value


class _Click(_Message):
    """Something in the map was clicked."""

    type: Literal["SceneNodeClickMessage"]
    name: _Name
    instance_index: int | None
    ray_origin: _RayOrigin
    ray_direction: _Direction
    screen_pos: _OnScreen
    modifier: _Text | None
    owner: _Text = ""


_MESSAGES: TypeAdapter[_Camera | _Widget | _Click] = TypeAdapter(
    Annotated[_Camera | _Widget | _Click, Field(discriminator="type")]
)


class Refused(ValueError):
    """Why a message is refused; `widget` is the uuid of the widget that it would set, if any."""

    def __init__(self, reason: str, widget: str | None = None):
        super().__init__(reason)
        self.widget = widget


def read_message(raw: bytes | str) -> _Camera | _Widget | _Click:
    """A message from a browser. Raises Refused if it is not allowed."""
    if isinstance(raw, str):
        raise Refused("it is text")
    try:
        decoded = _msgpack.decode(raw)
    except (ValueError, RecursionError) as error:  # msgspec's errors are ValueErrors
        raise Refused("it is not a message") from error
    try:
        message = _MESSAGES.validate_python(decoded)
    except (ValidationError, RecursionError) as error:
        first = error.errors()[0] if isinstance(error, ValidationError) else {"loc": (), "msg": "it is too deep"}
        where = ".".join(str(part)[:40] for part in first["loc"])
        uuid = decoded.get("uuid") if isinstance(decoded, dict) else None
        raise Refused(f"{where}: {first['msg'][:120]}", uuid if isinstance(uuid, str) else None) from error
    if isinstance(message, _Camera) and (fault := message.fault()) is not None:
        raise Refused(fault)
    return message


def may_become(widget: Any, value: bool | float | str) -> bool:
    """Whether the page allows that value for a widget of viser."""
    options = getattr(widget, "options", None)
    if options is not None:
        return isinstance(value, str) and value in options
    if isinstance(widget.value, bool):
        return isinstance(value, bool)
    if isinstance(widget.value, str):
        return isinstance(value, str)
    least, largest = (getattr(widget, name, None) for name in ("min", "max"))
    return (
        not isinstance(value, bool | str)
        and (least is None or value >= least)
        and (largest is None or value <= largest)
    )


# --- who may come in --------------------------------------------------------------------------------------------------


def host_names(host: str, also: Collection[str] = ()) -> frozenset[str]:
    """Host names under which browsers may request the page; also numeric addresses if it listens beyond this machine.

    A foreign page can point its own name to this machine (DNS rebinding), but not one of these.
    """
    names = {*LOCAL, host, *also}
    if host not in LOCAL:
        machine = socket.gethostname()
        names |= {machine, socket.getfqdn(), f"{machine}.local"}
    return frozenset(name.lower().rstrip(".") for name in names)


def refusal(headers: Mapping[str, Any], names: frozenset[str], beyond: bool) -> str | None:
    """Why a request is refused, as a sentence; None if it is allowed. `beyond`: numeric addresses are allowed."""
    hosts, origins = headers.get_all("Host"), headers.get_all("Origin")  # type: ignore[attr-defined]
    if len(hosts) != 1 or len(origins) > 1:
        return "The request must have one Host, and one Origin at most."
    if not _is_own(hosts[0], names, beyond):
        return "This viewer is not known under that name. Start it with --hostname NAME to allow it."
    if origins and urlsplit(origins[0]).netloc.lower() != hosts[0].lower():
        return "A page of another origin may not look into this viewer."
    return None


def _is_own(host: str, names: frozenset[str], beyond: bool) -> bool:
    try:
        name = (urlsplit(f"//{host}").hostname or "").lower().rstrip(".")
    except ValueError:
        return False
    if name in names:
        return True
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        return False
    return beyond or address.is_loopback


class Door:
    """Stands before a server of viser that is made inside `with door.hung():`."""

    def __init__(self, host: str, also: Collection[str] = ()):
        """`also` are further names of this machine that browsers may use."""
        self._names, self._beyond = host_names(host, also), host not in LOCAL
        self._logged_s, self._unlogged = -math.inf, 0
        self._lock = threading.Lock()
        self._inside: dict[int, tuple[Any, Callable[[str], None]]] = {}
        self.is_hung = False

    def admit(self, client_id: int, gui: Any, tell: Callable[[str], None]) -> None:
        """From now on the widgets of that page may be set; `tell` shows rejected values on the page."""
        self._inside[client_id] = gui, tell

    def forget(self, client_id: int) -> None:
        self._inside.pop(client_id, None)

    @contextmanager
    def hung(self) -> Iterator[None]:
        """viser makes its server by `websockets.asyncio.server.serve`: inside, that is one with this door in it."""
        module = _websockets.require()
        original = module.serve

        def serve(handler: Callable[[Any], Awaitable[None]], *where: Any, **options: Any) -> Any:
            self.is_hung = True
            options |= {
                "process_request": self._before(options["process_request"]),
                "create_connection": self._connection(module.ServerConnection),
                "max_size": MOST_BYTES,
                "logger": self._logger(),
            }
            return original(handler, *where, **options)

        module.serve = serve
        try:
            yield
        finally:
            module.serve = original

    def _before(self, answer: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
        def check(connection: Any, request: Any) -> Any:
            why = refusal(request.headers, self._names, self._beyond)
            if why is not None:
                self.say(f"refused {connection.remote_address[0]}: {why}")
                return connection.respond(http.HTTPStatus.FORBIDDEN, why + "\n")
            if "Upgrade" in request.headers:
                spoken = ",".join(request.headers.get_all("Sec-WebSocket-Protocol"))
                if f"viser-v{EXTRA.require().__version__}" not in spoken:
                    return connection.respond(http.HTTPStatus.BAD_REQUEST, "Load the page anew: it is an older one.\n")
                if len(connection.server.connections) > MOST_BROWSERS:
                    self.say(f"refused a browser: {MOST_BROWSERS} are looking already.")
                    return connection.respond(http.HTTPStatus.SERVICE_UNAVAILABLE, "Too many browsers are looking.\n")
            return answer(connection, request)

        return check

    def _connection(self, base: type) -> type:
        door = self

        class Connection(base):
            """Passes on allowed messages at the rate limit; the rest stays in the network's queues."""

            _allowed, _counted_s = float(MESSAGES_AT_ONCE), -math.inf

            async def recv(self, decode: bool | None = None) -> Any:
                while True:
                    raw = await super().recv(decode)
                    await self._pace()
                    if door.lets_in(raw):
                        return raw

            async def _pace(self) -> None:
                now = time.monotonic()
                self._allowed = min(MESSAGES_AT_ONCE, self._allowed + (now - self._counted_s) * MESSAGES_PER_S) - 1
                self._counted_s = now
                if self._allowed < 0:
                    await asyncio.sleep(-self._allowed / MESSAGES_PER_S)

        return Connection

    def lets_in(self, raw: bytes | str) -> bool:
        """Whether viser may have the message; otherwise logs the reason, and shows it on the page of the widget."""
        try:
            message = read_message(raw)
        except Refused as refused:
            self.say(f"dropped what a browser sent: {refused}")
            if refused.widget is not None:
                self._tell_whose(refused.widget, "what it was set to is no value that the page knows")
            return False
        if not isinstance(message, _Widget):
            return True
        widget, value = self._widget(message.uuid), message.updates.value
        if widget is None:
            return False
        if not may_become(widget, value):
            self._tell_whose(message.uuid, f"the page does not offer {str(value)[:40]!r}")
            return False
        return True

    def _widget(self, uuid: str) -> Any | None:
        found = (input_widget(gui, uuid) for gui, _ in list(self._inside.values()))
        return next((widget for widget in found if widget is not None), None)

    def _tell_whose(self, uuid: str, why: str) -> None:
        for gui, tell in list(self._inside.values()):
            widget = input_widget(gui, uuid)
            if widget is not None:
                tell(f"{getattr(widget, 'label', 'That')!s} stays as it was: {why}.")

    def say(self, what: str) -> None:
        """A line in the log, at most one per second; the next one has the number of suppressed lines."""
        with self._lock:
            now = time.monotonic()
            if now - self._logged_s < LOG_EVERY_S:
                self._unlogged += 1
                return
            more = f" ({self._unlogged} more since)" if self._unlogged else ""
            self._logged_s, self._unlogged = now, 0
        log.warning("The viewer %s%s", what[:300], more)

    def _logger(self) -> logging.Logger:
        """For websockets: logs broken connections in one line, like everything at the door."""
        door = self

        class Handler(logging.Handler):
            def emit(self, record: logging.LogRecord) -> None:
                cause = f" ({record.exc_info[1]!r})" if record.exc_info and record.exc_info[1] else ""
                door.say(f"lost a connection: {record.getMessage()}{cause}")

        logger = logging.Logger("blocknerf.viewer.door", logging.ERROR)
        logger.addHandler(Handler())
        return logger
