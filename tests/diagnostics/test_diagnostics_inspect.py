"""`train --debug` and `inspect` from files to files: a room of several blocks."""

import json
import math
from pathlib import Path
from types import SimpleNamespace

import pytest
from PIL import Image

from blocknerf.cli.inspect import _pose_table, inspect
from blocknerf.cli.train import train
from blocknerf.compat.debug_training import debug_training
from blocknerf.core.errors import UserError
from blocknerf.core.logging import console, log
from blocknerf.diagnostics.pose_motions import PoseMotion
from blocknerf.models.block_file import read_block
from blocknerf.models.block_nerf import load_block
from tests.support.room import write_room


@pytest.fixture(scope="module")
def room(tmp_path_factory) -> Path:
    return write_room(tmp_path_factory.mktemp("room"))


@pytest.fixture(scope="module")
def city(room, tmp_path_factory) -> Path:
    out, level = tmp_path_factory.mktemp("city"), log.level
    shorter = ("block_manager.block_size=2", "logging.use_tensorboard=false", "training.max_steps=3")
    shorter += ("training.use_pose_refinement=true",)
    train(room, out, overrides=shorter, debug=True)
    log.setLevel(level)
    return out


def test_debug_inspects_first_and_trains_to_the_end(city):
    found = json.loads((city / "inspect" / "inspect.json").read_text())
    assert found["state"] == "As training begins it"
    assert {motion["shift_m"] for motion in found["poses"]["moved"]} == {0.0}
    assert "all are where they were captured" in (city / "inspect" / "index.html").read_text()
    blocks = sorted((city / "blocks").glob("*/latest.json"))
    assert len(blocks) > 1
    for path in blocks:
        meta = json.loads(path.read_text())
        assert meta["finished"]
        assert meta["step"] == 3


def test_inspect_writes_the_ray_that_was_asked_for_and_the_seam(city, capsys):
    inspect(city, block="001", image="noon/004.png", pixel=(3, 20), seam="000,001")
    folder = city / "inspect"
    found = json.loads((folder / "inspect.json").read_text())
    assert found["block"] == "001"
    assert found["ray"]["image"] == "noon/004.png"
    assert found["ray"]["pixel_xy"] == [3, 20]
    assert found["seam"]["blocks"] == ["000", "001"]
    assert found["seam"]["colour_difference"] > 0
    assert [phase["phase"] for phase in found["memory"]] == ["data", "forward", "backward", "optimiser"]
    page = (folder / "index.html").read_text()
    assert ".map { max-width: none; }" in page  # a line of text's width would make its pictures unreadable
    for name in ("ray_001.png", "coverage.png", "seam_000_001.png"):
        assert f'src="{name}"' in page
        with Image.open(folder / name) as picture:
            assert min(picture.size) > 300
    assert "index.html" in capsys.readouterr().err.replace("\n", "")


def test_inspect_says_how_far_poses_have_moved(city, capsys):
    """Shift and turn are those between the captured camera at the middle of a drive and the learned one."""
    inspect(city, block="001")
    poses_json, output = json.loads((city / "inspect" / "inspect.json").read_text())["poses"], capsys.readouterr().err
    page = (city / "inspect" / "index.html").read_text()
    assert poses_json["by"] == "drive"
    assert "Poses of block 001, moved by drive" in output
    poses = load_block(read_block(city / "blocks" / "001", "latest")).poses
    for motion in poses_json["moved"]:
        learned = poses.motion(None, motion["name"])
        middle = poses.pivots_world[poses.groups.index(motion["name"])].double()
        cosine = float((learned[:, :3].trace() - 1) / 2)
        assert motion["shift_m"] == pytest.approx(
            float((learned[:, :3] @ middle + learned[:, 3] - middle).norm()), 1e-4
        )
        assert motion["turn_deg"] == pytest.approx(math.degrees(math.acos(min(cosine, 1.0))), abs=2e-3)
        assert motion["shift_m"] > 0
        assert motion["images"] > 1
        assert f"{motion['shift_m']:.4f}" in page
        assert f"{motion['shift_m']:.4f}" in output


@pytest.mark.parametrize("count", [12, 13])
def test_a_table_of_poses_is_as_long_as_can_be_read(count, capsys):
    motions = [PoseMotion(f"{number:03d}.png", 1, 1.0 / (1 + number), 0.5) for number in range(count)]
    console.print(_pose_table(SimpleNamespace(block_id="000", poses_by="image", pose_motions=motions)))
    output = capsys.readouterr().err
    assert ("1 that moved less are on the page" in output) == (count == 13)
    assert ("011.png" in output, "012.png" in output) == (True, False)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"image": "noon/04.png"}, "Did you mean"),
        ({"pixel": (32, 0)}, "columns are 0 to 31"),
        ({"block": "999"}, "has no block '999'"),
        ({"seam": "000"}, "must name two blocks"),
        ({"seam": "000,000"}, "between two blocks"),
    ],
)
def test_what_does_not_exist_is_said(city, arguments, message):
    with pytest.raises(UserError, match=message):
        inspect(city, **arguments)


def test_an_untrained_city_says_so(room, tmp_path):
    inspection = debug_training(room, tmp_path / "out")
    assert inspection.findings == []
    assert inspection.page.is_file()
    with pytest.raises(UserError, match="Train it first"):
        inspect(tmp_path / "out")


def test_debug_goes_with_neither_jobs_nor_update(room, tmp_path):
    with pytest.raises(UserError, match="cannot be given together"):
        train(room, tmp_path / "out", jobs=2, debug=True)
