"""`blocknerf export blocks`: every block as a capture of its own, for other trainers."""

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
    """Writes every block of a plan as a COLMAP scene of its own, which any splat trainer reads.

    In FOLDER/BLOCK lie images, masks, sparse/0 (cameras, poses, the points that the block sees or that lie in its
    territory, with their tracks) and block.json with its bounds, borders and overlap. Nothing needs to be trained: a
    plan is enough. Train each block, lay the splats into its folder, and join them: `blocknerf merge FOLDER`.

    Example: blocknerf export blocks out my_blocks

    Args:
        source: Output folder of `blocknerf plan` or `blocknerf train`, or its plan.json.
        folder: Folder to write; one that holds something else is refused.
        photographs: Copy the photographs, so that the folder stands alone, or make symbolic links to them.
        test_images: Write test images as well; other trainers then learn from them.
        data_root: Where the scene lies now, if it has moved.
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
            counts = f"{block.images} images, {block.points} points, {block.own} its own"
            line = f"Block {block.id}: {block.folder} ({counts})"
            console.print(line, soft_wrap=True, highlight=False, markup=False)
        write_world_offset(folder, scene.world_offset_m)
