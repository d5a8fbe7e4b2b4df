"""Files are found by what their names have become on the way, or it is said why not."""

import os
import unicodedata
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blocknerf.core.config.dataset import DatasetConfig
from blocknerf.core.errors import UserError
from blocknerf.scene.readers.found_files import ENDINGS, FileFinder, Way
from blocknerf.scene.readers.read import read_scene
from tests.support.scene_builders import colmap_capture, transforms_capture, write_transforms

WORDS = st.text(st.sampled_from("abcABz019-_ äÖßéİ"), min_size=1, max_size=5).map(str.strip).filter(bool)
FOLDERS = st.lists(WORDS, max_size=2).map("/".join)
ENDING = st.sampled_from([*ENDINGS, ".JPG", ".Png"])
MANGLES = {
    "backslashes": lambda name: name.replace("/", "\\"),
    "another machine": lambda name: f"/mnt/me/scan/{name}",
    "a drive of Windows": lambda name: "C:\\Users\\me\\scan\\" + name.replace("/", "\\"),
    "large letters": str.upper,
    "small letters": str.lower,
    "NFD": lambda name: unicodedata.normalize("NFD", name),
    "dots": lambda name: f"./{name}",
    "no ending": lambda name: os.path.splitext(name)[0],
    "another ending": lambda name: os.path.splitext(name)[0] + ".jpeg",
}


@st.composite
def trees(draw: st.DrawFn) -> list[str]:
    """Names of files below a folder; some of them nearly alike."""
    names = draw(st.lists(st.tuples(FOLDERS, WORDS, ENDING), min_size=1, max_size=6))
    return sorted({f"{folder}/{stem}{ending}".removeprefix("/") for folder, stem, ending in names})


def written(root: Path, names: list[str]) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(name)


@settings(max_examples=60, deadline=None)
@given(trees(), st.lists(st.sampled_from(sorted(MANGLES)), min_size=1, max_size=3))
def test_a_mangled_name_finds_its_file(names: list[str], ways: list[str]):
    """Where no other file is nearly called so."""
    names = [
        f"{os.path.dirname(name)}/{number}{os.path.basename(name)}".lstrip("/") for number, name in enumerate(names)
    ]

    def mangled(name: str) -> str:
        for way in ways:
            name = MANGLES[way](name)
        return name

    with TemporaryDirectory() as folder:
        written(Path(folder), names)
        found = FileFinder(Path(folder)).find([mangled(name) for name in names])
        for name in names:
            file = found[mangled(name)]
            assert file.problem is None
            assert file.path.read_text() == name


@settings(max_examples=60, deadline=None)
@given(trees(), st.lists(st.tuples(st.integers(0, 5), st.sampled_from(sorted(MANGLES))), min_size=1, max_size=6))
def test_no_file_goes_by_two_names(names: list[str], asked: list[tuple[int, str]]):
    """Whatever is asked for: a file that is there exactly so, a file of one name alone, a problem, or none at all."""
    with TemporaryDirectory() as folder:
        root = Path(folder)
        written(root, names)
        wanted = [MANGLES[way](names[which % len(names)]) for which, way in asked] + names[:1]
        found = FileFinder(root).find(wanted)
        taken = {}
        for name, file in found.items():
            assert file.problem is None or len(file.problem) < 400
            if file.path.is_file() and file.problem is None:
                assert file.path.resolve().is_relative_to(root.resolve())
                if file.ways - {Way.NO_ENDING}:
                    assert file.path not in taken, f"{name!r} and {taken[file.path]!r}"
                taken[file.path] = name
        assert found[names[0]].path.read_text() == names[0]


def test_a_name_of_two_files_is_refused_and_of_two_endings_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    written(tmp_path, ["images/A.jpg", "images/a.JPG", "images/b.png", "images/b.jpg"])
    found = FileFinder(tmp_path).find(["images/a.jpg", "images/b", "images/b.jpeg"])
    assert found["images/a.jpg"].problem == "it may be images/A.jpg or images/a.JPG: rename or remove one"
    assert found["images/b"].path.name == "b.png"
    assert found["images/b.jpeg"].path.name == "b.jpg"
    assert "the first of several endings (2, as images/b.png for images/b)" in caplog.text


def test_names_that_lead_to_one_file(tmp_path: Path):
    written(tmp_path, ["images/0.jpg", "images/1.jpg"])
    found = FileFinder(tmp_path).find(["left/0.jpg", "right/0.jpg", "images/1.jpg", "left/1.jpg"])
    assert found["left/0.jpg"].problem == ("the one file like it, images/0.jpg, may be 'left/0.jpg' or 'right/0.jpg'")
    assert found["left/1.jpg"].problem == "the one file like it, images/1.jpg, is 'images/1.jpg'"
    assert found["images/1.jpg"].problem is None


