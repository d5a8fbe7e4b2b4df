"""The documents keep their word: links lead somewhere, named keys and commands exist."""

import re
from pathlib import Path

import pytest

from blocknerf.core.config import load_config

ROOT = Path(__file__).parents[2]
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


def name(path: Path) -> str:
    return path.name


@pytest.mark.parametrize("document", DOCUMENTS, ids=name)
def test_links_and_pictures_lead_somewhere(document):
    targets = re.findall(r"\]\(([^)\s]+)\)", document.read_text(encoding="utf-8"))
    missing = [
        target for target in targets if "://" not in target and not (document.parent / target.split("#")[0]).exists()
    ]
    assert missing == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=name)
def test_keys_that_are_named_exist(document):
    sections = (
        "dataset|block_manager|block_nerf|appearance_embedding|pose_refinement|visibility_network|training|validation|"
        "logging"
    )
    keys = set(re.findall(rf"\b((?:{sections})\.[a-z_]+(?:\.[a-z_]+)*)\b", document.read_text(encoding="utf-8")))
    config = load_config(None)
    for key in keys - {key for key in keys if key.endswith((".py", ".md"))}:
        value = config
        for part in key.split("."):
            value = getattr(value, part)


def test_the_readme_shows_the_commands_of_the_makefile():
    readme, makefile = ((ROOT / file).read_text(encoding="utf-8") for file in ("README.md", "Makefile"))
    assert "make demo" in readme
    for command in re.findall(r"^blocknerf (?:synth|train|render|evaluate) demo.*$", readme, re.MULTILINE):
        words = command.replace("demo/city/renders/city.mp4", "$(DEMO_VIDEO)").replace("demo/city", "$(DEMO_CITY)")
        assert words in makefile.replace(" \\\n\t\t", " ").replace("$(BIN)/", "")
