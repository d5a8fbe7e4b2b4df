"""`blocknerf export WHAT OUT`: what was learned, for other programs; each WHAT in a file of its own."""

from typing import Annotated

import tyro
from tyro.conf import subcommand

from blocknerf.cli.export_blocks import export_blocks
from blocknerf.cli.export_cameras import export_cameras

What = (
    Annotated[None, subcommand("cameras", constructor=export_cameras)]
    | Annotated[None, subcommand("blocks", constructor=export_blocks)]
)


def export(what: Annotated[What, tyro.conf.arg(name="")]) -> None:
    """Writes what was learned in files of other programs. `blocknerf export WHAT --help` tells of each.

    Example: blocknerf export cameras out --format transforms
    """
