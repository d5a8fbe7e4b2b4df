"""Which capture of a folder is read if it has several: other formats, or several COLMAP models.

The one with the most usable images. But one with additions of its owner (masks, a split, depth, exposures) is
preferred, unless it has less than half of the images.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from blocknerf.core.errors import UserError, listed
from blocknerf.core.logging import log
from blocknerf.core.reading import is_file
from blocknerf.scene.readers.candidates import Capture

_ENOUGH = 0.5
_MOST_NAMED = 5


@dataclass(frozen=True, slots=True)
class Option:
    """A capture that could be read: its name, the key that selects it, and its reader."""

    name: str
    key: str
    read: Callable[[], Capture]


@dataclass(frozen=True, slots=True)
class _Known:
    option: Option
    capture: Capture
    count: int
    additions: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.option.name} ({self.count} images, {self.option.key})"


def choose(data_root: Path, options: Sequence[Option]) -> Capture:
    """The best of several captures; logs which, why, and how to choose another.

    Of equally good options the first is used. Raises the error of the first if none can be read.
    """
    if len(options) == 1:
        return options[0].read()
    known: list[_Known] = []
    errors: list[UserError] = []
    for option in options:
        try:
            known.append(_know(option))
        except UserError as error:
            errors.append(error)
            log.warning("%s is skipped, because it cannot be read: %s", option.name, error)
    if not known:
        raise errors[0]
    most = max(one.count for one in known)
    enough = [one for one in known if one.count >= _ENOUGH * most]
    best = max(enough, key=lambda one: (bool(one.additions), one.count))  # the first of equals
    others = [one for one in known if one is not best]
    if others:
        log.info(
            "%s holds several captures. Reading %s, %s. Choose another by its key: %s.",
            data_root,
            best,
            _why(best, others),
            listed([str(other) for other in others], _MOST_NAMED),
        )
    return best.capture


def _know(option: Option) -> _Known:
    capture = option.read()
    candidates = capture.candidates
    count = sum(candidate.problem is None and is_file(candidate.path) for candidate in candidates)
    additions = {
        "masks": any(candidate.mask_path is not None for candidate in candidates),
        "a split": capture.test_names is not None,
        "depth": any(candidate.depth_path is not None for candidate in candidates),
        "exposures": any(candidate.exposure is not None for candidate in candidates),
    }
    return _Known(option, capture, count, tuple(name for name, is_present in additions.items() if is_present))


def _why(best: _Known, others: Sequence[_Known]) -> str:
    if best.additions and not all(other.additions for other in others):
        return f"because it names {' and '.join(best.additions)}"
    if all(best.count > other.count for other in others):
        return "because it has the most images"
    return "the first of those with the most images"
