"""Builds a synthetic city and photographs it: the work of `blocknerf synth`."""

import os
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from blocknerf.core import disk
from blocknerf.core.errors import UserError
from blocknerf.core.files import is_empty, put_folder, recover_folder, write_json
from blocknerf.core.lock import locked_file
from blocknerf.core.logging import log
from blocknerf.core.progress import bar
from blocknerf.core.reading import read_json
from blocknerf.core.seeds import derive_seed
from blocknerf.core.system_errors import reason, remedy
from blocknerf.synth import write
from blocknerf.synth.develop import auto_exposure, develop
from blocknerf.synth.drives import STATION_S, Drive, draw_traffic, rig_cameras, stations, traffic_at
from blocknerf.synth.geometry import Mesh
from blocknerf.synth.lighting import lighting_at
from blocknerf.synth.presets import PRESETS, Preset, PresetName
from blocknerf.synth.sparse import Shot, sample_points
from blocknerf.synth.town import build_town
from blocknerf.synth.tracer import Tracer, render_image

LARGEST_JITTER_STOPS = 3.0


def make_scene(
    out: Path,
    preset: PresetName = "street",
    seed: int = 0,
    overwrite: bool = False,
    workers: int | None = None,
    jitter_stops: float = 0.0,
    moving_cars: int | None = None,
) -> None:
    """Writes the synthetic city `preset` into the folder `out`; the same seed gives the same bytes.

    The exposure of each picture differs from the automatic one by up to `jitter_stops`, uniformly distributed. Every
    drive has `moving_cars` (default: the preset's number). The folder appears whole at the end or not at all. If it
    already holds exactly this city, it is not changed, so that a run stopped at the last moment can be repeated. Raises
    UserError if `out` holds something else (with `overwrite`: something other than a synthetic city, or other files in
    it), if Embree is missing, if the disk is full, if the jitter is not between 0 and LARGEST_JITTER_STOPS, or if the
    number of cars is negative.
    """
    if not 0 <= jitter_stops <= LARGEST_JITTER_STOPS:
        raise UserError(
            f"An exposure jitter of {jitter_stops:g} stops was asked for; 0 to {LARGEST_JITTER_STOPS:g} are possible, "
            "beyond that pictures are black or white."
        )
    if moving_cars is not None and moving_cars < 0:
        raise UserError(f"{moving_cars} moving cars were asked for; 0 or more are possible.")
    city = PRESETS[preset] if moving_cars is None else replace(PRESETS[preset], cars=moving_cars)
    out = Path(os.path.abspath(out))
    made_with = {"preset": preset, "seed": seed, "jitter_stops": jitter_stops, "moving_cars": city.cars}
    with locked_file(out, f"A synthetic city is being made in {out}"):
        _make(out, city, made_with, overwrite, workers or os.cpu_count() or 1)


def _make(out: Path, city: Preset, made_with: dict[str, Any], overwrite: bool, workers: int) -> None:
    recover_folder(out)
    if not overwrite and _mark_of(out) == made_with and _is_whole(out):
        log.info("%s already holds this city; --overwrite creates it again.", out)
        return
    _refuse_foreign_folder(out, overwrite)
    temporary = disk.temporary(out)
    try:
        disk.make_folder(temporary)
        _fill(temporary, city, made_with["seed"], workers, made_with["jitter_stops"])
        write_json(temporary / write.MARKER, made_with)
        _refuse_foreign_folder(out, overwrite)  # also keep files that appeared while the city was photographed
        put_folder(temporary, out)
    except OSError as error:
        raise UserError(
            f"Cannot write the synthetic city to {out}: {reason(error)}; {remedy(error)}, then run the same command "
            "again."
        ) from error
    finally:
        disk.remove_tree(temporary)


