"""Commands as documents show them."""

import json
import re
from pathlib import Path


def text_of(document: Path) -> str:
    """Of a notebook, what stands between its code."""
    text = document.read_text(encoding="utf-8")
    if document.suffix == ".md":
        return text
    return "\n\n".join("".join(cell["source"]) for cell in json.loads(text)["cells"] if cell["cell_type"] == "markdown")


def commands_of(document: Path) -> list[str]:
    """Lines of code blocks that begin with `blocknerf`, in their order, joined where they are continued."""
    code = "\n".join(re.findall(r"^```\w*\n(.*?)^```", text_of(document), re.MULTILINE | re.DOTALL))
    return re.findall(r"^ *(?:exec )?(blocknerf .*)$", code.replace("\\\n", " "), re.MULTILINE)
