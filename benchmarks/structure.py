"""Sizes of the code: files, functions, docstrings, annotations, tests, as docs/architecture.md states them.

python -m benchmarks.structure
"""

import argparse
import ast
from pathlib import Path
from statistics import median, quantiles

from benchmarks.report import report
from benchmarks.results import Cell, measured

ROOT = Path(__file__).parents[1]
Function = ast.FunctionDef | ast.AsyncFunctionDef


def main() -> None:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    files = [path.read_text(encoding="utf-8") for path in sorted((ROOT / "src").rglob("*.py"))]
    lines = [text.count("\n") for text in files]
    functions = [node for text in files for node in ast.walk(ast.parse(text)) if isinstance(node, Function)]
    lengths = [(node.end_lineno or node.lineno) - node.lineno + 1 for node in functions]
    test_lines = sum(path.read_text(encoding="utf-8").count("\n") for path in (ROOT / "tests").rglob("*.py"))
    arguments = [argument for node in functions for argument in _arguments(node)]
    public = [node for node in functions if not node.name.startswith("_")]
    counts = {
        "files": len(files),
        "lines": sum(lines),
        "lines of a file, median": median(lines),
        "lines of a file, largest": max(lines),
        "lines of a function, median": median(lengths),
        "lines of a function, 90th percentile": quantiles(lengths, n=10)[-1],
        "lines of a function, largest": max(lengths),
        "functions above 100 lines": sum(length > 100 for length in lengths),
    }
    shares = {
        "public functions with a docstring": sum(ast.get_docstring(node) is not None for node in public) / len(public),
        "arguments with a type": sum(argument.annotation is not None for argument in arguments) / len(arguments),
        "lines of tests to lines of the package": test_lines / sum(lines),
    }
    cells: dict[str, dict[str, Cell]] = {
        name: {"measured": measured(count, "", ",.0f")} for name, count in counts.items()
    }
    cells |= {name: {"measured": measured(share, "", ".2f")} for name, share in shares.items()}
    report("structure", cells)


def _arguments(node: Function) -> list[ast.arg]:
    """Without self and cls."""
    every = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
    return [argument for argument in every if argument.arg not in ("self", "cls")]


if __name__ == "__main__":
    main()
