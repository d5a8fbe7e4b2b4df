"""Plans: what does not change them, what every plan keeps, their file, their costs."""

import dataclasses
import json
import re
from pathlib import Path

import numpy as np
import pytest

from blocknerf.blocks.cost import cuda_devices, step_cost, store_bytes
from blocknerf.blocks.extent import content_cube
from blocknerf.blocks.plan import BlockSpec, Plan, read_plan, write_plan
from blocknerf.blocks.planner import make_plan, planning_hash
from blocknerf.core.config.config import Config
from blocknerf.core.config.load import load_config
from blocknerf.core.errors import UserError
from blocknerf.models.block_nerf import BlockNeRF
from blocknerf.scene.scene import Scene
from tests.support.costs import estimate
from tests.support.made_scenes import aerial, crossing, look_at, moved, scene_of, streets, with_tests


def config_of(*overrides: str) -> Config:
    return load_config(None, overrides)


def ring(count=40, radius_m=5.0) -> np.ndarray:
    angles = np.linspace(0, 2 * np.pi, count, endpoint=False)
    return np.stack([look_at((radius_m * np.cos(a), radius_m * np.sin(a), 2), (0, 0, 1)) for a in angles])


SETTINGS = [
    (aerial, ("block_manager.block_size=25",)),
    (aerial, ("block_manager.block_size=12", "block_manager.min_images_per_block=6")),
    (streets, ("block_manager.block_size=30", "block_manager.placement=drives")),
    (streets, ("block_manager.block_size=30",)),
    (streets, ("block_manager.max_blocks=1",)),
    (crossing, ("block_manager.block_size=24", "block_manager.placement=junctions")),
    (crossing, ("block_manager.block_size=24", "block_manager.placement=junctions", "block_manager.max_blocks=1")),
    (streets, ("block_manager.block_size=30", "block_manager.placement=junctions")),
]


@pytest.mark.parametrize(("make", "overrides"), SETTINGS)
def test_every_image_has_a_block_and_every_block_enough_images(make, overrides):
    scene, config = with_tests(make()), config_of(*overrides)
    plan = make_plan(scene, config)
    test = {image.id for image in scene.images if image.name in scene.test_names}
    train = {image.id for image in scene.images} - test
    assert {i for block in plan.blocks for i in block.train_images} == train
    assert {i for block in plan.blocks for i in block.test_images} == test
    fewest = config.block_manager.min_images_per_block
    assert len(plan.blocks) == 1 or all(len(block.train_images) >= fewest for block in plan.blocks)
    ids = [block.id for block in plan.blocks]
    assert ids == sorted(ids)
    for block in plan.blocks:
        assert all(block.id in plan.block(other).neighbours for other in block.neighbours)
        assert block.radius_m > 0


@pytest.mark.parametrize(("make", "overrides"), SETTINGS)
def test_the_order_of_the_images_does_not_matter(make, overrides):
    scene, config = with_tests(make()), config_of(*overrides)
    order = np.random.default_rng(0).permutation(len(scene.images))
    shuffled = dataclasses.replace(scene, images=tuple(scene.images[i] for i in order))
    assert make_plan(shuffled, config).blocks == make_plan(scene, config).blocks


def assert_moved(plan: Plan, before: Plan, rotation: np.ndarray, offset: np.ndarray) -> None:
    assert plan.merged == before.merged
    for block, old in zip(plan.blocks, before.blocks, strict=True):
        assert (block.id, block.train_images, block.test_images) == (old.id, old.train_images, old.test_images)
        np.testing.assert_allclose(block.center_world, rotation @ old.center_world + offset, atol=1e-4)
        np.testing.assert_allclose(block.anchor_world, rotation @ old.anchor_world + offset, atol=1e-4)
        assert block.radius_m == pytest.approx(old.radius_m, rel=1e-6)


@pytest.mark.parametrize(("make", "overrides"), SETTINGS)
def test_shifting_the_world_shifts_the_plan(make, overrides):
    scene, config, offset = with_tests(make()), config_of(*overrides), np.array([4000.0, -250.0, 30.0])
    assert_moved(make_plan(moved(scene, np.eye(3), offset), config), make_plan(scene, config), np.eye(3), offset)


@pytest.mark.parametrize(("make", "overrides"), SETTINGS)
def test_turning_the_world_a_little_turns_the_plan(make, overrides):
    """Beyond 45 degrees the rows are counted from another corner: then ids may change, assignments may not."""
    scene, config, zero = with_tests(make()), config_of(*overrides), np.zeros(3)
    c, s = np.cos(0.2), np.sin(0.2)
    about_z = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])
    before = make_plan(scene, config)
    assert_moved(make_plan(moved(scene, about_z, zero), config), before, about_z, zero)
    on_its_side = np.array([[0.0, 0, 1], [1, 0, 0], [0, 1, 0]])
    turned = make_plan(moved(scene, on_its_side, zero), config)
    if config.block_manager.min_images_per_block == 10:  # merging breaks ties by the order of rows
        assert {block.train_images for block in turned.blocks} == {block.train_images for block in before.blocks}


