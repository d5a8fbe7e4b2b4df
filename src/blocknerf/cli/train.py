"""`blocknerf train`: trains all blocks of the plan, or only those that are named."""

import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal

import tyro
from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Table

from blocknerf.cli.exclusive import URL, require_compatible
from blocknerf.cli.minutes import begin_budget, kept_choice, read_settings
from blocknerf.cli.overrides import Overrides
from blocknerf.cli.place import Device, Place
from blocknerf.core.config.config import Config
from blocknerf.core.config.distributed import DistributedConfig
from blocknerf.core.errors import UserError
from blocknerf.core.logging import console, log, start_logging
from blocknerf.core.shared_folder import SharedFolder


def train(
    data_root: Place,
    output_dir: Place = "outputs",
    config: Path | None = None,
    overrides: Overrides = (),
    minutes: float | None = None,
    blocks: str | None = None,
    jobs: Annotated[int | None, tyro.conf.arg(metavar="N")] = None,
    resume: bool = False,
    resume_from: Path | None = None,
    overwrite: bool = False,
    update: bool = False,
    side_by_side: bool = False,
    align: bool = True,
    device: Device = "auto",
    debug: bool = False,
    distributed: bool = False,
    launcher: Literal["local", "ray"] = "local",
    address: Annotated[str | None, tyro.conf.arg(metavar="HOST:PORT")] = None,
    cores: Annotated[int | None, tyro.conf.arg(metavar="N")] = None,
) -> None:
    """Trains every block of a scene. Each block is a separate field with separate files.

    Plans first if the output folder has no plan yet. Ctrl-C saves; the same command with --resume resumes.

    For example:
      # A street, in half an hour
      $ blocknerf train --data-root my_street --output-dir out --config configs/street.yaml --minutes 30
      # Five minutes a block, at half the size of the photographs
      $ blocknerf train --data-root my_street --output-dir out training.max_minutes=5 dataset.image_downsample=2
      # Resume after Ctrl-C
      $ blocknerf train --data-root my_street --output-dir out --resume
      # Two blocks of the plan, both at the same time
      $ blocknerf train --data-root my_street --output-dir out --blocks 000,003 --jobs 2
      # Photographs were added near block 003
      $ blocknerf train --data-root my_street --output-dir out --blocks 003 --update
      # Something is wrong: find out what
      $ blocknerf train --data-root my_street --output-dir tried --debug

    Args:
        data_root: Folder of the scene: a COLMAP model or transforms.json with its images. A scene on a URL, such as
            s3://bucket/scene, is copied to this machine.
        output_dir: Folder of the run. It is created if it does not exist. A URL is written at every save.
        config: YAML or JSON file. Default: the default of every key, or with --resume the folder's config.json.
        overrides: Single values, as section.key=value.
        minutes: Time for the whole run on this machine: planning, decoding and all blocks. How large images and tables
            are, how many rays a step has and how long a block learns then follow from how fast this machine is measured
            to be; a key that you give stays. With --resume, for the run from its beginning: the same number resumes,
            a larger one adds time for blocks that are not finished.
        blocks: Ids of the blocks to train, such as 000,003. Default: all.
        jobs: Number of blocks trained at the same time. Each has a process, its share of the cores, and
            training.max_minutes times this number. Default: as many as there are cores, if memory permits.
        resume: Skip finished blocks, and resume unfinished ones from their checkpoints.
        resume_from: Like --resume, but one block resumes from this state: checkpoint.json, best.json or a kept
            step_N.json, of this output folder or of another one made from the same scene and configuration.
        overwrite: Delete what these blocks have learned, and train them from the beginning.
        update: Train the blocks of --blocks further, on their old images and those added to the scene since; then
            align them with their neighbours. Other blocks do not change.
        side_by_side: Train all blocks at the same time. Neighbours then learn from each other what the places look
            like that both reach. training.consistency_loss_weight, such as 0.05, says how strongly they should agree.
            Without this flag, a block learns it from neighbours trained before. Under torchrun, every process trains
            its share of the blocks.
        align: When the last block is trained, match the appearance of neighbouring blocks as `blocknerf align` does,
            if the scene has several drives. Weights do not change.
        device: Where blocks learn: auto (all CUDA devices of this machine if it has any, otherwise the processor),
            cpu, cuda or cuda:N. Of several devices, each trains one block; with --distributed, all train the same
            block. On a Ray cluster: auto (a GPU for each block if any machine has one) or cpu.
        debug: Try everything within a minute: inspect the scene and the first block as `blocknerf inspect` does, then
            train on a few small images at tiny sizes, log every detail, and stop at the first gradient that is NaN.
        distributed: Train every block with several processes, each on its share of the rays. Start them with
            `torchrun --nproc-per-node 2 -m blocknerf train --distributed ...`.
        launcher: Where blocks are trained: local (this machine) or ray (all machines of a Ray cluster). With ray, each
            block is a task with the cores, GPUs and memory that it needs. If a machine dies, its blocks resume on
            another. Folders must be URLs, or lie on a file system that all machines share.
        address: Address of the Ray cluster's head. Default: the cluster to which this machine belongs, or this machine
            alone.
        cores: Cores for each block with --launcher ray. Default: those of the cluster divided by the number of blocks,
            8 at most.
    """
    began_s = time.monotonic()
    from blocknerf.core.config.backbone import first_backbone
    from blocknerf.kernels.jit.precompile import start_compiling
    from blocknerf.runtime.cores import available_cores

    start_compiling(first_backbone().kernels, available_cores())  # during imports, before the configuration is known

    from blocknerf.blocks.output import plan_scene, pull_plan, update_scene
    from blocknerf.cli.align import align_trained, align_updated
    from blocknerf.cli.plan import print_plan
    from blocknerf.training.launchers.choose import choose_launcher, jobs_that_fit
    from blocknerf.training.run.resume import resume_from_state, state_path
    from blocknerf.training.run.run import Run
    from blocknerf.training.train_blocks import train_blocks

    captured, output = SharedFolder.at(data_root), SharedFolder.at(output_dir)
    require_compatible(
        {
            URL: captured.url is not None or output.url is not None,
            "--minutes": minutes is not None,
            "--jobs": jobs not in (None, 1),
            "--distributed": distributed,
            "--side-by-side": side_by_side,
            "--launcher ray": launcher == "ray",
            "--debug": debug,
            "--update": update,
            "--resume": resume,
            "--resume-from": resume_from is not None,
            "--overwrite": overwrite,
        }
    )
    block_ids = _block_ids(blocks)
    ray = _cluster(launcher, address, cores, device)
    devices = _devices(device if ray is None else "cpu", distributed, side_by_side)
    pull_plan(output)
    output_dir = output.local
    if resume_from is not None:
        resume, resume_from = True, state_path(resume_from)
    base = base_config(config, output_dir, resume or update)
    chosen = read_settings(base, overrides, output_dir, resume or update, minutes)
    settings, budget = chosen.config, None
    if minutes is not None:
        budget = begin_budget(minutes, began_s, chosen, output_dir, devices, jobs, block_ids, align)
    group = _join(settings.distributed, distributed, side_by_side)
    try:
        if not group.is_first:
            group.wait()  # until the first process has planned
        if debug:
            settings, jobs = _debug_settings(settings, captured.local), 1
        if update:
            _check_update(output_dir, block_ids)
            settings, scene, planned = update_scene(settings, data_root, output_dir, block_ids)
        else:
            settle = kept_choice(chosen) if budget is None else budget.settle
            settings, scene, planned = plan_scene(settings, data_root, output_dir, settle)
        run = Run(settings, scene, planned, output_dir, update, captured.url, output.url, devices=devices)
        with _logged(run, group):
            if group.is_first:
                print_plan(planned, scene, settings)
                if debug:
                    _inspect_start(settings, scene, planned, output_dir, devices[0])
                if resume_from is not None:
                    resume_from_state(run, resume_from, block_ids)
                group.wait()
            with _anomalies_found(debug), _progress_bars(enabled=group.is_first) as bars:
                wanted = planned.select(block_ids)
                if budget is not None:
                    jobs = jobs or jobs_that_fit(run, wanted)
                    budget = replace(budget, jobs=jobs)
                way = choose_launcher(
                    run,
                    wanted,
                    jobs,
                    data_parallel=group if distributed else None,
                    joint=group if side_by_side else None,
                    ray=ray,
                )
                results = train_blocks(run, block_ids, resume, overwrite, _reporter(bars), way, budget)
    finally:
        group.leave()
    if side_by_side or group.is_first:  # side by side, every process trains different blocks
        console.print(_results_table(results) if results else "All blocks are already trained.")
    if update and align:
        align_updated(output_dir, scene, planned, settings, block_ids, device)
    elif align and output.url:
        log.info(
            "The city is on a URL: blocks of several drives are not aligned. Copy it to this machine and run "
            "`blocknerf align`."
        )
    elif align and group.is_first and not debug:
        trained = [result.block_id for result in results] if group.size == 1 else [block.id for block in planned.blocks]
        align_trained(output_dir, scene, planned, settings, trained, device)
    log.info("The city is in %s. Look at it with `blocknerf evaluate %s`.", output.place, output.place)


