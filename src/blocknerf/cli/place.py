"""A folder, a state of its blocks and a device, as arguments of commands."""

from pathlib import Path
from typing import Annotated

import tyro

Place = Annotated[str | Path, tyro.conf.arg(metavar="FOLDER|URL")]
"""A path, or a URL that fsspec can reach. (The type Path would drop one of a URL's two slashes.)"""
State = Annotated[str, tyro.conf.arg(metavar="latest|best|FILE.json")]
"""Which state of each block a city shows (see `city.states.state_files`)."""
Device = Annotated[str, tyro.conf.arg(metavar="auto|cpu|cuda[:N]")]
"""Where a command computes (see `runtime.devices.devices_of`)."""
