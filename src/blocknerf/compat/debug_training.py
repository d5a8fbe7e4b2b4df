"""The documents' `debug_training()`."""

from collections.abc import Sequence
from pathlib import Path

from blocknerf.blocks.output import plan_scene
from blocknerf.core.config.load import load_config
from blocknerf.diagnostics.inspection import inspect_start
from blocknerf.diagnostics.result import Inspection
from blocknerf.diagnostics.tiny import tiny_config
from blocknerf.scene.readers.read import read_scene


def debug_training(
    data_root: Path, output_dir: Path, config: Path | None = None, overrides: Sequence[str] = ()
) -> Inspection:
    """Plans a scene at tiny sizes and runs every check on its first block, as `blocknerf train --debug` does.

    Raises UserError when the scene or the configuration cannot be used, or the folder belongs to another.
    """
    settings = load_config(config, tuple(overrides))
    tiny = tiny_config(settings, read_scene(data_root, settings.dataset))
    settings, scene, plan = plan_scene(tiny, data_root, output_dir)
    return inspect_start(settings, scene, plan, output_dir)
