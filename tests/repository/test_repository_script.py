"""The documents' script: its flags, and what it says where a flag cannot be followed."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.script import SCRIPT, load_script


@pytest.fixture
def script():
    return load_script()


@pytest.fixture
def calls(script, monkeypatch):
    """What the script hands to `blocknerf train`, without training."""
    seen = []
    monkeypatch.setattr("blocknerf.cli.train.train", lambda **given: seen.append(given))
    return seen


def start(script, *arguments: str) -> None:
    script.train_as_asked(script.parse_arguments(["--config", "c.yaml", "--data_root", "scene", *arguments]))


def test_underscores_and_hyphens_are_the_same(script):
    underscores = ["--config", "c", "--data_root", "s", "--output_dir", "o", "--local_rank", "1"]
    hyphens = [word.replace("_", "-") for word in underscores]
    assert script.parse_arguments(underscores) == script.parse_arguments(hyphens)


def test_flags_reach_the_trainer(script, calls):
    start(script, "--output_dir", "out", "training.max_minutes=5", "training.seed=1")
    assert calls == [
        {
            "data_root": Path("scene"),
            "output_dir": Path("out"),
            "config": Path("c.yaml"),
            "overrides": ("training.max_minutes=5", "training.seed=1"),
            "resume": False,
            "resume_from": None,
            "debug": False,
            "distributed": False,
        }
    ]


def test_the_output_folder_is_the_documents_default(script, calls):
    start(script)
    assert calls[0]["output_dir"] == Path("outputs")


def test_resume_is_a_flag_or_a_state(script, calls):
    start(script, "--resume")
    start(script, "--resume", "out/blocks/000/step_000100.json")
    assert [given["resume"] for given in calls] == [True, True]
    assert [given["resume_from"] for given in calls] == [None, Path("out/blocks/000/step_000100.json")]


def test_resume_takes_no_override_for_a_file(script, calls):
    start(script, "--resume", "training.seed=1", "training.max_minutes=5")
    assert calls[0]["resume"] is True
    assert calls[0]["resume_from"] is None
    assert calls[0]["overrides"] == ("training.seed=1", "training.max_minutes=5")


def test_distributed_reaches_the_trainer(script, calls, monkeypatch):
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    start(script, "--distributed", "--local_rank", "1")
    assert calls[0]["distributed"] is True
    assert os.environ["LOCAL_RANK"] == "1"


def test_debug_reaches_the_trainer(script, calls):
    start(script, "--debug")
    assert calls[0]["debug"] is True


def test_help_and_a_bad_path_from_the_shell(tmp_path):
    def shell(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, str(SCRIPT), *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)

    helped = shell("--help")
    assert helped.returncode == 0
    assert all(flag in helped.stdout for flag in ("--config", "--data_root", "--resume", "--debug"))

    refused = shell("--config", str(tmp_path / "absent.yaml"), "--data_root", str(tmp_path))
    assert refused.returncode == 2
    assert "absent.yaml" in refused.stderr.replace("\n", "")
    assert "Traceback" not in refused.stderr
