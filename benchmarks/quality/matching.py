"""The worth of appearance matching: neighbouring blocks that saw one street in different drives, before and after.

Each drive of the synthetic street is split into two with alternating images; one belongs to every second block, the
other to the rest. So two neighbours share no drive; the first mostly see earlier hours, the others later ones. Then
`blocknerf align` is run. Measured under every appearance, which one of two neighbours never saw, where both see well:
the mean colour of their overlap, from training cameras that were not used for the fit; the same at test cameras that
they share, for all and for single pictures, and for each pixel. The picture has a row per camera and appearance: one
block, its neighbour, both again after alignment.

python -m benchmarks.quality.matching OUT [--preset hours] [--epochs 15] [--seed 0] [section.key=value ...]
"""

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from benchmarks.measure import blocknerf, run
from benchmarks.quality.variants import arguments
from benchmarks.report import report
from blocknerf.blocks.output import load_output, open_scene
from blocknerf.blocks.plan import Plan, write_plan
from blocknerf.city.alignment.file import Alignment, read_alignment
from blocknerf.city.alignment.fitting import measure
from blocknerf.city.alignment.overlaps import SEEN_WELL, find_overlaps, seen_by_both
from blocknerf.city.city import City
from blocknerf.city.pictures import to_bytes, write_png
from blocknerf.core.types import Appearance, RayBatch
from blocknerf.scene.rays import camera_rays
from blocknerf.scene.scene import ImageRecord, Scene

BLOCKS = ["block_manager.placement=drives", "block_manager.block_size=40", "validation.num_val_images=0"]
ROW = "matching, mean colour of overlaps by cameras not fitted to"
CAMERAS = 6
SIDES = ("a", "b")


def main() -> None:
    options = arguments(__doc__, preset="hours")
    scene, out = options.out / "scene", options.out / "city"
    if not scene.is_dir():
        run(blocknerf("synth", scene, "--preset", options.preset, "--seed", str(options.seed)))
        cut_drives(scene)
    place = ["--data-root", scene, "--output-dir", out]
    overrides = [*BLOCKS, f"training.num_epochs={options.epochs}", *options.overrides]
    run(blocknerf("plan", *place, *overrides))
    give_hours(out)
    run(blocknerf("train", *place, "--overwrite", *overrides))
    aligned = run(blocknerf("align", out))
    found = figures(out)
    before, after, fall = found["mean_colour_of_overlap"]
    at_tests = found["mean_colour"]
    text = f"{fall} times ({before} to {after} levels); at test cameras {at_tests[2]} times "
    text += f"({at_tests[0]} to {at_tests[1]})"
    cells = {"must": "5 times less", "measured": text}
    report("quality/matching", {ROW: cells}, details={ROW: found | {"align_s": round(aligned.seconds)}})


def cut_drives(scene: Path) -> None:
    """Gives the images of a drive to two drives in turn."""
    path = scene / "blocknerf_scene.json"
    sidecar = json.loads(path.read_text())
    for number, name in enumerate(sorted(sidecar["images"])):
        sidecar["images"][name]["drive"] += "_" + SIDES[number % 2]
    path.write_text(json.dumps(sidecar))


def give_hours(out: Path) -> None:
    """Leaves every block the images of its own side: those of one half of the hours, and a third of the others."""
    config, plan = load_output(out)
    drive_of = {image.id: image.drive for image in open_scene(out, config.dataset).images}
    hours = sorted({drive[:-2] for drive in drive_of.values()})
    blocks = []
    for number, block in enumerate(plan.blocks):
        side_images = [name for name in block.train_images if drive_of[name].endswith(SIDES[number % 2])]
        side_hours = hours[: len(hours) // 2] if number % 2 == 0 else hours[len(hours) // 2 :]
        rare = [name for name in side_images if drive_of[name][:-2] not in side_hours]
        left_out = set(rare) - set(rare[::3])
        blocks.append(replace(block, train_images=tuple(name for name in side_images if name not in left_out)))
    write_plan(out / "plan.json", replace(plan, blocks=tuple(blocks)))


def figures(out: Path) -> dict:
    """Differences in 8-bit levels, before and after, and by how much they fell; writes OUT/matching.png."""
    config, plan = load_output(out)
    city, scene = City.open(out), open_scene(out, config.dataset)
    under, rows = {"before": Alignment(), "after": read_alignment(out)}, []
    found: dict[tuple, dict[str, list[torch.Tensor]]] = {}
    for pair, image in test_cameras(plan, scene):
        known = [set(city.meta(name).drives) for name in pair]
        if known[0] & known[1]:
            continue
        camera = scene.cameras[image.camera_key]
        rays = camera_rays(camera, image.world_from_cam, camera.width, camera.height)
        one, other = (city.model(name) for name in pair)
        both = seen_by_both(one, other, rays) >= SEEN_WELL
        if int(both.sum()) < len(rays) // 10:
            continue
        for drive in sorted(known[0] | known[1]):
            rendered = {when: show(city, pair, rays, drive, alignment) for when, alignment in under.items()}
            row = [
                picture.reshape(camera.height, camera.width, 3)
                for pictures in rendered.values()
                for picture in pictures
            ]
            rows.append(torch.cat(row, dim=1))
            apart = found.setdefault((pair, drive), {"before": [], "after": []})
            for when, (first, second) in rendered.items():
                apart[when].append((first - second)[both])
    write_png(out / "matching.png", to_bytes(torch.cat(rows, 0)))
    links = {block.id: block.neighbours for block in plan.blocks}
    kept = measure(city, find_overlaps(city, links, scene, city.ids), under["after"])
    means = [255 * float(np.mean(apart)) for apart in ([p.mean_before for p in kept], [p.mean_after for p in kept])]
    overlap = [round(means[0], 1), round(means[1], 1), round(means[0] / means[1], 1)]
    return {"pictures": len(rows), "mean_colour_of_overlap": overlap} | {
        name: fall(measured, found.values()) for name, measured in MEASURES.items()
    }


def fall(
    measured: Callable[[list[torch.Tensor]], float], found: Iterable[dict[str, list[torch.Tensor]]]
) -> list[float]:
    """[before, after, before / after], means over pairs and looks."""
    found = list(found)
    before, after = (255 * float(np.mean([measured(apart[when]) for apart in found])) for when in ("before", "after"))
    return [round(before, 1), round(after, 1), round(before / after, 1)]


def of_means(parts: Iterable[torch.Tensor]) -> float:
    return float(np.mean([float(part.mean(0).abs().mean()) for part in parts]))


MEASURES = {
    "mean_colour": lambda parts: of_means([torch.cat(parts)]),
    "mean_colour_of_pictures": of_means,
    "each_pixel": lambda parts: float(torch.cat(parts).abs().mean()),
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
    city: City, pair: Sequence[str], rays: RayBatch, drive: str, alignment: Alignment
) -> tuple[torch.Tensor, torch.Tensor]:
    city.alignment = alignment
    one, other = (city.model(name).render(rays, city.code_for(name, Appearance(drive=drive))).rgb for name in pair)
    return one, other


if __name__ == "__main__":
    main()
