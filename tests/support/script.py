"""The documents' script as a module."""

import importlib.util
from pathlib import Path
from types import ModuleType

SCRIPT = Path(__file__).parents[2] / "train_block_nerf.py"


def load_script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("train_block_nerf", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
