"""`blocknerf prepare`: photographs or video become a scene with poses."""

from pathlib import Path
from typing import Annotated, Literal

import tyro
from rich import box
from rich.table import Table

from blocknerf.core.logging import console, log


def prepare(
    source: tyro.conf.Positional[Path],
    out: tyro.conf.Positional[Path],
    matching: Literal["auto", "exhaustive", "sequential", "spatial", "vocabulary"] = "auto",
    interval_s: Annotated[float, tyro.conf.arg(metavar="SECONDS")] = 0.5,
    gps: Literal["auto", "ignore"] = "auto",
    masks: Annotated[Path | None, tyro.conf.arg(metavar="FOLDER")] = None,
    long_side: Annotated[int, tyro.conf.arg(metavar="PIXELS")] = 1600,
    camera_model: Annotated[str, tyro.conf.arg(metavar="NAME")] = "SIMPLE_RADIAL",
    intrinsics: Literal["shared", "each"] = "shared",
    pause_min: Annotated[float, tyro.conf.arg(metavar="MINUTES")] = 10.0,
    vocabulary: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None,
    overwrite: bool = False,
) -> None:
    """Turns photographs or video into a scene: poses, points, metres by GPS, drives, and a quality page.

    Features, matches and poses come from COLMAP (pycolmap); no GPU is needed. If you stop it, run the same command
    again: it resumes. Changed options repeat only what depends on them. Look at OUT/quality/index.html afterwards.

    For example:
      # Photographs of a walk or a flight
      $ blocknerf prepare photographs scene
      # A folder for each drive or camera
      $ blocknerf prepare captures scene
      # A video, one frame per second
      $ blocknerf prepare drive.mp4 scene --interval-s 1
      # Photographs of many people's cameras
      $ blocknerf prepare collected scene --intrinsics each
      # Ignore moving things: make masks, then prepare again
      $ blocknerf masks scene
      $ blocknerf prepare photographs scene

    Args:
        source: Folder of photographs or videos, or of folders of them; or one video. It is only read. Folders with the
            same photographs at several sizes count once.
        out: Folder of the scene: images/ (links, where the disk allows), sparse/0, blocknerf_scene.json, quality/.
        matching: Which pictures are compared. auto: all pairs up to 100 pictures; with more, neighbours by GPS; without
            GPS, by vocabulary if a file is given, else consecutive pictures and a few with all others.
        interval_s: From a video, the sharpest frame of each interval of this length in seconds is used.
        gps: auto: EXIF positions give metres, north and place. ignore: the model is level, but its scale is arbitrary.
        masks: Folder with FOLDER/<image name>.png; pixels with 0 are ignored. By default masks/ in the source. Masks
            that `blocknerf masks` made in OUT count as well.
        long_side: Features are detected in pictures reduced to this longer side, in pixels. The pictures themselves do
            not change.
        camera_model: COLMAP's camera model: SIMPLE_RADIAL, RADIAL, OPENCV, OPENCV_FISHEYE, ...
        intrinsics: shared: one lens for all pictures of a folder, camera, zoom and size; each: one for every picture.
        pause_min: A pause longer than this, in minutes, starts another drive.
        vocabulary: A vocabulary tree of the COLMAP project, for --matching vocabulary.
        overwrite: Start again in a folder into which another source was prepared.
    """
    from blocknerf.prepare.prepare import Settings
    from blocknerf.prepare.prepare import prepare as run

    settings = Settings(matching, interval_s, long_side, camera_model, intrinsics, gps, pause_min, masks, vocabulary)
    figures = run(source, out, settings, overwrite)
    console.print(quality_table(figures))
    log.info("Look at %s. Next: blocknerf plan --data-root %s", out / "quality" / "index.html", out)


def quality_table(figures: dict) -> Table:
    """The figures that show whether the scene is good enough."""
    reference = figures["georeference"]
    table = Table(title="The scene", title_justify="left", box=box.SIMPLE, show_header=False)
    table.add_column("what")
    table.add_column("value", justify="right")
    table.add_row("pictures placed", f"{figures['registered']} of {figures['pictures']}")
    table.add_row("reprojection error", f"{figures['reprojection_px']:.2f} px")
    table.add_row("of a picture has points", f"{figures['coverage']:.0%}")
    table.add_row("drives", str(len(figures["drives"])))
    table.add_row("tell their exposure", f"{figures['with_exposure']}")
    if reference["is_metric"]:
        table.add_row("typically off GPS", f"{reference['typical_residual_m']:.1f} m")
    else:
        table.add_row("metres", "none")
    return table