def test_a_missing_folder_is_replaced_by_its_largest_copy(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    written(tmp_path, ["images_8/0.jpg", "images_4/0.jpg", "images_16/1.jpg", "images_4/._0.jpg"])
    found = FileFinder(tmp_path).find(["images/0.jpg", "images/1.jpg", "images_2/0.jpg"])
    assert found["images/0.jpg"].problem is not None  # images_2/0.jpg is the same file
    found = FileFinder(tmp_path).find(["images/0.jpg", "images/1.jpg"])
    assert [file.path.parent.name for file in found.values()] == ["images_4", "images_16"]
    assert [file.name for file in found.values()] == ["images/0.jpg", "images/1.jpg"]
    assert "2 of 2 files" in caplog.text
    assert "a scaled copy of the folder (2, as images_4/0.jpg for images/0.jpg)" in caplog.text
    assert [path.name for path in FileFinder(tmp_path).photographs("images")] == ["0.jpg"]


def test_a_folder_is_listed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    written(tmp_path, [f"images/{number}.jpg" for number in range(300)])
    listed, scandir = [], os.scandir
    monkeypatch.setattr(os, "scandir", lambda path: listed.append(path) or scandir(path))
    monkeypatch.setattr(os.path, "isfile", lambda _: pytest.fail("a file is asked for by itself"))
    names = [name for number in range(300) for name in (f"C:\\scan\\{number}.JPG", f"/mnt/me/{300 + number}.png")]
    written(tmp_path, [f"{number}.jpg" for number in range(600)])
    found = FileFinder(tmp_path).find(names)
    assert all(os.path.exists(file.path) and file.problem is None for file in found.values())
    assert len(listed) <= 12


@pytest.mark.parametrize("name", ["", ".", "..", "/", "a" * 5000, "a/" * 2500, "\0", "../" * 50 + "dev/zero", "C:"])
def test_names_of_no_file_find_none(tmp_path: Path, name: str):
    written(tmp_path, ["images/0.jpg"])
    file = FileFinder(tmp_path).find([name])[name]
    assert (file.ways, file.problem) == (frozenset(), None)
    assert not os.path.isfile(file.path)


def test_no_photographs_is_a_sentence(tmp_path: Path):
    with pytest.raises(UserError, match="images holds no photographs"):
        FileFinder(tmp_path).photographs("images")


def test_colmap_model_of_pictures_that_were_scaled_and_renamed(tmp_path: Path):
    colmap_capture(tmp_path, names=[f"Straße {index}.png" for index in range(3)])
    (tmp_path / "images").rename(tmp_path / "images_2")
    for path in list((tmp_path / "images_2").iterdir()):
        path.rename(path.with_name(unicodedata.normalize("NFD", path.stem) + ".PNG"))
    scene = read_scene(tmp_path, DatasetConfig())
    assert [image.name for image in scene.images] == [f"Straße {index}.png" for index in range(3)]
    assert {image.path.parent.name for image in scene.images} == {"images_2"}
    assert {image.drive for image in scene.images} == {"0"}


def test_transforms_of_another_machine_name_their_masks_too(tmp_path: Path):
    tree = transforms_capture(tmp_path)
    (tmp_path / "masks").mkdir()
    for number, frame in enumerate(tree["frames"]):
        (tmp_path / f"masks/{number}.PNG").write_bytes((tmp_path / frame["file_path"]).read_bytes())
        frame["mask_path"] = f"D:\\scan\\masks\\{number}.png"
        frame["file_path"] = "D:\\scan\\" + frame["file_path"].replace("/", "\\")
    write_transforms(tmp_path, tree)
    scene = read_scene(tmp_path, DatasetConfig())
    assert [image.name for image in scene.images] == [f"{number:04d}.png" for number in range(4)]
    assert [image.mask_paths for image in scene.images] == [(tmp_path / f"masks/{n}.PNG",) for n in range(4)]


def test_a_missing_mask_is_not_the_photograph_of_its_name(tmp_path: Path):
    tree = transforms_capture(tmp_path)
    tree["frames"][0]["mask_path"] = "/mnt/me/masks/0000.png"
    write_transforms(tmp_path, tree)
    ((name, reason),) = read_scene(tmp_path, DatasetConfig()).skipped
    assert name == "0000.png"
    assert "there is no mask" in reason