def _refuse_foreign_folder(out: Path, overwrite: bool) -> None:
    if not out.exists():
        return
    if not out.is_dir():
        raise UserError(f"{out} is a file; name a folder that does not exist yet.")
    if is_empty(out):
        return
    if not overwrite:
        raise UserError(
            f"The folder {out} is not empty. Choose another, or add --overwrite if it is an old synthetic "
            "city that may be replaced."
        )
    mark = _mark_of(out)
    if not isinstance(mark, dict) or "preset" not in mark:
        raise UserError(
            f"The folder {out} is not a synthetic city (it has no {write.MARKER}), so --overwrite leaves "
            "it alone. Choose another folder."
        )
    made = write.files_of(out)
    for path in sorted(out.rglob("*")):
        is_folder, name = path.is_dir() and not path.is_symlink(), path.relative_to(out).as_posix()
        if not is_folder and name not in made and not disk.is_unfinished(path.name):
            raise UserError(
                f"{path} is not a file of the synthetic city in {out}, and --overwrite would remove it. Move it "
                "elsewhere, or choose another folder."
            )


def _is_whole(out: Path) -> bool:
    """Whether no file of the city is missing; only pictures with a car in them have masks."""
    return all((out / name).is_file() for name in write.files_of(out) if not name.startswith("masks/"))


def _mark_of(out: Path) -> Any:
    """The settings of the city in `out`; None if there is none."""
    mark = out / write.MARKER
    return read_json(mark, "mark of a synthetic city") if mark.is_file() else None


def _rng(seed: int, *names: str | int) -> np.random.Generator:
    return np.random.default_rng(derive_seed(seed, *names))


def _fill(root: Path, preset: Preset, seed: int, workers: int, jitter_stops: float) -> None:
    town = build_town(preset.plan, _rng(seed, "town"))
    jobs = [
        (drive, frame, poses)
        for drive in preset.drives
        for frame, poses in enumerate(stations(drive, _rng(seed, drive.name, "sway")))
    ]
    shots: list[Shot] = []
    pool = ThreadPoolExecutor(workers)  # Embree and numpy release the interpreter's lock
    try:
        with bar("photographing the city", len(jobs)) as progress:
            futures = [pool.submit(_photograph, root, town, preset, seed, jitter_stops, *job) for job in jobs]
            for future in as_completed(futures):
                shots += future.result()
                progress.advance()
    finally:
        pool.shutdown(cancel_futures=True)
    shots.sort(key=lambda shot: shot.name)
    cameras = rig_cameras(preset.width, preset.height)
    points = sample_points(shots, cameras, preset.points_per_image, _rng(seed, "points"))
    write.write_colmap(root, cameras, shots, points)
    write.write_sidecar(root, shots)


def _photograph(
    root: Path,
    town: Mesh,
    preset: Preset,
    seed: int,
    jitter_stops: float,
    drive: Drive,
    frame: int,
    poses: dict[str, np.ndarray],
) -> list[Shot]:
    """All cameras of the rig at one station: the same moment, with the same positions of moving cars."""
    traffic = draw_traffic(preset.plan, preset.cars, _rng(seed, drive.name, "traffic"))
    moment = traffic_at(traffic, frame * STATION_S, next(iter(poses.values()))[:2, 3])
    tracer = Tracer(town if moment is None else Mesh.joined(town, moment), first_moving=len(town.triangles))
    light = lighting_at(drive.hour)
    drive_exposure = 0.45 / float(np.mean(0.25 * light.sun / np.pi * 0.5 + 0.25 * light.zenith + 0.2 * light.horizon))
    shots = []
    for place, camera in rig_cameras(preset.width, preset.height).items():
        picture = render_image(tracer, camera, poses[place], light, preset.samples_edge, preset.contrast)
        name = f"{drive.name}/{place}_{frame:04d}{preset.suffix}"
        exposure = auto_exposure(picture.radiance, drive_exposure, _rng(seed, name, "exposure"))
        exposure *= 2.0 ** float(_rng(seed, name, "jitter").uniform(-jitter_stops, jitter_stops))
        shot = Shot(
            name,
            drive.name,
            place,
            drive.hour,
            exposure,
            poses[place],
            develop(picture.radiance, exposure),
            picture.depth_z_m,
            picture.moving,
        )
        write.write_shot(root, shot)
        shots.append(shot)
    return shots
