"""From pictures to a scene, stage by stage: see `prepare`."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image

from blocknerf.core import disk
from blocknerf.core.errors import UserError, listed
from blocknerf.core.files import is_empty, write_json, write_picture
from blocknerf.core.lock import locked_folder
from blocknerf.core.logging import log
from blocknerf.core.names import owned
from blocknerf.core.reading import read_json
from blocknerf.prepare import colmap
from blocknerf.prepare.brought import IMAGE_FOLDER, Brought, require_apart
from blocknerf.prepare.gather import MARKER, Sources, find_sources, mask_files
from blocknerf.prepare.georegister import places_of
from blocknerf.prepare.images import bring_images
from blocknerf.prepare.pairs import Matching, plan_pairs
from blocknerf.prepare.pictures import lay_out_pictures
from blocknerf.prepare.quality import Found, write_quality
from blocknerf.prepare.shots import CapturedImage
from blocknerf.prepare.stages import FOLDER, Stages
from blocknerf.prepare.write_scene import MODEL, MODEL_FILES, write_scene
from blocknerf.runtime.cores import available_cores
from blocknerf.scene.colmap_module import pycolmap
from blocknerf.scene.photographs import read_masks
from blocknerf.scene.readers.candidates import list_by_reason
from blocknerf.scene.readers.masks import mask_paths
from blocknerf.scene.readers.sidecar import SIDECAR_NAME

_VERSION = 1
_MADE = (
    *(f"{MODEL}/{name}" for name in MODEL_FILES),
    *(f"quality/{name}" for name in ("quality.json", "index.html", "map.png", "coverage.png")),
    SIDECAR_NAME,
)
_LEAST_PLACED = 2
_MOST_NAMED = 12


@dataclass(frozen=True, slots=True)
class Settings:
    """Settings of `prepare`; the command line's help explains each."""

    matching: Matching = "auto"
    interval_s: float = 0.5
    long_side: int = 1600
    camera_model: str = "SIMPLE_RADIAL"
    intrinsics: Literal["shared", "each"] = "shared"
    gps: Literal["auto", "ignore"] = "auto"
    pause_min: float = 10.0
    masks: Path | None = None
    vocabulary: Path | None = None

    def check(self) -> None:
        """Raises UserError for unusable settings, before anything starts."""
        if not 0.02 <= self.interval_s <= 3600:
            raise UserError(f"--interval-s {self.interval_s:g} must be from 0.02 to 3600 seconds.")
        if not 200 <= self.long_side <= 20000:
            raise UserError(f"--long-side {self.long_side} must be from 200 to 20000 pixels.")
        if not self.pause_min > 0:
            raise UserError(f"--pause-min {self.pause_min:g} must be more than 0 minutes.")
        if self.vocabulary is not None and not self.vocabulary.is_file():
            raise UserError(f"There is no file {self.vocabulary} to take as the vocabulary.")
        if self.vocabulary is not None:
            colmap.check_vocabulary(self.vocabulary)
        try:
            pycolmap.Camera.create_from_model_name(1, self.camera_model, 1.0, 2, 2)
        except ValueError as error:
            raise UserError(
                f"--camera-model {self.camera_model!r} is not known to COLMAP. Usual ones: SIMPLE_RADIAL, RADIAL, "
                "OPENCV, and OPENCV_FISHEYE for very wide lenses."
            ) from error


def prepare(source: Path, out: Path, settings: Settings, overwrite: bool = False) -> dict[str, Any]:
    """Makes a scene in `out` from the pictures in `source`; returns the figures of its quality page.

    Each stage writes its record to OUT/prepare and is skipped while its inputs stay the same, so a stopped run resumes.
    Raises UserError if `source` has no pictures, none match, or GPS contradicts them; and if `out` is from another
    source or was not made by `prepare`.
    """
    settings.check()
    sources = find_sources(source, out, settings.masks)
    files = (*sources.photographs, *sources.videos, *mask_files(sources.mask_folder))
    require_apart(files, out, (IMAGE_FOLDER, "sparse", "quality", FOLDER))
    if out.is_file():
        raise UserError(f"{out} is a file; name a folder that does not exist yet.")
    with locked_folder(out, f"A scene is being prepared in {out}"):
        return _prepare(source, sources, out, settings, overwrite)


