"""The memory of a training step, with activations kept and computed again, in float32 and half precision.

python -m benchmarks.scale.memory SCENE OUT [--backbones mlp,hash] [--steps 3] [--config FILE] [section.key=value ...]

Every row is a separate process: the largest resident memory over the steps, minus that before the first one, and the
seconds of a step (without validation). One block of the whole scene.
"""

import argparse
import json
import multiprocessing
import resource
import time
from pathlib import Path

from benchmarks.report import report
from benchmarks.results import Cell, measured
from blocknerf.blocks.output import plan_scene
from blocknerf.core.config.load import load_config
from blocknerf.runtime.cores import available_cores
from blocknerf.runtime.memory import held_gb
from blocknerf.runtime.threads import use_threads
from blocknerf.scene.store import ImageStore
from blocknerf.training.block.inputs import BlockFolders, BlockInputs
from blocknerf.training.block.trainer import BlockNeRFTrainer

ROWS = {
    "as it is": [],
    "activations computed again": ["training.use_gradient_checkpointing=true"],
    "half precision": ["training.use_mixed_precision=true"],
    "both": ["training.use_gradient_checkpointing=true", "training.use_mixed_precision=true"],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scene", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--config", type=Path)
    parser.add_argument("--backbones", default="mlp,hash")
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("overrides", nargs="*")
    arguments = parser.parse_intermixed_args()

    cells: dict[str, dict[str, Cell]] = {}
    summary: dict[str, dict[str, Cell]] = {}
    with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
        for backbone in arguments.backbones.split(","):
            found = {}
            for name, options in ROWS.items():
                overrides = [
                    f"block_nerf.backbone={backbone}",
                    "block_manager.max_blocks=1",
                    *options,
                    *arguments.overrides,
                ]
                given = (arguments.scene, arguments.out / backbone, arguments.config, overrides, arguments.steps)
                found[name] = pool.apply(measure, given)
                print(json.dumps({"row": f"{backbone}, {name}", **found[name]}), flush=True)
            before, again = found["as it is"], found["activations computed again"]
            for name, each in found.items():
                cells[f"`{backbone}`, {name}"] = {
                    "memory of a step": measured(each["step_gb"], "GB"),
                    "saved": measured(1 - each["step_gb"] / before["step_gb"], format=".0%"),
                    "a step": measured(each["steps_s"], "s"),
                }
            longer = min(again["steps_s"]) / min(before["steps_s"]) - 1
            note = f"{before['step_gb']:.2f} GB to {again['step_gb']:.2f} GB, step {longer:+.0%}"
            saved = measured(again["step_gb"] / before["step_gb"] - 1, format="+.0%", note=note)
            name = f"memory of a step, activations computed again, `{backbone}`"
            summary[name] = {"must": "40 % less", "measured": saved}
    report("scale/memory", cells, arguments.scene.name)
    report("scale/memory", summary, "summary")


def measure(scene: Path, out: Path, config: Path | None, overrides: list[str], steps: int) -> dict:
    settings, found, plan = plan_scene(load_config(config, overrides), scene, out)
    use_threads(available_cores(), settings.block_nerf.worker)
    store = ImageStore.open(found, settings.dataset.image_downsample, out / "store")
    trainer = BlockNeRFTrainer(
        BlockInputs(settings, plan.blocks[0], store, plan.scene_hash), BlockFolders(out / "block")
    )
    before_gb, times_s = held_gb(), []
    for _ in range(steps):
        begin = time.perf_counter()
        trainer.train_step()
        times_s.append(time.perf_counter() - begin)
    peak_gb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
    return {
        "step_gb": round(peak_gb - before_gb, 3),
        "before_gb": round(before_gb, 3),
        "steps_s": [round(each, 3) for each in times_s],
    }


if __name__ == "__main__":
    main()
