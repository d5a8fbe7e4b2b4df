"""Training many blocks of a plan: one after the other, several at once, side by side, or on many machines."""

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import replace
from functools import partial

from blocknerf.blocks.cost import estimates
from blocknerf.blocks.output import planning
from blocknerf.blocks.plan import BlockSpec
from blocknerf.city.manifest import manifest_of, write_manifest
from blocknerf.core.errors import UserError
from blocknerf.core.lock import Held
from blocknerf.core.logging import log
from blocknerf.kernels.jit.precompile import finish_compiling
from blocknerf.models.block_file import delete_block, has_block, read_block, read_block_meta
from blocknerf.models.block_meta import BlockMeta
from blocknerf.runtime.devices import CPU
from blocknerf.runtime.memory import free_gb
from blocknerf.runtime.process_group import ALONE, ProcessGroup
from blocknerf.runtime.signals import StopSignal
from blocknerf.runtime.threads import available_cores, use_threads
from blocknerf.scene.sampler import PixelSampler
from blocknerf.scene.store import ImageStore
from blocknerf.training.checkpoint import delete_checkpoints, delete_states, forget_way
from blocknerf.training.joint import SideBySide
from blocknerf.training.launchers.launcher import RayCluster, Report, raise_failures, train_with
from blocknerf.training.launchers.processes import Processes
from blocknerf.training.launchers.ray_tasks import ray_tasks
from blocknerf.training.neighbours import ConsistencyExchange, NeighbourTargets, borders_of
from blocknerf.training.one_block import Run, make_trainer, open_store, read_model, said, train_one
from blocknerf.training.spread import spread
from blocknerf.training.taken import taken
from blocknerf.training.trainer import BlockResult
from blocknerf.training.warmup import warmup
from blocknerf.training.waves import in_waves

MEMORY_SHARE = 0.8
"""Of free memory, which blocks may take that nobody counted."""


def train_blocks(
    run: Run,
    block_ids: tuple[str, ...] = (),
    jobs: int | None = None,
    resume: bool = False,
    overwrite: bool = False,
    report: Report = lambda block_id, progress: None,
    group: ProcessGroup = ALONE,
    side_by_side: ProcessGroup | None = None,
    ray: RayCluster | None = None,
) -> list[BlockResult]:
    """Trains `block_ids` (empty: every block of the plan) and writes city.json.

    With `resume`, finished blocks are left alone and begun ones go on from their checkpoint; with `overwrite`, what
    was learned before is given up. Raises UserError when blocks would be overwritten unasked, or when any fails;
    the others are then trained all the same. Processes of a `group` train every block together, one after the other;
    otherwise `jobs` blocks are trained at a time, the longest first; None: as `jobs_that_fit` says. With
    `side_by_side`, blocks learn at the same time and from each other, spread over the processes of that group; each
    process returns the results of its own. With `ray`, they are trained on the machines of that cluster.
    """
    _require_one_way(run, 1 if jobs is None else jobs, group, side_by_side, ray)
    wanted = [run.plan.block(block_id) for block_id in dict.fromkeys(block_ids)] or list(run.plan.blocks)
    together = group if side_by_side is None else side_by_side
    with taken(run, wanted) if together.is_first else nullcontext([]) as held:
        if together.is_first:
            todo = _to_update(run, wanted) if run.update else _still_to_do(run, wanted, resume, overwrite)
            with planning(run.output_dir):
                write_manifest(run.output_dir, manifest_of(run.plan, run.config.block_manager, run.config.city))
            run.push_plan()
            if ray is not None:
                return _in_waves(run, todo, lambda wave: _train_on_ray(run, wave, ray, report))
            store = open_store(run, progress=True)
            together.wait()
        else:
            together.wait()  # until the first has tidied up and decoded all photographs
            todo = _still_to_do(run, wanted, resume=True, overwrite=False)
            store = open_store(run, progress=False)
        if side_by_side is not None:
            return _train_side_by_side(run, todo, store, report, side_by_side)
        if jobs is None:
            jobs = jobs_that_fit(run, todo) if group.size == 1 and not run.update else 1
        if group.size > 1:
            return _in_waves(run, todo, lambda wave: _train_in_order(run, wave, store, report, group))
        return _in_waves(run, todo, lambda wave: _train_apart(run, wave, store, jobs, report, held))


