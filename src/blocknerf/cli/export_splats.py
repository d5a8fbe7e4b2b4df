"""`blocknerf export splats`: a trained city as Gaussian splats, which any splat viewer shows."""

import math
from collections import deque
from pathlib import Path
from typing import Annotated, Literal

import tyro

from blocknerf.cli.place import Device, Place, State
from blocknerf.core.errors import UserError
from blocknerf.core.lock import locked_file
from blocknerf.core.logging import console, log

SEED = 0


def export_splats(
    out: tyro.conf.Positional[Path],
    file: Annotated[Path | None, tyro.conf.arg(name="out", metavar="FILE.ply|.spz")] = None,
    block: str | None = None,
    drive: str | None = None,
    splats: int = 150_000,
    degree: Literal[0, 1, 2, 3] = 2,
    steps: int = 2000,
    views: int = 320,
    longest_side: int = 480,
    data_root: Place | None = None,
    state: State = "latest",
    device: Device = "auto",
) -> None:
    """Distils Gaussian splats from a trained city: they learn to look like it, under one appearance, in metres.

    The city is rendered from the training cameras and from places between them. Splats start on the surfaces of these
    views and are moved, turned, coloured and multiplied until they match the views. Photographs are not used.

    Example: blocknerf export splats out --out city.ply

    Args:
        out: Output folder of `blocknerf train`.
        file: The file to write. By default splats.ply in the output folder.
        block: Id of a block: export only this block.
        drive: Drive whose mean appearance the splats have. By default the drive with most images.
        splats: Maximum number of splats.
        degree: Degree of spherical harmonics: how finely colour can depend on the viewing direction.
        steps: Training steps. Each uses one view.
        views: Maximum number of views to learn from. At least a third of them are between cameras.
        longest_side: Maximum length of a view's longer side, in pixels. Views are never larger than the photographs.
        data_root: Location of the scene, if it has moved since training.
        state: Which state of each block is used: latest, best (by validation), or the JSON file of one block's state,
            such as out/blocks/003/step_000500.json, with the latest of all others.
        device: Where blocks are rendered: auto (a CUDA device if there is one), cpu, cuda or cuda:N. Splats learn on
            the CPU.
    """
    from rich.progress import Progress, TextColumn, track

    from blocknerf.blocks.output import load_output, open_scene
    from blocknerf.city.city import City
    from blocknerf.core.seeds import generator
    from blocknerf.core.types import Appearance
    from blocknerf.export.distillation_views import choose_viewpoints, render_teacher_views
    from blocknerf.export.splats_distil import Distillation, distil, to_splats
    from blocknerf.export.splats_file import check_splats_name, write_splats
    from blocknerf.export.world_offset import write_world_offset
    from blocknerf.runtime.cores import available_cores
    from blocknerf.runtime.devices import CPU, devices_of
    from blocknerf.runtime.threads import use_threads

    file = file or out / "splats.ply"
    check_splats_name(file)
    _check_amounts(splats=splats, steps=steps, views=views, longest_side=longest_side)
    config, plan = load_output(out)
    city = City.open(out, state=state, device=device)
    if drive is not None:
        city.require_drive(drive)
    if block is not None:
        city.anchor(block)  # says which blocks are trained, where this one is not
    blocks = [plan.block(name) for name in (city.ids if block is None else [block])]
    scene = open_scene(out, config.dataset, data_root)
    known = {image_id for each in blocks for image_id in each.train_images}
    images = [image for image in scene.images if image.id in known]
    use_threads(available_cores(), city.worker)
    seen = choose_viewpoints(
        images, scene.cameras, config.dataset.image_downsample, views, longest_side, generator(SEED, "splats", "views")
    )
    rendering = render_teacher_views(city, seen, Appearance(drive=drive), block)
    teacher_views = list(track(rendering, "Rendering views", len(seen), console=console, transient=True))
    rendered_on = devices_of(device)[0]
    if rendered_on != CPU:
        log.info("Splats learn on the processor: their rasteriser has no kernel for %s.", rendered_on)
    near_m = 0.01 * min(each.radius_m for each in blocks)
    with Progress(*Progress.get_default_columns(), TextColumn("{task.fields[psnr]}"), console=console) as bar:
        task = bar.add_task("Learning", total=steps, psnr="")
        errors = deque(maxlen=100)

        def report(step: int, error: float) -> None:
            errors.append(error)
            bar.update(task, completed=step + 1, psnr=f"{-10 * math.log10(sum(errors) / len(errors) + 1e-10):.1f} dB")

        rng = generator(SEED, "splats", "steps")
        learned = distil(teacher_views, Distillation(splats, steps, degree), near_m, rng, report)
    with locked_file(file, f"{file} is being written"):
        write_splats(file, to_splats(learned))
        write_world_offset(file, city.manifest.world_offset_m)
    console.print(f"Splats: {file} ({len(learned.means)})", soft_wrap=True, highlight=False, markup=False)


def _check_amounts(**amounts: int) -> None:
    for name, amount in amounts.items():
        if amount < 1:
            raise UserError(f"--{name.replace('_', '-')} {amount}: give a number of 1 or more.")
