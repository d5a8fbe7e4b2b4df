"""`blocknerf export cameras`: the poses of the cameras, for other programs."""

from pathlib import Path
from typing import Annotated, Literal

import tyro

from blocknerf.cli.place import Place, State
from blocknerf.core.lock import locked_folder
from blocknerf.core.logging import console


def export_cameras(
    out: tyro.conf.Positional[Path],
    format: Literal["colmap", "transforms"] = "colmap",
    folder: Annotated[Path | None, tyro.conf.arg(name="out", metavar="FOLDER")] = None,
    block: str | None = None,
    data_root: Place | None = None,
    state: State = "latest",
) -> None:
    """Writes the camera poses as training refined them: a COLMAP text model, or transforms.json.

    An image that several blocks refined gets the mean of what they say, weighted by how near they stand. Images of
    drives that no block trained on are left out.

    Example: blocknerf export cameras out --format transforms

    Args:
        out: Output folder of `blocknerf train` with training.use_pose_refinement.
        format: colmap writes sparse/0, transforms writes transforms.json.
        folder: Folder to write into; none: cameras in the output folder. A model that no export wrote is left alone.
        block: Id of a block whose poses are wanted alone.
        data_root: Where the scene lies now, if it has moved since training.
        state: Which state of each block: latest, best (in validation), or the JSON of one block's state, as in
            out/blocks/003/step_000500.json, beside the latest of all others.
    """
    from blocknerf.blocks.output import load_output, open_scene
    from blocknerf.city.city import City
    from blocknerf.export.cameras import files_of_cameras, refined_poses, write_cameras
    from blocknerf.export.claimed import claim
    from blocknerf.export.world_offset import write_world_offset

    config, _ = load_output(out)
    scene = open_scene(out, config.dataset, data_root)
    poses = refined_poses(City.open(out, state=state), scene, block)
    folder = folder or out / "cameras"
    is_other = folder.resolve() != (out.resolve() / "cameras")
    with locked_folder(folder, f"Cameras are being written to {folder}"):
        if is_other:
            claim(folder, files_of_cameras(format))
        path = write_cameras(folder, scene, poses, format)
        write_world_offset(folder, scene.world_offset_m)
    console.print(f"Cameras: {path} ({len(poses)} images)", soft_wrap=True, highlight=False, markup=False)
