"""The first stage: pictures come into the scene's image folder, upright, and their headers are read."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image, ImageOps

from blocknerf.core.errors import UserError
from blocknerf.core.files import write_picture
from blocknerf.core.logging import log
from blocknerf.core.progress import bar
from blocknerf.core.reading import is_file
from blocknerf.prepare.brought import IMAGE_FOLDER, Brought
from blocknerf.prepare.colours import UnreadableProfile, in_srgb, profile_name
from blocknerf.prepare.gather import Sources, free_name
from blocknerf.prepare.kinds import exif_anew, format_anew, is_read_everywhere, why_unreadable
from blocknerf.prepare.pictures import link
from blocknerf.prepare.shots import CapturedImage, is_upright, shot_of, size_upright
from blocknerf.prepare.video import duration_of, sharpest_frames, write_jpeg
from blocknerf.scene.orientation import Orientation, exif_orientation
from blocknerf.scene.photographs import DECODE_ERRORS, DYNAMIC_MASK, dynamic_mask, opened_picture, read_mask
from blocknerf.scene.readers.candidates import list_by_reason
from blocknerf.scene.readers.masks import MASK_FOLDER, exact_mask, masks_alike


@dataclass(slots=True)
class _Notes:
    """Messages about photographs, by name: each is logged once for all of them."""

    unusable: list[tuple[str, str]] = field(default_factory=list)
    several: list[str] = field(default_factory=list)
    recoloured: dict[str, str] = field(default_factory=dict)
    unreadable_profile: list[str] = field(default_factory=list)

    def say(self, count: int) -> None:
        if self.unusable:
            log.warning(
                "%d of %d photographs are skipped: %s.", len(self.unusable), count, list_by_reason(tuple(self.unusable))
            )
        if self.several:
            log.warning(
                "The first picture is taken of each of %d files that hold several (animations, pages), as %s.",
                len(self.several),
                self.several[0],
            )
        if self.recoloured:
            log.info(
                "%d photographs are written anew in sRGB; they were in %s.",
                len(self.recoloured),
                ", ".join(sorted(set(self.recoloured.values()))[:3]),
            )
        if self.unreadable_profile:
            log.warning(
                "The colour profile of %d photographs cannot be read, as of %s: they are taken as sRGB.",
                len(self.unreadable_profile),
                self.unreadable_profile[0],
            )


def bring_images(sources: Sources, out: Path, interval_s: float, each_its_camera: bool) -> list[CapturedImage]:
    """Fills OUT/images (and OUT/masks if there are masks) and returns the metadata of each picture, by name.

    Photographs are linked if the file system can, else copied. They are rewritten if EXIF turns them, their colours are
    not sRGB, or Pillow needs a plugin to read them. From videos, the sharpest frame of every `interval_s` is written.
    Pictures of an earlier run that are no longer needed are removed. Raises UserError if fewer than two pictures can be
    used.
    """
    shots, notes, taken, brought = [], _Notes(), set(sources.names.values()), Brought(out)
    masks = _masks_of(sources)
    with bar("Looking at photographs", len(sources.photographs)) as progress:
        for path in sources.photographs:
            try:
                shots.append(_bring_photograph(path, sources, masks, brought, taken, notes))
            except UserError:  # of a place to write to
                raise
            except DECODE_ERRORS as error:
                notes.unusable.append((sources.names[path], why_unreadable(path, error)))
            progress.advance()
    for path in sources.videos:
        shots += _bring_video(path, sources, brought, interval_s)
    notes.say(len(sources.photographs))
    if len(shots) < 2:
        raise UserError(f"{sources.root} gives {len(shots)} usable pictures; at least 2 are needed, and better 20.")
    brought.remove(IMAGE_FOLDER, but={f"{IMAGE_FOLDER}/{shot.name}" for shot in shots})
    if each_its_camera:
        shots = [replace(shot, camera=shot.name) for shot in shots]
    return sorted(shots, key=lambda shot: shot.name)


def _bring_photograph(
    path: Path, sources: Sources, masks: Mapping[Path, Path], brought: Brought, taken: set[str], notes: _Notes
) -> CapturedImage:
    """Decodes it completely, so that a truncated file is found at once."""
    name = sources.names[path]
    with opened_picture(path) as image:
        upright, several = is_upright(image), image.format != "MPO" and getattr(image, "n_frames", 1) > 1
        image.load()
        if image.mode == "F":
            raise ValueError("it holds floating point values, whose range nothing tells: save it with 8 or 16 bits")
        recoloured = _in_srgb(image, name, notes)
        anew = not (upright and recoloured is None and is_read_everywhere(image))
        kind, ending, options = format_anew(image)
        if anew and ending is not None and not name.lower().endswith(ending):
            name = free_name(PurePosixPath(name).with_suffix(ending).as_posix(), taken)
            taken.add(name)
        shot = shot_of(image, name, _folder(name))
        if anew:
            turned = ImageOps.exif_transpose(image if recoloured is None else recoloured)
            exif, profile = exif_anew(image), turned.info.get("icc_profile")
            target = brought.place(f"{IMAGE_FOLDER}/{name}")
            write_picture(target, turned, kind, exif=exif, icc_profile=profile, **options)
    if several:
        notes.several.append(name)
    if not anew:
        link(path, brought.place(f"{IMAGE_FOLDER}/{name}", path))
    if path in masks:
        _bring_mask(path, masks[path], brought, name)
    return shot


def _in_srgb(image: Image.Image, name: str, notes: _Notes) -> Image.Image | None:
    try:
        recoloured = in_srgb(image)
        if recoloured is not None:
            notes.recoloured[name] = profile_name(image)
    except UnreadableProfile:
        notes.unreadable_profile.append(name)
        return None
    return recoloured


def _bring_mask(path: Path, mask: Path, brought: Brought, name: str) -> None:
    """Links the mask of a photograph, upright like it, to where the scene reader expects it."""
    if mask.resolve() == (brought.out / MASK_FOLDER / f"{name}.png").resolve():
        return
    target = brought.place(f"{MASK_FOLDER}/{name}.png", mask)
    with opened_picture(path) as image:
        orientation, size = Orientation(exif_orientation(image), is_turned=True), size_upright(image)
    kept = read_mask(mask)
    fitted = orientation.fitted(kept, size) if orientation.exif != 1 else kept
    if fitted is kept and mask.suffix.lower() == ".png" and not mask.name.startswith(DYNAMIC_MASK):
        link(mask, target)
    else:
        write_picture(target, Image.fromarray(fitted.astype(np.uint8) * 255), "PNG")


def _masks_of(sources: Sources) -> dict[Path, Path]:
    """The mask of each photograph that has one: instant-ngp's beside it, or one in the folder of masks, whose name may
    begin at any folder above the common one.

    Raises UserError if the mask is ambiguous.
    """
    folder, found = (
        sources.mask_folder,
        {path: mask for path in sources.photographs if is_file(mask := dynamic_mask(path))},
    )
    if folder is None:
        return found
    roots = [sources.root]
    while folder.parent in roots[-1].parents:
        roots.append(roots[-1].parent)
    names = [{path.relative_to(root).as_posix(): path for path in sources.photographs} for root in roots]
    for by_name in names:
        exact = {path: exact_mask(folder, name) for name, path in by_name.items() if path not in found}
        found |= {path: mask for path, mask in exact.items() if mask is not None}
    for by_name in names:
        missing = {name: path for name, path in by_name.items() if path not in found}
        for name, mask in masks_alike(folder.parent, missing, folder.name).items():
            if mask.problem is not None:
                raise UserError(f"The mask of {missing[name]} in {folder} is not clear: {mask.problem}.")
            found[missing[name]] = mask.path
    return found


def _bring_video(path: Path, sources: Sources, brought: Brought, interval_s: float) -> list[CapturedImage]:
    """Frames are named after their video and number; without a folder if there is only one video."""
    alone = len(sources.videos) == 1 and not sources.photographs
    folder = "" if alone else sources.names[path]
    shots = []
    with bar(f"Sharpest frames of {path.name}", max(1.0, round(duration_of(path)))) as progress:
        for frame in sharpest_frames(path, interval_s, _whole_seconds(progress.reach)):
            name = (PurePosixPath(folder) / f"frame_{frame.number:06d}.jpg").as_posix()
            pixels = frame.rgb
            write_jpeg(brought.place(f"{IMAGE_FOLDER}/{name}"), pixels)
            height, width = pixels.shape[:2]
            shots.append(CapturedImage(name, width, height, f"{folder} {width}x{height}".strip(), folder))
    log.info("%s: %d frames, the sharpest of every %g s.", path.name, len(shots), interval_s)
    return shots


def _whole_seconds(reach: Callable[[float], None]) -> Callable[[float], None]:
    return lambda time_s: reach(int(time_s))


def _folder(name: str) -> str:
    folder = PurePosixPath(name).parent.as_posix()
    return "" if folder == "." else folder
