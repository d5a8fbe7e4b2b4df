"""`blocknerf synth`: a synthetic city to learn on."""

from pathlib import Path
from typing import Annotated, Literal

import tyro

from blocknerf.core.logging import log


def synth(
    out: tyro.conf.Positional[Path],
    preset: Literal["tiny", "hours", "passes", "street", "city"] = "street",
    seed: int = 0,
    overwrite: bool = False,
    exposure_jitter: Annotated[float, tyro.conf.arg(metavar="STOPS")] = 0.0,
    moving_cars: Annotated[int | None, tyro.conf.arg(metavar="N")] = None,
) -> None:
    """Ray-traces a small synthetic city and writes it as a scene like any other.

    Several drives of a four-camera rig, each at its own hour, through streets with houses, trees and moving cars.
    Poses, depth, exposure and masks are exact, so whatever is learned from it can be measured. Needs Embree:
    pip install 'blocknerf[demo]'.

    Example: blocknerf synth my_street --preset street --seed 1

    Args:
        out: Folder to make: images/, masks/, depth/ (metres along the optical axis, 0 is sky), sparse/0 (a COLMAP
            model) and blocknerf_scene.json (drive, hour, exposure of each image). One that holds this very city already
            is left as it is.
        preset: tiny is one short street (88 small images, seconds), hours is the same street driven four times from
            morning to dusk (176 small images), passes is one drive that goes through it five times at noon (180 small
            images), street has a junction and enough for four blocks (324 images, a minute or two), city is a grid of
            streets (1200 images).
        seed: Another number builds another city; the same number gives the same files, byte for byte.
        overwrite: Replace an older synthetic city in that folder. A folder with any other file in it is left alone.
        exposure_jitter: Over- and under-expose every picture by up to this many stops at random; the exposures written
            are the true ones.
        moving_cars: Cars that drive about in every drive; none: the preset's own number, 3 to 14.
    """
    from blocknerf.synth.generate import make_scene

    make_scene(out, preset, seed, overwrite, jitter_stops=exposure_jitter, moving_cars=moving_cars)
    log.info(f"A synthetic city ({preset}, seed {seed}) is in {out}. Next: blocknerf plan --data-root {out}")