def _in_waves(
    run: Run, blocks: list[BlockSpec], train: Callable[[list[BlockSpec]], list[BlockResult]]
) -> list[BlockResult]:
    """Trains blocks, where they are compared, after the neighbours that they learn to agree with.

    Raises UserError when blocks of any wave fail, after the others.
    """
    waves = in_waves(run.plan, blocks, run.config.training)
    if len(waves) > 1:
        log.info(
            "Blocks are trained in %d waves: each learns to agree with neighbours of the waves before "
            "(training.consistency_loss_weight).",
            len(waves),
        )
    results, failures = [], []
    for wave in waves:
        try:
            results += train(wave)
        except UserError as error:
            if len(waves) == 1:
                raise
            failures.append(str(error))
    if failures:
        raise UserError(" ".join(failures))
    return results


def _train_apart(
    run: Run, blocks: list[BlockSpec], store: ImageStore, jobs: int, report: Report, held: Sequence[Held]
) -> list[BlockResult]:
    """Blocks that need nothing of each other: one after the other, or `jobs` at a time."""
    if jobs <= 1 or len(blocks) <= 1:
        use_threads(available_cores(), run.config.block_nerf.worker)
        return _train_in_order(run, blocks, store, report, ALONE)
    blocks = _longest_first_of(run, blocks)
    jobs = min(jobs, len(blocks))
    log.info("%d blocks at a time, each with %d of %d cores.", jobs, *(available_cores() // jobs, available_cores()))
    finish_compiling()
    launcher = Processes(replace(run, at_once=jobs), blocks, jobs, held)
    return train_with(launcher, run, [block.id for block in blocks], report)


def jobs_that_fit(run: Run, blocks: list[BlockSpec]) -> int:
    """One for each core, as long as memory lasts: a core to itself gets more out of a block than all together.

    One for each device where blocks learn on others than the processor; one alone where `distributed.device_map` puts
    their parts there.
    """
    if run.devices != (CPU,) and not run.config.distributed.device_map:
        return min(len(run.devices), max(1, len(blocks)))
    if run.config.distributed.device_map or len(blocks) < 2:
        return 1
    block_gb = max(cost.memory_gb for cost in estimates(blocks, run.scene, run.config))
    return max(1, min(available_cores(), len(blocks), int(MEMORY_SHARE * free_gb() / block_gb)))


def _require_one_way(
    run: Run, jobs: int, group: ProcessGroup, side_by_side: ProcessGroup | None, ray: RayCluster | None
) -> None:
    """Raises UserError where two ways to train several blocks are asked for at once."""
    if group.size > 1 and jobs > 1:
        raise UserError("--distributed trains one block at a time with all processes; it does not go with --jobs.")
    if ray is not None and (jobs > 1 or group.size > 1 or side_by_side is not None or run.update):
        raise UserError(
            "--launcher ray trains blocks apart, as many at a time as the cluster has room for; it goes with neither "
            "--jobs, --distributed, --side-by-side nor --update."
        )
    if jobs < 1:
        raise UserError(f"--jobs {jobs}: at least one block must be trained at a time.")
    if side_by_side is not None and jobs > 1:
        raise UserError(
            f"--jobs {jobs} trains blocks that know nothing of each other. With --side-by-side leave it out; to use "
            "several processes, run `torchrun --nproc-per-node N -m blocknerf train --side-by-side ...`."
        )


def _train_on_ray(run: Run, blocks: list[BlockSpec], cluster: RayCluster, report: Report) -> list[BlockResult]:
    if not blocks:
        return []
    blocks = _longest_first_of(run, blocks)
    with ray_tasks(run, blocks, cluster) as launcher:
        if not run.is_on_urls:  # all machines map one store; where there are URLs, each decodes what it needs
            open_store(run, progress=True)
        return train_with(launcher, run, [block.id for block in blocks], report)


def _longest_first_of(run: Run, blocks: list[BlockSpec]) -> list[BlockSpec]:
    minutes = _minutes(run, blocks)
    return longest_first(blocks, lambda block: minutes[block.id])


def _minutes(run: Run, blocks: list[BlockSpec], cores: int | None = None) -> dict[str, float]:
    costs = zip(blocks, estimates(blocks, run.scene, run.config, cores), strict=True)
    return {block.id: cost.minutes for block, cost in costs}


def longest_first(blocks: list[BlockSpec], minutes: Callable[[BlockSpec], float]) -> list[BlockSpec]:
    """The order in which idle workers take blocks: all end at most a third later than they could (Graham 1969)."""
    return sorted(blocks, key=lambda block: -minutes(block))


def _to_update(run: Run, blocks: list[BlockSpec]) -> list[BlockSpec]:
    """All of them. `latest` stays until the first save, so that the city stays whole.

    An update that was stopped goes on from its checkpoint: that knows the block's new images. The best weights of
    before stay until the update has better ones to put in their place.
    """
    for block in blocks:
        folder, images = run.checkpoint_folder(block.id), set(block.train_images)
        if not has_block(folder, "checkpoint") or set(read_block_meta(folder, "checkpoint").image_ids) != images:
            delete_states(folder)
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
            run.push_block(block.id)
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
        meta = _whole_meta(run, block_id)
    except UserError as error:
        log.warning("Block %s is trained again. %s", block_id, error)
        return False
    folder = run.checkpoint_folder(block_id)
    if meta.finished:
        forget_way(folder)  # where a process ended just before it did
        log.info("Block %s is finished; only --overwrite trains it again.", block_id)
        return True
    if not has_block(folder, "checkpoint"):
        raise UserError(
            f"Block {block_id} was trained to step {meta.step}, but its checkpoint is not in {folder}. Restore "
            "it, set output.checkpoint_dir to the folder it lies in, go on from a kept state with --resume-from "
            "step_N.json, or train the block anew with --overwrite."
        )
    return False


def _whole_meta(run: Run, block_id: str) -> BlockMeta:
    """The JSON of what a block learned. Raises UserError where its weights are damaged; on a URL, where they lack."""
    folder, output = run.block_folder(block_id), run.output
    if output.url is None:
        return read_block(folder, "latest").meta
    meta = read_block_meta(folder, "latest")
    weights = output.relative(folder / meta.weights.file)
    if not output.holds(weights, meta.weights.bytes):
        raise UserError(f"{output.url}/{weights} is missing or has another size than latest.json says.")
    return meta


def _train_in_order(
    run: Run, blocks: list[BlockSpec], store: ImageStore, report: Report, group: ProcessGroup
) -> list[BlockResult]:
    results: list[BlockResult] = []
    failed: dict[str, str] = {}
    with StopSignal() as stop:
        for block in blocks:
            try:
                run.pull_block(block.id)
                results.append(train_one(run, block, store, lambda: stop.requested, partial(report, block.id), group))
            except UserError as error:
                if group.size > 1 or len(blocks) == 1:
                    raise
                log.error("Block %s failed. %s", block.id, error)
                failed[block.id] = str(error)
    raise_failures(run, failed, len(blocks))
    return results


def _train_side_by_side(
    run: Run, blocks: list[BlockSpec], store: ImageStore, report: Report, group: ProcessGroup
) -> list[BlockResult]:
    """Trains this process's share of `blocks`; neighbours that have been trained before take part as they are."""
    use_threads(available_cores(), run.config.block_nerf.worker)
    minutes = _minutes(run, blocks, cores=1)  # the same on every machine
    hosts = spread(minutes, group.size)
    mine = [block for block in blocks if hosts[block.id] == group.rank]
    if run.config.training.consistency_loss_weight == 0:
        log.warning("With training.consistency_loss_weight=0 blocks learn nothing from each other: each is alone.")
        return _train_in_order(run, mine, store, report, ALONE)
    near = {neighbour for block in blocks for neighbour in block.neighbours} - hosts.keys()
    learned = [block for block in run.plan.blocks if block.id in near and _is_finished(run, block.id)]
    borders = borders_of(blocks, learned, store)
    log.info("%d blocks learn side by side and compare %d borders.", len(blocks), len(borders))
    hosts |= {block.id: 0 for block in learned}
    exchange = ConsistencyExchange(run.config, borders, hosts, store, group)
    trainers, device_of = [], spread({block.id: minutes[block.id] for block in mine}, len(run.devices))
    for block in mine:
        shown = NeighbourTargets(exchange.every)
        own = replace(run, devices=(run.devices[device_of[block.id]],))
        trainers.append((make_trainer(own, block, store, partial(report, block.id), shown=shown), shown))
    for trainer, _ in trainers[:1]:
        warmup(PixelSampler(store, trainer.image_ids, batch_size=8, seed=0), run.config)
    fixed = [block.id for block in learned] if group.is_first else []
    with StopSignal() as stop:
        together = SideBySide(run.config, trainers, exchange, fixed, partial(read_model, run))
        return [said(result) for result in together.train(lambda: stop.requested)]
