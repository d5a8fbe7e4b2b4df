"""The documents keep their word: links lead somewhere, named keys and commands exist."""

import functools
import importlib
import re
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest
import tyro

from blocknerf.cli.commands import ABOUT, load_commands
from blocknerf.cli.main import main
from blocknerf.core.config.config import Config
from blocknerf.core.config.keys import known_keys
from blocknerf.core.config.load import load_config
from tests.support.shown import commands_of, text_of

ROOT = Path(__file__).parents[2]
DOCUMENTS = [
    *(ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))),
    *sorted((ROOT / "notebooks").glob("*.ipynb")),
]


def name(path: Path) -> str:
    return path.name


@pytest.mark.parametrize("document", DOCUMENTS, ids=name)
def test_links_and_pictures_lead_somewhere(document):
    targets = re.findall(r"\]\(([^)\s]+)\)", text_of(document))
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
    keys = set(re.findall(rf"\b((?:{sections})\.[a-z_]+(?:\.[a-z_]+)*)\b", text_of(document)))
    assert {key for key in keys if not key.endswith((".py", ".md"))} <= set(known_keys(Config))


def test_the_readme_shows_the_commands_of_the_makefile():
    readme, makefile = ((ROOT / file).read_text(encoding="utf-8") for file in ("README.md", "Makefile"))
    assert "make demo" in readme
    for command in re.findall(r"^blocknerf (?:synth|train|render|evaluate) demo.*$", readme, re.MULTILINE):
        words = command.replace("demo/city/renders/city.mp4", "$(DEMO_VIDEO)").replace("demo/city", "$(DEMO_CITY)")
        assert words in makefile.replace(" \\\n\t\t", " ").replace("$(BIN)/", "")


def commands_in_help(text: str | None) -> list[str]:
    """What stands behind `$` and `Example:`."""
    return re.findall(r"^ *(?:\$|Example:) (blocknerf .*?) *$", text or "", re.MULTILINE)


def function_of(words: str) -> Callable[..., None]:
    """The command that is called by words, as in "export mesh"."""
    module = words.replace(" ", "_")
    return getattr(importlib.import_module(f"blocknerf.cli.{module}"), module)


MODULES = {path.stem: path.read_text(encoding="utf-8") for path in sorted((ROOT / "src/blocknerf/cli").glob("*.py"))}
NAMES = [name for name, text in MODULES.items() if f"\ndef {name}(" in text and name != "main"]
CALLED_BY = [name.replace("export_", "export ") for name in NAMES]
WRITTEN = [command for document in DOCUMENTS for command in commands_of(document)]
WRITTEN += [
    command
    for text in (ABOUT, *(function_of(words).__doc__ for words in CALLED_BY))
    for command in commands_in_help(text)
]
COMMANDS = sorted({re.sub(r"\s+(&|#.*|> .*)$", "", command) for command in WRITTEN})  # without what a shell takes


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_that_is_shown_can_be_given(command):
    """Parsed as the program does, its configuration checked; nothing is done."""
    _, *words = shlex.split(command)
    takes = function_of(" ".join(words[:2] if words[0] == "export" else words[:1]))
    arguments = {}

    @functools.wraps(takes)
    def only_parsed(*_, **named):
        arguments.update(named)

    tyro.cli(only_parsed, args=words[2 if words[0] == "export" else 1 :])
    load_config(arguments.get("config") and ROOT / arguments["config"], arguments.get("overrides", ()))


def test_a_command_that_the_program_does_not_take_is_found():
    with pytest.raises(SystemExit):
        test_a_command_that_is_shown_can_be_given("blocknerf render out --paht test")


@pytest.mark.parametrize("words", CALLED_BY)
def test_help_teaches_by_example(capsys, monkeypatch, words):
    monkeypatch.setenv("COLUMNS", "200")
    with pytest.raises(SystemExit) as exit:
        main([*words.split(), "--help"])
    assert exit.value.code == 0
    examples = commands_in_help(function_of(words).__doc__)
    assert any(command.startswith(f"blocknerf {words} ") for command in examples)
    assert set(examples) <= set(commands_in_help(capsys.readouterr().out))


def test_the_commands_are_those_of_the_program():
    assert {words for words in CALLED_BY if not words.startswith("export ")} == set(load_commands())
    assert len(CALLED_BY) > len(load_commands()) + 5


def test_commands_are_found_on_every_page_for_beginners():
    for page in (
        "README",
        "docs/index",
        "docs/scaling",
        *(f"docs/tutorials/{n}" for n in ("street", "aerial", "landmark")),
    ):
        assert len(commands_of(ROOT / f"{page}.md")) > 2, page
    assert any("--launcher ray" in command and "--address" in command for command in COMMANDS)


def test_files_that_documents_name_exist():
    """A path with a folder, in backquotes, is one of the repository, of the package, or of the page's own folder."""
    bases = (ROOT, ROOT / "src" / "blocknerf", ROOT / "docs")
    invented = {"src/blocknerf/scene/readers/csv_cameras.py"}  # the example that docs/readers.md writes
    for document in DOCUMENTS:
        names = re.findall(r"`((?:[a-z_]+/)+[a-z_]+\.py)`", document.read_text(encoding="utf-8"))
        for path in {*names} - invented:
            assert any((base / path).exists() for base in bases), f"{document.name} names {path}"
