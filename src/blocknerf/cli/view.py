"""`blocknerf view`: the city as a page in the browser."""

import time
from pathlib import Path

import tyro

from blocknerf.cli.place import Device, Place, State
from blocknerf.core.errors import UserError
from blocknerf.core.logging import console, log


def view(
    out: tyro.conf.Positional[Path],
    port: int = 8080,
    host: str = "127.0.0.1",
    max_width: int = 960,
    data_root: Place | None = None,
    state: State = "latest",
    device: Device = "auto",
    hostname: str | None = None,
) -> None:
    """Shows the city in the browser: fly or walk through it, and see which block shows what.

    The page shows a map of blocks and photographs, and the picture as colour, depth, visibility, block weights or
    seams. It changes exposure and appearance, compares with every photograph, and records paths for `blocknerf render`.
    It follows a running training. Ctrl-C ends it. Needs viser: pip install 'blocknerf[view]'.

    Pages of other origins are refused, and so are requests under a host name that is not this machine's.

    Example: blocknerf view out --port 8081

    Args:
        out: Output folder of `blocknerf train`.
        port: Port of the page. 0 chooses a free one.
        host: Who can see it: 127.0.0.1 only this machine, 0.0.0.0 everyone who can reach it.
        max_width: Width of the largest picture, in pixels. Smaller ones come first.
        data_root: Location of the scene, if it has moved since training.
        state: Which state of each block is used: latest, best (by validation), or the JSON file of one block's state,
            such as out/blocks/003/step_000500.json, with the latest of all others.
        device: Where blocks are rendered: auto (a CUDA device if there is one), cpu, cuda or cuda:N.
        hostname: Another name of this machine that browsers use, for example behind a proxy.
    """
    if not 16 <= max_width <= 4096:
        raise UserError(f"--max-width {max_width}: give a number of pixels from 16 to 4096.")
    from blocknerf.viewer.door import LOCAL
    from blocknerf.viewer.viewer import Viewer
    from blocknerf.viewer.viser_module import EXTRA

    EXTRA.require()
    scene, absence = _scene_or_why_not(out, data_root)
    viewer = Viewer(out, scene, absence, host, port, max_width, hostname, state, device)
    try:
        console.print(f"The city is at {viewer.url}. Ctrl-C ends the viewer.", soft_wrap=True, highlight=False)
        if host not in LOCAL:
            log.warning(
                "It listens on %s: everyone who can reach this machine over the network can look, and save paths in "
                "%s, without a password or encryption. Alone, it is reached from elsewhere by ssh -L %d:localhost:%d.",
                host,
                out / "paths",
                viewer.port,
                viewer.port,
            )
        while True:
            time.sleep(1)
    finally:
        viewer.stop()


def _scene_or_why_not(out, data_root):
    """(scene, None), or (None, reason) if the city must be shown without its photographs."""
    from blocknerf.blocks.output import load_output, open_scene

    try:
        config, _ = load_output(out)
        return open_scene(out, config.dataset, data_root), None
    except UserError as error:
        if data_root is not None:
            raise
        log.warning("%s The city is shown without its photographs.", error)
        return None, str(error)
