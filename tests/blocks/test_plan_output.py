"""The output folder and the map: whose folder it is, what may change, what is drawn."""

import errno
import json
import os
import shutil

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from blocknerf.blocks.budget_file import StoredBudget
from blocknerf.blocks.cost import estimates
from blocknerf.blocks.map import draw_map, nice_length
from blocknerf.blocks.output import PLAN_FILES, load_output, open_scene, plan_scene
from blocknerf.blocks.plan import BlockSpec, Plan
from blocknerf.blocks.planner import make_plan
from blocknerf.city.city import City
from blocknerf.city.manifest import manifest_of, write_manifest
from blocknerf.cli.plan import cost_table, duration, plan
from blocknerf.core import disk
from blocknerf.core.config.load import load_config
from blocknerf.core.errors import UserError
from blocknerf.export.block_scenes import write_block_scenes
from blocknerf.export.merge import find_plan
from tests.support.made_scenes import aerial, crossing, streets, write_capture

SMALL = ("block_manager.block_size=20", "block_manager.min_images_per_block=4")


@pytest.fixture
def capture(tmp_path):
    return write_capture(tmp_path / "walk")


def planned(capture, out, *overrides):
    return plan_scene(load_config(None, (*SMALL, *overrides)), capture, out)


def learn(out):
    """What a trained block leaves."""
    (out / "blocks" / "000").mkdir(parents=True)
    (out / "blocks" / "000" / "latest.json").write_text("{}")


def test_planning_fills_the_folder_and_it_can_be_opened(capture, tmp_path):
    out = tmp_path / "out"
    config, scene, plan_made = planned(capture, out)
    assert sorted(path.name for path in out.iterdir()) == ["config.json", "map.png", "plan.json", "scene.json"]
    assert load_output(out) == (config, plan_made)
    assert open_scene(out, config.dataset).images[0].id == scene.images[0].id
    assert len(plan_made.blocks) == 3
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    planned(capture, out)
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before


def test_keys_that_decide_nothing_may_change_and_are_kept(capture, tmp_path):
    planned(capture, tmp_path / "out")
    learn(tmp_path / "out")
    free = ("training.max_minutes=3", "training.num_epochs=9", "logging.log_freq=7", "validation.val_freq=2")
    planned(capture, tmp_path / "out", *free, "training.nerf_lr=0.001", "training.appearance_lr=1e-4")
    config, _ = load_output(tmp_path / "out")
    assert config.training.nerf_lr == 0.001
    assert (config.training.max_minutes, config.logging.log_freq) == (3, 7)


def test_another_configuration_is_refused_and_the_keys_are_named(capture, tmp_path):
    planned(capture, tmp_path / "out")
    learn(tmp_path / "out")
    untouched = (tmp_path / "out" / "config.json").read_bytes()
    changes = "block_manager.block_size 20.0 -> 10.0; training.seed 42 -> 1"
    with pytest.raises(UserError, match=f"belongs to another configuration: {changes}. Give the old values again"):
        planned(capture, tmp_path / "out", "block_manager.block_size=10", "training.seed=1")
    assert (tmp_path / "out" / "config.json").read_bytes() == untouched


def test_planning_again_is_free_until_something_was_learned(capture, tmp_path):
    out = tmp_path / "out"
    planned(capture, out)
    _, _, again = planned(capture, out, "block_manager.block_size=10", "dataset.image_downsample=2")
    assert len(again.blocks) > 3
    assert load_output(out)[1] == again
    (out / "blocks" / "000").mkdir(parents=True)  # a folder alone is nothing learned
    planned(capture, out, "block_manager.block_size=10")
    assert load_output(out)[0].dataset.image_downsample == 1
    (out / "blocks" / "000" / "checkpoint.json").write_text("{}")
    with pytest.raises(UserError, match="belongs to another configuration: block_manager.block_size 10.0 -> 20.0"):
        planned(capture, out)


def written_before_overlap_ratio_was_of_block_size(out, ratio):
    """The folder as it was left when 0.5 reached a quarter of a block size beyond the edge."""
    for name, section in (("config.json", "block_manager"), ("plan.json", None)):
        tree = json.loads((out / name).read_text())
        if section:
            tree[section]["overlap_ratio"] = ratio
        else:
            tree["config_hash"] = "made earlier"
            tree.pop("checksum")
        (out / name).write_text(json.dumps(tree))


@pytest.mark.parametrize("ratio", [0.5, 0.25])
def test_a_folder_from_before_goes_on_by_the_file_that_made_it_and_by_todays(capture, tmp_path, ratio, caplog):
    out = tmp_path / "out"
    _, _, first = planned(capture, out)
    written_before_overlap_ratio_was_of_block_size(out, 0.5)
    learn(out)
    for _ in range(2):
        with caplog.at_level("INFO", logger="blocknerf"):
            _, _, again = planned(capture, out, f"block_manager.overlap_ratio={ratio}")
        assert again.blocks == first.blocks
        assert ("Its blocks reach 0.25 block sizes" in caplog.text) is (ratio == 0.5)
    with pytest.raises(UserError, match="another configuration: block_manager.overlap_ratio 0.25 -> 0.3"):
        planned(capture, out, "block_manager.overlap_ratio=0.3")


