"""`blocknerf render`: a camera path through the city as pictures and video."""

import math
import re
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import tyro

from blocknerf.cli.place import Device, Place, State
from blocknerf.core.errors import UserError
from blocknerf.core.logging import console, log
from blocknerf.core.shared_folder import SharedFolder

DEFAULT_FPS = 24
MEAN = "mean"


def render(
    out: tyro.conf.Positional[Place],
    path: Annotated[str, tyro.conf.arg(metavar="test|interpolate|FILE.json")] = "interpolate",
    video: Annotated[Path | None, tyro.conf.arg(name="out", metavar="VIDEO.mp4")] = None,
    fps: int | None = None,
    frames: int = 120,
    size: Annotated[str | None, tyro.conf.arg(metavar="WIDTHxHEIGHT")] = None,
    drive: str | None = None,
    image: str | None = None,
    appearance: Annotated[str | None, tyro.conf.arg(metavar="NAME_A:NAME_B|mean")] = None,
    share: Annotated[float | None, tyro.conf.arg(metavar="0..1")] = None,
    exposure: Annotated[float, tyro.conf.arg(metavar="STOPS")] = 0.0,
    data_root: Place | None = None,
    state: State = "latest",
    device: Device = "auto",
) -> None:
    """Renders a camera path through the city: PNG frames, and a video of them.

    Up to three blocks make each frame, and none pops in or out. Each frame has a look between those of the two training
    images that are nearest on their drive, unless another look is chosen. The frames are in a folder beside the video,
    with its name without the ending. A folder with other frame_*.png files is refused.

    For example:
      # A flight of ten seconds along a drive
      $ blocknerf render out --path interpolate --out flight.mp4 --frames 240
      # The same in the light of one photograph
      $ blocknerf render out --image noon/0042.png --out noon.mp4
      # From one light to another
      $ blocknerf render out --appearance noon/0042.png:dusk/0007.png --out day.mp4
      # A path recorded in `blocknerf view`, larger
      $ blocknerf render out --path my_path.json --size 1920x1080 --out walk.mp4

    Args:
        out: Output folder of `blocknerf train`; a city on a URL is copied to this machine.
        path: test renders the test images' poses; interpolate follows the training images of one drive smoothly;
            FILE.json is a camera path of nerfstudio's viewer, or {"width", "height", "fov_deg", "frames":
            [{"world_from_cam": 3 x 4, OpenCV axes}]}.
        video: The video to write. By default renders/PATH.mp4 in the output folder, also on a URL.
        fps: Frames per second. By default those of FILE.json, else 24.
        frames: Length of an interpolated path in frames.
        size: Size of the frames, as in 960x540. By default that of the training images, or of FILE.json.
        drive: Drive that interpolate follows, by default the one with most images. With test and FILE.json, the frames
            have the mean appearance of this drive.
        image: Name of a training image whose appearance the frames have. Blocks that were not trained on it use the
            mean appearance of its drive.
        appearance: Names of two training images: frames change from the appearance of the first to that of the second.
            Or mean: all frames have the mean appearance of their drive.
        share: With --appearance, all frames have this mixture (0: first image, 1: second image), instead of changing.
        exposure: Brighten by this many stops (below 0: darken), within the range of the training images.
        data_root: Location of the scene, if it has moved since training.
        state: Which state of each block is used: latest, best (by validation), or the JSON file of one block's state,
            such as out/blocks/003/step_000500.json, with the latest of all others.
        device: Where blocks are rendered: auto (a CUDA device if there is one), cpu, cuda or cuda:N.
    """
    from rich.progress import track

    from blocknerf.blocks.output import pull_city
    from blocknerf.city.city import City
    from blocknerf.core.types import Appearance
    from blocknerf.export.paths import in_city
    from blocknerf.export.render import render_views
    from blocknerf.export.video import check_video, write_frames
    from blocknerf.runtime.cores import available_cores
    from blocknerf.runtime.threads import use_threads

    folder = SharedFolder.at(out)
    pull_city(folder, state)
    out = folder.local
    is_part_of_output = video is None
    video = video or out / "renders" / f"{Path(path).stem}.mp4"
    fps = _frames_per_second(path) if fps is None else fps
    check_video(video, fps)
    pixels = parse_size(size)
    city = City.open(out, state=state, device=device)
    if drive is not None:
        city.require_drive(drive)
    _check_appearance(city, image, appearance, share, exposure)
    names = None if appearance == MEAN else appearance
    views, appearance_images, scene = _views_and_images(out, path, frames, pixels, drive, image, names, data_root)
    if path.endswith(".json"):
        views = in_city(views, Path(path), city.manifest)
    if image is None and appearance is None and (drive is None or path == "interpolate"):
        scene = scene or _scene_if_there(out, data_root)
        views = views if scene is None else _between_neighbours(views, city, scene, path.endswith(".json"))
    appearances = [Appearance(one.id, one.drive) for one in appearance_images] or [Appearance(drive=drive)]
    chosen = replace(
        appearances[0],
        exposure_stops=exposure,
        blend_towards=appearances[1] if len(appearances) == 2 else None,
        share=share,
    )
    use_threads(available_cores(), city.worker)
    rendered = track(render_views(city, views, chosen), "Rendering", len(views), console=console, transient=True)
    pictures = write_frames(video, rendered, fps)
    if folder.url is not None and is_part_of_output:
        folder.push(folder.relative(video), folder.relative(pictures[0].parent))
        log.info("Frames and video are in %s/renders, and in a copy here.", folder.url)
    for line in (f"Frames: {pictures[0].parent} ({len(pictures)} pictures)", f"Video: {video}"):
        console.print(line, soft_wrap=True, highlight=False, markup=False)


