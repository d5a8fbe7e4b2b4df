"""The wording of every error that a user can fix, as it stands in the source: one list, to be read and compared.

`make generated` stores it anew, after a change of wording.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
STORED = ROOT / "tests" / "repository" / "messages.txt"


def messages() -> str:
    """By file, the messages of its `UserError`s; what is put in at run time stands in braces."""
    pages = []
    for path in sorted((ROOT / "src" / "blocknerf").rglob("*.py")):
        texts = list(dict.fromkeys(_messages_of(ast.parse(path.read_text(encoding="utf-8")))))
        if texts:
            pages.append("\n".join([path.relative_to(ROOT / "src" / "blocknerf").as_posix(), *texts]))
    return "\n\n".join(pages) + "\n"


def _messages_of(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "UserError" and node.args:
            text = _text(node.args[0])
            if text.strip("{} "):
                yield f"    {text}"


def _text(node: ast.expr) -> str:
    """A string as it is written; "" for an expression that holds none."""
    if isinstance(node, ast.Constant):
        return str(node.value)
    if isinstance(node, ast.JoinedStr):
        return "".join(_text(value) for value in node.values)
    if isinstance(node, ast.FormattedValue):
        return f"{{{ast.unparse(node.value)}}}"
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return _text(node.left) + _text(node.right)
    if isinstance(node, ast.IfExp):
        return f"{_text(node.body)} | {_text(node.orelse)}"
    return ""


if __name__ == "__main__":
    STORED.write_text(messages(), encoding="utf-8")
