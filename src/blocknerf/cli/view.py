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
    """Opens the city as a page in the browser: fly or walk through it, and see which block shows what.

    The page has a map of blocks and photographs, the picture as colour, depth, visibility, weights of blocks or their
    seams, exposure and appearance, a comparison with every photograph, and records paths for `blocknerf render`. It
    follows a training that still runs. Ctrl-C ends it. Needs viser: pip install 'blocknerf[view]'.

    Pages of other origins are refused, and so is whoever asks under a name that is not this machine's.

    Example: blocknerf view out --port 8081

    Args:
        out: Output folder of `blocknerf train`.
        port: Where the page is; 0: any free port.
        host: Who may see it: 127.0.0.1 this machine alone, 0.0.0.0 everyone who can reach it.
        max_width: Width of the largest picture in pixels. Smaller ones come first, in so much time as there is.
        data_root: Where the scene lies now, if it has moved since training.
        state: Which state of each block: latest, best (in validation), or the JSON of one block's state, as in
            out/blocks/003/step_000500.json, beside the latest of all others.
        device: Where blocks are rendered: auto (a CUDA device where there is one), cpu, cuda or cuda:N.
        hostname: A further name of this machine that browsers use, as behind a proxy.
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
                *(host, out / "paths", viewer.port, viewer.port),
            )
        while True:
            time.sleep(1)
    finally:
        viewer.stop()


def _scene_or_why_not(out, data_root):
    """The city is shown without its scene as well; then a sentence says what is missing."""
    from blocknerf.blocks.output import load_output, open_scene

    try:
        config, _ = load_output(out)
        return open_scene(out, config.dataset, data_root), None
    except UserError as error:
        if data_root is not None:
            raise
        log.warning("%s The city is shown without its photographs.", error)
        return None, str(error)
