"""Checkpoints of a block: everything that decides how its training continues, and what it was made from.

BLOCK/latest           the newest state that can be rendered
CHECKPOINTS/checkpoint the state from which training resumes; deleted when the block is finished
CHECKPOINTS/side_by_side  the same, if neighbours learn at the same time, until all of them are saved
CHECKPOINTS/step_N     the same, kept every `validation.save_freq` epochs
CHECKPOINTS/best       the same, with the best PSNR of validation

Each is a block file: safetensors and JSON, written under a temporary name and renamed.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from torch import Tensor, nn

from blocknerf.blocks.output import differences
from blocknerf.city.states import BEST
from blocknerf.core.config.config import Config
from blocknerf.core.errors import UserError, listed
from blocknerf.core.logging import log
from blocknerf.models.block_file import BlockFile, delete_block, has_block, read_block, read_block_meta, write_block
from blocknerf.models.block_meta import BlockMeta, StoredMeta

CHECKPOINT, SIDE_BY_SIDE = "checkpoint", "side_by_side"
_FREE = ("block_manager.overlap_ratio",)
"""The ratio decides only the block's images, and these are compared directly."""


@runtime_checkable
class Stateful(Protocol):
    """A part of training with exact state: tensors and JSON values by name."""

    def state(self) -> dict[str, Any]: ...
    def restore(self, state: dict[str, Any]) -> None: ...


@dataclass(frozen=True, slots=True)
class ModuleState:
    """The parameters and buffers of a module, as such a part."""

    module: nn.Module

    def state(self) -> dict[str, Any]:
        return self.module.state_dict()

    def restore(self, state: dict[str, Any]) -> None:
        current = self.module.state_dict()
        placed = {name: value.to(current[name].device) if name in current else value for name, value in state.items()}
        self.module.load_state_dict(placed, strict=True)


@dataclass(frozen=True, slots=True)
class CheckpointProvenance:
    """What a checkpoint must have been made from so that training can resume from it."""

    block_id: str
    scene_hashes: tuple[str, ...]
    """Hash of the scene, then those of its earlier versions with fewer images."""
    config: Config
    image_ids: tuple[str, ...]

    def require(self, meta: BlockMeta, path: Path) -> None:
        """Raises UserError that names everything in which `meta`, read from `path`, differs."""
        if found := self._differences(meta):
            raise UserError(
                f"{path} was made from something else, and training cannot resume from it: {'; '.join(found)}. "
                "Restore what it was made from, or train the block anew with --overwrite."
            )

    def _differences(self, meta: BlockMeta) -> list[str]:
        found = []
        if meta.block_id != self.block_id:
            found.append(f"it is of block {meta.block_id}, not {self.block_id}")
        if meta.scene_hash not in self.scene_hashes:
            found.append(f"its scene has the hash {meta.scene_hash}, not {self.scene_hashes[0]}")
        found += differences(meta.model.config, self.config, _FREE)
        before, now = set(meta.image_ids), set(self.image_ids)
        if lost := sorted(before - now):
            found.append(f"it learned from images that are not the block's: {listed(lost, 3)}")
        if new := sorted(now - before):
            found.append(f"it never saw these images of the block: {listed(new, 3)}")
        if not (lost or new) and meta.image_ids != self.image_ids:
            found.append("the block's images have another order")
        return found