def _prepare(source: Path, sources: Sources, out: Path, settings: Settings, overwrite: bool) -> dict[str, Any]:
    _open_output(source, out, overwrite)
    colmap.log_to(out / FOLDER / "colmap.log")
    stages = Stages(out / FOLDER)
    each = settings.intrinsics == "each"
    brought = stages.run(
        "images",
        [sources.stamp(), settings.interval_s, each],
        lambda _: [shot.to_json() for shot in bring_images(sources, out, settings.interval_s, each)],
    )
    shots = [CapturedImage(**entry) for entry in brought]
    shop, features = _features(stages, out, shots, settings)
    matching, partners = _matches(stages, shop, sources, shots, settings)
    attempt, models = _models(stages, shop, sources, shots)
    georeference = stages.run(
        "scene",
        [settings.gps, settings.pause_min],
        lambda _: write_scene(out, models[0].folder, shots, settings.gps == "auto", 60 * settings.pause_min),
    )
    found = Found(shots, features, matching, partners, attempt, models, georeference)
    figures = write_quality(out, found)
    write_json(out / MARKER, _marker(source) | {"georeference": georeference})
    return figures


def _marker(source: Path) -> dict[str, Any]:
    return {"version": _VERSION, "source": str(source.resolve())}


def _open_output(source: Path, out: Path, overwrite: bool) -> None:
    """Marks the folder as a prepared scene, or raises UserError with the reason."""
    before = read_json(out / MARKER, "mark of a prepared scene") if (out / MARKER).is_file() else None
    if before is not None and not isinstance(before, dict):
        raise UserError(f"{out / MARKER} is damaged: it is not the mark of a prepared scene. Choose another folder.")
    if before is None and out.is_dir() and not is_empty(out):
        raise UserError(f"The folder {out} is not empty and was not made by `blocknerf prepare`. Choose another.")
    if before is not None and overwrite:
        Brought(out).remove(IMAGE_FOLDER)
        for name in _MADE:
            disk.unlink(owned(out, name), missing_ok=True)
        disk.remove_tree(out / FOLDER)
    elif before is not None and before.get("source") != str(source.resolve()):
        raise UserError(
            f"{out} was prepared from {before.get('source')}, not from {source.resolve()}. Choose another folder, or "
            "add --overwrite to begin anew there."
        )
    if before is None or overwrite:
        write_json(out / MARKER, _marker(source))


# --- stages that COLMAP works on --------------------------------------------------------------------------------------


def _features(
    stages: Stages, out: Path, shots: Sequence[CapturedImage], settings: Settings
) -> tuple[colmap.ColmapWorkspace, dict[str, int]]:
    """COLMAP's workspace, and the number of features of each picture."""
    masks = {shot.name: paths for shot in shots if (paths := mask_paths(out, shot.name, None))}
    stamp = [[str(path), path.stat().st_size, path.stat().st_mtime_ns] for paths in masks.values() for path in paths]
    folder = out / FOLDER

    def workshop(plain: dict[str, str]) -> colmap.ColmapWorkspace:
        return colmap.ColmapWorkspace(folder / "pictures", folder, available_cores(), plain)

    def work(resumed: bool) -> dict[str, Any]:
        if not resumed:
            _forget(folder, colmap.DATABASE + "*")
        plain = lay_out_pictures(shots, out / IMAGE_FOLDER, folder / "pictures")
        _write_masks(folder / "masks", shots, masks, plain)
        found = colmap.find_features(
            workshop(plain), shots, set(masks), folder / "masks", settings.long_side, settings.camera_model
        )
        return {"plain": plain, "features": found}

    done = stages.run("features", [stamp, settings.long_side, settings.camera_model], work)
    features = done["features"]
    bare = tuple((shot.name, "no features were found in it") for shot in shots if not features.get(shot.name))
    if len(bare) == len(shots):
        raise UserError(
            f"No features were found in any of the {len(shots)} pictures in {out / IMAGE_FOLDER}: they are blank, far "
            "too blurred, or hidden by masks. Look at them there."
        )
    if bare:
        log.warning("%d of %d pictures cannot be placed: %s.", len(bare), len(shots), list_by_reason(bare))
    return workshop(done["plain"]), features


