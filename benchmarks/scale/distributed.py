"""Two processes on one block against one process with twice the batch: how much do their losses differ, step by step?

python -m benchmarks.scale.distributed SCENE OUT [--steps 50] [--config FILE] [section.key=value ...]

Samples are not perturbed, because every process draws different ones. Measured: the largest relative difference of the
squared error over the steps, and the rays per second of both.
"""

import argparse
import multiprocessing
import os
import socket
import time
from pathlib import Path

from benchmarks.report import report
from benchmarks.results import measured
from blocknerf.blocks.output import plan_scene
from blocknerf.core.config.load import load_config
from blocknerf.runtime.process_group import ALONE, ProcessGroup
from blocknerf.runtime.threads import use_threads
from blocknerf.scene.store import ImageStore
from blocknerf.training.block.inputs import BlockFolders, BlockInputs
from blocknerf.training.block.trainer import BlockNeRFTrainer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scene", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--config", type=Path)
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("overrides", nargs="*")
    arguments = parser.parse_intermixed_args()

    settings = ["block_manager.max_blocks=1", "block_nerf.perturb_samples=false", *arguments.overrides]
    batch_size = load_config(arguments.config, settings).dataset.batch_size
    alone, alone_rays_per_s = losses(arguments, [*settings, f"dataset.batch_size={2 * batch_size}"], "alone", ALONE)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        members = [pool.apply_async(member, (rank, port, arguments, settings)) for rank in range(2)]
        together, together_rays_per_s = members[0].get()
        members[1].get()
    difference = max(abs(one - other) / one for one, other in zip(alone, together, strict=True))
    figures = {"rays_per_s_alone": round(alone_rays_per_s), "rays_per_s_together": round(2 * together_rays_per_s)}
    name = f"two gloo processes against one with twice the batch, {arguments.steps} steps"
    cells = {"must": "losses within 1e-4 relative", "measured": measured(difference, format=".1e")}
    report("scale/distributed", {name: cells}, details={name: figures | {"scene": arguments.scene.name}})


def member(rank: int, port: int, arguments: argparse.Namespace, settings: list[str]) -> tuple[list[float], float]:
    os.environ.update(RANK=str(rank), WORLD_SIZE="2", MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    group = ProcessGroup.join("gloo")
    try:
        return losses(arguments, settings, f"member_{rank}", group)
    finally:
        group.leave()


def losses(
    arguments: argparse.Namespace, settings: list[str], name: str, group: ProcessGroup
) -> tuple[list[float], float]:
    """Squared errors by step, and rays per second of this process after the first step."""
    out = arguments.out / name
    config, scene, plan = plan_scene(load_config(arguments.config, settings), arguments.scene, out)
    use_threads(1)
    store = ImageStore.open(scene, config.dataset.image_downsample, out / "store")
    trainer = BlockNeRFTrainer(
        BlockInputs(config, plan.blocks[0], store, plan.scene_hash), BlockFolders(out / "block"), group=group
    )
    errors = [float(trainer.train_step()[0]["mse"])]
    begin = time.perf_counter()
    errors += [float(trainer.train_step()[0]["mse"]) for _ in range(arguments.steps - 1)]
    return errors, (arguments.steps - 1) * config.dataset.batch_size / (time.perf_counter() - begin)


if __name__ == "__main__":
    main()
