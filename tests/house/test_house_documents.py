"""The documents keep their word: links lead somewhere, named keys and commands exist."""

import functools
import importlib
import re
import shlex
from pathlib import Path

import pytest
import tyro

from blocknerf.core.config import load_config

ROOT = Path(__file__).parents[2]
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]


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


def commands_of(document: Path) -> list[str]:
    """Lines of code blocks that begin with `blocknerf`, joined where they are continued, without what a shell takes."""
    code = "\n".join(re.findall(r"^```\w*\n(.*?)^```", document.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL))
    found = re.findall(r"^ *(?:exec )?(blocknerf .*)$", code.replace("\\\n", " "), re.MULTILINE)
    return [re.sub(r"\s+(&|#.*|> .*)$", "", command) for command in found]


COMMANDS = sorted({command for document in DOCUMENTS for command in commands_of(document)})


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_that_is_shown_can_be_given(command):
    """Parsed as the program does, its configuration checked; nothing is done."""
    _, *words = shlex.split(command)
    module = words.pop(0)
    if module == "export":
        module = f"export_{words.pop(0)}"
    takes = getattr(importlib.import_module(f"blocknerf.cli.{module}"), module)
    told = {}

    @functools.wraps(takes)
    def only_parsed(*_, **named):
        told.update(named)

    tyro.cli(only_parsed, args=words)
    load_config(told.get("config") and ROOT / told["config"], told.get("overrides", ()))


def test_a_command_that_the_program_does_not_take_is_found():
    with pytest.raises(SystemExit):
        test_a_command_that_is_shown_can_be_given("blocknerf render out --paht test")


def test_commands_are_found_on_every_page_for_beginners():
    for page in (
        "README",
        "docs/index",
        "docs/scaling",
        *(f"docs/tutorials/{n}" for n in ("street", "aerial", "landmark")),
    ):
        assert len(commands_of(ROOT / f"{page}.md")) > 2, page
    assert any("--launcher ray" in command and "--address" in command for command in COMMANDS)
