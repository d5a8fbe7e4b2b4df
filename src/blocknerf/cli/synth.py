"""`blocknerf synth`: a synthetic city for trying things out."""

from pathlib import Path
from typing import Annotated, Literal

import tyro

from blocknerf.core.logging import log


def synth(
    out: tyro.conf.Positional[Path],
    preset: Literal["tiny", "hours", "passes", "street", "street_small", "city"] = "street",
    seed: int = 0,
    overwrite: bool = False,
    exposure_jitter: Annotated[float, tyro.conf.arg(metavar="STOPS")] = 0.0,
    moving_cars: Annotated[int | None, tyro.conf.arg(metavar="N")] = None,
) -> None:
    """Ray-traces a small synthetic city and writes it as an ordinary scene.

    Several drives of a four-camera rig, each at a different hour, through streets with houses, trees and moving cars.
    Poses, depth, exposure and masks are exact, so results can be measured against the truth. Needs Embree: pip install
    'blocknerf[demo]'.

    Example: blocknerf synth my_street --preset street --seed 1

    Args:
        out: Folder to create: images/, masks/, depth/ (metres along the optical axis, 0 is sky), sparse/0 (a COLMAP
            model) and blocknerf_scene.json (drive, hour, exposure of each image). If it already holds this city,
            nothing is done.
        preset: tiny: one short street (88 small images, seconds). hours: the same street, driven four times from
            morning to dusk (176 small images). passes: one drive through it five times at noon (180 small images).
            street: a junction, enough for four blocks (324 images of 480 x 360 pixels, two or three minutes).
            street_small: the same with images of 160 x 120 pixels, a minute or two. city: a grid of streets (1200 small
            images).
        seed: Another number gives another city. The same number gives the same files, byte for byte.
        overwrite: Replace an older synthetic city in that folder. A folder with any other file is never replaced.
        exposure_jitter: Over- or underexpose every picture at random by up to this many stops. The written exposures
            are the true ones.
        moving_cars: Number of moving cars in every drive. By default the preset's number, 3 to 14.
    """
    from blocknerf.synth.generate import make_scene

    make_scene(out, preset, seed, overwrite, jitter_stops=exposure_jitter, moving_cars=moving_cars)
    log.info(f"A synthetic city ({preset}, seed {seed}) is in {out}. Next: blocknerf plan --data-root {out}")
