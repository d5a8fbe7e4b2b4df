"""The worth of the consistency term: how much neighbouring blocks differ where both see the same.

A synthetic city is trained once for each weight of the term, for the same number of steps. On rays of test images that
two neighbours share, their colours and distances are compared where the term compares them: on surfaces that both
blocks reach, weighted as in training (`Border.weights`). `colour` is the root of the mean squared difference in [0, 1];
`distance` is the mean of |a - b| / ((a + b) / 2). PSNR is that of the blended test pictures. Blocks are trained in
waves, each after the neighbours from which it learns, or with --side-by-side at the same time.

python -m benchmarks.quality.seams OUT [--preset street_small] [--epochs 6] [--weights 0,0.05,0.5] [--rays 20000]
    [--side-by-side] [section.key=value ...]
"""

import argparse
import json
from pathlib import Path

import torch

from benchmarks.measure import blocknerf, run
from benchmarks.report import report
from benchmarks.results import Cell, measured
from blocknerf.blocks.output import load_output, open_scene
from blocknerf.core.types import Appearance, RayBatch
from blocknerf.models.block_file import read_block
from blocknerf.models.block_nerf import BlockNeRF
from blocknerf.scene.store import ImageStore
from blocknerf.training.joint.borders import Border


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--preset", default="street_small")
    parser.add_argument("--epochs", type=float, default=6)
    parser.add_argument("--weights", default="0,0.05,0.5", help="the last is the documents'")
    parser.add_argument("--rays", type=int, default=20000, help="for each border")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--side-by-side", action="store_const", const=["--side-by-side"], default=[])
    parser.add_argument("overrides", nargs="*")
    options = parser.parse_intermixed_args()
    scene = options.out / "scene"
    if not scene.is_dir():
        run(blocknerf("synth", scene, "--preset", options.preset, "--seed", str(options.seed)))
    rows: dict[str, dict[str, Cell]] = {}
    for weight in map(float, options.weights.split(",")):
        out = options.out / f"weight_{weight:g}"
        settings = [f"training.num_epochs={options.epochs:g}", f"training.consistency_loss_weight={weight:g}"]
        place = ["--data-root", scene, "--output-dir", out, "--overwrite", *options.side_by_side]
        run(blocknerf("train", *place, *settings, *options.overrides))
        run(blocknerf("evaluate", out, "--protocols", "masked"))
        how = "side by side" if options.side_by_side else "in waves"
        rows[f"weight {weight:g}, {how}"] = measure(out, options.rays)
    report("quality/seams", rows)


def measure(out: Path, rays: int) -> dict[str, Cell]:
    """Differences over all borders of the city in `out`, and its PSNR."""
    config, plan = load_output(out)
    scene = open_scene(out, config.dataset)
    store = ImageStore.open(scene, config.dataset.image_downsample, out / "store", progress=False)
    models, seams = {}, []
    for block in plan.blocks:
        saved = read_block(out / "blocks" / block.id, "latest")
        models[block.id] = BlockNeRF.from_state(saved.meta.model, saved.tensors)
    for first in plan.blocks:
        for second in (plan.block(other) for other in first.neighbours if other > first.id):
            names = tuple(name for name in first.test_images if name in second.test_images and name in store.records)
            border = Border(first, second, names)
            if border.is_shared:
                seams.append(compare(border, models[first.id], models[second.id], store, rays))
    colour, distance, weights = (torch.cat(column) for column in zip(*seams, strict=True))
    metrics = json.loads((out / "report" / "metrics.json").read_text())
    return {
        "colour differs by": measured(float((weights * colour).sum() / weights.sum()) ** 0.5, format=".4f"),
        "distance differs by": measured(float((weights * distance).sum() / weights.sum()), format=".1%"),
        "PSNR of the city": measured(metrics["protocols"]["masked"]["psnr"], "dB"),
        "borders": measured(len(seams), format=".0f"),
        "rays": measured(int((weights > 0).sum()), format=",.0f"),
    }


def compare(
    border: Border, first: BlockNeRF, second: BlockNeRF, store: ImageStore, count: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """By ray: squared difference of colour, relative difference of distance, weight at the place between them."""
    drawn = border.draw(store, count, 0, 0)
    columns = []
    for slot, image_id in enumerate(border.image_ids):
        rays = drawn[drawn.image_slots == slot]
        if len(rays):
            columns.append(differences(border, rays, store, image_id, (first, second)))
    colour, distance, weights = (torch.cat(column) for column in zip(*columns, strict=True))
    return colour, distance, weights


def differences(
    border: Border, rays: RayBatch, store: ImageStore, image_id: str, models: tuple[BlockNeRF, BlockNeRF]
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    record = store.records[image_id]
    appearance = Appearance(drive=record.drive, exposure=record.exposure)
    a, b = (model.render(rays, model.code_for(appearance)) for model in models)
    middle_m = (a.distance_m + b.distance_m) / 2
    weights = border.weights(rays.origins + middle_m[:, None] * rays.directions)
    return (a.rgb - b.rgb).square().mean(-1), (a.distance_m - b.distance_m).abs() / middle_m, weights


if __name__ == "__main__":
    main()
