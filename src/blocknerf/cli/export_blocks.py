"""`blocknerf export blocks`: every block as a separate capture, for other trainers."""

from pathlib import Path
from typing import Literal

import tyro

from blocknerf.cli.place import Place
from blocknerf.core.lock import locked_folder
from blocknerf.core.logging import console


def export_blocks(
    source: tyro.conf.Positional[Path],
    folder: tyro.conf.Positional[Path],
    photographs: Literal["copy", "link"] = "copy",
    test_images: bool = False,
    data_root: Place | None = None,
) -> None:
    """Writes every block of a plan as a separate COLMAP scene, which any splat trainer reads.

    FOLDER/BLOCK gets images, masks, sparse/0 (cameras, poses, and points that the block sees or that are in its
    territory, with their tracks) and block.json with its bounds, borders and overlap. A plan is enough; nothing needs
    to be trained. Train each block, put the splats into its folder, and join them: `blocknerf merge FOLDER`.

    Example: blocknerf export blocks out my_blocks

    Args:
        source: Output folder of `blocknerf plan` or `blocknerf train`, or its plan.json.
        folder: Folder to write. A folder with other files is refused.
        photographs: Copy the photographs, so that the folder is complete, or make symbolic links to them.
        test_images: Write test images as well; other trainers then learn from them.
        data_root: Location of the scene, if it has moved.
    """
    from blocknerf.blocks.output import load_output, open_scene
    from blocknerf.blocks.plan import read_plan
    from blocknerf.export.block_scenes import write_block_scenes
    from blocknerf.export.world_offset import write_world_offset

    out = source.parent if source.is_file() else source
    config, plan = load_output(out)
    plan = read_plan(source) if source.is_file() else plan
    scene = open_scene(out, config.dataset, data_root)
    with locked_folder(folder, f"Blocks are being written to {folder}"):
        for block in write_block_scenes(folder, scene, plan, photographs, test_images):
            counts = f"{block.images} images, {block.points} points, {block.points_inside} its own"
            line = f"Block {block.id}: {block.folder} ({counts})"
            console.print(line, soft_wrap=True, highlight=False, markup=False)
        write_world_offset(folder, scene.world_offset_m)
