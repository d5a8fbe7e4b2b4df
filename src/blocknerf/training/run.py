"""Training many blocks of a plan, one after the other or several at once, each a process of its own."""

import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from blocknerf.blocks.cost import estimates
from blocknerf.blocks.plan import BlockSpec, Plan, planned_split
from blocknerf.blocks.surface import tiles_of_block
from blocknerf.city.block_file import delete_block, has_block, read_block
from blocknerf.city.manifest import block_folder, manifest_of, write_manifest
from blocknerf.core.config import Config
from blocknerf.core.errors import UserError
from blocknerf.core.logging import log, start_logging
from blocknerf.core.types import Exposures
from blocknerf.models.block_nerf import BlockNeRF, exposures_from_json
from blocknerf.runtime.process_group import ALONE, ProcessGroup
from blocknerf.runtime.signals import StopSignal, leave_interrupts_to_parent
from blocknerf.runtime.threads import available_cores, use_threads
from blocknerf.scene.exposures import scene_exposures
from blocknerf.scene.sampler import PixelSampler
from blocknerf.scene.scene import Scene
from blocknerf.scene.store import ImageStore
from blocknerf.training.checkpoint import Origin, delete_checkpoints, read_checkpoint_meta
from blocknerf.training.neighbours import Exchange, Shown, borders_of
from blocknerf.training.side_by_side import SideBySide
from blocknerf.training.trainer import BlockNeRFTrainer, BlockResult, Progress, usable_images
from blocknerf.training.update import grown_block
from blocknerf.training.warm_up import warm_up

Report = Callable[[str, Progress], None]


@dataclass(frozen=True, slots=True)
class Run:
    """Everything a worker needs besides the block."""

    config: Config
    scene: Scene
    plan: Plan
    output_dir: Path
    update: bool = False
    """Blocks go on from their weights of before, with whatever images were added to them."""

    def block_folder(self, block_id: str) -> Path:
        return block_folder(self.output_dir, block_id)

    def checkpoint_folder(self, block_id: str) -> Path:
        elsewhere = self.config.output.checkpoint_dir
        return self.block_folder(block_id) if elsewhere is None else self.output_dir / elsewhere / block_id

    def log_file(self, block_id: str) -> Path:
        return self.output_dir / self.config.output.log_dir / f"{block_id}.log"


def train_blocks(
    run: Run,
    block_ids: tuple[str, ...],
    jobs: int,
    resume: bool,
    overwrite: bool,
    report: Report,
    group: ProcessGroup = ALONE,
    side_by_side: ProcessGroup | None = None,
) -> list[BlockResult]:
    """Trains `block_ids` (empty: every block of the plan) and writes city.json.

    With `resume`, finished blocks are left alone and begun ones go on from their checkpoint; with `overwrite`, what
    was learned before is given up. Raises UserError when blocks would be overwritten unasked, or when any fails;
    the others are then trained all the same. Processes of a `group` train every block together, one after the other;
    otherwise `jobs` blocks are trained at a time, the longest first. With `side_by_side`, blocks learn at the same time
    and from each other, spread over the processes of that group; each process returns the results of its own.
    """
    if group.size > 1 and jobs > 1:
        raise UserError("--distributed trains one block at a time with all processes; it does not go with --jobs.")
    if jobs < 1:
        raise UserError(f"--jobs {jobs}: at least one block must be trained at a time.")
    if side_by_side is not None and jobs > 1:
        raise UserError(
            f"--jobs {jobs} trains blocks that know nothing of each other. With --side-by-side leave it out; to use "
            "several processes, run `torchrun --nproc-per-node N -m blocknerf train --side-by-side ...`."
        )
    wanted = [run.plan.block(block_id) for block_id in dict.fromkeys(block_ids)] or list(run.plan.blocks)
    together = group if side_by_side is None else side_by_side
    if together.is_first:
        todo = _to_update(run, wanted) if run.update else _still_to_do(run, wanted, resume, overwrite)
        store = open_store(run, progress=True)
        write_manifest(run.output_dir, manifest_of(run.plan, run.config.block_manager, run.config.city))
        together.wait()
    else:
        together.wait()  # until the first has tidied up and decoded all photographs
        todo = _still_to_do(run, wanted, resume=True, overwrite=False)
        store = open_store(run, progress=False)
    if side_by_side is not None:
        return _train_side_by_side(run, todo, store, report, side_by_side)
    if run.config.training.consistency_loss_weight > 0 and len(run.plan.blocks) > 1:
        log.info("training.consistency_loss_weight changes nothing here: only with --side-by-side do blocks compare.")
    if jobs <= 1 or len(todo) <= 1:
        use_threads(available_cores(), run.config.block_nerf.worker)
        return _train_in_order(run, todo, store, report, group)
    costs = zip(todo, estimates(todo, run.scene, run.config), strict=True)
    minutes = {block.id: cost.minutes for block, cost in costs}
    todo = longest_first(todo, lambda block: minutes[block.id])
    return _train_in_processes(run, todo, min(jobs, len(todo)), report)


