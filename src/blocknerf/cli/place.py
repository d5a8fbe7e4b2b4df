"""A folder as commands are given it."""

from pathlib import Path
from typing import Annotated

import tyro

Place = Annotated[str | Path, tyro.conf.arg(metavar="FOLDER|URL")]
"""A path, or a URL that fsspec reaches; a path alone would lose one of a URL's two slashes."""
