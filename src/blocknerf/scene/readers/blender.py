"""NeRF's synthetic scenes (Mildenhall et al. 2020), as Blender writes them: a transforms file a part of the split.

`transforms_train.json`, `transforms_val.json` and `transforms_test.json` have `camera_angle_x` and frames whose
`file_path` has no ending, though it may have one; all other keys of transforms.json are read as well (see
`transforms.py`). Pictures are RGBA, and `dataset.alpha` says on what they are put: no colour is a default, though
published figures are on white.
"""

from dataclasses import replace
from pathlib import Path

from blocknerf.core.errors import UserError, quote
from blocknerf.core.logging import log
from blocknerf.scene.readers.candidates import Capture
from blocknerf.scene.readers.transforms import candidates_of, read_frames

PARTS = ("train", "val", "test")


def finds_blender(data_root: Path) -> bool:
    return bool(_files(data_root))


def read_blender(data_root: Path) -> Capture:
    """Trains on the training part and tests on the test part, or else on the validation part.

    Validation is not read where there is a test part. Without a training part, or with nothing to test on, the files
    say no split: every `dataset.test_every`-th image is for testing. What is missing is logged. The scene is one
    drive, in one light.

    Raises UserError for a damaged file, and for a photograph in both the training and the test part.
    """
    files = _files(data_root)
    frames = {part: read_frames(path)[1] for part, path in files.items()}
    read, _ = candidates_of(data_root, [frame for part in frames.values() for frame in part])
    candidates = [replace(candidate, drive="0") for candidate in read]
    parts = [part for part in frames for _ in frames[part]]
    of_test = next((part for part in ("test", "val") if frames.get(part)), None)
    _say_missing(data_root, {part for part in frames if frames[part]}, len(candidates))
    names = {part: {one.name for one, its in zip(candidates, parts, strict=True) if its == part} for part in frames}
    if of_test is None or not names.get("train"):
        return Capture(candidates)
    _require_apart(names["train"], names[of_test], files["train"], files[of_test])
    used = [one for one, part in zip(candidates, parts, strict=True) if part in ("train", of_test)]
    if len(used) < len(candidates):
        log.info("%s: %d images for validation are not read.", data_root, len(candidates) - len(used))
    return Capture(used, test_names=frozenset(names[of_test]))


def _say_missing(data_root: Path, present: set[str], num_images: int) -> None:
    """Where a part has no file, or none with frames, and another takes its place."""
    missing = " and no ".join(_file_name(part) for part in PARTS if part not in present)
    if "train" not in present or present == {"train"}:
        log.warning(
            "%s has no %s with frames, so no split: dataset.test_every says which of the %d images are for testing.",
            data_root,
            missing,
            num_images,
        )
    elif "test" not in present:
        log.warning(
            "%s has no %s with frames: the images of %s are the test images.", data_root, missing, _file_name("val")
        )


def _file_name(part: str) -> str:
    return f"transforms_{part}.json"


def _files(data_root: Path) -> dict[str, Path]:
    paths = {part: data_root / _file_name(part) for part in PARTS}
    return {part: path for part, path in paths.items() if path.is_file()}


def _require_apart(train: set[str], test: set[str], train_path: Path, test_path: Path) -> None:
    both = sorted(train & test)
    if both:
        raise UserError(
            f"{len(both)} photographs, as {quote(both[0])}, are in {train_path.name} and in {test_path.name} of "
            f"{test_path.parent}. Take them out of one; without the latter file every 8th image is for testing."
        )
