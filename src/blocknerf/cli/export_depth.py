"""`blocknerf export depth`: depth along a camera path."""

from pathlib import Path
from typing import Annotated, Literal

import tyro

from blocknerf.cli.place import Device, Place, State
from blocknerf.core.errors import UserError
from blocknerf.core.lock import locked_folder
from blocknerf.core.logging import console


def export_depth(
    out: tyro.conf.Positional[Path],
    path: Annotated[str, tyro.conf.arg(metavar="test|train|interpolate|FILE.json")] = "test",
    folder: Annotated[Path | None, tyro.conf.arg(name="out", metavar="FOLDER")] = None,
    format: Literal["exr", "npy"] = "exr",
    kind: Literal["depth_z_m", "distance_m"] = "depth_z_m",
    size: Annotated[str | None, tyro.conf.arg(metavar="WIDTHxHEIGHT")] = None,
    frames: int = 120,
    drive: str | None = None,
    data_root: Place | None = None,
    state: State = "latest",
    device: Device = "auto",
) -> None:
    """Writes what the city shows as depth in metres, one file per picture; 0 where a ray hits nothing.

    Example: blocknerf export depth out --path train --format npy --kind depth_z_m

    Args:
        out: Output folder of `blocknerf train`.
        path: Which cameras: those of the test images, of the training images, a smooth way along a drive, or a camera
            path as `blocknerf render` takes it.
        folder: Folder to write into; none: depth in the output folder. Files that no export wrote are left alone.
        format: exr has opacity as well; npy is read by this program as the depth of a capture.
        kind: depth_z_m runs along the optical axis, distance_m along the ray of each pixel. File names say which.
        size: Size of the pictures, as in 960x540; none: that of the training images, or of FILE.json.
        frames: Length of an interpolated path in frames.
        drive: Drive to follow with interpolate; none: the drive with most images.
        data_root: Where the scene lies now, if it has moved since training.
        state: Which state of each block: latest, best (in validation), or the JSON of one block's state, as in
            out/blocks/003/step_000500.json, beside the latest of all others.
        device: Where blocks are rendered: auto (a CUDA device where there is one), cpu, cuda or cuda:N.
    """
    from rich.progress import track

    from blocknerf.city.city import City
    from blocknerf.cli.render import parse_size
    from blocknerf.export.claimed import claim
    from blocknerf.export.depth_maps import check_format, depth_maps, depth_paths, write_depth
    from blocknerf.export.paths import in_city
    from blocknerf.runtime.cores import available_cores
    from blocknerf.runtime.threads import use_threads

    check_format(format)
    folder, pixels = folder or out / "depth", parse_size(size)
    is_other = folder.resolve() != (out.resolve() / "depth")
    city = City.open(out, state=state, device=device)
    if drive is not None:
        city.require_drive(drive)
    names, views, originals = _named_views(out, path, frames, pixels, drive, data_root)
    if path.endswith(".json"):
        views = in_city(views, Path(path), city.manifest)
    files = depth_paths(folder, names, kind, format)
    if originals is not None:
        for file in files:
            originals.require_apart(file)
    use_threads(available_cores(), city.worker)
    maps = track(depth_maps(city, views, kind), "Rendering", len(views), console=console, transient=True)
    with locked_folder(folder, f"Depth is being written to {folder}"):
        if is_other:
            claim(folder, [file.relative_to(folder).as_posix() for file in files])
        for file, (depth, opacity) in zip(files, maps, strict=True):
            write_depth(file, depth, opacity, kind, format)
    console.print(f"Depth: {folder} ({len(views)} maps)", soft_wrap=True, highlight=False, markup=False)


def _named_views(out, path, frames, size, drive, data_root):
    """What each picture is called, the pictures, and the scene's own files; reads the scene only if needed."""
    from blocknerf.blocks.output import load_output, open_scene
    from blocknerf.blocks.plan import planned_split
    from blocknerf.export.paths import captured_views, interpolated_views, read_camera_path
    from blocknerf.scene.originals import Originals

    if path.endswith(".json"):
        views = read_camera_path(Path(path), size)
        return _numbered(views), views, None
    if path not in ("test", "train", "interpolate"):
        raise UserError(f"The path {path!r} is unknown; give test, train, interpolate, or a camera path FILE.json.")
    config, plan = load_output(out)
    scene = open_scene(out, config.dataset, data_root)
    train, test = planned_split(plan, scene)
    originals = Originals.of(scene)
    downsample = config.dataset.image_downsample
    if path == "interpolate":
        views = interpolated_views(train, scene.cameras, frames, downsample, drive, size)
        return _numbered(views), views, originals
    images = test if path == "test" else train
    return [image.name for image in images], captured_views(images, scene.cameras, downsample, size), originals


def _numbered(views):
    return [f"frame_{number:05d}" for number in range(len(views))]
