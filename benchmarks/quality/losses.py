"""The worth of each term of the loss on one block: all terms, and all without each.

python -m benchmarks.quality.losses OUT [--scene SCENE] [--block 000] [--steps 3000] [--seeds 42] [--rows full,-depth]
    [--config FILE] [section.key=value ...]

Without --scene, a synthetic street is created in OUT/scene. `full` has the documents' weights, `default` the default
ones. Every row has the same number of steps and is measured on the unmasked pixels of the block's test images, with the
mean code of the image's drive: PSNR, SSIM and, if the scene has depth maps, the mean absolute difference of log
distance. `gain` is the worth of a term: PSNR of the whole minus that of the row. With several --seeds: medians, lowest
and highest.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import torch

from benchmarks.measure import blocknerf, run
from benchmarks.report import report
from benchmarks.results import Cell, measured
from blocknerf.blocks.output import load_output
from blocknerf.city.manifest import block_folder
from blocknerf.core.config.dataset import DatasetConfig
from blocknerf.core.errors import UserError
from blocknerf.core.types import Appearance
from blocknerf.models.block_file import read_block
from blocknerf.models.block_nerf import BlockNeRF
from blocknerf.rendering.quality import psnr, ssim
from blocknerf.scene.readers.read import read_scene
from blocknerf.scene.store import ImageStore

FULL = {
    "dataset.use_depth": "true",
    "training.rgb_l1_share": "0.1",
    "training.rgb_ssim_share": "0.1",
    "training.depth_loss_weight": "0.1",
    "training.regularization_weight": "1e-6",
    "training.appearance_loss_weight": "0.1",
    "training.distortion_loss_weight": "3e-4",
}
ROWS: dict[str, dict[str, str]] = {
    "full": FULL,
    "-l1": FULL | {"training.rgb_l1_share": "0"},
    "-ssim": FULL | {"training.rgb_ssim_share": "0"},
    "-l1-ssim": FULL | {"training.rgb_l1_share": "0", "training.rgb_ssim_share": "0"},
    "-depth": FULL | {"dataset.use_depth": "false"},
    "-regularization": FULL | {"training.regularization_weight": "0"},
    "-appearance": FULL | {"training.appearance_loss_weight": "0"},
    "-distortion": FULL | {"training.distortion_loss_weight": "0"},
    "default": {},
}
JUDGES = {"psnr": "PSNR", "ssim": "SSIM", "log_distance": "log distance"}
UNITS = {"psnr": ("dB", ".2f"), "ssim": ("", ".3f"), "log_distance": ("", ".3f")}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--scene", type=Path)
    parser.add_argument("--block", default="000")
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--seeds", default="42")
    parser.add_argument("--rows", default=",".join(ROWS), help="of these, `full` first")
    parser.add_argument("--config", type=Path)
    parser.add_argument("overrides", nargs="*")
    options = parser.parse_intermixed_args()

    scene = options.scene or synthetic(options.out / "scene")
    store = open_store(scene, options.out / "store")
    table = {}
    for name in options.rows.split(","):
        settings = ROWS[name] if store.level().depth_z_m is not None else ROWS[name] | {"dataset.use_depth": "false"}
        of_seeds = []
        for seed in options.seeds.split(","):
            out = options.out / f"{name.replace('-', '_')}_{seed}"
            train(
                scene, out, options, [*(f"{key}={value}" for key, value in settings.items()), f"training.seed={seed}"]
            )
            of_seeds.append(figures(out, options.block, store))
        table[name] = {judge: [row[judge] for row in of_seeds] for judge in of_seeds[0]}
        print(json.dumps({"scene": scene.name, "row": name, **table[name]}), flush=True)
    report("quality/losses", as_cells(table))


def synthetic(folder: Path) -> Path:
    if not folder.is_dir():
        run(blocknerf("synth", folder, "--preset", "street_small"))
    return folder


def open_store(scene_root: Path, folder: Path) -> ImageStore:
    """With depth where there is any."""
    try:
        scene = read_scene(scene_root, DatasetConfig(use_depth=True))
    except UserError:
        scene = read_scene(scene_root, DatasetConfig())
    return ImageStore.open(scene, 1, folder)


def train(scene: Path, out: Path, options: argparse.Namespace, settings: list[str]) -> None:
    """Through the command line; what is finished already is kept."""
    config = ["--config", options.config] if options.config else []
    place = ["--data-root", scene, "--output-dir", out, "--blocks", options.block, "--resume"]
    length = [f"training.max_steps={options.steps}", "training.num_epochs=1000000", "validation.num_val_images=0"]
    run(blocknerf("train", *config, *place, *length, *settings, *options.overrides))


def figures(out: Path, block_id: str, store: ImageStore) -> dict[str, float]:
    """Means over the block's test images."""
    config, plan = load_output(out)
    if config.dataset.image_downsample != 1:
        raise UserError("This benchmark measures at full size; leave dataset.image_downsample at 1.")
    saved = read_block(block_folder(out, block_id), "latest")
    model = BlockNeRF.from_state(saved.meta.model, saved.tensors)
    rows = [judged(model, store, image_id) for image_id in plan.block(block_id).test_images]
    return {judge: float(np.nanmean([row[judge] for row in rows])) for judge in rows[0]}


def judged(model: BlockNeRF, store: ImageStore, image_id: str) -> dict[str, float]:
    height, width = store.size(image_id)
    record = store.records[image_id]
    code = model.code_for(Appearance(drive=record.drive, exposure=record.exposure))
    render = model.render(store.rays(image_id), code).reshape(height, width)
    truth = torch.from_numpy(store.rgb(image_id).astype(np.float32) / 255)
    valid = torch.from_numpy(store.valid(image_id).copy())
    row = {"psnr": psnr(render.rgb, truth, valid), "ssim": ssim(render.rgb, truth, valid)}
    depth_z_m = store.depth_z_m(image_id)
    if depth_z_m is not None:
        distance_m = torch.from_numpy(depth_z_m / store.directions_cam(image_id)[..., 2])
        known = valid & (distance_m > 0)
        differences = (torch.log(render.distance_m[known]) - torch.log(distance_m[known])).abs()
        row["log_distance"] = float(differences.mean())  # NaN where an image has no depth
    return row


def as_cells(table: dict[str, dict[str, list[float]]]) -> dict[str, dict[str, Cell]]:
    """From the values of each seed."""
    whole = next(iter(table.values()))
    rows: dict[str, dict[str, Cell]] = {}
    for name, row in table.items():
        cells: dict[str, Cell] = {JUDGES[judge]: measured(values, *UNITS[judge]) for judge, values in row.items()}
        gains = [full - value for full, value in zip(whole["psnr"], row["psnr"], strict=True)]
        rows[name] = cells if row is whole else cells | {"gain": measured(gains, "dB", "+.2f")}
    return rows


if __name__ == "__main__":
    main()