def test_a_plan_from_before_of_which_nothing_was_learned_is_made_again(capture, tmp_path):
    out = tmp_path / "out"
    _, _, first = planned(capture, out)
    written_before_overlap_ratio_was_of_block_size(out, 0.5)
    _, _, again = planned(capture, out, "block_manager.overlap_ratio=0.5")
    assert again.ground().cell_reach_m == pytest.approx(20.0)
    assert first.ground().cell_reach_m == pytest.approx(15.0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"blocks": []}, "plan.json holds no block. Delete it and plan again"),
        ({"version": 99}, "of version 99; .* Delete it and plan again"),
        ({"blocks": [{}]}, "plan.json is damaged .* Delete it and plan again"),
    ],
)
def test_a_plan_that_cannot_be_used_is_a_sentence_whose_remedy_works(capture, tmp_path, change, message):
    out = tmp_path / "out"
    _, _, first = planned(capture, out)
    path = out / "plan.json"
    tree = json.loads(path.read_text()) | change
    tree.pop("checksum")
    path.write_text(json.dumps(tree))
    with pytest.raises(UserError, match=message):
        planned(capture, out)
    path.unlink()
    assert planned(capture, out)[2] == first


@pytest.mark.parametrize("name", ["config.json", "scene.json", "plan.json", "map.png", "budget.json"])
def test_files_of_somebody_else_are_not_replaced(capture, tmp_path, name):
    out = tmp_path / "out"
    out.mkdir()
    (out / name).write_text('{"training": {"max_minutes": 3}}')
    with pytest.raises(UserError, match=rf"{name} was not written by blocknerf.* another --output-dir"):
        planned(capture, out)
    assert [(path.name, path.read_text()) for path in out.iterdir()] == [(name, '{"training": {"max_minutes": 3}}')]
    planned(capture, tmp_path / "ours")
    if name != "map.png":  # a run that was stopped leaves some of them
        for path in (tmp_path / "ours").iterdir():
            if path.name != name:
                path.unlink()
        planned(capture, tmp_path / "ours")


class StopAfter:
    """The disk fails once, when the file of that name has come to its place."""

    def __init__(self, name):
        self.name = name

    def __call__(self, kind, path, do, half):
        done = do()
        if kind == "rename" and path.endswith(f"/{self.name}"):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return done


@pytest.mark.parametrize("name", PLAN_FILES)
def test_planning_that_stops_after_any_of_its_files_goes_on(capture, tmp_path, name):
    def with_budget(out):
        stored = StoredBudget(30.0, 20_000.0, 2, ("training.max_minutes",))
        plan_scene(load_config(None, SMALL), capture, out, lambda config, scene, plan: (config, stored))

    with_budget(tmp_path / "undisturbed")
    out = tmp_path / "out"
    with disk.faults(StopAfter(name)), pytest.raises(UserError, match="Cannot write"):
        with_budget(out)
    assert (out / name).is_file()
    with_budget(out)
    for path in (tmp_path / "undisturbed").iterdir():
        assert (out / path.name).read_bytes() == path.read_bytes()


def test_a_block_id_that_is_no_folder_name_is_refused(capture, tmp_path):
    out = tmp_path / "out"
    config, scene, plan_made = planned(capture, out)
    write_manifest(out, manifest_of(plan_made, config.block_manager))
    before = set(tmp_path.rglob("*"))
    for name in ("../../ESC/x", "/tmp/ESC", "", "a/b", "000\0", "x" * 5000):
        for file in ("plan.json", "city.json"):
            tree = json.loads((out / file).read_text())
            tree.pop("checksum", None)
            tree["blocks"][0]["id"] = name
            (out / file).write_text(json.dumps(tree))
        for use in (
            lambda: planned(capture, out),
            lambda: load_output(out),
            lambda: find_plan([str(out)], None),
            lambda: list(write_block_scenes(out, scene, plan_made)),
            lambda: City.open(out),
        ):
            with pytest.raises(UserError, match=r"(plan|city)\.json") as caught:
                use()
            assert len(str(caught.value)) <= 500
        assert set(tmp_path.rglob("*")) == before


def test_another_scene_is_refused(capture, tmp_path):
    planned(capture, tmp_path / "out")
    other = write_capture(tmp_path / "other", shift=0.5)
    with pytest.raises(UserError, match=r"out belongs to another scene \(that of .*walk"):
        planned(other, tmp_path / "out")


def test_a_failed_plan_leaves_no_folder_behind(capture, tmp_path):
    with pytest.raises(UserError, match="max_blocks"):
        planned(capture, tmp_path / "out", "block_manager.block_size=8", "block_manager.max_blocks=2")
    assert not (tmp_path / "out").exists()