def longest_first(blocks: list[BlockSpec], minutes: Callable[[BlockSpec], float]) -> list[BlockSpec]:
    """The order in which idle workers take blocks: all end at most a third later than they could (Graham 1969)."""
    return sorted(blocks, key=lambda block: -minutes(block))


def train_one(
    run: Run,
    block: BlockSpec,
    store: ImageStore,
    stop: StopSignal,
    report: Callable[[Progress], None],
    group: ProcessGroup = ALONE,
) -> BlockResult:
    """Trains one block from its checkpoint, where it has one, to its end; KeyboardInterrupt when asked to `stop`."""
    trainer = make_trainer(run, block, store, report, group)
    warm_up(PixelSampler(store, trainer.image_ids, batch_size=8, seed=0), run.config)
    if trainer.resume():
        log.info("Block %s goes on at step %d.", block.id, trainer.step)
    log.info("Training block %s on %d images.", block.id, len(trainer.image_ids))
    return _said(trainer.train(lambda: stop.requested))


def make_trainer(
    run: Run,
    block: BlockSpec,
    store: ImageStore,
    report: Callable[[Progress], None],
    group: ProcessGroup = ALONE,
    shown: Shown | None = None,
) -> BlockNeRFTrainer:
    """Of a block as it begins: from nothing or, in an update, from what it has learned."""
    config, plan = run.config, run.plan
    tensorboard_dir = run.output_dir / config.logging.tensorboard_dir / block.id
    folder = run.block_folder(block.id)
    learned = grown_block(folder, block, store) if run.update else None
    tiles = None
    if run.config.block_manager.divide_by == "surface":
        tiles = tiles_of_block(run.scene, run.plan, block, run.config.block_manager.block_size / 2)
    trainer = BlockNeRFTrainer(
        *(config, block, store, plan.scene_hash, folder),
        tensorboard_dir=tensorboard_dir if config.logging.use_tensorboard and group.is_first else None,
        report=report,
        exposures=_exposures(run, block, store, learned),
        tiles=tiles,
        checkpoint_dir=run.checkpoint_folder(block.id),
        render_dir=run.output_dir / config.output.render_dir / block.id,
        earlier_scene_hashes=plan.earlier_scene_hashes,
        shown=shown,
        group=group,
    )
    if learned is not None:
        trainer.model.load_state_dict(learned.state_dict(), strict=True)
    return trainer


def origin_of(run: Run, block: BlockSpec, store: ImageStore) -> Origin:
    """What a state of this block must have been made from."""
    hashes = (run.plan.scene_hash, *run.plan.earlier_scene_hashes)
    return Origin(block.id, hashes, run.config, usable_images(block, store))


def _said(result: BlockResult) -> BlockResult:
    psnr = "not validated" if result.val_psnr is None else f"validation PSNR {result.val_psnr:.2f} dB"
    log.info(
        "Block %s: %d steps in %.0f s, %.0f rays/s, %s.",
        result.block_id, result.steps, result.train_s, result.rays_per_s, psnr,
    )  # fmt: skip
    return result


def _exposures(run: Run, block: BlockSpec, store: ImageStore, learned: BlockNeRF | None) -> Exposures | None:
    """Those that a block was begun with, where it was begun: 0 stops stay what they were when the scene grows."""
    if learned is not None:
        return None if learned.exposure is None else learned.exposure.exposures
    meta = read_checkpoint_meta(run.checkpoint_folder(block.id), origin_of(run, block, store))
    if meta is not None:
        return exposures_from_json(meta["model"]["exposures"])
    return scene_exposures(planned_split(run.plan, run.scene)[0])


