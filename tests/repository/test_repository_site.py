"""The site: it builds, its keys are those of the schema, and what it quotes stands there."""

import re
import runpy
import subprocess
import sys
from pathlib import Path

from blocknerf.core.config.config import Config

ROOT = Path(__file__).parents[2]


def test_the_page_of_keys_is_that_of_the_schema():
    page = runpy.run_path(str(ROOT / "docs/configuration.py"))["page"]
    assert page() == (ROOT / "docs/configuration.md").read_text(encoding="utf-8"), (
        "run: python docs/configuration.py > docs/configuration.md"
    )


def test_every_key_is_described():
    schema = Config.model_json_schema()
    bare = [
        f"{kind}.{key}"
        for kind, tree in schema["$defs"].items()
        for key, value in tree["properties"].items()
        if "description" not in value and "$ref" not in value
    ]
    assert bare == []


def test_messages_that_are_explained_are_messages_of_the_program():
    source = "\n".join(path.read_text(encoding="utf-8") for path in sorted((ROOT / "src").rglob("*.py")))
    source = re.sub(r'"\s*\n\s*f?"', "", source)
    page = (ROOT / "docs/troubleshooting.md").read_text(encoding="utf-8")
    quoted = [
        part for cell in re.findall(r"^\| (`.*?) \|", page, re.MULTILINE) for part in re.findall("`([^`]+)`", cell)
    ]
    assert len(quoted) > 25
    assert [part for part in quoted if part not in source] == []


def test_the_site_builds_without_a_warning(tmp_path):
    build = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path / "site")]
    done = subprocess.run(build, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "site/tutorials/street/index.html").is_file()
