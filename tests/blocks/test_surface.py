"""What pictures show of the ground: against flat ground, where it can be computed by hand."""

import dataclasses

import numpy as np

from blocknerf.blocks.placement import Cells
from blocknerf.blocks.planner import make_plan
from blocknerf.blocks.surface import SHARE_SHOWN, TILES, claim_surfaces, tiles_of_block, visible_ground
from blocknerf.core.config.load import load_config
from blocknerf.scene.rays import camera_directions
from tests.support.made_scenes import aerial, look_at, moved, scene_of, with_tests

CONFIG = load_config(None, ["block_manager.divide_by=surface", "block_manager.block_size=35"])


def plan_of(scene):
    return make_plan(scene, CONFIG)


def on_flat_ground(scene, pose, height_m=2.0) -> np.ndarray:
    """World x, y [TILES, TILES, 2] where the rays through the tiles' middles meet the plane z = height_m."""
    along = camera_directions(scene.cameras["c"], TILES, TILES).astype(float) @ pose[:, :3].T
    return (pose[:, 3] + along * ((height_m - pose[2, 3]) / along[..., 2])[..., None])[..., :2]


def test_tiles_show_the_ground_that_their_rays_meet():
    """To within the laplacian_smoothness of the made ground (4 m) and the width of a tile on it (4 m)."""
    scene = aerial(points=20_000)
    frame = plan_of(scene).ground().frame()
    ground = visible_ground(scene, scene.images, frame, 10.0)
    for i, image in enumerate(scene.images):
        true = on_flat_ground(scene, image.world_from_cam).reshape(-1, 2)
        expected = frame.to_ground(np.column_stack([true, np.full(len(true), 2.0)]))[:, :2]
        away = np.linalg.norm(ground[i].reshape(-1, 2) - expected, axis=1)
        inside = np.all((true > -10) & (true < [80, 60]), axis=1)  # the made points end a little farther out
        assert np.median(away[inside]) < 1.5
        assert away[inside].max() < 8


def test_without_points_the_typical_distance_stands_in():
    scene = aerial()
    bare = dataclasses.replace(scene, points_world=np.zeros((0, 3)), points_rgb=np.zeros((0, 3), np.uint8))
    bare = dataclasses.replace(
        bare, images=tuple(dataclasses.replace(i, point_rows=np.zeros(0, np.int64)) for i in scene.images)
    )
    frame = plan_of(scene).ground().frame()
    ground = visible_ground(bare, bare.images, frame, 40.0)
    centres = np.array([frame.to_ground(i.world_from_cam[None, :, 3])[0, :2] for i in bare.images])
    assert np.linalg.norm(ground.mean(axis=(1, 2)) - centres, axis=1).max() < 12


def test_a_camera_far_off_belongs_to_the_block_it_looks_at():
    cells = Cells(np.array([[0.0, 0.0], [20.0, 0.0]]), 10.0, 12.0, "square")
    ground = np.full((2, TILES, TILES, 2), np.nan)
    ground[0] = (20.0, 1.0)  # stands over the first cell, shows the second
    cameras_xy = np.array([[0.0, 0.0], [1.0, 0.0]])
    claims = claim_surfaces(cells, cameras_xy, ground)
    assert [claim.near.tolist() for claim in claims] == [[True], [True]], "who shows nothing goes where it stands"
    assert [claim.granted.tolist() for claim in claims] == [[1], [0]]


def test_every_tile_is_learned_and_the_middle_of_a_cell_by_one_block():
    scene = with_tests(aerial())
    plan = plan_of(scene)
    assert len(plan.blocks) >= 4
    layout = plan.ground()
    ground = dict(
        zip([i.id for i in scene.images], visible_ground(scene, scene.images, layout.frame(), 17.5), strict=True)
    )
    learned = {i.id: np.zeros((TILES, TILES), int) for i in scene.images}
    for block in plan.blocks:
        for image_id, tiles in tiles_of_block(scene, plan, block, 17.5).items():
            learned[image_id] += tiles
            centre_m = layout.cells(block.cells_xy).nearest(ground[image_id].reshape(-1, 2))[1]
            assert tiles.ravel()[centre_m <= layout.cell_reach_m].all(), "what lies within reach is learned"
    assert sum(np.count_nonzero(tiles) for tiles in learned.values()) > 0
    everywhere = layout.cells(tuple(xy for block in plan.blocks for xy in block.cells_xy))
    for image in scene.images:
        if image.name in scene.test_names:
            continue
        missed = np.mean(learned[image.id] == 0)
        assert missed < SHARE_SHOWN * len(plan.blocks), "only slivers under the least share are given up"
        home_m = everywhere.nearest(ground[image.id].reshape(-1, 2))[1].reshape(TILES, TILES)
        deep_inside = home_m <= 2 * layout.cell_half_edge_m - layout.cell_reach_m
        assert learned[image.id][deep_inside].max(initial=1) == 1, "the middle of a cell is learned by its block alone"


def test_moving_the_world_moves_no_tile():
    scene = with_tests(aerial())
    c, s = np.cos(0.2), np.sin(0.2)
    turned = moved(scene, np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]]), np.array([400.0, -30.0, 8.0]))
    before, after = plan_of(scene), plan_of(turned)
    for old, new in zip(before.blocks, after.blocks, strict=True):
        assert old.train_images == new.train_images
        before_turning, after_turning = (
            tiles_of_block(scene, before, old, 17.5),
            tiles_of_block(turned, after, new, 17.5),
        )
        assert np.mean([np.mean(before_turning[i] != after_turning[i]) for i in before_turning]) < 0.01


def test_a_picture_of_nothing_known_is_given_to_one_block():
    """A camera that looks at the sky still has a home, where it stands."""
    scene = aerial()
    up = look_at((70.0, 50.0, 40.0), (70.0, 50.1, 80.0))
    poses = [image.world_from_cam for image in scene.images] + [up]
    both = scene_of(poses, scene.points_world)
    owners = [block.id for block in plan_of(both).blocks if both.images[-1].id in block.train_images]
    assert len(owners) >= 1
