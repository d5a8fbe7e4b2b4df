"""The format of a photograph, by content and not by ending: how to open or rewrite it, or why that is impossible."""

import importlib
import importlib.util
from functools import cache
from pathlib import Path
from typing import Any

from PIL import ExifTags, Image, UnidentifiedImageError

_JPEG = {"quality": 97, "subsampling": 0}
_ANEW: dict[str, tuple[str, dict[str, Any]]] = {
    "JPEG": ("JPEG", _JPEG),
    "MPO": ("JPEG", _JPEG),
    "PNG": ("PNG", {}),
    "TIFF": ("TIFF", {"compression": "tiff_adobe_deflate"}),
    "WEBP": ("WEBP", {"lossless": True, "exact": True}),
}
"""How to rewrite pixels of a format: without visible loss, or without loss."""
_NEEDS_A_PLUGIN = ("HEIF",)
_LOSSY = ("AVIF", "HEIF")
_HEIC_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
_HOW_STORED = (
    254,
    256,
    257,
    258,
    259,
    262,
    266,
    273,
    277,
    278,
    279,
    284,
    317,
    320,
    322,
    323,
    324,
    325,
    330,
    338,
    339,
    347,
    512,
    513,
    514,
    529,
    530,
    531,
    532,
    34675,
)
"""Tags of TIFF that describe its strips and samples, not the photograph."""
HEIC_ENDINGS = (".heic", ".heif", ".hif")
HOW_HEIC_IS_READ = "pip install pillow-heif reads it, or convert it to .jpg with its EXIF"


@cache
def reads_heic() -> bool:
    """Whether pillow-heif is installed; Pillow opens HEIC from then on."""
    if importlib.util.find_spec("pillow_heif") is None:
        return False
    importlib.import_module("pillow_heif").register_heif_opener()
    return True


def is_read_everywhere(image: Image.Image) -> bool:
    """Whether Pillow alone, without a plugin, can read the file."""
    return image.format not in _NEEDS_A_PLUGIN


def format_anew(image: Image.Image) -> tuple[str, str | None, dict[str, Any]]:
    """The format for writing its pixels, the ending that it needs (None: unchanged), and options."""
    if image.format in _ANEW:
        kind, options = _ANEW[image.format]
        return kind, None, options
    if image.format in _LOSSY and image.mode in ("RGB", "L"):
        return "JPEG", ".jpg", _JPEG
    return "PNG", ".png", {}


def exif_anew(image: Image.Image) -> Image.Exif:
    """EXIF for pixels that are written upright: without tags about how they were stored."""
    exif = image.getexif()
    for tag in (*_HOW_STORED, ExifTags.Base.Orientation):
        exif.pop(tag, None)
    return exif


def why_unreadable(path: Path, error: Exception) -> str:
    """The reason for an error of Pillow, in the same words for all files with that reason."""
    try:
        with path.open("rb") as file:
            head = file.read(16)
    except OSError as problem:
        return f"cannot be read ({problem.strerror})"
    if not head:
        return "is empty"
    if not isinstance(error, UnidentifiedImageError):
        return f"cannot be read as an image ({error})"
    if head[4:8] == b"ftyp":
        if head[8:12] in _HEIC_BRANDS:
            return f"is a HEIC picture: {HOW_HEIC_IS_READ}"
        is_avif = head[8:12] in (b"avif", b"avis")
        return "is AVIF, which this Pillow does not read" if is_avif else "is a video by its content"
    return "cannot be read as an image (of no kind that is known)"
