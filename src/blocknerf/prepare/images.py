"""The first stage: pictures come into the scene's image folder, upright, and their headers are read."""

import contextlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image, ImageOps

from blocknerf.core import disk
from blocknerf.core.errors import UserError
from blocknerf.core.files import write_atomically, write_picture
from blocknerf.core.logging import log
from blocknerf.core.progress import bar
from blocknerf.prepare.gather import Sources
from blocknerf.prepare.shots import Shot, is_upright, shot_of, size_upright
from blocknerf.prepare.video import duration_of, sharpest_frames, write_jpeg
from blocknerf.scene.orientation import Orientation, exif_orientation
from blocknerf.scene.photographs import DECODE_ERRORS
from blocknerf.scene.readers.candidates import list_by_reason
from blocknerf.scene.readers.masks import MASK_FOLDER

IMAGE_FOLDER = "images"
_QUALITY = 97


def bring_images(sources: Sources, out: Path, interval_s: float, each_its_camera: bool) -> list[Shot]:
    """Fills OUT/images (and OUT/masks where there are masks) and returns what is known of each picture, by name.

    Photographs are linked where the file system can, else copied; those that EXIF wants turned are written upright.
    Of videos the sharpest frame of every `interval_s` is written. Pictures of an earlier run that are not wanted any
    more are removed. Raises UserError when fewer than two pictures can be used.
    """
    shots, unusable = [], []
    with bar("Looking at photographs", len(sources.photographs)) as progress:
        for path in sources.photographs:
            try:
                shots.append(_bring_photograph(path, sources, out))
            except DECODE_ERRORS as error:
                unusable.append((sources.name(path), f"cannot be read as an image ({error})"))
            progress.advance()
    for path in sources.videos:
        shots += _bring_video(path, sources, out, interval_s)
    if unusable:
        log.warning("%d of %d photographs are left out: %s.", len(unusable), len(sources.photographs),
                    list_by_reason(tuple(unusable)))  # fmt: skip
    if len(shots) < 2:
        raise UserError(f"{sources.root} gives {len(shots)} usable pictures; at least 2 are needed, and better 20.")
    _remove_others(out / IMAGE_FOLDER, {shot.name for shot in shots})
    if each_its_camera:
        shots = [replace(shot, camera=shot.name) for shot in shots]
    return sorted(shots, key=lambda shot: shot.name)


def _bring_photograph(path: Path, sources: Sources, out: Path) -> Shot:
    name = sources.name(path)
    with Image.open(path) as image:
        shot = shot_of(image, name, _folder(name))
        upright = is_upright(image)
        if not upright:
            turned = ImageOps.exif_transpose(image)
            target = out / IMAGE_FOLDER / name
            kind = {"quality": _QUALITY, "subsampling": 0} if image.format == "JPEG" else {}
            write_picture(target, turned, image.format or "PNG", exif=turned.getexif(), **kind)
    if upright:
        _link(path, out / IMAGE_FOLDER / name)
    _bring_mask(path, sources, out, name)
    return shot


def _bring_mask(path: Path, sources: Sources, out: Path, name: str) -> None:
    """Links the mask of a photograph, upright like it, to where the reader of scenes looks for it."""
    mask = _mask_of(path, sources)
    if mask is None:
        return
    target = out / MASK_FOLDER / f"{name}.png"
    if mask.resolve() == target.resolve():
        return
    with Image.open(path) as image:
        orientation, size = Orientation(exif_orientation(image), is_turned=True), size_upright(image)
    if orientation.exif != 1:
        with Image.open(mask) as image:
            pixels = np.asarray(image.convert("RGB") if image.mode == "P" else image)
        fitted = orientation.fitted(pixels, size)
        if fitted is not pixels:  # else it was made for the picture upright
            write_picture(target, Image.fromarray(fitted), "PNG")
            return
    _link(mask, target)


def _mask_of(path: Path, sources: Sources) -> Path | None:
    """MASKS/<name>.png, or with .png for the ending; the name may begin at any folder above the common one."""
    folder = sources.mask_folder
    if folder is None:
        return None
    roots = [sources.root]
    while folder.parent in roots[-1].parents:
        roots.append(roots[-1].parent)
    names = [path.relative_to(root) for root in roots]
    places = [place for name in names for place in (folder / f"{name}.png", (folder / name).with_suffix(".png"))]
    return next((place for place in places if place.is_file()), None)


def _bring_video(path: Path, sources: Sources, out: Path, interval_s: float) -> list[Shot]:
    """Frames are named after their video and their number; one whose video stands alone has no folder."""
    alone = len(sources.videos) == 1 and not sources.photographs
    folder = "" if alone else sources.name(path)
    shots = []
    with bar(f"Sharpest frames of {path.name}", max(1.0, round(duration_of(path)))) as progress:
        for frame in sharpest_frames(path, interval_s, _whole_seconds(progress.reach)):
            name = (PurePosixPath(folder) / f"frame_{frame.number:06d}.jpg").as_posix()
            pixels = frame.rgb
            write_jpeg(out / IMAGE_FOLDER / name, pixels)
            height, width = pixels.shape[:2]
            shots.append(Shot(name, width, height, f"{folder} {width}x{height}".strip(), folder))
    log.info("%s: %d frames, the sharpest of every %g s.", path.name, len(shots), interval_s)
    return shots


def _whole_seconds(reach: Callable[[float], None]) -> Callable[[float], None]:
    return lambda time_s: reach(int(time_s))


def _folder(name: str) -> str:
    folder = PurePosixPath(name).parent.as_posix()
    return "" if folder == "." else folder


def _link(path: Path, target: Path) -> None:
    """The same file at `target`: no bytes are copied where both are on one file system."""
    if target.is_file() and path.samefile(target):
        return

    def put(temporary: Path) -> None:
        try:
            disk.link(path.resolve(), temporary)
        except OSError:  # another file system, or one without links
            disk.copy(path, temporary)

    write_atomically(target, put)


def _remove_others(folder: Path, names: set[str]) -> None:
    """Pictures that an earlier run brought and this one does not want, and folders that are empty then."""
    for path in sorted(folder.rglob("*"), reverse=True):
        if path.is_dir():
            with contextlib.suppress(OSError):  # it is not empty
                disk.rmdir(path)
        elif path.relative_to(folder).as_posix() not in names:
            disk.unlink(path)
