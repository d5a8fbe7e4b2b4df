"""Masks of moving things: a finder detects them, and files beside the images hide them."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float32, UInt8
from PIL import Image, ImageDraw
from rich.progress import track

from blocknerf.core import disk
from blocknerf.core.config.dataset import DatasetConfig
from blocknerf.core.errors import UserError, listed
from blocknerf.core.files import write_json, write_picture
from blocknerf.core.lock import locked_folder
from blocknerf.core.logging import console, log
from blocknerf.core.names import owned
from blocknerf.core.own_png import is_own_png, write_own_png
from blocknerf.core.reading import read_json
from blocknerf.scene.originals import Originals
from blocknerf.scene.photographs import DECODE_ERRORS, dilated, opened_picture, read_masks, read_rgb
from blocknerf.scene.readers.masks import MASK_FOLDER, TRANSIENT_FOLDER, transient_mask
from blocknerf.scene.readers.read import read_scene
from blocknerf.scene.scene import ImageRecord

Finder = Callable[[UInt8[np.ndarray, "h w 3"]], Float32[np.ndarray, "h w"]]
"""From a photograph to the probability that a pixel shows a moving thing."""

REPORT_NAME = f"{TRANSIENT_FOLDER}/report.json"
OVERVIEW_NAME = f"{MASK_FOLDER}/overview.png"
NEARLY_ALL = 0.95
_PROBABLE = 0.5
_MAX_NAMED = 8
_SHEET_PICTURES, _SHEET_COLUMNS, _CELL_WH, _CAPTION_H = 48, 6, (200, 200), 18
_HIDDEN_COLOUR = np.array([255, 0, 255])


def make_masks(
    root: Path, finder: Finder, made_with: dict[str, Any], dilate: float, overwrite: bool
) -> dict[str, float]:
    """Writes a mask of what `finder` finds for every image of the scene in `root`; returns the hidden share by name.

    Masks grow on every side by `dilate` times the longer side of the picture. Earlier masks are kept (with `overwrite`:
    replaced), so that a stopped run resumes. Masks made by hand stay unchanged and count as well; the shares include
    both. `made_with` are the settings, in JSON types, for the report. Raises UserError if earlier masks have other
    settings, or there is no scene in `root`.
    """
    made_with = {**made_with, "dilate": dilate}
    owned(root / MASK_FOLDER, "transient/report.json")  # the lock is a file, too
    with locked_folder(root / TRANSIENT_FOLDER, f"Masks of {root} are being made") as held:
        held.sweep(root / MASK_FOLDER)
        return _make_masks(root, finder, made_with, dilate, overwrite)


def _make_masks(
    root: Path, finder: Finder, made_with: dict[str, Any], dilate: float, overwrite: bool
) -> dict[str, float]:
    _clear_way(root, made_with, overwrite)
    scene = read_scene(root, DatasetConfig(alpha="black"))
    report = Originals.of(scene).require_apart(owned(root / MASK_FOLDER, "transient/report.json"))
    write_json(report, {"version": 1, "made_with": made_with})
    missing = [image for image in scene.images if not transient_mask(root, image.name).is_file()]
    if len(missing) < len(scene.images):
        log.info("%d of %d images have their mask already.", len(scene.images) - len(missing), len(scene.images))
    for image in track(missing, "Looking for things that move", console=console, transient=True):
        _make_mask(root, image, finder, dilate)
    shares = _look_at(root, scene.images)
    write_json(report, {"version": 1, "made_with": made_with, "hidden": shares})
    _warn(shares)
    return shares


def _clear_way(root: Path, made_with: dict[str, Any], overwrite: bool) -> None:
    """Removes earlier masks with `overwrite`; otherwise checks that they have the same settings."""
    report, old = root / REPORT_NAME, list((root / TRANSIENT_FOLDER).rglob("*.png"))
    if old and not report.is_file():
        raise UserError(
            f"{root / TRANSIENT_FOLDER} holds pictures but no report.json, so `blocknerf masks` did not make them. "
            "Move that folder elsewhere."
        )
    if overwrite:
        for image in read_scene(root, DatasetConfig(alpha="black", use_masks=False)).images if old else ():
            disk.unlink(transient_mask(root, image.name), missing_ok=True)
    elif report.is_file() and _made_with(report) != made_with:
        raise UserError(
            f"The masks in {root / TRANSIENT_FOLDER} were made with other settings (see its report.json). "
            "Give the same --model, --classes and --dilate to resume, or --overwrite to make all of them anew."
        )


def _made_with(report: Path) -> Any:
    tree = read_json(report, "report on masks")
    return tree.get("made_with") if isinstance(tree, dict) else None


def _make_mask(root: Path, image: ImageRecord, finder: Finder, dilate: float) -> None:
    try:
        rgb = np.asarray(read_rgb(image.path, image.orientation, image.alpha))
    except DECODE_ERRORS as error:
        log.warning("%s gets no mask, it cannot be decoded (%s).", image.path, error)
        return
    hidden = dilated(finder(rgb) >= _PROBABLE, round(dilate * max(rgb.shape[:2])))
    mask = Image.fromarray(image.orientation.stored(np.where(hidden, 0, 255).astype(np.uint8)))
    write_picture(transient_mask(root, image.name), mask, "PNG")


# --- looking at what was made ---------------------------------------------------------------------------------------


def _look_at(root: Path, images: Sequence[ImageRecord]) -> dict[str, float]:
    """Hidden share of every image that has a mask; draws the overview of up to 48 of them."""
    sheet_ids = {images[i].id for i in np.linspace(0, len(images) - 1, _SHEET_PICTURES).round().astype(int)}
    shares, cells = {}, []
    for image in images:
        made = transient_mask(root, image.name)
        if not made.is_file():
            continue
        by_hand = tuple(path for path in image.mask_paths if path != made)
        with opened_picture(image.path) as header:
            size = image.orientation.picture_size(header.size)
        kept = read_masks((*by_hand, made), size, image.orientation)
        assert kept is not None
        shares[image.name] = round(1 - float(kept.mean()), 6)
        if image.id in sheet_ids:
            cells.append(_cell(image, kept, shares[image.name]))
    overview = root / OVERVIEW_NAME
    if cells and any(overview in image.mask_paths for image in images):
        log.warning("%s is the mask of an image, so no overview is drawn.", overview)
    elif cells and os.path.lexists(overview) and not is_own_png(overview):
        log.warning(
            "%s was not made by this program, or by an earlier version of it, and is left as it is. Remove it "
            "to have an overview of the masks drawn.",
            overview,
        )
    elif cells:
        write_own_png(overview, _sheet(cells))
    return shares


def _cell(image: ImageRecord, kept: Bool[np.ndarray, "h w"], share: float) -> Image.Image:
    """A small picture with hidden pixels tinted, its name and share below."""
    photograph = read_rgb(image.path, image.orientation, image.alpha)
    photograph.thumbnail(_CELL_WH)
    hidden = np.asarray(Image.fromarray(~kept).convert("F").resize(photograph.size, Image.Resampling.BOX))[..., None]
    tinted = np.asarray(photograph) * (1 - 0.6 * hidden / 255) + _HIDDEN_COLOUR * (0.6 * hidden / 255)
    cell = Image.new("RGB", (_CELL_WH[0] + 6, _CELL_WH[1] + _CAPTION_H), "white")
    cell.paste(Image.fromarray(tinted.round().astype(np.uint8)))
    name = image.name if len(image.name) <= 26 else f"...{image.name[-24:]}"
    ImageDraw.Draw(cell).text((2, photograph.height + 2), f"{name}  {share:.0%} hidden", fill="black")
    return cell


def _sheet(cells: list[Image.Image]) -> Image.Image:
    (width, height), columns = cells[0].size, min(len(cells), _SHEET_COLUMNS)
    sheet = Image.new("RGB", (columns * width, -(-len(cells) // columns) * height), "white")
    for number, cell in enumerate(cells):
        sheet.paste(cell, (number % columns * width, number // columns * height))
    return sheet


def _warn(shares: dict[str, float]) -> None:
    hidden = [name for name, share in shares.items() if share >= NEARLY_ALL]
    if hidden:
        log.warning(
            "%d images are hidden to %d %% or more: %s. If that is wrong, correct or delete their masks.",
            len(hidden),
            100 * NEARLY_ALL,
            listed(hidden, _MAX_NAMED),
        )
