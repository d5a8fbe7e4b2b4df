"""JSON files of blocknerf, each with a checksum of its content and a schema.

A dataclass is its file's schema, with the types below: text is not a number, numbers are finite.
"""

import hashlib
import json
from collections.abc import Collection
from functools import cache
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, Field, TypeAdapter, ValidationError

from blocknerf.core.errors import UserError, quote
from blocknerf.core.files import write_json
from blocknerf.core.names import require_plain
from blocknerf.core.reading import read_json

Text = Annotated[str, Field(strict=True, max_length=4096)]
Truth = Annotated[bool, Field(strict=True)]
Whole = Annotated[int, Field(strict=True, ge=0, lt=2**63)]
Number = Annotated[float, Field(strict=True, allow_inf_nan=False)]
Above0 = Annotated[float, Field(strict=True, allow_inf_nan=False, gt=0)]
NotBelow0 = Annotated[float, Field(strict=True, allow_inf_nan=False, ge=0)]
Share = Annotated[float, Field(strict=True, allow_inf_nan=False, ge=0, le=1)]
Length = Annotated[float, Field(strict=True, allow_inf_nan=False, gt=0, le=1e15)]
"""In metres: as far as rays of the farthest scene reach."""
Coordinate = Annotated[float, Field(strict=True, allow_inf_nan=False, ge=-1e15, le=1e15)]
Place = tuple[Coordinate, Coordinate, Coordinate]

BlockId = Annotated[Text, AfterValidator(lambda name: require_plain(name, "The block id"))]
FileName = Annotated[Text, AfterValidator(lambda name: require_plain(name, "The block file"))]

CHECKSUM = "checksum"
T = TypeVar("T")


def write_stored(path: Path, tree: dict[str, Any], free: Collection[str] = ()) -> None:
    """Writes JSON with a checksum of all but the keys `free`, which people may edit; the same tree, the same bytes."""
    write_json(path, {**tree, CHECKSUM: _checksum(tree, free)})


def read_stored(path: Path, what: str, remedy: str, version: int | None = None, free: Collection[str] = ()) -> Any:
    """Reads what `write_stored` wrote, or an older file without a checksum.

    Raises UserError with the `remedy` if it is missing, is not JSON, has another `version` (if it has one), or does not
    match its checksum.
    """
    tree = read_json(path, what, remedy=remedy)
    found = tree.get("version") if isinstance(tree, dict) else None
    if version is not None and found != version:
        raise UserError(
            f"The {what} {path} is of version {quote(found)}; this program reads version {version}. {remedy}"
        )
    if isinstance(tree, dict) and CHECKSUM in tree and tree.pop(CHECKSUM) != _checksum(tree, free):
        raise UserError(
            f"The {what} {path} is damaged: its content is not that of its {CHECKSUM!r}. {remedy} If it was edited on "
            f"purpose, remove its {CHECKSUM!r}."
        )
    return tree


def fitted(kind: type[T], tree: Any, what: str, path: Path, remedy: str) -> T:
    """`tree` as a dataclass or model. Raises UserError with the first value that does not fit, and `remedy`."""
    try:
        return _adapter(kind).validate_python(tree)
    except ValidationError as error:
        named = error.errors()[0].get("ctx", {}).get("error")
        if isinstance(named, UserError):
            raise UserError(f"The {what} {path} cannot be followed. {named} {remedy}") from error
        raise UserError(f"The {what} {path} is damaged ({_first(error)}). {remedy}") from error


def _checksum(tree: dict[str, Any], free: Collection[str]) -> str:
    held = {key: value for key, value in tree.items() if key not in free and key != CHECKSUM}
    text = json.dumps(held, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


@cache
def _adapter(kind: Any) -> Any:
    return TypeAdapter(kind)


def _first(error: ValidationError) -> str:
    problem = error.errors(include_url=False)[0]
    where = ".".join(str(part) for part in problem["loc"]) or "all of it"
    if problem["type"] == "missing":
        return f"it has no {where!r}"
    cause = problem.get("ctx", {}).get("error")
    if cause is not None:
        return f"{where}: {cause}"
    return f"{where}: {problem['msg'].lower()}, not {quote(problem['input'])}"
