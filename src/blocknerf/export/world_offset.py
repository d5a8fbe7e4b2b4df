"""Exports are in the scene's coordinates; a file beside them has the offset to the capture's.

Splats, meshes and points are float32 in most formats, which cannot hold coordinates of UTM. So nothing is shifted back.
If the capture was shifted, NAME.world_offset.json is written beside the file, or world_offset.json into the folder.
"""

from pathlib import Path

from blocknerf.core.files import write_json
from blocknerf.core.logging import log
from blocknerf.scene.scene import Offset

OFFSET_VERSION = 1


def write_world_offset(beside: Path, world_offset_m: Offset) -> Path | None:
    """Writes the offset beside a file or into a folder; nothing if the capture was not shifted."""
    if not any(world_offset_m):
        return None
    path = beside / "world_offset.json" if beside.is_dir() else beside.with_name(f"{beside.name}.world_offset.json")
    write_json(path, {"version": OFFSET_VERSION, "world_offset_m": world_offset_m})
    log.info("%s says what to add to coordinates to have those of the capture.", path)
    return path