def _to_update(run: Run, blocks: list[BlockSpec]) -> list[BlockSpec]:
    """All of them. `latest` stays until the first save, so that the city stays whole."""
    for block in blocks:
        delete_checkpoints(run.checkpoint_folder(block.id))
    return blocks


def _still_to_do(run: Run, blocks: list[BlockSpec], resume: bool, overwrite: bool) -> list[BlockSpec]:
    begun = [block for block in blocks if _is_begun(run, block.id)]
    if begun and not (resume or overwrite):
        names = ", ".join(block.id for block in begun)
        raise UserError(
            f"{run.output_dir} already holds what was learned of block {names}. Add --resume to go on with it, "
            "--overwrite to give it up, or choose another --output-dir."
        )
    if overwrite:
        for block in begun:
            delete_block(run.block_folder(block.id), "latest")
            delete_checkpoints(run.checkpoint_folder(block.id))
        return blocks
    return [block for block in blocks if not _is_finished(run, block.id)]


def _is_begun(run: Run, block_id: str) -> bool:
    return has_block(run.block_folder(block_id), "latest") or has_block(run.checkpoint_folder(block_id), "checkpoint")


def _is_finished(run: Run, block_id: str) -> bool:
    """Whether a whole, finished block lies there; a damaged one is named and trained again.

    Raises UserError for a block that was begun and has lost its checkpoint.
    """
    if not has_block(run.block_folder(block_id), "latest"):
        return False
    try:
        meta = read_block(run.block_folder(block_id), "latest").meta
    except UserError as error:
        log.warning("Block %s is trained again. %s", block_id, error)
        return False
    if meta.get("finished"):
        log.info("Block %s is finished; only --overwrite trains it again.", block_id)
        return True
    folder = run.checkpoint_folder(block_id)
    if not has_block(folder, "checkpoint"):
        raise UserError(
            f"Block {block_id} was trained to step {meta.get('step')}, but its checkpoint is not in {folder}. Restore "
            "it, set output.checkpoint_dir to the folder it lies in, go on from a kept state with --resume-from "
            "step_N.json, or train the block anew with --overwrite."
        )
    return False


def _train_in_order(
    run: Run, blocks: list[BlockSpec], store: ImageStore, report: Report, group: ProcessGroup
) -> list[BlockResult]:
    results: list[BlockResult] = []
    failed: dict[str, str] = {}
    with StopSignal() as stop:
        for block in blocks:
            try:
                results.append(train_one(run, block, store, stop, partial(report, block.id), group))
            except UserError as error:
                if group.size > 1 or len(blocks) == 1:
                    raise
                log.error("Block %s failed. %s", block.id, error)
                failed[block.id] = str(error)
    _raise_failures(run, failed, len(blocks))
    return results


def _train_side_by_side(
    run: Run, blocks: list[BlockSpec], store: ImageStore, report: Report, group: ProcessGroup
) -> list[BlockResult]:
    """Trains this process's share of `blocks`; neighbours that have been trained before take part as they are."""
    use_threads(available_cores(), run.config.block_nerf.worker)
    hosts = {block.id: index % group.size for index, block in enumerate(blocks)}
    mine = [block for block in blocks if hosts[block.id] == group.rank]
    if run.config.training.consistency_loss_weight == 0:
        log.warning("With training.consistency_loss_weight=0 blocks learn nothing from each other: each is alone.")
        return _train_in_order(run, mine, store, report, ALONE)
    near = {neighbour for block in blocks for neighbour in block.neighbours} - hosts.keys()
    learned = [block for block in run.plan.blocks if block.id in near and _is_finished(run, block.id)]
    borders = borders_of(blocks, learned, store)
    log.info("%d blocks learn side by side and compare %d borders.", len(blocks), len(borders))
    hosts |= {block.id: 0 for block in learned}
    exchange = Exchange(run.config, borders, hosts, store, group)
    trainers = []
    for block in mine:
        shown = Shown(exchange.every)
        trainers.append((make_trainer(run, block, store, partial(report, block.id), shown=shown), shown))
    for trainer, _ in trainers[:1]:
        warm_up(PixelSampler(store, trainer.image_ids, batch_size=8, seed=0), run.config)
    fixed = [block.id for block in learned] if group.is_first else []
    with StopSignal() as stop:
        together = SideBySide(run.config, trainers, exchange, fixed, partial(_read_learned, run))
        return [_said(result) for result in together.train(lambda: stop.requested)]