def _frames_per_second(path: str) -> int:
    from blocknerf.export.paths import camera_path_fps

    return (camera_path_fps(Path(path)) if path.endswith(".json") else None) or DEFAULT_FPS


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


def _check_appearance(city, image, appearance, share, exposure):
    """Raises UserError for what the city cannot show, before anything is rendered."""
    if share is not None and (appearance in (None, MEAN) or not 0 <= share <= 1):
        raise UserError(f"--share {share:g}: give a number from 0 to 1, together with --appearance NAME_A:NAME_B.")
    if appearance is not None and image is not None:
        raise UserError("--image and --appearance both say whose appearance frames take; give one of them.")
    models = [block.meta.model for block in city.blocks]
    has_codes = any(model.config.training.use_appearance_embedding for model in models)
    if appearance not in (None, MEAN) and not has_codes and all(model.exposures is None for model in models):
        raise UserError("The city was trained without appearance codes and exposures: all its images look alike.")
    if not exposure:
        return
    if not math.isfinite(exposure):
        raise UserError(f"--exposure {exposure}: give a finite number of stops, as in --exposure 1 or --exposure -0.5.")
    if any(model.exposures is None for model in models):
        raise UserError(
            "--exposure has nothing to move: the city was trained with training.use_exposure_encoding=false, or its "
            "images do not tell exposures that differ (EXIF, or `exposure` in blocknerf_scene.json)."
        )
    least, largest = models[0].exposures.range_stops
    if not least <= exposure <= largest:
        log.warning(
            "Training images were exposed %+.1f to %+.1f stops around their mean; beyond that nothing changes.",
            least,
            largest,
        )


def _views_and_images(out, path, frames, size, drive, image, appearance, data_root):
    """The frames to render, the images whose appearance they take, if any, and the scene, if it was needed."""
    from blocknerf.export.paths import captured_views, interpolated_views, read_camera_path

    is_file = path not in ("test", "interpolate")
    if is_file and not path.endswith(".json"):
        raise UserError(f"The path {path!r} is unknown; give test, interpolate, or a camera path FILE.json.")
    if is_file and image is None and appearance is None:
        return read_camera_path(Path(path), size), [], None
    scene, train, test, downsample = _open_scene(out, data_root)
    names = [image] if image is not None else _two_names(appearance, train)
    appearance_images = [_training_image(name, train, out) for name in names]
    if is_file:
        views = read_camera_path(Path(path), size)
    elif path == "test":
        views = captured_views(test, scene.cameras, downsample, size)
    else:
        views = interpolated_views(train, scene.cameras, frames, downsample, drive, size)
    return views, appearance_images, scene


def _scene_if_there(out, data_root):
    """A camera path needs no scene, unless one is named: without it, frames have the mean appearance of their drive."""
    try:
        return _open_scene(out, data_root)[0]
    except UserError as error:
        if data_root is not None:
            raise
        log.info("Frames have the mean appearance of their drive, because the order of images is unknown: %s", error)
        return None


def _between_neighbours(views, city, scene, is_file):
    """The views with the looks of their neighbours, as far as images have an order; drives named in a file stay."""
    from blocknerf.scene.trajectories import Trajectories

    trajectories = Trajectories.of(scene.images)
    drives = [view.drive or city.main_drive for view in views]
    for sentence in trajectories.without_order(drives):
        log.info("%s Its frames have its mean appearance.", sentence)
    return [
        view
        if is_file and view.drive is not None
        else replace(view, appearance=trajectories.appearance_near(view.world_from_cam, drive))
        for view, drive in zip(views, drives, strict=True)
    ]


def _two_names(appearance, train):
    """NAME_A:NAME_B, split at the colon that gives two known names, because names may contain colons."""
    from blocknerf.scene.scene import by_name

    if appearance is None:
        return []
    pieces = appearance.split(":")
    pairs = [(":".join(pieces[:cut]), ":".join(pieces[cut:])) for cut in range(1, len(pieces))]
    if not pairs:
        raise UserError(f"--appearance {appearance!r} names one image; write NAME_A:NAME_B.")
    known = set(by_name(train))
    return max(pairs, key=lambda pair: len(known.intersection(pair)))


def _open_scene(out, data_root):
    from blocknerf.blocks.output import load_output, open_scene
    from blocknerf.blocks.plan import planned_split

    config, plan = load_output(out)
    scene = open_scene(out, config.dataset, data_root)
    train, test = planned_split(plan, scene)
    return scene, train, test, config.dataset.image_downsample


def _training_image(name, train, out):
    import difflib

    from blocknerf.scene.scene import by_name

    images = by_name(train)
    if name not in images:
        near = difflib.get_close_matches(name, images, 1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise UserError(f"No training image of {out} is called {name!r}.{hint}")
    return images[name]
