"""Whatever names and links a capture and an output folder have, no file of somebody else is changed or made."""

import json
import os
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from blocknerf.blocks.plan import BlockSpec, Layout, Plan
from blocknerf.core.config.dataset import DatasetConfig
from blocknerf.core.errors import UserError
from blocknerf.export.block_scenes import write_block_scenes
from blocknerf.export.depth_maps import depth_paths, write_depth
from blocknerf.export.video import write_frames
from blocknerf.scene.colmap_module import pycolmap
from blocknerf.scene.originals import Originals
from blocknerf.scene.readers.read import read_scene
from blocknerf.scene.scene import Scene, scene_hash
from blocknerf.scene.transients import make_masks
from tests.support.scene_builders import OPENGL_FROM_OPENCV, poses

SIZE = (8, 6)
FILES = (
    "photos/0001.png",
    "photos/0001.jpg",
    "photos/IMG.PNG",
    "photos/img.png",
    "photos/e\u0301.png",
    "photos/\u00e9.png",
    "photos/a b #7.png",
    "photos/CON.png",
    "work/ns/run1/images/0001.png",
    "work/ns/run1/masks/m.png",
    "photos/ns/x. ",
    "work/ns/run1/top.png",
    "photos/0001.png.png/b.png",
    "photos/12:00.png",
    "photos/new\nline.png",
)
ROOT = "work/ns/run1"


def referred(project: Path, file: str, how: str) -> str:
    """One of the ways in which a transforms.json names a file."""
    relative = os.path.relpath(file, ROOT)
    return {
        "relative": relative,
        "absolute": str(project / file),
        "detour": f"images/../{relative}",
        "windows": relative.replace("/", "\\"),
    }[how]


def make_project(project: Path, files: list[str], how: list[str]) -> Path:
    """Photographs wherever they are, and a transforms.json three folders below that names them; returns its folder."""
    frames = []
    for number, (file, kind, pose) in enumerate(zip(files, how, poses(len(files)), strict=True)):
        (project / file).parent.mkdir(parents=True, exist_ok=True)
        rgb = np.full((*SIZE[::-1], 3), 10 * number, np.uint8)
        Image.fromarray(rgb).save(project / file, "PNG")
        matrix = np.eye(4)
        matrix[:3] = np.concatenate([pose[:, :3] @ OPENGL_FROM_OPENCV, pose[:, 3:]], axis=1)
        frames.append({"file_path": referred(project, file, kind), "transform_matrix": matrix.tolist()})
    tree = {"fl_x": 9.0, "w": SIZE[0], "h": SIZE[1], "frames": frames}
    root = project / ROOT
    (root / "images").mkdir(parents=True, exist_ok=True)
    (root / "transforms.json").write_text(json.dumps(tree))
    return root


def planned(scene: Scene) -> Plan:
    layout = Layout((0.0, 0.0, 0.0), ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)), "square", 10.0, 12.0)
    middle, ids = (0.0, 0.0, 0.0), tuple(image.id for image in scene.images)
    return Plan(
        scene_hash(scene), "c", (BlockSpec("000", middle, 10.0, middle, ids, (), (), ((0.0, 0.0),)),), (), layout
    )


def contents(folder: Path, but: Path) -> dict[str, bytes | str]:
    """Every file and link below `folder`, apart from what lies in `but`."""
    found: dict[str, bytes | str] = {}
    for directory, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if Path(directory, name) != but]
        links = [name for name in folders if Path(directory, name).is_symlink()]
        for path in (Path(directory, name) for name in [*names, *links]):
            found[str(path.relative_to(folder))] = os.readlink(path) if path.is_symlink() else path.read_bytes()
    return found


TREES = st.lists(
    st.tuples(st.sampled_from(FILES), st.sampled_from(["relative", "absolute", "detour", "windows"])),
    min_size=2,
    max_size=5,
    unique_by=lambda pair: pair[0],
)
OUTPUTS = st.sampled_from(["out", "work/out", f"{ROOT}/out", "photos/out"])
TRAPS = st.lists(
    st.tuples(
        st.sampled_from(["folder", "file", "hard", "other", "dangling"]),
        st.sampled_from(["000/images", "000/masks", "000/images/photos", "000", "000/sparse", ""]),
        st.integers(0, 4),
    ),
    max_size=2,
)


