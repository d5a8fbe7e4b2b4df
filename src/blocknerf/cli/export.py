"""`blocknerf export WHAT OUT`: files for other programs; each WHAT is in a separate module."""

from typing import Annotated

import tyro
from tyro.conf import subcommand

from blocknerf.cli.export_blocks import export_blocks
from blocknerf.cli.export_cameras import export_cameras
from blocknerf.cli.export_depth import export_depth
from blocknerf.cli.export_mesh import export_mesh
from blocknerf.cli.export_orthophoto import export_orthophoto
from blocknerf.cli.export_points import export_points
from blocknerf.cli.export_splats import export_splats
from blocknerf.cli.help import flowing

What = (
    Annotated[None, subcommand("cameras", constructor=flowing(export_cameras))]
    | Annotated[None, subcommand("points", constructor=flowing(export_points))]
    | Annotated[None, subcommand("mesh", constructor=flowing(export_mesh))]
    | Annotated[None, subcommand("depth", constructor=flowing(export_depth))]
    | Annotated[None, subcommand("orthophoto", constructor=flowing(export_orthophoto))]
    | Annotated[None, subcommand("blocks", constructor=flowing(export_blocks))]
    | Annotated[None, subcommand("splats", constructor=flowing(export_splats))]
)


def export(what: Annotated[What, tyro.conf.arg(name="")]) -> None:
    """Writes what was learned as files for other programs. `blocknerf export WHAT --help` describes each.

    For example:
      # The surface for a 3D program
      $ blocknerf export mesh out --out street.glb
      # Splats for a splat viewer
      $ blocknerf export splats out --out city.spz
      # Refined poses for another trainer
      $ blocknerf export cameras out --format transforms
    """
