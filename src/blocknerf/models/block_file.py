"""The block file: what one block learned, as `<name>.json` and a safetensors file of weights that the JSON names.

The weights carry their hash in their name and are written first; the JSON is renamed into place last and is the
moment of the change. Killed at any instant, the folder holds a whole older pair or a whole newer one.
"""

import hashlib
import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import safetensors.torch
from safetensors import SafetensorError
from torch import Tensor

from blocknerf.core import disk
from blocknerf.core.errors import UserError
from blocknerf.core.files import write_bytes
from blocknerf.core.logging import log
from blocknerf.core.names import portable_name
from blocknerf.core.stored import fitted, read_stored, write_stored
from blocknerf.core.system_errors import reason
from blocknerf.models.block_meta import BlockMeta, StoredMeta, Weights

BLOCK_VERSION = 1
_TRIES = 20
"""At a pair that is replaced while it is read."""


@dataclass(frozen=True, slots=True)
class BlockFile:
    """`meta` is the JSON, a `StoredMeta` after reading; `tensors` by name, on the CPU after reading."""

    meta: BlockMeta
    tensors: dict[str, Tensor]

    @property
    def num_bytes(self) -> int:
        return sum(tensor.numel() * tensor.element_size() for tensor in self.tensors.values())

    def to_render(self) -> "BlockFile":
        """The model alone, where this is a state to resume from: its tensors are `model.NAME` there."""
        if not self.meta.parts:
            return self
        prefix = "model."
        weights = {name[len(prefix) :]: tensor for name, tensor in self.tensors.items() if name.startswith(prefix)}
        return BlockFile(self.meta, weights)

    def not_finite(self) -> list[str]:
        """Names of the tensors that hold a value which is not finite."""
        return [name for name, tensor in self.tensors.items() if not bool(tensor.isfinite().all())]


def write_block(folder: Path, name: str, block: BlockFile) -> Path:
    """Writes the pair `name` ("latest", "best") into `folder` as one atomic change; returns the path of its JSON.

    Raises UserError when the disk is full or the folder cannot be written; the older pair is then still whole.
    """
    content = safetensors.torch.save({key: tensor.detach().cpu().contiguous() for key, tensor in block.tensors.items()})
    digest = hashlib.sha256(content).hexdigest()
    weights = Weights(file=f"{name}-{digest[:16]}.safetensors", sha256=digest, bytes=len(content))
    write_bytes(folder / weights.file, content)
    path = folder / f"{name}.json"
    try:
        write_stored(path, {**block.meta.to_json(), "version": BLOCK_VERSION, "weights": weights.model_dump()})
    except UserError:
        with suppress(OSError):  # the error says more than a second one about the same folder
            if not path.is_file() or weights.file not in path.read_text(encoding="utf-8", errors="replace"):
                disk.unlink(folder / weights.file)  # nobody names them, and the disk needs the room
        raise
    _remove_stale(folder, name, keep=weights.file)
    return path


def read_block(folder: Path, name: str) -> BlockFile:
    """Reads the pair `name` and checks size and hash of its weights.

    Raises UserError that names the file when one is missing, damaged, of another version, or the two do not match.
    """
    meta = read_block_meta(folder, name)
    for _ in range(_TRIES):
        try:
            return BlockFile(meta, _read_weights(folder, name, meta.weights))
        except UserError:
            newer = read_block_meta(folder, name)  # the pair may have been replaced between our two reads
            if newer.weights == meta.weights:
                raise
            meta = newer
    return BlockFile(meta, _read_weights(folder, name, meta.weights))


def read_block_meta(folder: Path, name: str) -> StoredMeta:
    """The JSON half alone. Raises UserError when it is missing, damaged, or of another version."""
    path = folder / f"{name}.json"
    if not path.is_file():
        raise UserError(f"There is no block file at {path}. {_remedy(folder)}")
    tree = read_stored(path, "block file", _remedy(folder), BLOCK_VERSION)
    if not _names_weights(tree.get("weights")):
        raise UserError(f"The block file {path} does not say which weights belong to it. {_remedy(folder)}")
    return fitted(StoredMeta, tree, "block file", path, _remedy(folder))


def has_block(folder: Path, name: str) -> bool:
    """Whether `folder` holds a pair `name`, whole or not."""
    return (folder / f"{name}.json").is_file()


def is_finished(folder: Path) -> bool:
    """Whether the newest state in a block's folder is that of the end of its training."""
    return has_block(folder, "latest") and read_block_meta(folder, "latest").finished


def delete_block(folder: Path, name: str) -> None:
    """Removes the pair `name` where there is one: the JSON first, so that what is left is never half a pair."""
    disk.unlink(folder / f"{name}.json", missing_ok=True)
    _remove_stale(folder, name)


def _read_weights(folder: Path, name: str, weights: Weights) -> dict[str, Tensor]:
    """What is used are the bytes whose hash was checked, whatever becomes of the file meanwhile."""
    path = folder / weights.file
    try:
        with path.open("rb") as handle:
            size = os.fstat(handle.fileno()).st_size
            if size != weights.bytes:
                raise UserError(
                    f"The weights {path} are {size} bytes long, but {name}.json was written for {weights.bytes}. "
                    f"{_remedy(folder)}"
                )
            content = handle.read()
        if hashlib.sha256(content).hexdigest() != weights.sha256:
            raise UserError(
                f"The weights {path} are damaged: their hash is not the one {name}.json names. {_remedy(folder)}"
            )
        return safetensors.torch.load(content)
    except FileNotFoundError as error:
        raise UserError(f"The weights {path}, which {name}.json names, are missing. {_remedy(folder)}") from error
    except (OSError, SafetensorError) as error:
        raise UserError(f"The weights {path} cannot be read ({error}). {_remedy(folder)}") from error


def _names_weights(weights: Any) -> bool:
    if not isinstance(weights, dict) or set(weights) != {"file", "sha256", "bytes"}:
        return False
    if type(weights["bytes"]) is not int or not isinstance(weights["sha256"], str):
        return False
    return isinstance(weights["file"], str) and weights["file"] == PurePosixPath(portable_name(weights["file"])).name


def tidy_block(folder: Path, name: str) -> None:
    """Removes what writers of the pair `name` could not remove. Who writes here is alone.

    Where the JSON is missing or cannot be read, its weights may still be wanted, and all are left.
    """
    if not has_block(folder, name):
        return
    with suppress(UserError):  # said where the block is read
        _remove_stale(folder, name, keep=read_block_meta(folder, name).weights.file)


def _remove_stale(folder: Path, name: str, keep: str | None = None) -> None:
    """Removes weights that no JSON names any more and what a killed writer left; who writes here is alone.

    What cannot be removed is said, and left for the next time (`tidy_block`): the pair is whole with it.
    """
    for pattern in (f"{name}-*.safetensors", f".{name}-*.safetensors.*.tmp", f".{name}.json.*.tmp"):
        for path in folder.glob(pattern):
            if path.name != keep:
                try:
                    disk.unlink(path, missing_ok=True)
                except OSError as error:
                    log.warning(
                        "%s is of no use any more and cannot be removed (%s); the next training in that folder "
                        "removes it.",
                        path,
                        reason(error),
                    )


def _remedy(folder: Path) -> str:
    return f"Restore a copy, or train that block again: `blocknerf train ... --blocks {folder.name} --overwrite`."
