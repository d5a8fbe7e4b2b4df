"""What each part of the field's training brings in the same time: one block of a capture, trained without it.

python -m benchmarks.quality.field SCENE OUT [--minutes 1,4] [--config FILE] [--block 000] [--rows "all,as before"]
    [section.key=value ...]

Every row trains the same block on one core, with the same configuration and minutes except for its part, and renders
all of the block's test images from that block alone. `as before` is without all parts. `distance` is how far the
rendered distance is from the sparse points that the test images saw: the median of |log(rendered / true)|, where a
capture has such points. Rows run one after the other; keep the other cores quiet.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import torch

from benchmarks.measure import blocknerf, run
from benchmarks.quality.capture import judged
from benchmarks.report import report
from benchmarks.results import Cell, measured
from blocknerf.blocks.output import load_output, open_scene
from blocknerf.core.types import Appearance
from blocknerf.evaluation.views import HeldOutImage
from blocknerf.models.block_file import read_block
from blocknerf.models.block_nerf import BlockNeRF, load_block
from blocknerf.rendering.quality import psnr, ssim
from blocknerf.runtime.threads import use_threads
from blocknerf.scene.observed_points import observed_points
from blocknerf.scene.scene import ImageRecord, Scene
from blocknerf.scene.store import ImageStore

WITHOUT = {
    "sparse points": "training.point_loss_weight=0",
    "small gradients near cameras": "block_nerf.full_gradient_radii=0",
}
ALWAYS = ["validation.num_val_images=0", "training.num_epochs=100000"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scene", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--minutes", default="1,4", help="separated by commas")
    parser.add_argument("--config", type=Path)
    parser.add_argument("--block", default="000")
    parser.add_argument("--rows", help="names of rows, separated by commas; default: every row")
    parser.add_argument("overrides", nargs="*")
    arguments = parser.parse_intermixed_args()

    use_threads(1)
    config = ["--config", arguments.config] if arguments.config else []
    rows = {"all": [], **{f"without {part}": [key] for part, key in WITHOUT.items()}, "as before": [*WITHOUT.values()]}
    chosen = arguments.rows.split(",") if arguments.rows else [*rows]
    cells: dict[str, dict[str, Cell]] = {}
    for minutes in map(float, arguments.minutes.split(",")):
        for name in chosen:
            out = arguments.out / f"{name.replace(' ', '_')}_{minutes:g}"
            place = ["--data-root", arguments.scene, "--output-dir", out, "--blocks", arguments.block, "--jobs", "1"]
            budget = [f"training.max_minutes={minutes:g}", *ALWAYS, *rows[name], *arguments.overrides]
            run(["env", "NUMBA_NUM_THREADS=1", *blocknerf("train", *config, *place, "--overwrite", *budget)])
            figures = of_block(out, arguments.block, arguments.scene)
            print(json.dumps({"scene": arguments.scene.name, "row": name, "minutes": minutes, **figures}), flush=True)
            head = f"{minutes:g} min"
            cells.setdefault(name, {})[f"{head}: PSNR"] = judged("psnr", figures["psnr"])
            cells[name][f"{head}: SSIM"] = judged("ssim", figures["ssim"])
            if "distance" in figures:
                cells[name][f"{head}: distance"] = measured(100 * figures["distance"], "%", ".2f")
    report("quality/field", cells, arguments.scene.name)


def of_block(out: Path, block_id: str, data_root: Path) -> dict[str, float]:
    """Means over the test images of a block, by the mean code of their drive and their own exposure."""
    config, plan = load_output(out)
    scene = open_scene(out, config.dataset, data_root)
    store = ImageStore.open(scene, config.dataset.image_downsample, out / "store", progress=False)
    model = load_block(read_block(out / "blocks" / block_id, "latest"))
    images = [store.records[name] for name in plan.block(block_id).test_images if name in store.records]
    figures = [_of_image(model, store, image) for image in images]
    means = {name: float(np.mean([one[name] for one in figures])) for name in figures[0]}
    errors = _distance_errors(model, scene, store, [image.id for image in images])
    return means | ({"distance": float(np.median(errors))} if len(errors) else {})


def _of_image(model: BlockNeRF, store: ImageStore, image: ImageRecord) -> dict[str, float]:
    test = HeldOutImage.of(store, image)
    code = model.code_for(Appearance(drive=image.drive, exposure=image.exposure))
    rgb = model.render(test.rays, code).rgb.reshape(*test.valid.shape, 3)
    return {"psnr": psnr(rgb, test.truth, test.valid), "ssim": ssim(rgb, test.truth, test.valid)}


def _distance_errors(model: BlockNeRF, scene: Scene, store: ImageStore, image_ids: list[str]) -> np.ndarray:
    """|log(rendered / true)| at the points that images saw; empty without such points."""
    every_id = tuple(store.records)
    sights = observed_points(scene, store, every_id)
    errors = [np.zeros(0)]
    if sights is None:
        return errors[0]
    for image_id in image_ids:
        of_image = sights.slots == every_id.index(image_id)
        height, width = store.size(image_id)
        columns, rows = (sights.xy_px[of_image] * store.scale(image_id)).astype(np.int64).T
        inside = (columns < width) & (rows < height)  # a level leaves out a remainder of the photograph
        rays = store.rays(image_id)[torch.from_numpy((rows * width + columns)[inside])]
        rendered_m = model.render(rays, model.code_for()).distance_m.numpy()
        errors.append(np.abs(np.log(rendered_m / sights.distance_m[of_image][inside])))
    return np.concatenate(errors)


if __name__ == "__main__":
    main()
