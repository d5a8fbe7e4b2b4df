"""What must never stand in the sources, whoever writes them."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = sorted((ROOT / "src" / "blocknerf").rglob("*.py"))
TEXTS = sorted(
    path
    for folder in ("src", "tests", "docs", "configs", "benchmarks", ".ci")
    for path in (ROOT / folder).rglob("*")
    if path.suffix in {".py", ".md", ".yaml", ".toml", ".html", ".css", ".js", ""} and path.is_file()
) + [path for path in ROOT.iterdir() if path.suffix in {".md", ".py", ".toml"} or path.name == "Makefile"]


def relative(path: Path) -> str:
    return str(path.relative_to(ROOT))


def test_the_sources_are_where_this_test_looks():
    assert len(SOURCES) > 20
    assert len(TEXTS) > len(SOURCES)


@pytest.mark.parametrize("path", TEXTS, ids=relative)
def test_no_path_of_one_machine(path):
    found = re.findall(r"(?<![\w.])/(?:work|home|root|Users)/[\w./-]*", path.read_text(encoding="utf-8"))
    assert found in ([], ["/" + "work/"]) if path == Path(__file__) else found == []


@pytest.mark.parametrize("path", SOURCES, ids=relative)
def test_no_pickle_no_print_no_loose_end(path):
    text = path.read_text(encoding="utf-8")
    tree = ast.parse(text)
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    imported |= {str(node.module) for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert imported.isdisjoint({"pickle", "dill", "__future__", "pdb"})
    attributes = [ast.unparse(node) for node in ast.walk(tree) if isinstance(node, ast.Attribute)]
    assert set(attributes).isdisjoint({"torch.save", "torch.manual_seed", "np.random.seed", "random.seed"})
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and ast.unparse(node.func) == "torch.load"]
    safe = [call for call in calls if "weights_only=True" in map(ast.unparse, call.keywords)]
    assert attributes.count("torch.load") == len(safe)
    assert re.search(r"\b(TODO|FIXME|XXX|HACK)\b", text) is None


@pytest.mark.parametrize("path", SOURCES, ids=relative)
def test_every_module_says_what_it_is(path):
    text = path.read_text(encoding="utf-8")
    assert text == "" or ast.get_docstring(ast.parse(text))


@pytest.mark.parametrize("path", SOURCES, ids=relative)
def test_what_numba_keeps_goes_through_one_door(path):
    """Its cache looks at a function's own file alone; `kernels/cached_numba.py` sees to the others."""
    text = path.read_text(encoding="utf-8")
    calls = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Call)]
    keeps = [call for call in calls if any(keyword.arg == "cache" for keyword in call.keywords)]
    assert not keeps or path.name == "cached_numba.py"
    assert (
        path.name.endswith("_numba.py")
        or re.search(r"\b(from numba import|cached_numba import cached)\b", text) is None
    )