def _forget(folder: Path, pattern: str) -> None:
    for path in folder.glob(pattern):
        disk.unlink(path)


def _write_masks(
    folder: Path, shots: Sequence[CapturedImage], masks: dict[str, tuple[Path, ...]], plain: dict[str, str]
) -> None:
    """Masks for COLMAP: one per picture, of its size, black where no feature may be."""
    disk.remove_tree(folder)
    sizes = {shot.name: (shot.width, shot.height) for shot in shots}
    for name, paths in masks.items():
        kept = read_masks(paths, sizes[name])
        assert kept is not None
        picture = Image.fromarray(np.where(kept, 255, 0).astype(np.uint8))
        write_picture(folder / f"{plain[name]}.png", picture, "PNG")


def _matches(
    stages: Stages, shop: colmap.ColmapWorkspace, sources: Sources, shots: Sequence[CapturedImage], settings: Settings
) -> tuple[str, dict[str, int]]:
    """How pairs were chosen, and the number of matches of each picture with others."""

    def work(resumed: bool) -> dict[str, Any]:
        if not resumed:
            colmap.forget_matches(shop)
        places = places_of(shots)
        horizontal_m = None if places is None else places.horizontal_m
        plan = plan_pairs(shots, horizontal_m, settings.matching, settings.vocabulary is not None)
        colmap.find_matches(shop, plan, settings.vocabulary if plan.matching == "vocabulary" else None)
        return {"matching": plan.matching, "partners": colmap.partners(shop)}

    vocabulary = None if settings.vocabulary is None else str(settings.vocabulary.resolve())
    matched = stages.run("matches", [settings.matching, vocabulary], work)
    if not any(matched["partners"].values()):
        raise UserError(
            f"None of the {len(shots)} pictures in {sources.root} matches another. Neighbours must show the same "
            "things over at least half of the picture, and sharp enough; are these pictures of one place?"
        )
    return matched["matching"], matched["partners"]


def _models(
    stages: Stages, shop: colmap.ColmapWorkspace, sources: Sources, shots: Sequence[CapturedImage]
) -> tuple[str, list[colmap.Model]]:
    """How mapping succeeded, and the components, largest first."""

    def work(resumed: bool) -> dict[str, Any]:
        attempt, models = colmap.map_cameras(shop, len(shots))
        listed = [
            {"folder": model.folder.relative_to(shop.folder).as_posix(), "names": model.names, "points": model.points}
            for model in models
        ]
        return {"attempt": attempt.name, "models": listed}

    mapped = stages.run("mapping", [], work)
    models = [colmap.Model(shop.folder / m["folder"], tuple(m["names"]), m["points"]) for m in mapped["models"]]
    if not models or len(models[0].names) < _LEAST_PLACED:
        raise UserError(
            f"Some of the {len(shots)} pictures in {sources.root} match, but no three of them could be placed. Take "
            "more pictures, closer together, while moving sideways."
        )
    _tell_components(models, len(shots))
    return mapped["attempt"], models


def _tell_components(models: Sequence[colmap.Model], count: int) -> None:
    log.info("%d of %d pictures are placed, with %d points.", len(models[0].names), count, models[0].points)
    kept = set(models[0].names)
    for model in models[1:]:
        apart = [name for name in model.names if name not in kept]
        if not apart:  # COLMAP may place a picture in several components
            continue
        log.warning(
            "%d pictures hang together but nothing joins them to the rest, so they are skipped: %s.",
            len(apart),
            listed(apart, _MOST_NAMED),
        )
