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
    """Photographs or video become a scene: poses, points, metres by GPS, drives, and a page that says how good it is.

    Features, matches and poses are COLMAP's (pycolmap); no GPU is needed. Stop it and run the same command again: it
    goes on. Other options do again only what depends on them. Then look at OUT/quality/index.html.

    For example:
      # Photographs of a walk or a flight
      $ blocknerf prepare photographs scene
      # A folder for each drive or camera
      $ blocknerf prepare captures scene
      # A video, a frame a second
      $ blocknerf prepare drive.mp4 scene --interval-s 1
      # Photographs of many people's cameras
      $ blocknerf prepare collected scene --intrinsics each
      # Poses without what moves: masks first, then again
      $ blocknerf masks scene
      $ blocknerf prepare photographs scene

    Args:
        source: Folder of photographs, of videos, or of folders of them; or one video. It is only read. Folders with the
            same photographs at several sizes count once.
        out: Folder of the scene: images/ (links, where the disk allows), sparse/0, blocknerf_scene.json, quality/.
        matching: Which pictures are compared. auto: each with each up to 100 pictures; of more, neighbours by GPS;
            else by vocabulary where a file is given; else those before and after it and a few with all.
        interval_s: Of a video, the sharpest frame of each interval of so many seconds is taken.
        gps: auto: EXIF positions give metres, north and place; ignore: level, but in the model's own scale.
        masks: Folder with FOLDER/<image name>.png, 0 where nothing may be looked at; none: masks/ in the source.
            Masks that `blocknerf masks` made in OUT count as well.
        long_side: Features are looked for in pictures made smaller to so many pixels; the pictures stay as they are.
        camera_model: COLMAP's name of the lens: SIMPLE_RADIAL, RADIAL, OPENCV, OPENCV_FISHEYE, ...
        intrinsics: shared: one lens for all pictures of a folder, camera, zoom and size; each: one for every picture.
        pause_min: A pause longer than this begins another drive.
        vocabulary: A vocabulary tree of the COLMAP project, for --matching vocabulary.
        overwrite: Begin anew in a folder that another source was prepared into.
    """
    from blocknerf.prepare.prepare import Settings
    from blocknerf.prepare.prepare import prepare as run

    settings = Settings(matching, interval_s, long_side, camera_model, intrinsics, gps, pause_min, masks, vocabulary)
    figures = run(source, out, settings, overwrite)
    console.print(quality_table(figures))
    log.info("Look at %s. Next: blocknerf plan --data-root %s", out / "quality" / "index.html", out)


def quality_table(figures: dict) -> Table:
    """The figures that decide whether to go on."""
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