def lay_traps(out: Path, project: Path, scene: Scene, files: list[str], traps) -> None:
    """Links of somebody's in the output folder, to their folders and files, where we might write."""
    for kind, place, number in traps:
        file, name = project / files[number % len(files)], scene.images[number % len(scene.images)].name
        with suppress(OSError):  # two traps in one place
            if kind == "folder":
                (out / place).parent.mkdir(parents=True, exist_ok=True)
                (out / place).symlink_to(file.parent) if place else None
                continue
            path = out / place / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if kind == "hard":
                os.link(file, path)
            elif kind == "other":
                path.symlink_to(project / "mine.txt")
            else:
                path.symlink_to(file if kind == "file" else project / "nothing")


@pytest.fixture(scope="module")
def place():
    folder = Path(tempfile.mkdtemp())
    yield folder
    shutil.rmtree(folder)


PROPERTY = settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))


@PROPERTY
@given(TREES, OUTPUTS, TRAPS, st.permutations(["copy", "link"]))
def test_export_blocks_changes_nothing_of_anybody(place, tree, out, traps, order):
    shutil.rmtree(place / "project", ignore_errors=True)
    project, files = place / "project", [file for file, _ in tree]
    scene = read_scene(make_project(project, files, [how for _, how in tree]), DatasetConfig())
    (project / "mine.txt").write_text("mine")
    out, plan = project / out, planned(scene)
    lay_traps(out, project, scene, files, traps)
    if out.exists():  # ours, but for what somebody put there
        next(write_block_scenes(place / "elsewhere", scene, plan))
        shutil.copy(place / "elsewhere" / "plan.json", out)
        shutil.rmtree(place / "elsewhere")
    before, laid = contents(place, out), contents(out, out / "nothing") if out.exists() else {}
    for how in order:
        refused = False
        try:
            list(write_block_scenes(out, scene, plan, how))
        except UserError:
            refused = True
        assert contents(place, out) == before
        assert refused or {image.name for image in read_scene(out / "000", DatasetConfig()).images}
        if not refused:
            for image in scene.images:
                written = out / "000" / "images" / image.name
                assert written.read_bytes() == image.path.read_bytes()
                assert written.is_symlink() == (how == "link")
            assert all((out / name).exists() or (out / name).is_symlink() for name in laid)
        assert refused <= bool(traps)


@PROPERTY
@given(TREES, OUTPUTS, TRAPS)
def test_depth_maps_change_nothing_of_anybody(place, tree, out, traps):
    shutil.rmtree(place / "project", ignore_errors=True)
    project, files = place / "project", [file for file, _ in tree]
    scene = read_scene(make_project(project, files, [how for _, how in tree]), DatasetConfig())
    (project / "mine.txt").write_text("mine")
    out, names = project / out, [image.name for image in scene.images]
    lay_traps(out, project, scene, files, traps)
    before = contents(place, out)
    with suppress(UserError):
        paths = depth_paths(out, names, "depth_z_m", "npy")
        assert len({str(path).casefold() for path in paths}) == len(names)
        for path in paths:
            depth = np.ones(SIZE[::-1], np.float32)
            write_depth(Originals.of(scene).require_apart(path), depth, depth, "depth_z_m", "npy")
    assert contents(place, out) == before