def _read_learned(run: Run, block_id: str) -> BlockNeRF:
    saved = read_block(run.block_folder(block_id), "latest")
    return BlockNeRF.from_state(saved.meta["model"], saved.tensors)


@dataclass(frozen=True, slots=True)
class _Worker:
    """A process that trains one block, and what it says: a pipe of its own, so that one killed silences no other."""

    process: BaseProcess
    messages: Connection

    @classmethod
    def start(cls, run: Run, block: BlockSpec, threads: int) -> "_Worker":
        context = multiprocessing.get_context("spawn")
        messages, said = context.Pipe(duplex=False)
        process = context.Process(target=_work, args=(run, block, threads, said), name=block.id)
        process.start()
        said.close()  # the process alone holds that end, so that its death ends the pipe
        return cls(process, messages)

    def read(self) -> Iterator[tuple[str, Any]]:
        """What has been said since; half a message of one that died is none."""
        try:
            while self.messages.poll():
                yield self.messages.recv()
        except (EOFError, OSError):
            return


def _train_in_processes(run: Run, blocks: list[BlockSpec], jobs: int, report: Report) -> list[BlockResult]:
    threads = max(1, available_cores() // jobs)
    waiting, running = list(blocks), {}
    results: list[BlockResult] = []
    failed: dict[str, str] = {}
    with StopSignal() as stop:
        while waiting or running:
            if stop.requested:
                _stop([worker.process for worker in running.values()])
                raise KeyboardInterrupt
            while waiting and len(running) < jobs:
                block = waiting.pop(0)
                running[block.id] = _Worker.start(run, block, threads)
            wait([worker.process.sentinel for worker in running.values()], timeout=0.5)
            for block_id, worker in list(running.items()):
                has_ended = not worker.process.is_alive()  # asked before its last words are read
                for kind, content in worker.read():
                    if kind == "progress":
                        report(block_id, content)
                    elif kind == "result":
                        results.append(content)
                    else:
                        failed[block_id] = content
                if has_ended:
                    worker.process.join()
                    worker.messages.close()
                    del running[block_id]
                    if worker.process.exitcode != 0:
                        failed.setdefault(block_id, f"its process ended with code {worker.process.exitcode}.")
    _raise_failures(run, failed, len(blocks))
    return results


def _raise_failures(run: Run, failed: dict[str, str], total: int) -> None:
    if failed:
        what = " ".join(f"{block_id}: {why}" for block_id, why in failed.items())
        raise UserError(
            f"{len(failed)} of {total} blocks failed, none of the others was stopped by it. {what} "
            f"The logs are in {run.output_dir / run.config.output.log_dir}; run again with --resume for the rest."
        )


def _work(run: Run, block: BlockSpec, threads: int, said: Connection) -> None:
    start_logging(run.log_file(block.id), to_console=False)
    use_threads(threads, run.config.block_nerf.worker)
    try:
        with leave_interrupts_to_parent() as stop:
            store = open_store(run, progress=False)
            said.send(("result", train_one(run, block, store, stop, partial(_send_progress, said, stop))))
    except UserError as error:
        log.error("Block %s failed. %s", block.id, error)
        said.send(("failed", str(error)))
    except KeyboardInterrupt:
        log.info("Block %s was stopped.", block.id)


def _send_progress(said: Connection, stop: StopSignal, progress: Progress) -> None:
    """Where nobody listens any more, the parent was killed: the block is to save and stop."""
    try:
        said.send(("progress", progress))
    except BrokenPipeError:
        stop.requested = True


def open_store(run: Run, progress: bool) -> ImageStore:
    """The scene's decoded pixels; decodes them where that has not been done."""
    dataset = run.config.dataset
    folder = run.output_dir / "store"
    return ImageStore.open(run.scene, dataset.image_downsample, folder, progress, dataset.num_workers)


def _stop(processes: list[BaseProcess]) -> None:
    """Asks workers to save and stop, and waits until they have."""
    for process in processes:
        if process.pid is not None and process.is_alive():
            os.kill(process.pid, signal.SIGTERM)
    for process in processes:
        process.join()