def test_a_survey_flight_becomes_its_grid_and_the_cubes_lie_on_the_ground():
    plan = make_plan(aerial(), config_of("block_manager.block_size=40"))
    assert len(plan.blocks) == 4
    for block in plan.blocks:
        assert -5 < block.center_world[2] < 15
        assert block.anchor_world[2] == pytest.approx(40, abs=0.2)
        assert 15 < block.radius_m <= 30
        assert len(block.train_images) < 48
        assert len(block.neighbours) == 3


def test_a_ring_without_points_is_one_block_around_what_it_looks_at():
    plan = make_plan(scene_of(list(ring())), config_of())
    (block,) = plan.blocks
    np.testing.assert_allclose(block.center_world, [0, 0, 1], atol=1e-6)
    assert block.radius_m == pytest.approx(np.hypot(5, 1), rel=1e-6)
    assert block.neighbours == ()


def test_the_scale_of_the_world_scales_the_plan():
    small, large = (make_plan(scene_of(list(ring(radius_m=r))), config_of()).blocks[0] for r in (0.05, 20.0))
    assert large.radius_m > 100 * small.radius_m
    assert small.train_images == large.train_images


def test_cameras_all_in_one_place_still_make_a_block():
    poses = [look_at((1, 2, 3), (1 + np.cos(a), 2 + np.sin(a), 3)) for a in np.linspace(0, 6, 20)]
    (block,) = make_plan(scene_of(poses), config_of()).blocks
    assert block.radius_m > 0
    np.testing.assert_allclose(block.center_world, [1, 2, 3], atol=block.radius_m)


@pytest.mark.parametrize("with_points", [True, False])
def test_a_drone_that_climbs_on_the_spot_gets_a_block_of_its_climb(with_points):
    rng = np.random.default_rng(3)
    spots = np.column_stack([rng.uniform(-0.3, 0.3, (40, 2)), np.linspace(2, 60, 40)])
    ahead = [(30 * np.cos(a), 30 * np.sin(a), -12) for a in np.linspace(0, 5, 40)]
    poses = [look_at(spot, spot + way) for spot, way in zip(spots, ahead, strict=True)]
    ground = np.column_stack([rng.uniform(-80, 80, (3000, 2)), rng.uniform(0, 9, 3000)])
    (block,) = make_plan(scene_of(poses, ground if with_points else None), config_of()).blocks
    assert 10 < block.radius_m < 90


def test_cameras_that_hardly_move_get_a_block_of_what_they_see():
    rng = np.random.default_rng(4)
    heads = rng.uniform(-0.01, 0.01, (30, 3)) + (0, 0, 1.6)
    ways = [(np.cos(a), np.sin(a), 0) for a in np.linspace(0, 6, 30)]
    poses = [look_at(head, head + way) for head, way in zip(heads, ways, strict=True)]
    around = rng.normal(size=(4000, 3))
    walls = 40 * around / np.linalg.norm(around[:, :2], axis=1, keepdims=True)
    (block,) = make_plan(scene_of(poses, walls), config_of()).blocks
    assert block.radius_m > 1


def test_too_few_images_for_two_blocks_leave_one():
    scene = scene_of([look_at((x, 0, 1), (x + 1, 3, 1)) for x in (0.0, 50.0, 100.0)])
    plan = make_plan(scene, config_of("block_manager.block_size=40"))
    assert len(plan.blocks) == 1
    assert [count for _, _, count in plan.merged] == [1, 1]
    assert len(plan.blocks[0].train_images) == 3


def test_more_blocks_than_allowed_name_the_remedy_and_the_remedy_works():
    crowd = ("block_manager.min_images_per_block=1", "block_manager.block_size=12", "block_manager.max_blocks=5")
    with pytest.raises(UserError, match="block_size=12 makes 35 blocks and block_manager.max") as raised:
        make_plan(aerial(), config_of(*crowd))
    ((larger, more),) = re.findall(r"give (block_size=[0-9.]+), or (max_blocks=35)\.", str(raised.value))
    assert len(make_plan(aerial(), config_of(*crowd, f"block_manager.{more}")).blocks) == 35
    assert 1 < len(make_plan(aerial(), config_of(*crowd, f"block_manager.{larger}")).blocks) <= 5


def test_a_scene_without_images_says_why():
    scene = dataclasses.replace(aerial(), images=(), skipped=(("a.png", "there is no such file"),))
    with pytest.raises(UserError, match=r"No image of made can be used \(1 were"):
        make_plan(scene, config_of())