class ModelCheckpoint:
    """Saves the `parts` of one block's training by name, and restores them exactly.

    `describe` returns the JSON of every file: what the block was made from, and how to build its model again.
    """

    def __init__(
        self,
        folder: Path,
        checkpoint_dir: Path,
        origin: CheckpointProvenance,
        model: nn.Module,
        parts: Mapping[str, Stateful],
        describe: Callable[[], BlockMeta],
    ):
        self.folder, self.checkpoint_dir, self.origin = folder, checkpoint_dir, origin
        self._model, self._parts, self._describe = model, parts, describe

    def prepare(self) -> None:
        """Writes the checkpoint under another name, so that blocks are saved together (see JointTraining)."""
        write_block(self.checkpoint_dir, SIDE_BY_SIDE, self._everything())

    def save(self) -> None:
        """Writes `checkpoint`, then `latest`, so that an unfinished `latest` always has a checkpoint."""
        write_block(self.checkpoint_dir, CHECKPOINT, self._everything())
        self._write_weights(self.folder, "latest", finished=False)

    def keep(self, step: int) -> None:
        """Writes a state that later saves do not replace."""
        write_block(self.checkpoint_dir, kept_name(step), self._everything())

    def save_best(self) -> None:
        """Writes a state that can be rendered and resumed. A better one replaces it."""
        write_block(self.checkpoint_dir, BEST, self._everything())

    def finish(self) -> None:
        """Writes the finished `latest`, and deletes the checkpoint."""
        self._write_weights(self.folder, "latest", finished=True)
        forget_way(self.checkpoint_dir)

    def exists(self) -> bool:
        """Whether there is a checkpoint."""
        return has_block(self.checkpoint_dir, CHECKPOINT)

    def read_meta(self, name: str = CHECKPOINT) -> StoredMeta | None:
        """The JSON of a saved state, or None. Raises UserError if it was made from something else."""
        return read_checkpoint_meta(self.checkpoint_dir, self.origin, name)

    def resume(self, name: str = CHECKPOINT) -> bool:
        """Restores all parts from the state `name`; False if there is none.

        Raises UserError if it is damaged or was made from something else (see `CheckpointProvenance`).
        """
        if self.read_meta(name) is None:
            return False
        saved = read_block(self.checkpoint_dir, name)
        path, remedy = self.checkpoint_dir / f"{name}.json", "Train the block anew with --overwrite."
        held = saved.meta.parts or ("no parts by name",)
        if held != tuple(self._parts):
            raise UserError(
                f"The checkpoint in {self.checkpoint_dir} holds {', '.join(held)}, but training now needs "
                f"{', '.join(self._parts)}: another version of the program wrote it, or only one of the two runs has "
                "--side-by-side. Resume with the same flags, or train the block anew with --overwrite."
            )
        if broken := saved.not_finite():
            raise UserError(f"The checkpoint {path} holds values that are not finite, in {listed(broken, 3)}. {remedy}")
        found = {**saved.tensors, **saved.meta.state}
        for part, stateful in self._parts.items():
            prefix = f"{part}."
            state = {key[len(prefix) :]: value for key, value in found.items() if key.startswith(prefix)}
            try:
                stateful.restore(state)
            except KeyError as error:
                raise UserError(
                    f"The checkpoint {path} has no {prefix}{error.args[0]}: another version of the program wrote it. "
                    f"{remedy}"
                ) from error
            except (TypeError, ValueError, AttributeError, IndexError, OverflowError, RuntimeError) as error:
                raise UserError(
                    f"The state of {part} in the checkpoint {path} does not fit the block ({error}). {remedy}"
                ) from error
        return True

    def _everything(self) -> BlockFile:
        state = {
            f"{part}.{name}": value
            for part, stateful in self._parts.items()
            for name, value in stateful.state().items()
        }
        tensors = {name: value for name, value in state.items() if isinstance(value, Tensor)}
        values = {name: value for name, value in state.items() if name not in tensors}
        meta = self._describe().model_copy(update={"parts": tuple(self._parts), "state": values})
        return BlockFile(meta, tensors)

    def _write_weights(self, folder: Path, name: str, finished: bool) -> None:
        meta = self._describe().model_copy(update={"finished": finished})
        write_block(folder, name, BlockFile(meta, self._model.state_dict()))


def save_or_warn(block_id: str, write: Callable[[], None]) -> None:
    """A full disk must not end training, because there may be space again at the next save."""
    try:
        write()
    except UserError as error:
        log.warning("Block %s continues unsaved. %s", block_id, error)


def kept_name(step: int) -> str:
    """Name of the state that is kept at `step`."""
    return f"step_{step:06d}"


def read_checkpoint_meta(
    checkpoint_dir: Path, origin: CheckpointProvenance, name: str = CHECKPOINT
) -> StoredMeta | None:
    """The JSON of a block's checkpoint, or None. Raises UserError if it does not match `origin`."""
    if not has_block(checkpoint_dir, name):
        return None
    meta = read_block_meta(checkpoint_dir, name)
    origin.require(meta, checkpoint_dir / f"{name}.json")
    return meta


def forget_way(checkpoint_dir: Path) -> None:
    """Deletes the checkpoint of a finished block."""
    for name in (CHECKPOINT, SIDE_BY_SIDE):
        delete_block(checkpoint_dir, name)


def delete_checkpoints(checkpoint_dir: Path) -> None:
    """Deletes all states in the folder, and the best weights."""
    delete_states(checkpoint_dir)
    delete_block(checkpoint_dir, BEST)


def delete_states(checkpoint_dir: Path) -> None:
    """Deletes all states in the folder, but not the best weights."""
    forget_way(checkpoint_dir)
    for name in sorted({path.stem.partition("-")[0] for path in checkpoint_dir.glob("step_*")}):
        delete_block(checkpoint_dir, name)
