"""Keys of the configuration as commands are given them."""

from typing import Annotated

import tyro

Overrides = tyro.conf.Positional[Annotated[tuple[str, ...], tyro.conf.arg(metavar="[SECTION.KEY=VALUE ...]")]]
"""Single values; they win over those of the file."""
