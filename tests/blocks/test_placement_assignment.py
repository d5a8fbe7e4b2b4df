"""Cells cover and partition the footprint; claims, merging, neighbours."""

from dataclasses import replace

import numpy as np
import pytest

from blocknerf.blocks.assignment import Claims, assign_images, claim_images, find_neighbours
from blocknerf.blocks.ground import GroundFrame, ground_frame
from blocknerf.blocks.image_visibility import (
    FEWEST_POINTS,
    ImageVisibility,
    focus_point,
    frustum_directions,
    gather_sights,
    typical_distances_m,
)
from blocknerf.blocks.placement import MOST_CANDIDATES, Cells, Placement, place_cells
from blocknerf.core.config.block_manager import BlockManagerConfig
from blocknerf.core.errors import UserError
from tests.support.made_scenes import aerial, look_at, scene_of, streets


def sights_of(places, *seen) -> ImageVisibility:
    """Places, and of each image which of them it sees."""
    begin = np.concatenate([[0], np.cumsum([len(visible) for visible in seen])]).astype(np.int64)
    return ImageVisibility(
        np.array(places, float).reshape(-1, 3), begin, np.concatenate([np.zeros(0, int), *seen]).astype(int), None
    )


NOTHING_SEEN = sights_of([])


def table(claims: list[Claims], images: int, of: str) -> np.ndarray:
    """[images, cells] of `near`, `seen` or `granted`."""
    found = np.zeros((images, len(claims)))
    for cell, claim in enumerate(claims):
        if of == "granted":
            found[claim.granted, cell] = True
        else:
            found[claim.images, cell] = getattr(claim, of)
    return found


def frame_of(extent_m) -> GroundFrame:
    return GroundFrame(np.zeros(3), np.eye(3), extent_m)


def filled(extent_m, count=3000, seed=0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-0.5, 0.5, (count, 2)) * extent_m


def grid(extent_m, xy, **settings) -> Cells:
    config = BlockManagerConfig(**settings)
    return place_cells(frame_of(extent_m), xy, ["0"] * len(xy), [str(i) for i in range(len(xy))], config)


@pytest.mark.parametrize("extent", [(100.0, 70.0), (101.0, 9.0), (350.0, 349.0)])
def test_every_camera_stands_in_a_cell_and_cells_with_overlap_contain_them(extent):
    xy = filled(extent)
    cells = grid(extent, xy, block_size=25)
    assert (cells.containing(xy) >= 0).all()
    assert len(cells) == np.ceil(extent[0] / 25) * np.ceil(extent[1] / 25)
    assert cells.reach_m == pytest.approx(12.5 + 0.25 * 25)


def test_without_overlap_the_cells_partition_the_footprint():
    xy = filled((100.0, 60.0))
    cells = grid((100.0, 60.0), xy, block_size=20, overlap_ratio=0)
    claims = claim_images(cells, xy, NOTHING_SEEN)
    assert (table(claims, len(xy), "near").sum(axis=1) == 1).all()


@pytest.mark.parametrize("ratio", [0.0, 0.1, 0.25, 0.3, 0.5, 1.0])
@pytest.mark.parametrize("placement", ["grid", "drives"])
def test_a_block_reaches_into_its_neighbours_by_its_share_of_block_size(placement, ratio):
    """A camera every centimetre: what docs/concepts.md says of the reach, and of what two neighbours share."""
    xy = np.stack([np.arange(0.005, 100, 0.01) - 50, np.zeros(10_000)], axis=1)
    settings = BlockManagerConfig(placement=placement, block_size=20, overlap_ratio=ratio)
    names = [str(i) for i in range(len(xy))]
    cells = place_cells(frame_of((100.0, 1.0)), xy, ["0"] * len(xy), names, settings)
    np.testing.assert_allclose(np.sort(cells.centers_xy[:, 0]), [-40, -20, 0, 20, 40], atol=0.01)
    near = table(claim_images(cells, xy, NOTHING_SEEN), len(xy), "near").astype(bool)
    second, third = near[:, np.argsort(cells.centers_xy[:, 0])[1:3]].T
    beyond_the_edge_m = 0.01 * (third & (xy[:, 0] < -10)).sum()
    assert beyond_the_edge_m == pytest.approx(min(ratio * 20, 40), abs=0.02)
    between = (xy[:, 0] > -20) & (xy[:, 0] < 0)
    assert (second & third & between).sum() / between.sum() == pytest.approx(min(2 * ratio, 1), abs=2e-3)
    if ratio <= 0.5:  # farther on, blocks end where the capture does
        assert (second & third).sum() / second.sum() == pytest.approx(2 * ratio / (1 + 2 * ratio), abs=2e-3)


