"""`evaluate` and `render` from files to files: a small scene on disk, blocks that have learned nothing."""

import json
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from PIL import Image

from blocknerf.blocks.output import load_output, open_scene, plan_scene
from blocknerf.city.city import City
from blocknerf.city.manifest import block_folder, manifest_of, write_manifest
from blocknerf.cli.evaluate import evaluate
from blocknerf.cli.main import main
from blocknerf.cli.render import parse_size, render
from blocknerf.core.config.load import load_config
from blocknerf.core.errors import UserError
from blocknerf.core.seeds import generator
from blocknerf.core.types import MEAN_APPEARANCE
from blocknerf.export.render import render_views
from blocknerf.models.block_file import BlockFile, write_block
from blocknerf.models.block_nerf import BlockNeRF
from blocknerf.scene.rays import camera_rays
from tests.support.block_meta import meta_of
from tests.support.small_field import SMALL_HASH

SETTINGS = (
    *SMALL_HASH,
    "block_manager.block_size=4",
    "block_manager.min_images_per_block=2",
)


@pytest.fixture(scope="module")
def scene(tmp_path_factory) -> Path:
    """Sixteen pictures of noise, taken every metre by a camera that looks to the side; one file is missing."""
    folder = tmp_path_factory.mktemp("scene")
    (folder / "images").mkdir()
    noise = np.random.default_rng(7)
    frames = []
    for k in range(17):
        pose = np.eye(4)
        pose[0, 3] = k
        frames.append({"file_path": f"images/{k:02d}.png", "transform_matrix": pose.tolist()})
        if k != 9:
            Image.fromarray(noise.integers(0, 255, (18, 24, 3), np.uint8)).save(folder / "images" / f"{k:02d}.png")
    tree = {"fl_x": 20.0, "fl_y": 20.0, "cx": 12.0, "cy": 9.0, "w": 24, "h": 18, "frames": frames}
    (folder / "transforms.json").write_text(json.dumps(tree))
    return folder