@contextmanager
def _logged(run, group) -> Iterator[None]:
    """Messages also go to a file in the output folder. On a URL, they are appended to the earlier file."""
    log_file = run.log_file("train" if group.is_first else f"train_{group.rank}")
    run.pull(log_file)
    start_logging(log_file, to_console=group.is_first)
    try:
        yield
    finally:
        run.push(log_file)


def _devices(device: str, distributed: bool, side_by_side: bool) -> tuple[str, ...]:
    """Devices of this process: its share if torchrun started several; a single one if they train a block together."""
    from blocknerf.runtime.devices import devices_of

    devices = devices_of(device)
    if not (distributed or side_by_side):
        return devices
    rank, processes = (int(os.environ.get(name, alone)) for name, alone in (("LOCAL_RANK", 0), ("LOCAL_WORLD_SIZE", 1)))
    of_rank = devices[rank::processes] or (devices[rank % len(devices)],)
    return of_rank[:1] if distributed else of_rank


def _join(settings: DistributedConfig, distributed: bool, side_by_side: bool):
    """The processes that torchrun started together, if any. Blocks side by side communicate through gloo."""
    from blocknerf.runtime.process_group import ALONE, ProcessGroup

    if distributed:
        return ProcessGroup.join(settings.backend)
    return ProcessGroup.join("gloo") if side_by_side and ProcessGroup.is_named() else ALONE


