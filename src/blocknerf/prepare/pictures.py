"""The pictures for COLMAP: each under a plain name, in a format that it reads as Pillow does.

COLMAP's lists separate names at blanks and treat # as a comment, and it knows fewer formats than Pillow.
"""

from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from blocknerf.core import disk
from blocknerf.core.files import write_atomically, write_picture
from blocknerf.core.progress import bar
from blocknerf.prepare.shots import CapturedImage
from blocknerf.scene.photographs import opened_picture, read_rgb

_ENDINGS = {"JPEG": ".jpg", "MPO": ".jpg", "PNG": ".png", "BMP": ".bmp", "TIFF": ".tif"}
_TIFF_COMPRESSIONS = ("raw", "tiff_lzw", "tiff_adobe_deflate")


def lay_out_pictures(shots: Sequence[CapturedImage], images: Path, folder: Path) -> dict[str, str]:
    """Refills `folder` with links, or copies for pictures of another format; returns plain names by name."""
    disk.remove_tree(folder)
    plain = {}
    with bar("Laying out pictures", len(shots)) as progress:
        for number, shot in enumerate(shots):
            plain[shot.name] = _lay_out(images / shot.name, folder / f"{number:06d}").name
            progress.advance()
    return plain


def _lay_out(path: Path, stem: Path) -> Path:
    with opened_picture(path) as image:
        ending = _ENDINGS.get(image.format or "") if _is_plain(image) else None
    target = stem.with_suffix(ending or ".png")
    if ending is None:
        write_picture(target, read_rgb(path), "PNG", compress_level=1)
    else:
        link(path, target)
    return target


def _is_plain(image: Image.Image) -> bool:
    if image.format == "TIFF" and image.info.get("compression") not in _TIFF_COMPRESSIONS:
        return False
    return image.mode in ("RGB", "L") and not image.has_transparency_data


def link(path: Path, target: Path) -> None:
    """The same file at `target`; no bytes are copied within one file system."""
    if target.is_file() and path.samefile(target):
        return

    def put(temporary: Path) -> None:
        try:
            disk.link(path.resolve(), temporary)
        except OSError:  # another file system, or one without links
            disk.copy(path, temporary)

    write_atomically(target, put)
