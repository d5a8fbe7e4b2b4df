"""Names as people count, and names of others as files of ours."""

import os
import unicodedata
from pathlib import Path, PurePosixPath, PureWindowsPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blocknerf.core.errors import UserError
from blocknerf.core.names import (
    LONGEST_BYTES,
    contained,
    natural_order,
    owned,
    portable_name,
    require_plain,
    unique_names,
    word_of,
)

PARTS = st.one_of(
    st.sampled_from(["..", ".", "", "a", "A", "a.jpg", "a.jpg.png", "CON", "aux.png", "x. ", " ", "~", "C:"]),
    st.sampled_from(["\u00e9", "e\u0301"]),
    st.text(max_size=6),
    st.sampled_from(["n" * 300, "\u00e9" * 200 + ".jpg"]),
)
NAMES = st.builds(
    lambda root, parts, slash: root + slash.join(parts),
    st.sampled_from(["", "", "/", "//", "C:\\", "c:/", "\\\\server\\"]),
    st.lists(PARTS, max_size=5),
    st.sampled_from(["/", "\\"]),
)


def test_frames_are_ordered_by_their_numbers():
    assert sorted(["f_10.png", "f_9.png", "f_1.png"], key=natural_order) == ["f_1.png", "f_9.png", "f_10.png"]


@given(NAMES)
def test_a_portable_name_stays_in_its_folder_on_every_system(name):
    portable = portable_name(name)
    assert portable_name(portable) == portable
    assert contained(Path("folder"), portable) == Path("folder") / portable
    for path in (PurePosixPath(portable), PureWindowsPath(portable)):
        assert not path.is_absolute()
        assert not path.drive
        assert ".." not in path.parts
        assert path.parts == tuple(portable.split("/"))
    for part in portable.split("/"):
        assert 0 < len(part.encode("utf-8")) <= LONGEST_BYTES
        assert part.rstrip(" .") == part
        assert all(unicodedata.category(letter) not in ("Cc", "Cs") for letter in part)
    assert len(portable.encode()) <= 1000


@given(st.lists(NAMES, unique=True, max_size=8))
def test_names_are_files_side_by_side_wherever_they_are_put(listed):
    named = unique_names(listed)
    keys = [unicodedata.normalize("NFC", name).casefold() for name in named]
    assert len(set(keys)) == len(listed)
    folders = {key.rsplit("/", count)[0] for key in keys for count in range(1, key.count("/") + 1)}
    assert folders.isdisjoint(keys)
    assert folders.isdisjoint(f"{key}.png" for key in keys)
    assert all(portable_name(name) == name for name in named)
    assert dict(zip(listed, named, strict=True)) == dict(zip(listed[::-1], unique_names(listed[::-1]), strict=True))


@pytest.mark.parametrize(
    "name",
    ["0001.jpg", "drive 1/IMG #7 (2).JPG", "cam_01/1.5.png", "\u00e5/\u5317.png", "a\u030a.png", "~/.x.jpg", "a~1.jpg"],
)
def test_ordinary_names_stay_as_they_are(name):
    assert unique_names([name, "another.png"]) == [name, "another.png"]


def test_names_that_leave_the_folder_become_readable():
    listed = ["../../../photos/0001.jpg", "/abs/x.png", "a/../../b.jpg", r"D:\DCIM\1.jpg", "../.."]
    assert unique_names(listed) == ["photos/0001.jpg", "abs/x.png", "b.jpg", "DCIM/1.jpg", "image"]
    first, second, third = unique_names(["photos/1.jpg", "../photos/1.jpg", "../photos/1.JPG"])
    assert first == "photos/1.jpg"
    assert second.startswith("photos/1~")
    assert third.startswith("photos/1~")


@given(NAMES)
def test_a_name_that_would_leave_the_folder_is_not_joined(name):
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or not path.parts or "\0" in name:
        with pytest.raises(UserError, match="not a name of a file in folder") as caught:
            contained(Path("folder"), name)
        assert len(str(caught.value)) <= 500
    else:
        assert Path(os.path.normpath(contained(Path("folder"), name))).is_relative_to("folder")


def test_a_file_to_be_written_does_not_lie_behind_a_link_that_leads_out(tmp_path):
    (tmp_path / "out" / "real").mkdir(parents=True)
    (tmp_path / "theirs").mkdir()
    (tmp_path / "out" / "inside").symlink_to("real")
    (tmp_path / "out" / "outside").symlink_to("../theirs")
    (tmp_path / "link").symlink_to("out")
    for folder in (tmp_path / "out", tmp_path / "link"):  # the folder itself may be a link: it was named so
        assert owned(folder, "inside/new/x.png") == folder / "inside/new/x.png"
        for name in ("outside/x.png", "outside/new/x.png"):
            with pytest.raises(UserError, match="leads out of"):
                owned(folder, name)


@pytest.mark.parametrize("name", ["", ".", "..", "../../ESC/x", "a/b", "/abs", "a\\b", "C:", "con", "x\n", "n" * 5000])
def test_what_is_no_name_of_a_block_is_refused(name):
    with pytest.raises(UserError, match="The block") as caught:
        require_plain(name, "The block")
    assert len(str(caught.value)) <= 500
    assert require_plain("007", "The block") == "007"


@given(st.text(max_size=400))
def test_a_word_fits_into_a_file_name(name):
    assert all(letter.isascii() and (letter.isalnum() or letter == "_") for letter in word_of(name))
    assert len(word_of(name)) <= 130
