"""The worth of each part of the model: the whole model, without each part, and without all parts.

python -m benchmarks.quality.ablation OUT [--scene SCENE] [--config FILE] [--parts appearance,masks]
    [section.key=value ...]

Without --scene, a synthetic street at four hours is created in OUT/scene. Exposures vary by up to a stop, and each
drive's poses are off by 0.3 m and 1 degree in a random direction, so that every part has something to correct. Every
row is trained with the same configuration and budget except for its part, and measured on the same unmasked test
pixels. `gain` is the part's worth: the whole model minus the row.

`mean code` uses no pixel of a test image. `half image` fits codes to the left half, as the paper's figures most likely
do (Block-NeRF, table 1). `learned poses` moves a test camera by the learned offset of its drive.
"""

import argparse
import json
from pathlib import Path

import numpy as np

from benchmarks.measure import blocknerf, run
from benchmarks.quality.capture import judged
from benchmarks.quality.poses import spoil
from benchmarks.report import report
from benchmarks.results import Cell, measured
from blocknerf.blocks.output import load_output, open_scene
from blocknerf.city.city import City
from blocknerf.core.config.config import Config
from blocknerf.core.config.dataset import DatasetConfig
from blocknerf.core.config.load import load_config
from blocknerf.evaluation.evaluate import evaluate_city
from blocknerf.evaluation.protocols import parse_protocols
from blocknerf.evaluation.report import JUDGES
from blocknerf.scene.colmap_writer import ModelImage, ModelPoints, write_colmap
from blocknerf.scene.readers.read import read_scene
from blocknerf.scene.splits import split_images
from blocknerf.scene.store import ImageStore

PARTS = {
    "appearance": "training.use_appearance_embedding",
    "exposure": "training.use_exposure_encoding",
    "poses": "training.use_pose_refinement",
    "visibility": "training.use_visibility_network",
    "masks": "dataset.use_masks",
}
DEFAULT_PARTS = "appearance,exposure,poses,masks"
"""Those that move a pixel of one block; visibility is asked for by name, where blocks are blended by it."""
PUT_OFF_M, PUT_OFF_DEG = 0.3, 1.0
PROTOCOLS = {"masked": "mean code", "half_image": "half image", "learned_poses": "learned poses"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--scene", type=Path)
    parser.add_argument("--config", type=Path)
    parser.add_argument("--parts", default=DEFAULT_PARTS, help="parts of the whole, each left out in turn")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("overrides", nargs="*")
    arguments = parser.parse_intermixed_args()

    scene = arguments.scene or synthetic(arguments.out / "scene")
    parts = arguments.parts.split(",")
    without = {f"without {part}": [other for other in parts if other != part] for part in parts}
    rows = {"full": parts, **without, "none of them": []}
    table = {}
    for name, kept in rows.items():
        switches = [f"{key}={str(part in kept).lower()}" for part, key in PARTS.items() if part in parts]
        out = arguments.out / name.replace(" ", "_")
        train(scene, out, arguments.config, arguments.jobs, [*switches, *arguments.overrides])
        table[name] = figures(out, scene, load_config(arguments.config, arguments.overrides))
        print(json.dumps({"scene": scene.name, "row": name, **table[name]}), flush=True)
    report("quality/ablation", as_cells(table), "synthetic" if arguments.scene is None else scene.name)


def synthetic(folder: Path) -> Path:
    if not folder.is_dir():
        run(blocknerf("synth", folder, "--preset", "hours", "--exposure-jitter", "1"))
        scene = read_scene(folder, DatasetConfig())
        moved = spoil(scene, "drive", PUT_OFF_M, np.deg2rad(PUT_OFF_DEG), np.random.default_rng(0))
        images = [ModelImage(image.name, image.camera_key, image.world_from_cam) for image in moved.images]
        points = ModelPoints(scene.points_world, scene.points_rgb)
        write_colmap(folder / "sparse" / "0", scene.cameras, images, points)
    return folder


def train(scene: Path, out: Path, config: Path | None, jobs: int, overrides: list[str]) -> None:
    """Through the command line; what is finished already is kept."""
    options = ["--config", config] if config else []
    place = ["--data-root", scene, "--output-dir", out, "--jobs", str(jobs), "--resume"]
    run(blocknerf("train", *options, *place, *overrides))


def figures(out: Path, scene_root: Path, config: Config) -> dict[str, dict[str, float]]:
    """Means by protocol and metric over the test images, whatever the row was trained with: masks count for all."""
    trained, _ = load_output(out)
    measured = trained.model_copy(update={"dataset": config.dataset})
    scene = open_scene(out, measured.dataset, scene_root)
    store = ImageStore.open(scene, config.dataset.image_downsample, out.parent / "store")
    _, test = split_images(scene, config.dataset.test_every)
    images = [image for image in test if image.id in store.records]
    protocols = parse_protocols(",".join(PROTOCOLS))
    metrics = evaluate_city(City.open(out), store, images, out / "report", protocols=protocols)
    return {
        name: {judge: round(entry[judge], 4) for judge in JUDGES if judge in entry}
        for name, entry in metrics["protocols"].items()
    }


def as_cells(table: dict[str, dict[str, dict[str, float]]]) -> dict[str, dict[str, Cell]]:
    """A row for each model; for each protocol its metrics, and what is lost in PSNR against the whole."""
    rows: dict[str, dict[str, Cell]] = {}
    for name, row in table.items():
        cells = rows.setdefault(name, {})
        for protocol, title in PROTOCOLS.items():
            for judge, value in row[protocol].items():
                cells[f"{title}: {JUDGES[judge]}"] = judged(judge, value)
                if judge == "psnr":
                    gain = measured(table["full"][protocol]["psnr"] - value, "dB", "+.2f")
                    cells[f"{title}: gain"] = "" if name == "full" else gain
    return rows


if __name__ == "__main__":
    main()
