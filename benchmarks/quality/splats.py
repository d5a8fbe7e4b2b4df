"""A trained city as Gaussian splats, compared with the city and with photographs that neither has seen.

All figures are means over the test images of the drive whose appearance the splats have: the city with that appearance
against the photographs, the splats (with our renderer) against the photographs, and against the city. PSNR in dB over
unmasked pixels.

python -m benchmarks.quality.splats OUT WORK [options of `blocknerf export splats`]
"""

import argparse
from pathlib import Path

import numpy as np
import torch

from benchmarks.measure import blocknerf, run
from benchmarks.report import report
from benchmarks.results import measured
from blocknerf.blocks.output import load_output, open_scene
from blocknerf.blocks.plan import planned_split
from blocknerf.city.city import City
from blocknerf.city.pictures import to_bytes, write_png
from blocknerf.core.types import MEAN_APPEARANCE
from blocknerf.export.distillation_views import render_teacher_views, splat_camera
from blocknerf.export.paths import View
from blocknerf.export.splats_distil import to_gaussians
from blocknerf.export.splats_file import read_splats, write_splats
from blocknerf.rendering.quality import psnr
from blocknerf.rendering.splatting import render_splats
from blocknerf.scene.store import ImageStore


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("work", type=Path)
    arguments, options = parser.parse_known_args()

    ply, spz = arguments.work / "splats.ply", arguments.work / "splats.spz"
    exported = run(blocknerf("export", "splats", arguments.out, "--out", ply, *options))
    splats = read_splats(ply)
    write_splats(spz, splats)
    figures = {"city_against_photographs": [], "splats_against_photographs": [], "splats_against_city": []}
    for number, (photograph, valid, rendered, splatted) in enumerate(_test_pictures(arguments.out, ply)):
        pairs = ((rendered, photograph), (splatted, photograph), (splatted, rendered))
        for name, (one, other) in zip(figures, pairs, strict=True):
            figures[name].append(psnr(one, other, valid))
        write_png(arguments.work / f"{number:03d}.png", to_bytes(torch.cat([photograph, rendered, splatted], 1)))
    means = {name: round(float(np.mean(values)), 2) for name, values in figures.items()}
    city_db, splats_db = means["city_against_photographs"], means["splats_against_photographs"]
    note = f"{city_db:.2f} to {splats_db:.2f}; {len(splats):,} splats, {exported.seconds:.0f} s"
    name = f"splats of {arguments.out.name} against its own PSNR on test views"
    details = means | {
        "test_images": len(figures["splats_against_city"]),
        "degree": splats.degree,
        "ply_mb": round(ply.stat().st_size / 1e6, 1),
        "spz_mb": round(spz.stat().st_size / 1e6, 1),
        "peak_gb": round(exported.peak_gb, 2),
    }
    cells = {"must": "-1.5 dB", "measured": measured(splats_db - city_db, "dB", "+.2f", note)}
    report("quality/splats", {name: cells}, details={name: details})


def _test_pictures(out: Path, ply: Path):
    """(photograph, valid pixels, the city's picture, the splats') of every test image of the city's main drive."""
    config, plan = load_output(out)
    scene, city, splats = open_scene(out, config.dataset), City.open(out), to_gaussians(read_splats(ply))
    store = ImageStore.open(scene, config.dataset.image_downsample, out / "store")
    near_m = 0.01 * min(block.radius_m for block in plan.blocks)
    for image in planned_split(plan, scene)[1]:
        camera = scene.cameras[image.camera_key]
        if image.drive != city.main_drive or image.id not in store.records or splat_camera(camera) != camera:
            continue
        height, width = store.size(image.id)
        (teacher,) = render_teacher_views(city, [View(camera, image.world_from_cam, width, height)], MEAN_APPEARANCE)
        picture = render_splats(splats, teacher.lens, teacher.world_from_cam, near_m)[:3].permute(1, 2, 0)
        photograph = torch.from_numpy(np.array(store.rgb(image.id))).float() / 255
        yield photograph, torch.from_numpy(store.valid(image.id).copy()), teacher.rgb.float() / 255, picture.clamp(0, 1)


if __name__ == "__main__":
    main()
