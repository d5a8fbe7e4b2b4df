"""Blocks as captures of their own, and splats of blocks as one city."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from blocknerf.blocks.output import load_output, open_scene
from blocknerf.blocks.plan import BlockSpec, Layout, Plan, read_plan
from blocknerf.cli.export_blocks import export_blocks
from blocknerf.cli.main import main
from blocknerf.cli.merge import merge
from blocknerf.core.config.dataset import DatasetConfig
from blocknerf.core.errors import UserError
from blocknerf.core.files import write_json
from blocknerf.core.stored import write_stored
from blocknerf.export.block_scenes import _overlap_m
from blocknerf.export.merge import find_plan, find_splats, merge_splats
from blocknerf.export.merge_seams import seam_report
from blocknerf.export.nerfstudio_frame import read_transforms
from blocknerf.export.splats import Splats, transformed
from blocknerf.export.splats_file import read_splats, write_splats
from blocknerf.export.voronoi_cells import VoronoiCells
from blocknerf.geometry import so3
from blocknerf.geometry.harmonics import BAND_0
from blocknerf.geometry.similarity import Similarity
from blocknerf.scene.colmap_module import pycolmap
from blocknerf.scene.colmap_writer import ModelImage, ModelPoints, write_colmap
from blocknerf.scene.readers.read import read_scene
from tests.support.made_scenes import CAMERA, aerial
from tests.support.made_splats import made_splats


@pytest.fixture(scope="module")
def capture(tmp_path_factory) -> Path:
    """A survey flight on the disk: some points far outside, some that nobody sees; one image has a mask."""
    folder, made = tmp_path_factory.mktemp("capture"), aerial(points=700)
    rng = np.random.default_rng(3)
    points = np.concatenate([made.points_world, rng.uniform(-400, 400, (60, 3))])
    colours = rng.integers(0, 256, (len(points), 3)).astype(np.uint8)
    images, tracks = [], [[] for _ in points]
    for i, image in enumerate(made.images):
        path = folder / "images" / "flight" / image.name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((48, 64, 3), 5 * i, np.uint8)).save(path)
        x, y, z = ((points[image.point_rows] - image.world_from_cam[:, 3]) @ image.world_from_cam[:, :3]).T
        observed = [
            (40 * a / c + 32, 40 * b / c + 24, int(row)) for a, b, c, row in zip(x, y, z, image.point_rows, strict=True)
        ]
        for place, (_, _, row) in enumerate(observed):
            tracks[row].append((i, place))
        images.append(ModelImage(f"flight/{image.name}", "c", image.world_from_cam, observed))
    write_colmap(folder / "sparse" / "0", {"c": CAMERA}, images, ModelPoints(points, colours, tracks))
    mask = folder / "masks" / f"{images[1].name}.png"
    mask.parent.mkdir(parents=True)
    Image.fromarray(np.eye(48, 64, dtype=np.uint8)).save(mask)
    return folder


@pytest.fixture(scope="module")
def planned(capture, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("planned") / "out"
    size = ["block_manager.block_size=25", "block_manager.min_images_per_block=4"]
    main(["plan", "--data-root", str(capture), "--output-dir", str(out), "block_manager.placement=grid", *size])
    return out


@pytest.fixture(scope="module")
def exported(planned, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("exported") / "blocks"
    export_blocks(planned, folder)
    return folder


def _splats_at(places: np.ndarray, rgb: np.ndarray) -> Splats:
    """One round splat a point."""
    count = len(places)
    return Splats(
        places.astype(np.float32),
        np.full((count, 3), -3, np.float32),
        np.eye(1, 4, dtype=np.float32).repeat(count, 0),
        np.full(count, 3, np.float32),
        ((rgb / 255 - 0.5) / BAND_0).astype(np.float32)[:, None],
    )


def test_every_block_is_a_capture_of_its_own(exported, planned, capture):
    plan, whole = read_plan(planned / "plan.json"), read_scene(capture, DatasetConfig())
    by_name = {image.name: image for image in whole.images}
    assert len(plan.blocks) >= 4
    for block in plan.blocks:
        scene = read_scene(exported / block.id, DatasetConfig())
        assert {image.id for image in scene.images} == set(block.train_images)
        for image in scene.images:
            original = by_name[image.name]
            np.testing.assert_allclose(image.world_from_cam, original.world_from_cam, atol=1e-12)
            assert image.path.read_bytes() == original.path.read_bytes()
            assert bool(image.mask_paths) == bool(original.mask_paths)
            seen = {tuple(p) for p in whole.points_world[original.point_rows].astype(np.float32).tolist()}
            assert {tuple(p) for p in scene.points_world[image.point_rows].astype(np.float32).tolist()} == seen


def test_colmap_itself_finds_tracks_and_small_errors(exported):
    for folder in sorted(exported.glob("*/sparse/0")):
        model = pycolmap.Reconstruction(str(folder))
        assert model.num_points3D() > 20
        assert model.compute_mean_track_length() > 1.5
        assert model.compute_mean_reprojection_error() < 1e-3
        for image in model.images.values():
            assert all(0 <= p.xy[0] <= 64 and 0 <= p.xy[1] <= 48 for p in image.points2D)


def test_the_description_says_where_the_block_ends(exported, planned):
    plan = read_plan(planned / "plan.json")
    voronoi_cells = VoronoiCells.of(plan)
    for number, block in enumerate(plan.blocks):
        description = json.loads((exported / block.id / "block.json").read_text())
        scene = read_scene(exported / block.id, DatasetConfig())
        assert (description["images"], description["points"]) == (len(block.train_images), len(scene.points_world))
        is_inside = voronoi_cells.owners(scene.points_world) == number
        assert description["own_points"] == is_inside.sum() > 0
        assert description["overlap_m"] == pytest.approx(plan.ground().cell_reach_m - plan.ground().cell_half_edge_m)
        assert set(description["borders"]) == set(block.neighbours)
        if len(block.cells_xy) == 1 and all(len(other.cells_xy) == 1 for other in plan.blocks):
            for border in description["borders"].values():
                beyond = (scene.points_world[is_inside] - border["point_world"]) @ np.array(border["normal_world"])
                assert beyond.max() <= 1e-4


@pytest.mark.parametrize("how", ["folders", "files", "named", "spz"])
def test_every_point_comes_back_exactly_once(exported, capture, tmp_path, how):
    whole = read_scene(capture, DatasetConfig())
    files = []
    for folder in sorted(path for path in exported.iterdir() if path.is_dir()):
        scene = read_scene(folder, DatasetConfig())
        splats = _splats_at(scene.points_world, scene.points_rgb)
        path = {
            "folders": f"{folder.name}/run/point_cloud/iteration_7/cloud.ply",
            "files": f"{folder.name}.ply",
            "named": f"some_{folder.name}.ply",
            "spz": f"{folder.name}.spz",
        }[how]
        write_splats(tmp_path / path, splats)
        files.append(f"{folder.name}={tmp_path / path}" if how == "named" else str(tmp_path / path))
    out, plan = tmp_path / "city.ply", exported / "plan.json"
    for name in ("city.ply", "city.seams.json", "city.seams.html"):
        (tmp_path / f".{name}.host.123.tmp").write_bytes(b"")  # of a process that was killed
    main(["merge", *([str(tmp_path)] if how == "folders" else files), "--out", str(out), "--plan", str(plan)])
    assert not list(tmp_path.glob(".*"))
    merged = read_splats(out)
    report = json.loads((tmp_path / "city.seams.json").read_text())
    assert sum(block["kept"] for block in report["blocks"].values()) == len(merged)
    if how == "spz":  # places are rounded, and some to the other side of a border
        assert abs(len(merged) - len(whole.points_world)) <= 2
        return
    expected = whole.points_world.astype(np.float32)
    order, expected_order = np.lexsort(merged.means.T), np.lexsort(expected.T)
    np.testing.assert_array_equal(merged.means[order], expected[expected_order])
    rgb = np.round(255 * merged.mean_rgb[order])
    np.testing.assert_array_equal(rgb, whole.points_rgb[expected_order])
    assert (tmp_path / "city.seams.html").read_text().count("<tr>") > 4


def test_links_and_test_images(planned, tmp_path):
    export_blocks(planned / "plan.json", tmp_path / "b", photographs="link", test_images=True)
    plan = read_plan(planned / "plan.json")
    for block in plan.blocks:
        scene = read_scene(tmp_path / "b" / block.id, DatasetConfig())
        assert {image.id for image in scene.images} == {*block.train_images, *block.test_images}
        assert all(image.path.is_symlink() for image in scene.images)
        description = json.loads((tmp_path / "b" / block.id / "block.json").read_text())
        assert len(description["test_images"]) == len(block.test_images)
    export_blocks(planned, tmp_path / "b", photographs="copy", test_images=True)  # again, another way
    assert not any(path.is_symlink() for path in (tmp_path / "b").rglob("*.png"))


def test_lenses_are_warned_of(planned, tmp_path, caplog):
    from blocknerf.export.block_scenes import write_block_scenes

    config, plan = load_output(planned)
    scene = open_scene(planned, config.dataset)
    lens = dataclasses.replace(CAMERA, model="SIMPLE_RADIAL", params=(40.0, 32.0, 24.0, 0.01))
    bent = dataclasses.replace(scene, cameras=dict.fromkeys(scene.cameras, lens))
    with caplog.at_level("WARNING", logger="blocknerf"):
        next(write_block_scenes(tmp_path / "b", bent, plan))
    assert "Cameras are SIMPLE_RADIAL" in caplog.text


def test_what_stands_in_the_way_is_said(planned, capture, tmp_path, capsys):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "photo.txt").write_text("x")
    with pytest.raises(UserError, match="holds something else than blocks of this scene"):
        export_blocks(planned, tmp_path / "mine")
    with pytest.raises(UserError, match="not an output folder of blocknerf"):
        export_blocks(capture, tmp_path / "b")
    lost = tmp_path / "lost"
    lost.mkdir()
    for name in ("config.json", "plan.json"):
        (lost / name).write_bytes((planned / name).read_bytes())
    with pytest.raises(UserError, match="There is no scene reference"):
        export_blocks(lost / "plan.json", tmp_path / "b")
    write_stored(
        lost / "scene.json", json.loads((planned / "scene.json").read_text()) | {"data_root": "/nowhere/at all"}
    )
    with pytest.raises(UserError, match="no longer at /nowhere/at all. Say where"):
        export_blocks(lost / "plan.json", tmp_path / "b")


# --- Voronoi cells ------------------------------------------------------------------------------------------


def _plan(exported: Path) -> Plan:
    return read_plan(exported / "plan.json")


def test_a_place_belongs_to_the_nearest_site_and_on_a_border_to_the_smallest_id(exported):
    voronoi_cells = VoronoiCells.of(_plan(exported))
    places = np.random.default_rng(0).uniform(-500, 500, (3000, 3)).astype(np.float32)
    xy = voronoi_cells.ground_xy(places)
    apart = np.linalg.norm(xy[:, None] - voronoi_cells.sites_xy[None], axis=2)
    np.testing.assert_array_equal(voronoi_cells.owners(places), voronoi_cells.site_blocks[apart.argmin(1)])
    layout = Layout((0.0, 0.0, 0.0), ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)), "square", 4.0, 6.0)
    two = VoronoiCells(("a", "b"), layout, np.array([[-4.0, 0.0], [4.0, 0.0]]), np.array([0, 1]))
    assert two.owners(np.array([[0.0, y, 3.0] for y in (-90.0, 0.0, 7.0)])).tolist() == [0, 0, 0]


def test_borders_are_as_far_as_they_are(exported):
    voronoi_cells = VoronoiCells.of(_plan(exported))
    places = np.random.default_rng(1).uniform(-60, 60, (500, 3)).astype(np.float32)
    owned = places[voronoi_cells.owners(places) == 0]
    beyond, border_m = voronoi_cells.beside(owned, 0)
    assert (border_m >= 0).all()
    for place, other, away_m in zip(owned, beyond, border_m, strict=True):
        xy = voronoi_cells.ground_xy(place[None])[0]
        sites, other_sites = (voronoi_cells.sites_xy[voronoi_cells.site_blocks == b] for b in (0, other))
        a = sites[np.linalg.norm(sites - xy, axis=1).argmin()]
        b = other_sites[np.linalg.norm(other_sites - xy, axis=1).argmin()]
        assert away_m == pytest.approx(
            (a + b) @ (b - a) / 2 / np.linalg.norm(b - a) - xy @ (b - a) / np.linalg.norm(b - a)
        )


# --- merging ----------------------------------------------------------------------------------------------------------


def test_a_scene_that_nerfstudio_moved_is_moved_back(exported, tmp_path):
    plan, voronoi_cells = _plan(exported), VoronoiCells.of(_plan(exported))
    splats = made_splats(3000)
    splats.means[:] *= 4  # all over the site
    rotation = so3.exp(torch.tensor([0.4, 0.2, -2.0], dtype=torch.float64)).numpy()
    motion = Similarity(0.11, rotation, np.array([0.3, -0.2, 0.5]))  # file_from_world
    for block_id in voronoi_cells.ids[:2]:
        write_splats(tmp_path / "moved" / block_id / "splat.ply", transformed(splats, motion))
        shift = motion.translation / motion.scale
        write_json(
            tmp_path / "moved" / block_id / "dataparser_transforms.json",
            {"transform": np.column_stack([rotation, shift]).tolist(), "scale": motion.scale},
        )
        write_splats(tmp_path / "still" / f"{block_id}.ply", splats)
    merged = [merge_splats(find_splats([str(tmp_path / name)], plan), plan).splats for name in ("moved", "still")]
    assert len(merged[0]) == len(merged[1]) > 0
    for name in ("means", "log_scales", "opacity_logits", "harmonics"):
        np.testing.assert_allclose(getattr(merged[0], name), getattr(merged[1], name), atol=2e-4, err_msg=name)


def test_seams_show_jumps(exported):
    """Either side of a border has a colour and a density of its own, and the report says how they differ."""
    from blocknerf.export.merge_seams import side_of

    layout = Layout((0.0, 0.0, 0.0), ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)), "square", 4.0, 6.0)
    two = VoronoiCells(("a", "b"), layout, np.array([[-4.0, 0.0], [4.0, 0.0]]), np.array([0, 1]))
    rng, sides = np.random.default_rng(0), []
    for number, (count, grey) in enumerate([(300, 100), (100, 151)]):
        x = rng.uniform(0, 0.99, count) * (1 if number else -1)
        far = rng.uniform(1.01, 4, 50) * (1 if number else -1)
        places = np.stack([np.concatenate([x, far]), rng.uniform(-3, 3, count + 50), np.zeros(count + 50)], 1)
        rgb = np.concatenate([np.full((count, 3), grey), np.full((50, 3), 255)])
        sides += side_of(two, number, _splats_at(places, rgb))
    (seam,) = seam_report({}, sides)["seams"]
    assert (seam["blocks"], seam["splats"], seam["strip_m"]) == (["a", "b"], [300, 100], 1.0)
    assert seam["density_ratio"] == 3
    assert seam["colour_jump"] == pytest.approx(51 / 255, abs=1e-4)


def test_values_that_are_no_numbers_are_left_out_and_strangers_are_warned_of(exported, tmp_path, caplog):
    plan = _plan(exported)
    splats = made_splats(200)
    splats.means[:] *= 4
    splats.means[3, 1], splats.log_scales[4, 0], splats.quaternions[5] = np.nan, np.inf, 0
    write_splats(tmp_path / f"{plan.blocks[0].id}.ply", splats)
    merged = merge_splats(find_splats([str(tmp_path)], plan), plan)
    entry = merged.blocks[plan.blocks[0].id]
    assert entry["not_finite"] == 3
    assert entry["kept"] + entry["dropped"] == 197
    far = made_splats(200)
    far.means[:] = VoronoiCells.of(plan).frame.to_world(np.array([[900.0, 900.0, 0.0]])) + far.means
    write_splats(tmp_path / "x" / f"{plan.blocks[0].id}.ply", far)
    with (
        caplog.at_level("WARNING", logger="blocknerf"),
        pytest.raises(UserError, match="Not one splat"),
    ):
        merge_splats(find_splats([str(tmp_path / "x")], plan), plan)
    assert "keeps 0 of 200 splats" in caplog.text
    assert "No splats of block" in caplog.text


def test_what_cannot_be_merged_is_said(exported, tmp_path):
    plan = _plan(exported)
    first = plan.blocks[0].id
    write_splats(tmp_path / "cloud.ply", made_splats(5))
    with pytest.raises(UserError, match="Which block .*cloud.ply belongs to is unclear"):
        find_splats([str(tmp_path / "cloud.ply")], plan)
    with pytest.raises(UserError, match="No plan.json lies with"):
        find_plan([str(tmp_path / "cloud.ply")], None)
    with pytest.raises(UserError, match="holds no splats of any block"):
        find_splats([str(tmp_path)], plan)
    for step in (7000, 30000):
        write_splats(tmp_path / first / f"iteration_{step}" / "point_cloud.ply", made_splats(5))
    with pytest.raises(UserError, match=f"Block {first} has 2 splat files: .*7000.*Give {first}=FILE"):
        find_splats([str(tmp_path)], plan)
    with pytest.raises(UserError, match="Nothing to merge was named"):
        merge((), tmp_path / "a.ply")
    splat_file = tmp_path / first / "iteration_7000" / "point_cloud.ply"
    (tmp_path / "link.ply").symlink_to(splat_file)
    before = splat_file.read_bytes()
    for out in (splat_file, tmp_path / "link.ply"):
        with pytest.raises(UserError, match=f"holds the splats of block {first}, which are merged"):
            merge((f"{first}={splat_file}",), out, plan=exported)
    assert splat_file.read_bytes() == before
    with pytest.raises(UserError, match="written as .ply or .spz"):
        merge((str(tmp_path),), tmp_path / "a.glb", plan=exported)
    write_json(tmp_path / "t.json", {"transform": np.diag([2.0, 1, 1, 1])[:3].tolist(), "scale": 1.0})
    with pytest.raises(UserError, match="t.json cannot be undone .it is not a rotation"):
        read_transforms(tmp_path / "t.json")


def test_points_of_a_trainer_are_no_splats(exported, tmp_path):
    """INRIA's trainer lays the sparse points beside, as input.ply and points3D.ply."""
    plan = _plan(exported)
    first = plan.blocks[0].id
    write_splats(tmp_path / first / "result.ply", made_splats(5))
    (tmp_path / first / "input.ply").write_text(
        "ply\nformat ascii 1.0\nelement vertex 1\nproperty float x\nend_header\n1\n"
    )
    assert [file.path.name for file in find_splats([str(tmp_path)], plan)] == ["result.ply"]


def test_a_block_at_a_junction_reaches_as_far_as_the_cells_that_it_shares():
    layout = Layout((0.0, 0.0, 0.0), ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)), "street", 3.0, 3.0)
    exclusive, shared = ((0.0, 0.0), (6.0, 0.0)), ((12.0, 0.0), (18.0, 0.0))
    block = BlockSpec("000", (0.0, 0.0, 0.0), 9.0, (0.0, 0.0, 0.0), ("i",), (), cells_xy=exclusive, shared_xy=shared)
    assert _overlap_m(block, layout) == pytest.approx(12.0)  # the street is covered to 21 m and its own to 9 m
    assert _overlap_m(dataclasses.replace(block, shared_xy=()), layout) == 0.0
