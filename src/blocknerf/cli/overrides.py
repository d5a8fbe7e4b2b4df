"""Configuration keys as arguments of commands."""

from typing import Annotated

import tyro

Overrides = tyro.conf.Positional[Annotated[tuple[str, ...], tyro.conf.arg(metavar="[SECTION.KEY=VALUE ...]")]]
"""Single values; they override those of the file."""