@PROPERTY
@given(TREES, st.sampled_from(["", "masks", "masks/transient", "masks/transient/photos"]), st.booleans())
def test_masks_change_nothing_that_they_did_not_make(place, tree, link, overwrite):
    shutil.rmtree(place / "project", ignore_errors=True)
    project = place / "project"
    root = make_project(project, [file for file, _ in tree], [how for _, how in tree])
    (project / "photos").mkdir(exist_ok=True)
    if link and not (root / link).exists():
        (root / link).parent.mkdir(parents=True, exist_ok=True)
        (root / link).symlink_to(project / "photos")
    before = contents(place, place / "nothing")
    seen = {}
    with suppress(UserError):
        for _ in range(2):
            make_masks(root, lambda rgb: np.zeros(rgb.shape[:2], np.float32), {}, 0.0, overwrite)
        seen = {image.name: image.mask_paths for image in read_scene(root, DatasetConfig()).images}
    after = contents(place, place / "nothing")
    assert before.items() <= after.items()
    new = {name for name in after.keys() - before.keys() if not name.startswith(f"project/{ROOT}/masks/")}
    assert all("transient/" in name or name.endswith("overview.png") for name in new)
    assert not new or link == "masks"
    assert all(paths for paths in seen.values())


def test_an_overview_of_somebody_else_stays(tmp_path, caplog):
    root = make_project(tmp_path, ["photos/0001.png", "photos/0002.png"], ["relative"] * 2)
    overview = root / "masks" / "overview.png"
    overview.parent.mkdir()
    Image.new("RGB", (4, 4)).save(overview)
    before = overview.read_bytes()

    def masks() -> None:
        make_masks(root, lambda rgb: np.zeros(rgb.shape[:2], np.float32), {}, 0.0, True)

    masks()
    assert overview.read_bytes() == before
    assert "overview.png was not made by this program" in caplog.text
    overview.unlink()
    masks()
    drawn = overview.stat().st_ino
    masks()
    assert overview.stat().st_ino != drawn  # its own is drawn anew


def test_a_png_that_is_named_absolutely_is_not_its_own_mask(tmp_path):
    root = make_project(tmp_path, ["photos/0001.png", "photos/0002.png"], ["absolute", "relative"])
    assert [image.mask_paths for image in read_scene(root, DatasetConfig()).images] == [(), ()]
    (root / "masks").symlink_to(root / "images")
    shutil.copytree(tmp_path / "photos", root / "images", dirs_exist_ok=True)
    tree = json.loads((root / "transforms.json").read_text())
    for number, frame in enumerate(tree["frames"], 1):
        frame["file_path"] = f"images/000{number}.png"
    (root / "transforms.json").write_text(json.dumps(tree))
    assert [image.mask_paths for image in read_scene(root, DatasetConfig()).images] == [(), ()]


def test_colmap_reads_what_export_blocks_writes(tmp_path):
    files = ["photos/A DJI 0001.png", "photos/#2.png", "photos/\u00e9 \u5317.png"]
    scene = read_scene(make_project(tmp_path / "p", files, ["relative"] * 3), DatasetConfig())
    next(write_block_scenes(tmp_path / "b", scene, planned(scene)))
    model = pycolmap.Reconstruction(str(tmp_path / "b" / "000" / "sparse" / "0"))
    assert {image.name for image in model.images.values()} == {image.name for image in scene.images} == set(files)
    for image in model.images.values():
        assert (tmp_path / "b" / "000" / "images" / image.name).is_file()


def test_frames_of_somebody_else_stay(tmp_path):
    import torch

    frames = [torch.full((4, 4, 3), 0.5)] * 2
    (tmp_path / "clip").mkdir()
    Image.new("RGB", (4, 4)).save(tmp_path / "clip" / "frame_00007.png")
    before = contents(tmp_path, tmp_path / "nothing")
    with pytest.raises(UserError, match=r"1 pictures called frame_\*\.png"):
        write_frames(tmp_path / "clip.mp4", frames, 24)
    assert contents(tmp_path, tmp_path / "nothing") == before
    assert len(write_frames(tmp_path / "mine.mp4", frames, 24)) == 2
    assert len(write_frames(tmp_path / "mine.mp4", frames[:1], 24)) == 1  # its own make way
    (tmp_path / "mine" / "frame_00000.png").unlink()
    (tmp_path / "mine" / "frame_00000.png").symlink_to(tmp_path / "clip" / "frame_00007.png")
    with pytest.raises(UserError, match="has not made"):
        write_frames(tmp_path / "mine.mp4", frames, 24)
