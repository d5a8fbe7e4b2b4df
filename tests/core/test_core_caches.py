"""Where copies and compiled code are kept where there is no home, or nothing can be written there."""

import logging
import os
import tempfile
from pathlib import Path

import pytest

from blocknerf.core import caches
from blocknerf.core.errors import UserError


@pytest.fixture
def nowhere_at_home(tmp_path, monkeypatch) -> Path:
    """A folder of temporary files; at home nothing can be made."""
    monkeypatch.delenv(caches.CACHE_VARIABLE, raising=False)
    monkeypatch.setenv("HOME", "/proc/no_home")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(caches, "_announced", set())
    return tmp_path


def test_at_home_as_a_rule(tmp_path, monkeypatch):
    monkeypatch.delenv(caches.CACHE_VARIABLE, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert caches.cache_folder() == tmp_path / ".cache" / "blocknerf"


def test_a_named_folder_wins(nowhere_at_home, monkeypatch):
    monkeypatch.setenv(caches.CACHE_VARIABLE, "/mnt/fast")
    assert caches.cache_folder() == Path("/mnt/fast")


def test_without_a_home_it_is_among_temporary_files_and_said_once(nowhere_at_home, caplog, monkeypatch):
    monkeypatch.setattr(caches.log, "propagate", True)
    with caplog.at_level(logging.INFO, "blocknerf"):
        folder = caches.cache_folder()
        assert caches.cache_folder() == folder == nowhere_at_home / f"blocknerf-{os.getuid()}"
    assert len({id(record) for record in caplog.records}) == 1
    assert folder.stat().st_mode & 0o777 == 0o700


def test_a_user_without_a_name_has_no_home(nowhere_at_home, monkeypatch):
    def nobody() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", nobody)
    assert caches.cache_folder().parent == nowhere_at_home


@pytest.mark.parametrize("kind", ["others may write", "a link"])
def test_a_folder_that_others_could_have_filled_is_not_taken(nowhere_at_home, kind):
    place = nowhere_at_home / f"blocknerf-{os.getuid()}"
    if kind == "a link":
        (nowhere_at_home / "theirs").mkdir()
        place.symlink_to(nowhere_at_home / "theirs")
    else:
        place.mkdir()
        place.chmod(0o777)
    assert caches.cache_folder() != place
    assert caches.cache_folder().stat().st_mode & 0o077 == 0


def test_nowhere_at_all_is_said(nowhere_at_home, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", "/proc/no_files")
    with pytest.raises(UserError, match=f"nor among temporary files .* Set {caches.CACHE_VARIABLE}"):
        caches.cache_folder()


def test_matplotlib_keeps_its_fonts_there(nowhere_at_home, monkeypatch):
    monkeypatch.delenv("MPLCONFIGDIR", raising=False)
    monkeypatch.setattr(os, "environ", dict(os.environ))
    caches.settle_fonts()
    assert os.environ["MPLCONFIGDIR"] == str(nowhere_at_home / f"blocknerf-{os.getuid()}" / "matplotlib")