def test_cells_without_cameras_are_left_out_and_rows_run_from_the_far_left():
    xy = np.array([[-45.0, 45.0], [45.0, 45.0], [-45.0, -45.0], [45, -45]])
    cells = grid((90.0, 90.0), xy, block_size=30)
    np.testing.assert_allclose(cells.centers_xy, [[-30, 30], [30, 30], [-30, -30], [30, -30]])


def test_a_cell_the_capture_fits_into_is_as_large_as_the_footprint():
    xy = filled((10.0, 4.0))
    for cells in (grid((10.0, 4.0), xy, block_size=50), grid((10.0, 4.0), xy, block_size=1, max_blocks=1)):
        assert len(cells) == 1
        assert cells.half_edge_m == 5


def test_far_too_small_cells_are_refused_with_the_remedy():
    xy = filled((1000.0, 1000.0), 20_000)
    with pytest.raises(UserError, match=r"block_size=0.5 cuts a capture of 1000 x 1000 m into \d+ cells; give a"):
        grid((1000.0, 1000.0), xy, block_size=0.5)


def along(xy, drives, **settings) -> Cells:
    names = [f"f_{i}.png" for i in range(len(xy))]
    config = BlockManagerConfig(placement="drives", **settings)
    return place_cells(frame_of((120.0, 10.0)), xy, drives, names, config)


def test_blocks_stand_evenly_along_a_drive():
    xy = np.stack([np.arange(0, 121, 1.0), np.zeros(121)], axis=1)
    cells = along(xy, ["a"] * 121, block_size=30)
    np.testing.assert_allclose(np.sort(cells.centers_xy[:, 0]), [15, 45, 75, 105])
    assert cells.shape == "disc"


def test_a_second_drive_through_the_same_street_adds_no_blocks_and_a_cross_street_does():
    x = np.arange(0, 121, 1.0)
    forth = np.stack([x, 0 * x], axis=1)
    back = np.stack([x[::-1], 0 * x + 3], axis=1)
    cross = np.stack([0 * x + 60, x + 40], axis=1)
    assert len(along(np.concatenate([forth, back]), ["a"] * 121 + ["b"] * 121, block_size=30)) == 4
    assert len(along(np.concatenate([forth, cross]), ["a"] * 121 + ["b"] * 121, block_size=30)) == 8


def test_a_rigs_cameras_are_ways_of_their_own():
    x = np.arange(0, 121, 1.0)
    xy = np.concatenate([np.stack([x, 0 * x + side], axis=1) for side in (0.0, 1.0)])
    names = [f"{camera}/{i}.png" for camera in ("left", "right") for i in range(121)]
    config = BlockManagerConfig(placement="drives", block_size=35)  # 4 pieces of one way; 8 of both strung together
    cells = place_cells(frame_of((120.0, 10.0)), xy, ["a"] * 242, names, config)
    np.testing.assert_allclose(np.sort(cells.centers_xy[:, 0]), [15, 45, 75, 105])


