"""Pictures marked as made by blocknerf: only these may be removed or replaced."""

import contextlib
from pathlib import Path

from PIL import Image
from PIL.PngImagePlugin import PngImageFile, PngInfo

from blocknerf.core.files import write_picture

_MADE_BY = ("Software", "blocknerf")


def write_own_png(path: Path, picture: Image.Image) -> None:
    """Writes a picture that `is_own_png` recognises."""
    about = PngInfo()
    about.add_text(*_MADE_BY)
    write_picture(path, picture, "PNG", pnginfo=about)


def is_own_png(path: Path) -> bool:
    """Whether `write_own_png` made the file. Only its beginning is read."""
    key, name = _MADE_BY
    with contextlib.suppress(OSError, ValueError, SyntaxError), Image.open(path, formats=["png"]) as image:
        return isinstance(image, PngImageFile) and not path.is_symlink() and image.info.get(key) == name
    return False