@pytest.fixture(scope="module")
def untrained(scene, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("out")
    config, _, plan = plan_scene(load_config(None, SETTINGS), scene, out)
    assert len(plan.blocks) > 1
    for block in plan.blocks:
        drives = ("0",) * len(block.train_images)
        rng = generator(0, block.id)
        model = BlockNeRF(config, block.center_world, block.radius_m, block.train_images, drives, rng)
        meta = meta_of(block.id, model.description(), scene_hash=plan.scene_hash)
        write_block(block_folder(out, block.id), "latest", BlockFile(meta, model.state_dict()))
    write_manifest(out, manifest_of(plan, config.block_manager))
    return out


@pytest.fixture(autouse=True)
def short_fits(monkeypatch):
    monkeypatch.setattr("blocknerf.evaluation.views.CODE_STEPS", 3)


def test_evaluate_writes_the_report_of_every_test_image(scene, untrained, capsys):
    evaluate(untrained)
    metrics = json.loads((untrained / "report" / "metrics.json").read_text())
    assert [Path(image["name"]).stem for image in metrics["images"]] == ["00", "08"]
    assert "09" in metrics["skipped"][0]["name"]
    assert metrics["protocol"]["image_downsample"] == 1
    assert (untrained / "report" / "map.png").is_file()
    output = capsys.readouterr().err
    assert str(untrained / "report" / "index.html") in output.replace("\n", "")
    assert "PSNR alone" in output
    assert list(metrics["protocols"]) == ["plain", "neighbour"]
    assert "neighbour v1" in output
    assert "under masked v1" in output
    assert "LPIPS (Alex), LPIPS (VGG), ST-LPIPS (Alex) are not measured: pictures with a side of 12 pixels" in output
    assert output.count("are too small") == 1
    assert f"{metrics['composited']['psnr']:.2f}" in output


def test_evaluating_twice_gives_the_same_figures(untrained):
    evaluate(untrained)
    first = (untrained / "report" / "metrics.json").read_bytes()
    evaluate(untrained)
    assert (untrained / "report" / "metrics.json").read_bytes() == first


def test_evaluate_measures_by_the_protocols_it_is_told(untrained):
    evaluate(untrained, protocols="plain")
    metrics = json.loads((untrained / "report" / "metrics.json").read_text())
    assert list(metrics["protocols"]) == ["plain"]
    with pytest.raises(UserError, match="no protocol 'full'"):
        evaluate(untrained, protocols="full")


def video_size(path: Path) -> tuple[int, int, int]:
    with av.open(str(path)) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
        return len(frames), frames[0].shape[1], frames[0].shape[0]


def test_render_follows_the_drive(untrained, capsys):
    render(untrained, frames=5)
    assert video_size(untrained / "renders" / "interpolate.mp4") == (5, 24, 18)
    assert len(list((untrained / "renders" / "interpolate").glob("frame_*.png"))) == 5
    assert "interpolate.mp4" in capsys.readouterr().err.replace("\n", "")


def test_render_takes_the_test_poses_another_size_and_a_trained_images_appearance(untrained, tmp_path):
    config, _ = load_output(untrained)
    name = open_scene(untrained, config.dataset).images[3].name
    render(untrained, path="test", video=tmp_path / "x.mp4", size="20x10", image=name, fps=5)
    assert video_size(tmp_path / "x.mp4") == (2, 20, 10)


@pytest.mark.parametrize("follow", [None, "0"])
def test_with_an_image_blocks_that_never_saw_it_take_its_drive(untrained, tmp_path, monkeypatch, follow):
    """Not the drive that is followed, nor the main one."""
    config, _ = load_output(untrained)
    scene = open_scene(untrained, config.dataset)
    images = (*scene.images[:3], replace(scene.images[3], drive="dusk"), *scene.images[4:])
    monkeypatch.setattr("blocknerf.blocks.output.open_scene", lambda *_: replace(scene, images=images))
    asked = []

    def remember(city, views, asked_appearance):
        asked.append((asked_appearance.image_id, asked_appearance.drive))
        return render_views(city, views, asked_appearance)

    monkeypatch.setattr("blocknerf.export.render.render_views", remember)
    render(untrained, video=tmp_path / "x.mp4", image=images[3].name, drive=follow, frames=12)
    assert asked == [(images[3].id, "dusk")]


def test_frames_go_from_the_look_of_one_image_to_that_of_another(untrained, tmp_path, monkeypatch):
    config, _ = load_output(untrained)
    first, second = (
        image for image in open_scene(untrained, config.dataset).images if image.name in ("03.png", "10.png")
    )
    asked = []
    code_for = BlockNeRF.code_for

    def remember(model, appearance=MEAN_APPEARANCE):
        asked.append(appearance)
        return code_for(model, appearance)

    monkeypatch.setattr(BlockNeRF, "code_for", remember)
    for share, expected in ((None, {frame / 6 for frame in range(7)}), (0.25, {0.25})):
        asked.clear()
        options = {"frames": 7, "appearance": "03.png:10.png", "share": share}
        render(untrained, video=tmp_path / "x.mp4", **options)
        blended = [asked_appearance for asked_appearance in asked if asked_appearance.blend_towards is not None]
        assert {
            (asked_appearance.image_id, asked_appearance.blend_towards.image_id, asked_appearance.share)
            for asked_appearance in blended
        } == {(first.id, second.id, at) for at in expected}


@pytest.mark.parametrize(
    ("options", "has_neighbours"),
    [
        ({"frames": 7}, True),
        ({"frames": 7, "drive": "0"}, True),
        ({"path": "test"}, True),
        ({"path": "test", "drive": "0"}, False),
        ({"frames": 7, "appearance": "mean"}, False),
        ({"frames": 7, "image": "03.png"}, False),
        ({"frames": 7, "appearance": "03.png:10.png"}, False),
    ],
)
def test_frames_look_as_between_their_neighbours_unless_a_look_is_chosen(
    untrained, tmp_path, monkeypatch, options, has_neighbours
):
    asked = []
    code_for = BlockNeRF.code_for

    def remember(model, appearance=MEAN_APPEARANCE):
        if appearance.share is not None:  # the others are of blocks that are not sure whether they see anything
            asked.append(appearance)
        return code_for(model, appearance)

    monkeypatch.setattr(BlockNeRF, "code_for", remember)
    render(untrained, video=tmp_path / "x.mp4", **options)
    assert asked
    assert {each.trajectory_point is not None for each in asked} == {has_neighbours}
    if has_neighbours:
        assert all(each.image_id is None for each in asked)
        assert asked[0].trajectory_point.moment == pytest.approx(0 if options.get("path") else 1)
        assert asked[-1].trajectory_point.moment == pytest.approx(8 if options.get("path") else 15)


def test_frames_of_a_file_keep_the_drive_that_it_names(untrained, tmp_path, monkeypatch):
    pose = np.eye(4)
    pose[0, 3] = 4.25
    pose[1:3, 1:3] *= -1
    frames = [{"world_from_cam": pose[:3].tolist()}, {"world_from_cam": pose[:3].tolist(), "drive": "0"}]
    path = tmp_path / "walk.json"
    path.write_text(json.dumps({"width": 10, "height": 8, "fov_deg": 70, "frames": frames}))
    asked = []

    def remember(city, views, appearance):
        asked.extend(view.appearance for view in views)
        return render_views(city, views, appearance)

    monkeypatch.setattr("blocknerf.export.render.render_views", remember)
    render(untrained, path=str(path), video=tmp_path / "x.mp4")
    between, mean = asked
    assert between.trajectory_point.moment == pytest.approx(4.25)
    assert mean is None


def test_evaluate_without_a_test_image_names_the_remedy_that_fits(untrained, monkeypatch):
    config, _ = load_output(untrained)
    scene = open_scene(untrained, config.dataset)
    for names, remedy in ((frozenset(), "has a test list of its own"), (None, "set dataset.test_every to 8")):
        with_test_names = replace(scene, test_names=names)
        monkeypatch.setattr(
            "blocknerf.evaluation.evaluate.open_scene", lambda *_, with_test_names=with_test_names: with_test_names
        )
        monkeypatch.setattr("blocknerf.evaluation.evaluate.planned_split", lambda *_: ((), ()))
        with pytest.raises(UserError, match=f"no test image to evaluate on.*{remedy}"):
            evaluate(untrained)


def test_a_camera_path_file_needs_nothing_but_the_city(untrained, tmp_path):
    moved = tmp_path / "moved"
    moved.mkdir()
    (moved / "city.json").write_bytes((untrained / "city.json").read_bytes())
    (moved / "blocks").symlink_to(untrained / "blocks")
    frame = {"world_from_cam": np.eye(4)[:3].tolist()}
    path = tmp_path / "turn.json"
    path.write_text(json.dumps({"width": 9, "height": 7, "fov_deg": 70, "frames": [frame, frame]}))
    render(moved, path=str(path))
    assert video_size(moved / "renders" / "turn.mp4") == (2, 10, 8)
    first, second = (Image.open(moved / "renders" / "turn" / f"frame_0000{k}.png").tobytes() for k in (0, 1))
    assert first == second


def test_what_cannot_be_rendered_is_said(untrained, tmp_path):
    for arguments, message in [
        ({"path": "spiral"}, "path 'spiral' is unknown; give test, interpolate"),
        ({"path": "none.json"}, "no camera path at none.json"),
        ({"video": tmp_path / "x.gif"}, "must end in .mp4"),
        ({"drive": "night"}, "not trained on a drive 'night'. Its drives: 0"),
        ({"image": "11.pgn"}, r"is called '11.pgn'"),
        ({"size": "10 by 20"}, "write WIDTHxHEIGHT"),
        ({"size": "99999x20"}, "'99999x20' is too large"),
        ({"frames": 1}, "--frames is 1"),
        ({"appearance": "11.png"}, "'11.png' names one image; write NAME_A:NAME_B"),
        ({"appearance": "11.png:11.pgn"}, r"is called '11.pgn'"),
        ({"appearance": "10.png:11.png", "image": "10.png"}, "--image and --appearance both"),
        ({"share": 0.5}, "--share 0.5"),
        ({"appearance": "mean", "share": 0.5}, "--share 0.5"),
        ({"appearance": "10.png:11.png", "share": 1.5}, "--share 1.5: give a number from 0 to 1"),
        ({"exposure": 1.0}, "--exposure has nothing to move"),
    ]:
        with pytest.raises(UserError, match=message):
            render(untrained, **arguments)
    with pytest.raises(UserError, match="There is no city at"):
        render(tmp_path)
    with pytest.raises(UserError, match="no longer at .*--data-root"):
        evaluate(untrained, data_root=tmp_path / "nowhere")


def test_a_damaged_block_ends_with_one_sentence_and_code_2(untrained, tmp_path, capsys):
    broken = tmp_path / "out"
    folder = next(path for path in sorted((untrained / "blocks").iterdir()))
    for path in [*untrained.glob("*.json"), *(untrained / "blocks").rglob("*.*")]:
        if path.is_file():
            copy = broken / path.relative_to(untrained)
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(path.read_bytes())
    weights = next((broken / "blocks" / folder.name).glob("*.safetensors"))
    weights.write_bytes(weights.read_bytes()[:100])
    with pytest.raises(SystemExit) as stopped:
        main(["evaluate", str(broken)])
    assert stopped.value.code == 2
    output = capsys.readouterr().err.replace("\n", "")
    assert "are 100 bytes long" in output
    assert f"--blocks {folder.name}" in output
    assert "Traceback" not in output


@pytest.mark.parametrize("text", ["640x480", " 640X480"])
def test_a_size_is_width_by_height(text):
    assert parse_size(text) == (640, 480)


@pytest.mark.parametrize("text", ["640", "0x480", "640x-1", "x", "640x480x3", "640000x480"])
def test_what_is_no_size_is_said(text):
    with pytest.raises(UserError, match="WIDTHxHEIGHT"):
        parse_size(text)


def test_rendering_needs_no_gradients(untrained):
    config, _ = load_output(untrained)
    scene = open_scene(untrained, config.dataset)
    image = scene.images[0]
    rays = camera_rays(scene.cameras[image.camera_key], image.world_from_cam, 6, 4)
    picture = City.open(untrained).render(rays, torch.from_numpy(image.world_from_cam[:, 3].copy()))
    assert not picture.rgb.requires_grad
    assert bool(picture.rgb.isfinite().all())
