"""What masks of moving cars are worth: the same synthetic street learned with and without them.

Both see the same number of passes over their pixels, whatever the clock says, and are measured on static pixels alone
(those that the true masks keep), with the mean code of the drive.

python -m benchmarks.quality.transients OUT [--preset street_small] [--cars 30] [--epochs 2]
    [--config FILE] [section.key=value ...]
"""

import argparse
import json
from pathlib import Path

import numpy as np

from benchmarks.measure import blocknerf, run
from benchmarks.report import report
from benchmarks.results import measured
from blocknerf.blocks.output import load_output, open_scene
from blocknerf.city.city import City
from blocknerf.evaluation.evaluate import evaluate_city
from blocknerf.scene.splits import split_images
from blocknerf.scene.store import ImageStore


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--preset", choices=("tiny", "street", "street_small", "city"), default="street_small")
    parser.add_argument("--cars", type=int, default=30)
    parser.add_argument("--epochs", type=float, default=2)
    parser.add_argument("--config", type=Path, default=Path("configs/quickstart.yaml"))
    parser.add_argument("overrides", nargs="*")
    arguments = parser.parse_intermixed_args()

    scene = arguments.out / "scene"
    if not scene.is_dir():
        run(blocknerf("synth", scene, "--preset", arguments.preset, "--moving-cars", str(arguments.cars)))
    passes = (f"training.num_epochs={arguments.epochs:g}", "training.max_minutes=")
    psnr, steps, hidden = {}, {}, 0.0
    for name, use_masks in (("masks_on", "true"), ("masks_off", "false")):
        out = arguments.out / name
        options = ["--config", arguments.config, "--data-root", scene, "--output-dir", out]
        run(blocknerf("train", *options, *passes, *arguments.overrides, f"dataset.use_masks={use_masks}"))
        psnr[name], hidden = on_static_pixels(out)
        steps[name] = [json.loads(path.read_text())["step"] for path in sorted(out.glob("blocks/*/latest.json"))]
    name = f"masks of {arguments.cars} moving cars, {arguments.preset}"
    note = f"{psnr['masks_off']:.2f} to {psnr['masks_on']:.2f}; {hidden:.1%} of training pixels hidden"
    cells = {"measured": measured(psnr["masks_on"] - psnr["masks_off"], "dB", "+.2f", note)}
    report("quality/transients", {name: cells}, details={name: {"steps": steps}})


def on_static_pixels(out: Path) -> tuple[float, float]:
    """PSNR of the city in `out` over the pixels that the masks keep, and the share that they hide in training."""
    config, _ = load_output(out)
    dataset = config.dataset.model_copy(update={"use_masks": True})
    scene = open_scene(out, dataset)
    store = ImageStore.open(scene, dataset.image_downsample, out / "store_masked")
    train_images, test_images = split_images(scene, dataset.test_every)
    metrics = evaluate_city(City.open(out), store, test_images, out / "report_static")
    hidden = 1 - float(np.mean([store.valid(image.id).mean() for image in train_images]))
    return metrics["composited"]["psnr"], hidden


if __name__ == "__main__":
    main()
