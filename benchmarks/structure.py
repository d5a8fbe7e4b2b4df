"""Sizes of the code: files, functions, docstrings, annotations, tests, as docs/architecture.md states them.

python -m benchmarks.structure
"""

import ast
from pathlib import Path
from statistics import median, quantiles

ROOT = Path(__file__).parents[1]
Function = ast.FunctionDef | ast.AsyncFunctionDef


def main() -> None:
    files = {path: path.read_text(encoding="utf-8") for path in sorted((ROOT / "src").rglob("*.py"))}
    functions = [node for text in files.values() for node in ast.walk(ast.parse(text)) if isinstance(node, Function)]
    lengths = [(node.end_lineno or node.lineno) - node.lineno + 1 for node in functions]
    lines = [text.count("\n") for text in files.values()]
    test_lines = sum(path.read_text(encoding="utf-8").count("\n") for path in (ROOT / "tests").rglob("*.py"))
    arguments = [argument for node in functions for argument in _arguments(node)]
    public = [node for node in functions if not node.name.startswith("_")]
    rooms: dict[str, int] = {}
    for path, text in files.items():
        room = path.relative_to(ROOT / "src" / "blocknerf").parts[0]
        rooms[room] = rooms.get(room, 0) + text.count("\n")
    print(f"{len(files)} files, {sum(lines):,} lines; a file: median {median(lines):.0f}, largest {max(lines)}")
    print(f"a function: median {median(lengths):.0f}, p90 {quantiles(lengths, n=10)[-1]:.0f}, largest {max(lengths)}")
    print(f"functions of more than 100 lines: {sum(length > 100 for length in lengths)}")
    documented = sum(ast.get_docstring(node) is not None for node in public)
    print(f"public functions with a docstring: {documented / len(public):.0%} of {len(public)}")
    annotated = sum(argument.annotation is not None for argument in arguments)
    print(f"arguments annotated: {annotated / len(arguments):.0%} of {len(arguments)}")
    print(f"lines of tests to lines of the package: {test_lines / sum(lines):.2f}")
    print("rooms by lines:", ", ".join(f"{room} {size}" for room, size in sorted(rooms.items(), key=lambda x: -x[1])))


def _arguments(node: Function) -> list[ast.arg]:
    """Without self and cls."""
    every = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
    return [argument for argument in every if argument.arg not in ("self", "cls")]


if __name__ == "__main__":
    main()
