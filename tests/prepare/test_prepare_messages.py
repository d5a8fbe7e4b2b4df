"""What a user can mend ends in one sentence and exit code 2."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from blocknerf.cli.main import main
from blocknerf.core.errors import UserError
from blocknerf.prepare.prepare import Settings, prepare


def noise(folder: Path, count: int = 4) -> Path:
    """Pictures with features that no other picture has."""
    folder.mkdir(parents=True, exist_ok=True)
    for n in range(count):
        pixels = np.random.default_rng(n).integers(0, 255, (40, 54, 3), np.uint8)
        Image.fromarray(pixels).resize((216, 160), Image.Resampling.BICUBIC).save(folder / f"{n}.png")
    return folder


def test_pictures_that_do_not_match_at_all(tmp_path, capsys):
    command = ["prepare", str(noise(tmp_path / "noise")), str(tmp_path / "out")]
    for _ in range(2):  # the second time nothing is computed, and the sentence is the same
        with pytest.raises(SystemExit) as stopped:
            main(command)
        assert stopped.value.code == 2
        message = " ".join(capsys.readouterr().err.split())
        assert "None of the 4 pictures in" in message
        assert "matches another" in message
        assert "Traceback" not in message


def test_pictures_in_which_there_is_nothing(tmp_path):
    (tmp_path / "blank").mkdir()
    for n in range(3):
        Image.new("RGB", (120, 90), (90, 90, 90 + n)).save(tmp_path / f"blank/{n}.png")
    with pytest.raises(UserError, match="No features were found in any of the"):
        prepare(tmp_path / "blank", tmp_path / "out", Settings())


def test_a_folder_without_pictures(tmp_path):
    for name in ("a.heic", "b.HEIC", "c.txt"):
        (tmp_path / name).write_bytes(b"x")
    with pytest.raises(UserError, match="holds no photographs .* but 2 x .heic, 1 x .txt. Give the"):
        prepare(tmp_path, tmp_path / "out", Settings())
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"but nothing. Give the folder"):
        prepare(tmp_path / "empty", tmp_path / "out", Settings())
    assert not (tmp_path / "out").exists()


def test_a_single_picture(tmp_path):
    with pytest.raises(UserError, match="gives 1 usable pictures; at least 2 are needed"):
        prepare(noise(tmp_path / "one", 1), tmp_path / "out", Settings())


def test_sources_that_are_none(tmp_path):
    with pytest.raises(UserError, match=r"There is no folder or video .*nowhere"):
        prepare(tmp_path / "nowhere", tmp_path / "out", Settings())
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(UserError, match=r"notes.txt is not a known kind of video"):
        prepare(tmp_path / "notes.txt", tmp_path / "out", Settings())


def test_folders_of_others_are_left_alone(tmp_path):
    foreign = tmp_path / "mine"
    foreign.mkdir()
    (foreign / "diary.txt").write_text("precious")
    with pytest.raises(UserError, match=r"mine is not empty"):
        prepare(noise(tmp_path / "noise"), foreign, Settings(), overwrite=True)
    assert [path.name for path in foreign.iterdir()] == ["diary.txt"]
    with pytest.raises(UserError, match="is a file; name a folder"):
        prepare(tmp_path / "noise", foreign / "diary.txt", Settings())


def test_another_source_needs_overwrite(tmp_path):
    one, other, out = noise(tmp_path / "one", 1), tmp_path / "other", tmp_path / "out"
    with pytest.raises(UserError, match="usable pictures"):
        prepare(one, out, Settings())
    noise(other, 1).joinpath("1.jpg").write_bytes(b"x")
    with pytest.raises(UserError, match=r"was prepared from .*one, not from .*other"):
        prepare(other, out, Settings())
    with pytest.raises(UserError, match="usable pictures"):  # it got as far as that
        prepare(other, out, Settings(), overwrite=True)


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        (Settings(interval_s=0.0), "--interval-s 0 must be from"),
        (Settings(long_side=20), "--long-side 20 must be from"),
        (Settings(pause_min=0.0), "--pause-min 0 must be more than 0"),
        (Settings(camera_model="FISHY"), "--camera-model 'FISHY' is not known to COLMAP"),
        (Settings(vocabulary=Path("none.bin")), "There is no file none.bin"),
        (Settings(masks=Path("no_masks")), "There is no folder no_masks. --masks wants a folder"),
        (Settings(matching="vocabulary"), "needs --vocabulary FILE"),
        (Settings(matching="spatial"), "no picture has one"),
    ],
)
def test_settings_that_no_run_can_use(tmp_path, settings, match):
    with pytest.raises(UserError, match=match):
        prepare(noise(tmp_path / "noise"), tmp_path / "out", settings)


def test_a_vocabulary_that_is_none(tmp_path):
    (tmp_path / "tree.bin").write_bytes(b"no tree")
    settings = Settings(matching="vocabulary", vocabulary=tmp_path / "tree.bin")
    with pytest.raises(UserError, match=r"COLMAP .* cannot use the vocabulary .*tree.bin"):
        prepare(noise(tmp_path / "noise"), tmp_path / "out", settings)