def test_the_cube_holds_what_is_there_and_never_more_than_its_rectangle():
    rng = np.random.default_rng(0)
    low, high = np.array([-10.0, -10.0]), np.array([10.0, 10.0])
    everywhere = rng.uniform((-10, -10, 0), (10, 10, 6), (2000, 3))
    cameras = rng.uniform((-10, -10, 1), (10, 10, 2), (50, 3))
    full = content_cube(cameras, everywhere, low, high)
    assert full.radius_m == pytest.approx(10, rel=0.02)
    np.testing.assert_allclose(full.center, [0, 0, 3], atol=0.3)
    heap = rng.uniform((-4, -4, 0), (0, 0, 2), (2000, 3))
    small = content_cube(cameras[:1] * 0 + [-2, -2, 1], np.concatenate([heap, everywhere[:20]]), low, high)
    assert small.radius_m == pytest.approx(2, rel=0.05)
    np.testing.assert_allclose(small.center, [-2, -2, 1], atol=0.1)
    nothing = content_cube(cameras + [100, 0, 0], everywhere[:0], low, high)
    assert nothing.radius_m == 10


def cut_out(scene: Scene) -> Scene:
    return dataclasses.replace(scene, images=tuple(dataclasses.replace(one, alpha="white") for one in scene.images))


def test_the_cube_of_an_object_holds_what_all_pictures_show_and_little_more():
    scene, config = cut_out(scene_of(list(ring()))), config_of("block_manager.max_blocks=1", "dataset.alpha=white")
    block = make_plan(scene, config).blocks[0]
    np.testing.assert_allclose(block.center_world, [0, 0, 1], atol=1e-6)
    points = np.random.default_rng(0).uniform(-5, 5, (20_000, 3)) + (0, 0, 1)
    shown = np.ones(len(points), bool)
    for image in scene.images:
        x, y, z = ((points - image.world_from_cam[:, 3]) @ image.world_from_cam[:, :3]).T
        shown &= (z > 0) & (np.abs(40 * x) < 32 * z) & (np.abs(40 * y) < 24 * z)
    offsets_m = np.abs(points[shown] - block.center_world).max(axis=1)
    assert len(offsets_m) > 100
    assert np.percentile(offsets_m, 99) <= block.radius_m <= 1.5 * offsets_m.max()


def test_the_cube_of_an_object_grows_with_it_and_other_captures_keep_theirs():
    config = config_of("block_manager.max_blocks=1")
    small, large = (make_plan(cut_out(scene_of(list(ring(radius_m=r)))), config).blocks[0] for r in (50.0, 500.0))
    assert large.radius_m == pytest.approx(10 * small.radius_m, rel=1e-3)
    photographs = scene_of(list(ring()))
    around = make_plan(photographs, config).blocks[0]
    assert around.radius_m == pytest.approx(np.sqrt(26), rel=1e-6)  # as far as the cameras
    mixed = dataclasses.replace(photographs, images=(*cut_out(photographs).images[:-1], photographs.images[-1]))
    assert make_plan(mixed, config).blocks[0].radius_m == around.radius_m
    with_points = scene_of(list(ring()), np.random.default_rng(0).uniform(-1, 1, (500, 3)))
    assert make_plan(cut_out(with_points), config).blocks == make_plan(with_points, config).blocks


def test_plan_files_come_back_and_are_the_same_bytes(tmp_path):
    plan = make_plan(with_tests(aerial()), config_of("block_manager.block_size=12"))
    assert plan.merged
    write_plan(tmp_path / "a.json", plan)
    assert read_plan(tmp_path / "a.json") == plan
    write_plan(tmp_path / "b.json", make_plan(with_tests(aerial()), config_of("block_manager.block_size=12")))
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()


def test_a_damaged_plan_says_what_to_do(tmp_path):
    path = tmp_path / "plan.json"
    write_plan(path, Plan("s", "c", (BlockSpec("000", (0.0, 0.0, 0.0), 1.0, (0.0, 0.0, 0.0), ("a",), ()),)))
    tree = json.loads(path.read_text())
    del tree["blocks"][0]["radius_m"], tree["checksum"]
    path.write_text(json.dumps(tree))
    with pytest.raises(UserError, match=r"plan.json is damaged \(it has no 'blocks"):
        read_plan(path)
    path.write_text("[]")
    with pytest.raises(UserError, match="plan .* is of version None"):
        read_plan(path)


