"""Starting the program is quick, and what it imports is decided, not incidental."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def fresh(code: str) -> str:
    """Runs `code` in an interpreter of its own and returns what it printed."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


HEAVY = ("torch", "numba", "pycolmap", "matplotlib", "av", "torchmetrics", "trimesh", "tensorboard", "transformers")


def loaded_after(code: str) -> set[str]:
    printed = fresh(f"{code}\nimport sys\nprint(*[name for name in {HEAVY!r} if name in sys.modules])")
    return set(printed.splitlines()[-1].split())


def test_importing_the_package_imports_nothing_heavy():
    assert loaded_after("import blocknerf; blocknerf.__version__") == set()


def test_reading_a_configuration_imports_nothing_heavy():
    assert loaded_after("from blocknerf.core.config.load import load_config; load_config(None)") == set()


def test_processes_that_compile_the_kernels_of_a_step_wait_for_no_torch():
    """They run beside the import of torch in the command itself."""
    code = """
from blocknerf.core.config.backbone import first_backbone
from blocknerf.kernels.jit.precompile import kernel_of
for name in first_backbone().kernels:
    kernel_of(name)
"""
    assert loaded_after(code) == {"numba"}


@pytest.mark.parametrize("arguments", [["--help"], ["train", "--help"]])
def test_help_imports_nothing_heavy(arguments):
    code = f"""
from blocknerf.cli.main import main
try:
    main({arguments!r})
except SystemExit as exit:
    assert exit.code == 0, exit.code
"""
    assert loaded_after(code) == set()


def test_a_first_step_waits_neither_for_torchs_compiler_nor_for_matplotlib():
    code = """
import torch
import blocknerf.training.train_blocks
from blocknerf.core.config.load import load_config
from blocknerf.models.block_nerf import BlockNeRF
from blocknerf.training.block.optimizer import BlockOptimizer
small = ("log2_table_rows=8", "num_levels=2")
config = load_config(None, ["block_nerf.proposal_resolution=8", *(f"block_nerf.hash_grid.{key}" for key in small)])
model = BlockNeRF(config, (0.0, 0.0, 0.0), 1.0, (), (), torch.Generator())
optimizer = BlockOptimizer(model, config.training)
for parameter in optimizer.parameters():
    parameter.grad = torch.ones_like(parameter)
optimizer.step({"nerf": 1e-3, "appearance": 1e-3, "visibility": 1e-3})
import sys
assert "torch._dynamo" not in sys.modules
"""
    assert "matplotlib" not in loaded_after(code)


def test_functions_take_the_section_that_they_need():
    """A function that takes the whole configuration needs several sections of it, or hands it on."""
    for path in sorted((ROOT / "src").rglob("*.py")):
        for function in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(function, ast.FunctionDef):
                continue
            arguments = (*function.args.args, *function.args.kwonlyargs)
            whole = {a.arg for a in arguments if a.annotation is not None and ast.unparse(a.annotation) == "Config"}
            for name in whole:
                uses = [node for node in ast.walk(function) if isinstance(node, ast.Name) and node.id == name]
                reads = [node for node in ast.walk(function) if isinstance(node, ast.Attribute)]
                sections = [node.attr for node in reads if ast.unparse(node.value) == name]
                assert len(set(sections)) != 1 or len(uses) > len(sections) or sections[0].startswith("model_"), (
                    f"{path.name}: {function.name} takes the whole Config and needs its {sections[0]} alone"
                )