def test_a_scene_that_moved_is_found_by_data_root(capture, tmp_path):
    out = tmp_path / "out"
    config, _, _ = planned(capture, out)
    shutil.move(capture, tmp_path / "elsewhere")
    with pytest.raises(UserError, match="no longer at .*walk. Say where it is"):
        open_scene(out, config.dataset)
    assert len(open_scene(out, config.dataset, tmp_path / "elsewhere").images) == 24
    with pytest.raises(UserError, match="is not the one that .* was made from"):
        open_scene(out, config.dataset, write_capture(tmp_path / "other", shift=0.5))


def test_folders_that_are_none_say_so(tmp_path, capture):
    with pytest.raises(UserError, match="nowhere is not an output folder of blocknerf"):
        load_output(tmp_path / "nowhere")
    planned(capture, tmp_path / "out")
    (tmp_path / "out" / "plan.json").unlink()
    with pytest.raises(UserError, match="it has no plan.json"):
        load_output(tmp_path / "out")
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="file is a file; an output folder is needed"):
        planned(capture, tmp_path / "file")
    (tmp_path / "out" / "scene.json").write_text("{}")
    with pytest.raises(UserError, match=r"scene reference .*scene.json is damaged"):
        planned(capture, tmp_path / "out")


def test_the_command_writes_the_plan_and_the_table_has_every_block(capture, tmp_path):
    plan(data_root=capture, output_dir=tmp_path / "out", overrides=SMALL)
    config, plan_made = load_output(tmp_path / "out")
    printer = Console(width=90, record=True, file=(tmp_path / "printed.txt").open("w"))
    scene = open_scene(tmp_path / "out", config.dataset)
    printer.print(cost_table(plan_made, scene, config, estimates(plan_made.blocks, scene, config)))
    printer.file.close()
    lines = (tmp_path / "printed.txt").read_text().splitlines()
    rows = {line.split()[0]: line.split() for line in lines if line.split()}
    for block in plan_made.blocks:
        assert rows[block.id][1:3] == [str(len(block.train_images)), str(len(block.test_images))]
    assert rows["all"][1:3] == ["21", "3"]


@pytest.mark.parametrize(
    ("minutes", "text"), [(0.04, "0.0 min"), (93.51, "93.5 min"), (354.3, "5.9 h"), (11_606_719.0, "8,060 days")]
)
def test_times_are_said_in_the_unit_that_suits_them(minutes, text):
    assert duration(minutes) == text


def test_blocks_that_merged_are_named_in_the_log(capture, tmp_path, caplog, monkeypatch):
    monkeypatch.setattr("blocknerf.core.logging.log.propagate", True)
    with caplog.at_level("INFO", logger="blocknerf"):
        _, _, plan_made = planned(capture, tmp_path / "out", "block_manager.min_images_per_block=14")
    assert plan_made.merged == (("000", "001", 8), ("002", "001", 9))
    assert "Block 000 has 8 training images, too few: merged into block 001." in caplog.text
    assert "Block 002 has 9 training images, too few: merged into block 001." in caplog.text


@pytest.mark.parametrize(("make", "placement"), [(aerial, "grid"), (streets, "drives"), (crossing, "junctions")])
def test_maps_are_pictures_with_the_same_bytes_every_time(make, placement, tmp_path):
    scene = make()
    made = make_plan(scene, load_config(None, ["block_manager.block_size=30", f"block_manager.placement={placement}"]))
    for name in ("a.png", "b.png"):
        draw_map(tmp_path / name, made, scene)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    with Image.open(tmp_path / "a.png") as picture:
        pixels = np.asarray(picture.convert("RGB")).astype(int)
    assert min(picture.size) > 400
    assert (np.ptp(pixels, axis=2) > 40).mean() > 0.005  # it is not white or gray all over


def test_a_plan_without_ground_cannot_be_drawn(tmp_path):
    bare = Plan("s", "c", (BlockSpec("000", (0.0, 0.0, 0.0), 1.0, (0.0, 0.0, 0.0), (), ()),))
    with pytest.raises(UserError, match="has no description of its ground"):
        draw_map(tmp_path / "map.png", bare, aerial())


@pytest.mark.parametrize(("about", "nice"), [(1.0, 1), (1.9, 1), (23.0, 20), (99.0, 50), (0.007, 0.005), (4999, 2000)])
def test_scale_bars_have_round_lengths(about, nice):
    assert nice_length(float(about)) == pytest.approx(nice)


def test_the_scene_file_says_where_the_scene_lies(capture, tmp_path):
    planned(capture, tmp_path / "out")
    tree = json.loads((tmp_path / "out" / "scene.json").read_text())
    assert tree["data_root"] == str(capture.resolve())
    assert len(tree["scene_hash"]) == 16
