"""NeRF's synthetic scenes (Mildenhall et al. 2020), as Blender writes them: a transforms file a part of the split.

`transforms_train.json`, `transforms_val.json` and `transforms_test.json` have `camera_angle_x` and frames whose
`file_path` has no ending; all other keys of transforms.json are read as well (see `transforms.py`).
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
    """The test set is the test part, or else the validation part; if there are both, validation is skipped.

    The scene is one drive, in one light. Raises UserError for a damaged file, and for a photograph in both the training
    and the test part.
    """
    files = _files(data_root)
    frames = {part: read_frames(path)[1] for part, path in files.items()}
    read, _ = candidates_of(data_root, [frame for part in frames.values() for frame in part])
    candidates = [replace(candidate, drive="0") for candidate in read]
    parts = [part for part in frames for _ in frames[part]]
    of_test = next((part for part in ("test", "val") if frames.get(part)), None)
    names = {part: {one.name for one, its in zip(candidates, parts, strict=True) if its == part} for part in frames}
    if of_test is None or not names.get("train"):
        return Capture(candidates)
    _require_apart(names["train"], names[of_test], files["train"], files[of_test])
    used = [one for one, part in zip(candidates, parts, strict=True) if part in ("train", of_test)]
    if len(used) < len(candidates):
        log.info("%s: %d images for validation are not read.", data_root, len(candidates) - len(used))
    return Capture(used, test_names=frozenset(names[of_test]))


def _files(data_root: Path) -> dict[str, Path]:
    paths = {part: data_root / f"transforms_{part}.json" for part in PARTS}
    return {part: path for part, path in paths.items() if path.is_file()}


def _require_apart(train: set[str], test: set[str], train_path: Path, test_path: Path) -> None:
    both = sorted(train & test)
    if both:
        raise UserError(
            f"{len(both)} photographs, as {quote(both[0])}, are in {train_path.name} and in {test_path.name} of "
            f"{test_path.parent}. Take them out of one; without the latter file every 8th image is for testing."
        )
