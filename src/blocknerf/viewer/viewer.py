"""The viewer: a web server on this machine, a rendering thread, and a page for each browser."""

import contextlib
import errno
import io
import socket
from collections.abc import Hashable
from pathlib import Path

from blocknerf.city.states import LATEST
from blocknerf.core.errors import UserError
from blocknerf.core.logging import log
from blocknerf.geometry.spline import rotations_of
from blocknerf.runtime.cores import available_cores
from blocknerf.runtime.devices import CPU
from blocknerf.runtime.threads import use_threads
from blocknerf.scene.scene import Scene
from blocknerf.scene.trajectories import NO_TRAJECTORIES, Trajectories
from blocknerf.viewer.city_watcher import CityWatcher
from blocknerf.viewer.door import Door
from blocknerf.viewer.drawing import Drawn, KeepGoing, draw
from blocknerf.viewer.loop import RenderedFrame, RenderLoop
from blocknerf.viewer.map import first_view
from blocknerf.viewer.page import Page
from blocknerf.viewer.page_frame import PageFrame
from blocknerf.viewer.photographs import Photographs
from blocknerf.viewer.render_request import RenderRequest
from blocknerf.viewer.viser_module import viser

_WARMING_UP = "warming up"


class Viewer:
    """Open from its construction until `stop`."""

    def __init__(
        self,
        out: Path,
        scene: Scene | None,
        absence: str | None = None,
        host: str = "127.0.0.1",
        port: int = 8080,
        max_width: int = 960,
        hostname: str | None = None,
        state: str = LATEST,
        device: str = CPU,
    ):
        """`scene` has cameras and photographs; without it, `absence` says why, and the city is shown without them.

        `hostname` is another name of this machine under which browsers may request the page (see door.py). Port 0 is
        any free one. `state` of each block and `device`: see `City.open`. Raises UserError if nothing has been trained
        yet, or the port is not available.
        """
        self._out, self._scene, self._absence, self._max_width = out, scene, absence, max_width
        self._newest = CityWatcher(out, state, device)
        self._trajectories = NO_TRAJECTORIES if scene is None else Trajectories.of(scene.images)
        self._photographs = None if scene is None else Photographs(scene)
        self._pages: dict[Hashable, Page] = {}
        port = _free_port(host, port)
        self._door = Door(host, () if hostname is None else (hostname,))
        self._server = _serve(host, port, self._door)
        start = first_view(self._newest.city, scene, 16 / 9)
        self._loop = RenderLoop(self._draw, self._show, self._fail, self._refresh, self._take_threads, max_width)
        self._loop.start()
        self._loop.wish(_WARMING_UP, RenderRequest(start))
        wxyz, position = PageFrame.of(self._newest.city.manifest, scene).place(start.world_from_cam)
        self._server.initial_camera.position = position
        self._server.initial_camera.look_at = position + rotations_of(wxyz[None])[0][:, 2]
        self._server.initial_camera.fov = start.fov_y_rad
        self.port = port
        self.url = f"http://{'[' + host + ']' if ':' in host else host}:{port}"
        self._server.on_client_connect(self._arrived)
        self._server.on_client_disconnect(self._left)

    def stop(self) -> None:
        self._loop.stop()
        with contextlib.redirect_stdout(io.StringIO()):
            self._server.stop()

    def _draw(self, wish: RenderRequest, width: int, keep_going: KeepGoing) -> Drawn | None:
        return draw(self._newest.city, self._photographs, wish, width, keep_going)

    def _show(self, key: Hashable, frame: RenderedFrame) -> None:
        page = self._pages.get(key)
        if page is None:
            self._loop.forget(key)
        else:
            page.show(frame)

    def _fail(self, key: Hashable, sentence: str) -> None:
        page = self._pages.get(key)
        if page is None:
            log.warning("%s", sentence)
            self._loop.forget(key)
        else:
            page.fail(sentence)

    def _refresh(self) -> bool:
        is_new = self._newest.refresh()
        if is_new:
            for page in list(self._pages.values()):
                page.city_changed(self._newest.city)
        return is_new

    def _take_threads(self) -> None:
        use_threads(available_cores(), self._newest.city.worker)

    def _arrived(self, client: "viser.ClientHandle") -> None:
        key = client.client_id

        def wants(wish: RenderRequest | None) -> None:
            if wish is None:
                self._loop.forget(key)
            else:
                self._loop.wish(key, wish)

        self._door.admit(key, client.gui, lambda sentence: self._fail_page(key, sentence))
        try:
            self._pages[key] = Page(
                client, self._out, self._newest.city, self._scene, self._trajectories, self._absence, wants
            )
        except Exception:
            log.exception("The viewer could not make the page of a browser.")

    def _fail_page(self, key: Hashable, sentence: str) -> None:
        page = self._pages.get(key)
        if page is not None:
            page.fail(sentence)

    def _left(self, client: "viser.ClientHandle") -> None:
        self._door.forget(client.client_id)
        self._pages.pop(client.client_id, None)
        self._loop.forget(client.client_id)


def _serve(host: str, port: int, door: Door) -> "viser.ViserServer":
    """viser takes the next port if one is in use, and prints its address in its own words."""
    with contextlib.redirect_stdout(io.StringIO()), door.hung():
        server = viser.ViserServer(host, port, label="blocknerf", verbose=False)
    if server.get_port() != port:
        server.stop()
        raise _in_use(host, port)
    if not door.is_hung:
        server.stop()
        raise UserError(
            "This version of viser serves in another way than is known here: pip install 'blocknerf[view]'."
        )
    server.gui.configure_theme(show_logo=False, show_share_button=False)
    server.gui.main_panel.dock_right()
    return server


def _free_port(host: str, port: int) -> int:
    """`port`, or for 0 a free one. Raises UserError if it is in use or `host` is not an address of this machine."""
    if not 0 <= port < 65536:
        raise UserError(f"--port {port}: give a number from 1 to 65535, or 0 for any free one.")
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as trial:
            trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            trial.bind(address)
            return trial.getsockname()[1]
    except PermissionError as error:
        raise UserError(f"Port {port} is reserved for the system. Give a port from 1024 on with --port.") from error
    except (OSError, UnicodeError) as error:  # a host that nobody knows is an OSError too
        if getattr(error, "errno", None) == errno.EADDRINUSE:
            raise _in_use(host, port) from error
        raise UserError(
            f"--host {host!r} is not an address of this machine ({error}). Leave it out, or try 0.0.0.0."
        ) from error


def _in_use(host: str, port: int) -> UserError:
    return UserError(f"Port {port} of {host} is in use, perhaps by another viewer. Give another one with --port, or 0.")