def test_far_too_many_places_along_many_drives_are_refused():
    xy = np.stack([np.tile([0.0, 1e6], 50), np.repeat(np.arange(50.0), 2) * 1000], axis=1)
    drives = [str(i // 2) for i in range(100)]
    with pytest.raises(UserError, match=f"into {MOST_CANDIDATES + 1} cells; give a larger block_size"):
        along(xy, drives, block_size=1)


def test_labels_agree_with_brute_force():
    rng = np.random.default_rng(0)
    cells = Cells(rng.uniform(-20, 20, (7, 2)), 6.0, 9.0, "disc")
    xy = rng.uniform(-30, 30, (500, 2))
    distances = np.linalg.norm(xy[:, None] - cells.centers_xy, axis=2)
    np.testing.assert_array_equal(cells.nearest(xy)[0], distances.argmin(axis=1))
    np.testing.assert_array_equal(
        cells.containing(xy), np.where(distances.min(axis=1) <= 6, distances.argmin(axis=1), -1)
    )


@pytest.mark.parametrize(("shape", "power"), [("square", np.inf), ("disc", 2)])
def test_cells_far_and_wide_are_found_as_by_brute_force(shape, power):
    """Thousands of bins, most of them empty; places between cells, far outside, nowhere, and exactly on borders."""
    rng = np.random.default_rng(1)
    cells = Cells(np.unique(rng.integers(-60, 60, (300, 2)), axis=0) * 10.0, 5.0, 7.5, shape)
    xy = np.concatenate(
        [
            rng.uniform(-650, 650, (2000, 2)),
            rng.integers(-130, 130, (500, 2)) * 5.0,
            rng.uniform(-1e5, 1e5, (20, 2)),
        ]
    )
    distances = np.linalg.norm(xy[:, None] - cells.centers_xy, axis=2, ord=power)
    nearest, nearest_m = cells.nearest(xy)
    np.testing.assert_array_equal(nearest, distances.argmin(axis=1))
    np.testing.assert_array_equal(nearest_m, distances.min(axis=1))
    limited, limited_m = cells.nearest(xy, 12.0)
    np.testing.assert_array_equal(limited, np.where(distances.min(axis=1) <= 12, distances.argmin(axis=1), -1))
    assert np.isinf(limited_m[limited < 0]).all()
    pairs = {tuple(pair) for pair in np.stack(cells.within_reach(xy), axis=1).tolist()}
    assert pairs == {tuple(pair) for pair in np.argwhere(distances <= 7.5).tolist()}
    assert cells.nearest(np.array([[np.inf, 0.0]]))[1].tolist() == [np.inf]


def test_frusta_stand_where_a_loop_puts_them_and_images_with_points_see_those():
    scene = aerial()
    poses = np.stack([image.world_from_cam for image in scene.images])
    bare = [replace(image, point_rows=image.point_rows[: 5 * (i % 2 == 0)]) for i, image in enumerate(scene.images)]
    mixed = [image if i % 3 == 0 else bare[i] for i, image in enumerate(scene.images)]
    frame = ground_frame(poses)
    sights = gather_sights(scene, mixed, frame, poses, 10.0)
    depths_m = typical_distances_m(scene, mixed, frame, poses, 10.0)
    rays = frustum_directions(scene.cameras["c"])
    found = {}
    for images in sights.parts():
        begin, places_xy = sights.of_each(images)
        found |= {int(image): places_xy[a:b] for image, a, b in zip(images, begin[:-1], begin[1:], strict=True)}
    for i, image in enumerate(mixed):
        places = poses[i, :, 3] + depths_m[i] * rays @ poses[i, :, :3].T
        if len(image.point_rows) >= FEWEST_POINTS:
            places = scene.points_world[image.point_rows]
        np.testing.assert_allclose(found[i], frame.to_ground(places)[:, :2], atol=1e-9)
        np.testing.assert_allclose(np.sort(sights.of(np.array([i])), 0), np.sort(frame.to_ground(places), 0), atol=1e-9)


def test_what_an_image_sees_gives_it_to_a_block_from_outside():
    cells = Cells(np.array([[0.0, 0.0], [20.0, 0.0]]), 10.0, 10.0, "square")
    camera = np.array([[-5.0, 0.0], [-5.0, 0.0]])
    places = np.array([[20.0, 0, 0], [0.0, 0, 0], [0, 1, 0], [0, 2, 0], [0, 3, 0], [500.0, 0, 0]])
    claims = claim_images(cells, camera, sights_of(places, [0, 1, 2, 5], [0, 1, 2, 3, 5]))
    np.testing.assert_allclose(table(claims, 2, "seen"), [[0.5, 0.25], [0.6, 0.2]])
    np.testing.assert_array_equal(table(claims, 2, "granted"), [[True, True], [True, False]])


def random_claims(seed=0, images=60, blocks=9) -> tuple[Cells, list[Claims]]:
    xy = filled((90.0, 90.0), images, seed)
    config = BlockManagerConfig(block_size=30, overlap_ratio=0.15)
    cells = place_cells(frame_of((90.0, 90.0)), xy, ["0"] * images, ["x"] * images, config)
    assert len(cells) == blocks
    return cells, claim_images(cells, xy, NOTHING_SEEN)


@pytest.mark.parametrize("fewest", [1, 8, 15, 40, 1000])
def test_merging_keeps_every_image_and_leaves_no_small_block(fewest):
    cells, claims = random_claims()
    is_train = np.arange(60) % 5 > 0
    merged = assign_images(Placement.of_cells(cells), claims, is_train, fewest)
    counts = np.array([is_train[images].sum() for images in merged.images_of_block])
    assert set(np.concatenate(merged.images_of_block)) == set(range(60))
    assert (counts >= fewest).all() or len(counts) == 1
    assert sorted(cell for members in merged.members_of_block for cell in members) == list(range(len(cells)))
    assert len(merged.merged) == len(cells) - len(counts)
    for block, members in enumerate(merged.members_of_block):  # whoever belonged to a cell belongs to its block
        for cell in members:
            assert set(claims[cell].granted) <= set(merged.images_of_block[block])


def test_a_small_block_goes_to_its_nearest_neighbour_and_is_named():
    cells = Cells(np.array([[0.0, 0], [10, 0], [20, 0], [50, 0]]), 5.0, 5.0, "square")
    xy = np.array([[0.0, 0]] * 5 + [[10, 0]] * 4 + [[20, 0]] * 5 + [[50, 0]] * 2)
    result = assign_images(Placement.of_cells(cells), claim_images(cells, xy, NOTHING_SEEN), np.ones(16, bool), 5)
    assert result.merged == ((3, 2, 2), (1, 0, 4))
    assert result.members_of_block == ((0, 1), (2, 3))


def test_neighbours_share_images_or_touch():
    cells = Cells(np.array([[0.0, 0], [10, 0], [20, 0], [90, 0]]), 5.0, 5.0, "square")
    xy = cells.centers_xy.copy()
    sights = sights_of([[90.0, 0, 0]], [0], [], [], [])
    train = np.ones(4, bool)
    apart = find_neighbours(
        Placement.of_cells(cells),
        assign_images(Placement.of_cells(cells), claim_images(cells, xy, NOTHING_SEEN), train, 1),
        train,
    )
    assert not apart.any()  # touching edges are no overlap
    sees_far = find_neighbours(
        Placement.of_cells(cells),
        assign_images(Placement.of_cells(cells), claim_images(cells, xy, sights), train, 1),
        train,
    )
    assert sees_far.sum() == 2
    assert sees_far[0, 3]
    assert sees_far[3, 0]
    wide = Cells(cells.centers_xy, 5.0, 6.0, "square")
    touching = find_neighbours(
        Placement.of_cells(wide),
        assign_images(Placement.of_cells(wide), claim_images(wide, xy, NOTHING_SEEN), train, 1),
        train,
    )
    assert {tuple(pair) for pair in np.argwhere(touching).tolist()} == {(0, 1), (1, 0), (1, 2), (2, 1)}


def test_images_without_points_are_judged_by_their_frustum():
    scene = aerial()
    poses = np.stack([image.world_from_cam for image in scene.images])
    frame = ground_frame(poses)
    with_points = gather_sights(scene, scene.images, frame, poses, 10.0)
    bare = scene_of(list(poses))
    without = gather_sights(bare, bare.images, frame, poses, 10.0)
    flat = without.of(np.arange(len(poses)))
    assert len(flat) == 64 * len(poses)
    assert np.median(flat[:, 2]) < -5  # below the cameras
    one = np.array([20])
    middle = with_points.of(one)[:, :2].mean(axis=0) - without.of(one)[:, :2].mean(axis=0)
    assert np.linalg.norm(middle) < 6


def test_frustum_directions_are_unit_and_span_the_picture():
    directions = frustum_directions(aerial().cameras["c"])
    np.testing.assert_allclose(np.linalg.norm(directions, axis=1), 1, atol=1e-6)
    assert np.abs(directions[:, 0] / directions[:, 2]).max() == pytest.approx(28 / 40, abs=1e-5)


def test_the_focus_of_a_ring_is_found_and_a_street_has_none():
    ring = np.stack([look_at((9 * np.cos(a), 9 * np.sin(a), 3), (1, 2, 1)) for a in np.linspace(0, 5, 30)])
    focus = focus_point(ring)
    assert focus is not None
    np.testing.assert_allclose(focus, [1, 2, 1], atol=1e-9)
    assert focus_point(np.stack([image.world_from_cam for image in streets().images])) is None
    outward = ring.copy()
    outward[:, :, [0, 2]] *= -1
    assert focus_point(outward) is None
