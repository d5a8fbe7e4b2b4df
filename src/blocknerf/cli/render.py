"""`blocknerf render`: a flight through the city as pictures and video."""

import re
from pathlib import Path
from typing import Annotated

import tyro

from blocknerf.core.errors import UserError
from blocknerf.core.logging import console


def render(
    out: tyro.conf.Positional[Path],
    path: Annotated[str, tyro.conf.arg(metavar="test|interpolate|FILE.json")] = "interpolate",
    video: Annotated[Path | None, tyro.conf.arg(name="out", metavar="VIDEO.mp4")] = None,
    fps: int = 24,
    frames: int = 120,
    size: Annotated[str | None, tyro.conf.arg(metavar="WIDTHxHEIGHT")] = None,
    drive: str | None = None,
    image: str | None = None,
    data_root: Path | None = None,
) -> None:
    """Renders a camera path through the city: PNG frames, and a video of them.

    Up to three blocks make each frame, and none pops in or out. The frames lie in a folder beside the video that has
    its name without the ending.

    Example: blocknerf render out --path interpolate --out flight.mp4 --frames 240

    Args:
        out: Output folder of `blocknerf train`.
        path: Where the camera goes: test renders the test images' poses; interpolate follows the training images of
            one drive smoothly; FILE.json is a camera path of nerfstudio's viewer, or
            {"width", "height", "fov_deg", "frames": [{"world_from_cam": 3 x 4, OpenCV axes}]}.
        video: The video to write; none: renders/PATH.mp4 in the output folder.
        fps: Frames a second.
        frames: Length of an interpolated path in frames.
        size: Size of the frames, as in 960x540; none: that of the training images, or of FILE.json.
        drive: Drive to follow with interpolate, and whose mean appearance the frames take; none: with interpolate the
            drive with most images, with test each image's own.
        image: Name of a training image whose appearance the frames take; blocks that were not trained on it take the
            mean appearance of its drive.
        data_root: Where the scene lies now, if it has moved since training.
    """
    from rich.progress import track

    from blocknerf.city.city import City
    from blocknerf.export.render import render_views
    from blocknerf.export.video import check_video, write_frames
    from blocknerf.runtime.threads import available_cores, use_threads

    video = video or out / "renders" / f"{Path(path).stem}.mp4"
    check_video(video, fps)
    pixels = parse_size(size)
    city = City.open(out)
    if drive is not None:
        city.require_drive(drive)
    views, shown_as = _views_and_image(out, path, frames, pixels, drive, image, data_root)
    image_id, drive = (None, drive) if shown_as is None else (shown_as.id, shown_as.drive)
    use_threads(available_cores())
    shown = track(render_views(city, views, image_id, drive), "Rendering", len(views), console=console, transient=True)
    pictures = write_frames(video, shown, fps)
    for line in (f"Frames: {pictures[0].parent} ({len(pictures)} pictures)", f"Video: {video}"):
        console.print(line, soft_wrap=True, highlight=False, markup=False)


def parse_size(text: str | None) -> tuple[int, int] | None:
    """(width, height) from "WIDTHxHEIGHT"; raises UserError for anything else."""
    if text is None:
        return None
    from blocknerf.export.paths import LARGEST_SIDE_PX

    match = re.fullmatch(r"([1-9]\d{0,4})x([1-9]\d{0,4})", text.strip().lower())
    if match is None:
        raise UserError(f"The size {text!r} cannot be read; write WIDTHxHEIGHT in pixels, as in 960x540.")
    width, height = int(match[1]), int(match[2])
    if max(width, height) > LARGEST_SIDE_PX:
        raise UserError(f"The size {text!r} is too large; neither side may have more than {LARGEST_SIDE_PX} pixels.")
    return width, height


def _views_and_image(out, path, frames, size, drive, image, data_root):
    """The frames to render, and the image whose appearance they take (or none); reads the scene only if needed."""
    from blocknerf.export.paths import captured_views, interpolated_views, read_camera_path

    is_file = path not in ("test", "interpolate")
    if is_file and not path.endswith(".json"):
        raise UserError(f"The path {path!r} is unknown; give test, interpolate, or a camera path FILE.json.")
    if is_file and image is None:
        return read_camera_path(Path(path), size), None
    scene, train, test, downsample = _open_scene(out, data_root)
    shown_as = None if image is None else _training_image(image, train, out)
    if is_file:
        return read_camera_path(Path(path), size), shown_as
    if path == "test":
        return captured_views(test, scene.cameras, downsample, size), shown_as
    return interpolated_views(train, scene.cameras, frames, downsample, drive, size), shown_as


def _open_scene(out, data_root):
    from blocknerf.blocks.output import load_output, open_scene
    from blocknerf.scene.splits import split_images

    config, _ = load_output(out)
    scene = open_scene(out, config, data_root)
    train, test = split_images(scene, config.dataset.test_every)
    return scene, train, test, config.dataset.image_downsample


def _training_image(name, train, out):
    import difflib

    images = {image.name: image for image in train}
    if name not in images:
        near = difflib.get_close_matches(name, images, 1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise UserError(f"No training image of {out} is called {name!r}.{hint}")
    return images[name]