def test_only_what_a_plan_depends_on_changes_its_hash():
    same = config_of("training.num_epochs=2", "block_manager.blend_power=1", "dataset.image_downsample=4")
    assert planning_hash(same) == planning_hash(config_of())
    for key in ("block_size=7", "overlap_ratio=0.1", "min_images_per_block=3", "max_blocks=2", "placement=drives"):
        assert planning_hash(config_of(f"block_manager.{key}")) != planning_hash(config_of())
    assert planning_hash(config_of("dataset.test_every=4")) != planning_hash(config_of())
    assert planning_hash(config_of("dataset.alpha=white")) != planning_hash(config_of())


def test_costs_follow_their_formulas():
    scene, config = aerial(), config_of("dataset.image_downsample=2", "training.num_epochs=3")
    block = make_plan(scene, config_of("block_manager.max_blocks=1")).blocks[0]
    cost = estimate(block, scene, config, cores=2)
    assert (cost.images, cost.pixels) == (48, 48 * 32 * 24)
    assert cost.minutes == pytest.approx(48 * 32 * 24 * 3 / 32_000 / 60)
    assert estimate(block, scene, config, cores=4).minutes == pytest.approx(cost.minutes / 2)
    assert cost.bytes_on_disk == 20 * step_cost(config).parameters
    assert cost.memory_gb > cost.bytes_on_disk / 1e9
    assert store_bytes(scene, config) == int((48 * 3 + 12) * 32 * 24 * 1.3125)
    images = [
        dataclasses.replace(image, rays_path=Path("rays.npy")) if i < 5 else image
        for i, image in enumerate(scene.images)
    ]
    assert store_bytes(dataclasses.replace(scene, images=tuple(images)), config) == int(
        (48 * 3 + 6 * 24) * 32 * 24 * 1.3125
    )


def test_memory_counts_no_more_pixels_than_may_be_in_it():
    scene = aerial()
    block = make_plan(scene, config_of("block_manager.max_blocks=1")).blocks[0]
    mapped, small, large = (
        estimate(block, scene, config_of(*budget)).memory_gb
        for budget in ((), ("training.ram_budget_gb=1e-5",), ("training.ram_budget_gb=10",))
    )
    assert mapped == large
    assert mapped - small == pytest.approx(3e-9 * 48 * 64 * 48 * 1.3125 - 1e-5)


def test_devices_are_counted_once():
    assert cuda_devices(config_of().distributed) == 0
    assert (
        cuda_devices(config_of("distributed.device_map={encoder: 0, nerf_mlp: 0, decoder: 'cuda:1'}").distributed) == 2
    )


@pytest.mark.parametrize("codes", [True, False])
def test_the_count_of_parameters_is_that_of_the_model(codes):
    """As what a block's memory and its speed are reckoned from."""
    for backbone in ("hash", "mlp"):
        config = config_of(f"block_nerf.backbone={backbone}", f"training.use_appearance_embedding={codes}".lower())
        field = BlockNeRF(config, (0.0, 0.0, 0.0), 1.0, ("a",), ("0",)).field
        tables = sum(table.rows.numel() for table in field.sparse_tables().values())
        assert step_cost(config).parameters == pytest.approx(
            tables + sum(p.numel() for p in field.networks()), rel=0.01
        )


def test_the_mlp_is_told_to_be_slow_and_its_steps_to_end_it():
    scene = aerial()
    block = make_plan(scene, config_of("block_manager.max_blocks=1")).blocks[0]
    fast, slow = (estimate(block, scene, config_of(f"block_nerf.backbone={name}"), cores=2) for name in ("hash", "mlp"))
    assert slow.minutes > 100 * fast.minutes
    assert slow.memory_gb > 3 * fast.memory_gb
    few = estimate(block, scene, config_of("training.max_steps=10", "training.num_epochs=1000"), cores=2)
    assert few.minutes == pytest.approx(10 * config_of().dataset.batch_size / 32_000 / 60)
    narrow = config_of("block_nerf.backbone=mlp", "block_nerf.hidden_dim=128")
    one_pass = config_of("block_nerf.backbone=mlp", "block_nerf.use_hierarchical_sampling=false")
    for cheaper in (narrow, one_pass):
        cost = estimate(block, scene, cheaper, cores=2)
        assert cost.minutes < slow.minutes / 2
        assert cost.memory_gb < slow.memory_gb


def test_time_is_bounded_by_the_clock_and_grows_with_the_samples():
    scene = aerial()
    block = make_plan(scene, config_of("block_manager.max_blocks=1")).blocks[0]
    free = estimate(block, scene, config_of(), cores=2).minutes
    assert estimate(block, scene, config_of(f"training.max_minutes={free / 2}"), cores=2).minutes == free / 2
    assert estimate(block, scene, config_of(f"training.max_minutes={free * 2}"), cores=2).minutes == free
    assert estimate(block, scene, config_of("block_nerf.num_samples_fine=48"), cores=2).minutes > 1.5 * free
