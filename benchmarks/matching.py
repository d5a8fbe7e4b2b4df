"""What appearance matching is worth: neighbouring blocks that saw one street at different hours, before and after.

Every second block is given one hour of the synthetic street alone and the others another one, so that two neighbours
have no look in common. `blocknerf align` then works with what they learned. Measured at test cameras in the overlap,
none of which alignment looks at: the mean colour of a picture as both blocks show it, and each of its pixels; for both
looks. The picture has a row per camera: one block, its neighbour before, and after.

python -m benchmarks.matching OUT [--preset tiny] [--epochs 20] [--seed 0] [section.key=value ...]
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from benchmarks.measure import blocknerf, run, where
from benchmarks.variants import arguments
from blocknerf.blocks.output import load_output, open_scene
from blocknerf.blocks.plan import Plan, write_plan
from blocknerf.city.alignment import Alignment, read_alignment
from blocknerf.city.city import City
from blocknerf.city.pictures import to_bytes, write_png
from blocknerf.scene.rays import camera_rays
from blocknerf.scene.scene import ImageRecord, Scene

BLOCKS = ["block_manager.placement=drives", "block_manager.block_size=25", "validation.num_val_images=0"]
CAMERAS = 6


def main() -> None:
    options = arguments(__doc__, preset="tiny")
    scene, out = options.out / "scene", options.out / "city"
    if not scene.is_dir():
        run(blocknerf("synth", scene, "--preset", options.preset, "--seed", str(options.seed)))
    place = ["--data-root", scene, "--output-dir", out]
    overrides = [*BLOCKS, f"training.num_epochs={options.epochs}", *options.overrides]
    run(blocknerf("plan", *place, *overrides))
    give_hours(out)
    run(blocknerf("train", *place, "--overwrite", *overrides))
    aligned = run(blocknerf("align", out))
    print(json.dumps({"what": "matching", **figures(out), "align_s": round(aligned.seconds), "must_fall_by": 5,
                      "where": where()}))  # fmt: skip


def give_hours(out: Path) -> None:
    """Leaves every block the training images of one drive: of the first and the last hour in turn."""
    config, plan = load_output(out)
    drive_of = {image.id: image.drive for image in open_scene(out, config).images}
    hours = [min(drive_of.values()), max(drive_of.values())]
    blocks = tuple(
        replace(block, train_images=tuple(name for name in block.train_images if drive_of[name] == hours[number % 2]))
        for number, block in enumerate(plan.blocks)
    )
    write_plan(out / "plan.json", replace(plan, blocks=blocks))


def figures(out: Path) -> dict:
    """Differences in 8-bit levels, before and after, and by how much they fell; writes OUT/matching.png."""
    config, plan = load_output(out)
    city, scene = City.open(out), open_scene(out, config)
    alignment, rows, found = read_alignment(out), [], []
    for pair, image in test_cameras(plan, scene):
        for drive in sorted(city.drives):
            before = show(city, pair, scene, image, drive, Alignment())
            after = show(city, pair, scene, image, drive, alignment)
            found.append([figure for one, other in (before, after) for figure in apart(one, other)])
            for pictures in (before, after):
                rows.append(torch.cat(pictures, dim=1))
    write_png(out / "matching.png", to_bytes(torch.cat([torch.cat(rows[0::2], 0), torch.cat(rows[1::2], 0)], dim=1)))
    mean_before, pixel_before, mean_after, pixel_after = (255 * np.mean(found, axis=0)).tolist()
    return {
        "pictures": len(found),
        "mean_colour": [round(mean_before, 1), round(mean_after, 1), round(mean_before / mean_after, 1)],
        "each_pixel": [round(pixel_before, 1), round(pixel_after, 1), round(pixel_before / pixel_after, 1)],
    }


def test_cameras(plan: Plan, scene: Scene) -> Iterator[tuple[tuple[str, str], ImageRecord]]:
    """Test images that two neighbours share, up to CAMERAS of each two."""
    by_id = {image.id: image for image in scene.images}
    for block in plan.blocks:
        for other in (plan.block(name) for name in block.neighbours if name > block.id):
            shared = sorted(set(block.test_images) & set(other.test_images), key=lambda name: by_id[name].name)
            for name in shared[:CAMERAS]:
                yield (block.id, other.id), by_id[name]


def show(
    city: City, pair: Sequence[str], scene: Scene, image: ImageRecord, drive: str, alignment: Alignment
) -> tuple[torch.Tensor, torch.Tensor]:
    camera = scene.cameras[image.camera_key]
    rays = camera_rays(camera, image.world_from_cam, camera.width, camera.height)
    city.alignment = alignment
    one, other = (city.model(name).render(rays, city.code_for(name, None, drive)) for name in pair)
    size = (camera.height, camera.width)
    return one.reshape(*size).rgb, other.reshape(*size).rgb


def apart(one: torch.Tensor, other: torch.Tensor) -> tuple[float, float]:
    """Of mean colours, and of each pixel."""
    difference = one - other
    return float(difference.mean((0, 1)).abs().mean()), float(difference.abs().mean())


if __name__ == "__main__":
    main()
