"""A city trained by Ray on two machines, one of which dies in the middle of a block: does it have the same bytes?

python -m benchmarks.scale.ray_nodes SCENE OUT [--steps 2000] [section.key=value ...]

Both machines belong to ray.cluster_utils.Cluster, on this one, with a core each. Scene and output are on file:// URLs,
and each task works in a separate folder, so it can only resume from what was pushed. The undisturbed run trains the
same blocks with the same number of threads, in plain folders. Compared are city.json, plan.json, the weights of every
block, and their JSON except for the seconds of training.
"""

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import ray
from ray.cluster_utils import Cluster

from benchmarks.report import report
from blocknerf.blocks.output import plan_scene
from blocknerf.core.caches import CACHE_VARIABLE
from blocknerf.core.config.load import load_config
from blocknerf.core.shared_folder import SharedFolder
from blocknerf.models.block_file import read_block
from blocknerf.training.block.trainer import Progress
from blocknerf.training.launchers.processes import ProcessLauncher
from blocknerf.training.launchers.ray_tasks import RayCluster, RayLauncher
from blocknerf.training.run.run import Run
from blocknerf.training.train_blocks import train_blocks

SETTINGS = (
    "training.num_epochs=1000",
    "training.checkpoint_minutes=0.02",
    "validation.num_val_images=1",
    "logging.log_freq=10",
)
ROW = "Ray: two machines of its `Cluster` on this one, one killed in the middle of a block"
SHARE = 0.4
"""Of a block that is done when its machine dies, at least."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scene", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("overrides", nargs="*")
    arguments = parser.parse_intermixed_args()
    if arguments.out.exists():
        sys.exit(f"{arguments.out} is there already; give a new folder.")
    os.environ[CACHE_VARIABLE] = str(arguments.out.resolve() / "copies")
    settings = (*SETTINGS, f"training.max_steps={arguments.steps}", *arguments.overrides)

    calm = planned(str(arguments.scene), str(arguments.out / "undisturbed"), settings)
    begin = time.perf_counter()
    train_blocks(calm, launcher=ProcessLauncher(2))
    calm_s = time.perf_counter() - begin
    url = f"file://{arguments.out.resolve()}/killed"
    run = planned(f"file://{arguments.scene.resolve()}", url, settings)
    begin = time.perf_counter()
    block_id, died_at = train_with_a_death(run)
    seconds = time.perf_counter() - begin
    equal = same_city(arguments.out / "undisturbed", arguments.out / "killed")
    resumed = resumed_at(arguments.out / "killed" / "logs" / f"{block_id}.log")
    text = f"died at step {died_at.step} of {arguments.steps}, resumed elsewhere from step {resumed}; "
    text += "all bytes equal" if equal else "NOT REACHED: bytes differ"
    text += f" ({seconds:.0f} s, undisturbed {calm_s:.0f} s)"
    cells = {"asked": "ends by itself, same bytes", "measured": f"{text}; one run"}
    report(
        "scale/ray_nodes", {ROW: cells}, details={ROW: {"scene": arguments.scene.name, "blocks": len(run.plan.blocks)}}
    )
    if not equal:
        sys.exit(1)


def planned(scene: str, out: str, settings: tuple[str, ...]) -> Run:
    folder = SharedFolder.at(out)
    config, read, plan = plan_scene(load_config(None, settings), scene, folder.local)
    return Run(config, read, plan, folder.local, scene_url=SharedFolder.at(scene).url, output_url=folder.url)


def train_with_a_death(run: Run) -> tuple[str, Progress]:
    """Trains every block; which was in its middle on the machine that was killed, and how far it had come."""
    cluster = Cluster()
    killed: list[tuple[str, Progress]] = []
    try:
        cluster.add_node(num_cpus=1, include_dashboard=False)
        second = cluster.add_node(num_cpus=1)
        ray.init(address=cluster.address, log_to_driver=False)

        def kill_the_second(block_id: str, progress: Progress | None) -> None:
            if killed or progress is None or not SHARE <= progress.fraction < 0.95:
                return
            if was_pushed(run, block_id) and block_on(second) == block_id:
                killed.append((block_id, progress))
                cluster.remove_node(second, allow_graceful=False)

        train_blocks(run, report=kill_the_second, launcher=RayLauncher(RayCluster(cores=1)))
    finally:
        ray.shutdown()
        cluster.shutdown()
    if not killed:
        sys.exit("No machine was killed: its block was never seen in the middle. Give more --steps.")
    return killed[0]


def was_pushed(run: Run, block_id: str) -> bool:
    """Whether there is a checkpoint from which all machines can resume."""
    assert run.output_url is not None
    return (Path(run.output_url.removeprefix("file://")) / "blocks" / block_id / "checkpoint.json").exists()


def block_on(node: Any) -> str | None:
    """The block that is trained on a machine of the cluster: Ray names processes after their tasks."""
    (raylet,) = node.all_processes["raylet"]
    command = ["ps", "-o", "args=", "--ppid", str(raylet.process.pid)]
    named = subprocess.run(command, capture_output=True, text=True, check=False).stdout.splitlines()
    blocks = [title.removeprefix("ray::block ").strip() for title in named if title.startswith("ray::block ")]
    return blocks[0] if blocks else None


def resumed_at(log: Path) -> int | None:
    """The step at which a block resumed, by its log; None if it was never stopped."""
    lines = [line for line in log.read_text().splitlines() if "resumes at step" in line]
    return int(lines[-1].rstrip(".").split()[-1]) if lines else None


def same_city(one: Path, other: Path) -> bool:
    """Whether all bytes are equal but the seconds of training; hashes of weights are checked against the files."""
    equal = all((one / name).read_bytes() == (other / name).read_bytes() for name in ("city.json", "plan.json"))
    return equal and all(same_block(folder, other / "blocks" / folder.name) for folder in (one / "blocks").iterdir())


def same_block(one: Path, other: Path) -> bool:
    left, right = (read_block(folder, "latest").meta.model_copy(update={"spent_s": 0.0}) for folder in (one, other))
    return left == right


if __name__ == "__main__":
    main()
