"""A run of one block on a machine that has only what it is sent, and URLs."""

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from blocknerf.blocks.plan import BlockSpec, Plan, planned_split
from blocknerf.core import disk
from blocknerf.core.caches import cache_folder
from blocknerf.core.errors import UserError
from blocknerf.scene.exposures import scene_exposures
from blocknerf.scene.part import files_of, part_of, relocated, require_unchanged
from blocknerf.training.run.run import Run, open_store


def subset_for_block(run: Run, block: BlockSpec) -> Run:
    """The part of a run that one block needs, to be sent: its images of the scene, and the plan."""
    exposures = scene_exposures(planned_split(run.plan, run.scene)[0])
    if exposures is not None:
        known = exposures.image_stops
        exposures = replace(exposures, image_stops={name: known[name] for name in block.train_images if name in known})
    scene = part_of(run.scene, (*block.train_images, *block.test_images))
    return replace(run, scene=scene, plan=_part_of_plan(run.plan, block), exposures=exposures)


def _part_of_plan(plan: Plan, block: BlockSpec) -> Plan:
    """The plan with all cells, because they decide what each block learns, but only the images of `block`."""
    others = (replace(other, train_images=(), test_images=()) for other in plan.blocks)
    blocks = tuple(block if other.id == block.id else other for other in others)
    return replace(plan, blocks=blocks, later_images=())


@contextmanager
def staged_run(run: Run) -> Iterator[Run]:
    """The run with paths on this machine, and its photographs decoded. What was learned is not copied yet.

    Copies from URLs are in a folder of this task, which is deleted at the end; photographs are deleted once they are
    decoded. Raises UserError if URLs cannot be read, if they hold other photographs than those of the plan, or if a
    folder that is no URL is not on this machine.
    """
    _require_local(run)
    if not run.is_on_urls:
        yield run
        return
    with _process_folder() as folder:
        staged = replace(run, store_dir=folder / "store")
        if run.output_url is not None:
            staged = replace(staged, output_dir=folder / "output")
        if run.scene_url is not None:
            staged = replace(staged, scene=relocated(run.scene, folder / "photographs"))
            _decode_from_url(staged)
        yield staged


@contextmanager
def _process_folder() -> Iterator[Path]:
    """A folder of this process. Folders left by killed processes on this machine are removed."""
    prefix = f"task-{socket.gethostname()}-"
    folder = cache_folder() / f"{prefix}{os.getpid()}"
    for left in cache_folder().glob(f"{prefix}*"):
        if left == folder or not disk.is_alive(int(left.name.removeprefix(prefix))):
            disk.remove_tree(left)
    disk.make_folder(folder)
    try:
        yield folder
    finally:
        disk.remove_tree(folder)


def _require_local(run: Run) -> None:
    needed = [run.scene.root] if run.scene_url is None else []
    needed += [run.output_dir / "plan.json"] if run.output_url is None else []
    for path in needed:
        if not path.exists():
            raise UserError(
                f"{path} is not on the machine {socket.gethostname()}. Folders must be on a file system that all "
                "machines share, at the same path; or give URLs, as in --output-dir s3://bucket/city."
            )


def _decode_from_url(run: Run) -> None:
    photographs = run.photographs
    photographs.pull(*(photographs.relative(path) for path in files_of(run.scene)))
    for image in run.scene.images:
        require_unchanged(image)
    open_store(run, progress=False)
    for image in run.scene.images:
        disk.unlink(image.path, missing_ok=True)  # the largest files; masks and depth identify the store
