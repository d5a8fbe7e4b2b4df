"""Names from foreign files: sorted as people count, made into valid file names, and joined to a folder."""

import hashlib
import os
import re
import unicodedata
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from blocknerf.core.errors import UserError, quote

LONGEST_BYTES = 240
"""Maximum length of one part of a name. File systems allow 255, and files made from a picture add an ending."""
_LONGEST_WHOLE_BYTES = 1000
_LONGEST_WORD = 120
_DRIVE_LETTER = re.compile(r"^[A-Za-z]:(?=/)")
_NOT_PORTABLE = re.compile(r'[<>:"|?*\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]')
_DEVICE = re.compile(r"(con|prn|aux|nul|conin\$|conout\$|com[1-9¹²³]|lpt[1-9¹²³]) *$", re.IGNORECASE)


def natural_order(name: str) -> list[tuple[int, str]]:
    """Sort key in which frame_9 comes before frame_10."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"([0-9]+)", name)]


def contained(folder: Path, name: str) -> Path:
    """The file or folder `name` in `folder`, for a name from a file or another machine.

    Raises UserError for a name that would leave the folder: absolute, or with `..` in it.
    """
    if not is_contained(name):
        raise UserError(
            f"{quote(name)} is not a name of a file in {folder}: names there are relative and have no '..' in them. "
            "Correct it in the file that names it."
        )
    return folder / name


def is_contained(name: str) -> bool:
    """Whether the name, joined to a folder, stays in it."""
    path = PurePosixPath(name)
    return bool(path.parts) and not path.is_absolute() and ".." not in path.parts and "\0" not in name


def owned(folder: Path, name: str) -> Path:
    """As `contained`, for a file to write: also raises UserError if a link below `folder` leads out of it."""
    path = contained(folder, name)
    home, place = os.path.realpath(folder), os.path.realpath(path.parent)
    if os.path.commonpath([home, place]) != home:
        raise UserError(
            f"{path.parent} is a link, or lies behind one, that leads out of {folder}, to {place}. Nothing is written "
            "there. Remove the link, or give another folder."
        )
    return path


def require_plain(name: str, what: str) -> str:
    """A name that is one part of a path (a block, a file in its folder); `what` begins the message.

    Raises UserError otherwise.
    """
    if name != portable_name(name) or "/" in name:
        raise UserError(
            f"{what} {quote(name)} cannot be the name of a folder or file. Names are one word without '/', '..' and "
            "special characters, as in 007."
        )
    return name


def unique_names(listed: Sequence[str]) -> list[str]:
    """A different file name for each image of a capture: see `portable_name`.

    None is the folder of another, and none differs from another by case or by Unicode form alone. Names stay if they
    can. Of two that collide, the one that was changed, or else the later one, gets the beginning of a hash after its
    stem. `listed` has no duplicates.
    """
    wanted = [portable_name(name) for name in listed]
    folders = {_key(parent) for name in wanted for parent in _parents(name)}
    taken: set[str] = set()
    named = dict[str, str]()
    for name, original in sorted(zip(wanted, listed, strict=True), key=lambda pair: (pair[0] != pair[1], pair[1])):
        digest = hashlib.sha256(original.encode("utf-8", "surrogatepass")).hexdigest()
        for tail in ("", *(f"~{digest[:count]}" for count in (8, 16, 64))):
            named[original] = _with_tail(name, tail)
            key = _key(named[original])
            if key not in taken and folders.isdisjoint((key, f"{key}.png")):  # its mask is a file, too
                break
        taken.add(key)
    return [named[original] for original in listed]


def portable_name(name: str) -> str:
    """The name as a relative path that every file system accepts and that stays in its folder.

    Nearly all names stay unchanged. Roots, drive letters, `.` and `..` are removed; characters and endings that some
    system refuses become `_`; parts longer than LONGEST_BYTES keep their beginning and a hash.
    """
    parts: list[str] = []
    for part in _DRIVE_LETTER.sub("", name.replace("\\", "/")).split("/"):
        if part == "..":
            del parts[-1:]
        elif part not in ("", "."):
            parts.append(part)
    folders, last = [_portable_part(part) for part in parts[:-1]], _portable_part(parts[-1] if parts else "image")
    if sum(len(part.encode()) + 1 for part in (*folders, last)) > _LONGEST_WHOLE_BYTES:
        folders = [hashlib.sha256("/".join(folders).encode()).hexdigest()[:16]]
    return "/".join((*folders, last))


def word_of(name: str) -> str:
    """Letters and digits of a name joined by `_`, for the middle of a file name; long names are cut."""
    word = re.sub(r"[^A-Za-z0-9]+", "_", name)
    digest = hashlib.sha256(name.encode()).hexdigest()
    return word if len(word) <= _LONGEST_WORD else f"{word[:_LONGEST_WORD]}_{digest[:8]}"


def _portable_part(part: str) -> str:
    part = _NOT_PORTABLE.sub("_", part)
    if part != part.rstrip(" ."):
        part = part.rstrip(" .") + "_"
    stem, dot, endings = part.partition(".")
    if _DEVICE.fullmatch(stem):
        part = f"{stem}_{dot}{endings}"
    if len(part.encode()) > LONGEST_BYTES:
        part = _with_tail(part, f"~{hashlib.sha256(part.encode()).hexdigest()[:16]}")
    return part


def _with_tail(name: str, tail: str) -> str:
    """The tail after the stem of the last part, which is cut if it would be too long."""
    if not tail:
        return name
    folder, slash, last = name.rpartition("/")
    stem, ending = os.path.splitext(last)
    if len(ending.encode()) > 16:
        stem, ending = last, ""
    room = LONGEST_BYTES - len((tail + ending).encode())
    return folder + slash + stem.encode()[:room].decode(errors="ignore") + tail + ending


def _parents(name: str) -> list[str]:
    parts = name.split("/")
    return ["/".join(parts[:count]) for count in range(1, len(parts))]


def _key(name: str) -> str:
    """Equal for names that some file system treats as the same."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())