def _cluster(launcher: str, address: str | None, cores: int | None, device: str):
    from blocknerf.training.launchers.ray_tasks import RayCluster

    if launcher == "ray":
        if cores is not None and cores < 1:
            raise UserError(f"--cores {cores}: a block needs at least one.")
        if device not in ("auto", "cpu"):
            raise UserError(f"--device {device}: Ray itself gives each block a GPU of its cluster. Give auto or cpu.")
        return RayCluster(address, cores, use_gpus=device == "auto")
    if address is not None or cores is not None:
        raise UserError("--address and --cores need --launcher ray. Add it, or omit them.")
    return None


def _reporter(bars: Progress):
    """A function that shows the progress of blocks in the bars."""
    tasks = {}

    def report(block_id, progress):
        if block_id not in tasks:
            tasks[block_id] = bars.add_task(block_id, total=1.0, rays="waits", psnr="", left="")
        if progress is None:
            return
        bars.update(
            tasks[block_id],
            completed=progress.fraction,
            rays=f"{progress.rays_per_s:,.0f} rays/s",
            psnr=f"{progress.train_psnr:.2f} dB",
            left=f"{_clock(progress.remaining_s)} left",
        )

    return report


def base_config(config: Path | None, output_dir: Path, resume: bool) -> Path | None:
    """The file that overrides are applied to: `config`, or the folder's config.json if it resumes without `config`."""
    stored = output_dir / "config.json"
    return stored if config is None and resume and stored.is_file() else config


def _debug_settings(settings: Config, data_root: Path) -> Config:
    """Tiny settings; also logs every detail."""
    from blocknerf.diagnostics.tiny import tiny_config
    from blocknerf.scene.readers.read import read_scene

    log.setLevel(logging.DEBUG)
    return tiny_config(settings, read_scene(data_root, settings.dataset))


def _inspect_start(settings, scene, planned, output_dir: Path, device: str) -> None:
    from blocknerf.cli.inspect import print_inspection
    from blocknerf.diagnostics.inspection import inspect_start

    print_inspection(inspect_start(settings, scene, planned, output_dir, device))


def _anomalies_found(debug: bool):
    """If a gradient becomes NaN, torch names the forward operation to which it belongs."""
    from torch.autograd import set_detect_anomaly

    return set_detect_anomaly(True) if debug else nullcontext()


def _check_update(output_dir: Path, block_ids: tuple[str, ...]) -> None:
    """Raises UserError if no block is named or one was never trained, before anything is written."""
    from blocknerf.blocks.output import load_output
    from blocknerf.training.run.update import require_learned

    if not block_ids:
        raise UserError("--update needs --blocks. Name the blocks to train further, as in --blocks 003.")
    _, plan = load_output(output_dir)
    require_learned(plan.select(block_ids), output_dir)


def _block_ids(blocks: str | None) -> tuple[str, ...]:
    if blocks is None:
        return ()
    names = tuple(name.strip() for name in blocks.split(",") if name.strip())
    if not names:
        raise UserError(f"--blocks {blocks!r} names no block. Write ids separated by commas, as in --blocks 000,003.")
    return names


def _progress_bars(enabled: bool = True) -> Progress:
    return Progress(
        TextColumn("block {task.description}"),
        BarColumn(bar_width=30),
        TextColumn("{task.percentage:>3.0f}%  {task.fields[rays]}  {task.fields[psnr]}  {task.fields[left]}"),
        console=console,
        disable=not enabled,
    )


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02d}"


def _results_table(results) -> Table:
    table = Table(title="Trained", title_justify="left")
    for name in ("block", "steps", "minutes", "rays/s", "validation PSNR"):
        table.add_column(name, justify="left" if name == "block" else "right")
    for result in sorted(results, key=lambda result: result.block_id):
        psnr = "-" if result.val_psnr is None else f"{result.val_psnr:.2f}"
        table.add_row(
            result.block_id, f"{result.steps:,}", f"{result.train_s / 60:.1f}", f"{result.rays_per_s:,.0f}", psnr
        )
    return table
