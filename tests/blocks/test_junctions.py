"""Junctions where drives cross, streets once, and blocks that cover three quarters of each street to the next."""

from dataclasses import replace

import numpy as np
import pytest

from blocknerf.blocks.growth import grow_plan
from blocknerf.blocks.junctions import place_at_junctions
from blocknerf.blocks.placement import Placement
from blocknerf.blocks.plan import read_plan, write_plan
from blocknerf.blocks.planner import make_plan
from blocknerf.blocks.streets import StreetNetwork, streets_of_drives
from blocknerf.core.config.block_manager import BlockManagerConfig
from blocknerf.core.config.load import load_config
from tests.support.made_scenes import crossing, streets

SIZE_M = 60.0


def drive(*corners, spacing=4.0, aside=0.0, noise=0.0, seed=0, heights=None) -> np.ndarray:
    """Cameras [n, 3] along way points, `aside` to the right, with noise in place."""
    corners = np.array(corners, float)
    xy = []
    for begin, end in zip(corners[:-1], corners[1:], strict=True):
        length = np.linalg.norm(end - begin)
        along = (end - begin) / length
        at = np.arange(0, length, spacing)
        xy.append(begin + at[:, None] * along + aside * np.array([along[1], -along[0]]))
    xy = np.concatenate([*xy, corners[-1:]])
    xy = xy + np.random.default_rng(seed).normal(0, noise, xy.shape)
    z = np.zeros(len(xy)) if heights is None else np.interp(np.linspace(0, 1, len(xy)), *heights)
    return np.column_stack([xy, z])


def network(*drives: np.ndarray, size_m=SIZE_M) -> StreetNetwork:
    names = [f"{number}/{i:04d}.jpg" for number, one in enumerate(drives) for i in range(len(one))]
    of = [str(number) for number, one in enumerate(drives) for _ in range(len(one))]
    return streets_of_drives(np.concatenate(drives), of, names, size_m)


def placed(found: StreetNetwork, **settings) -> Placement:
    """With cameras all along."""
    config = BlockManagerConfig(placement="junctions", **{"block_size": SIZE_M} | settings)
    placement = place_at_junctions(found, np.concatenate([street.path_xy for street in found.streets]), config)
    assert placement is not None
    return placement


def assert_junctions(found: StreetNetwork, *expected, within_m=6.0):
    assert len(found.junctions_xy) == len(expected)
    for place in expected:
        assert np.linalg.norm(found.junctions_xy - place, axis=1).min() < within_m


EAST, NORTH = ((-100, 0), (100, 0)), ((0, -100), (0, 100))


def test_two_drives_that_cross_have_one_junction_of_four_streets():
    found = network(drive(*EAST), drive(*NORTH))
    assert_junctions(found, (0, 0), within_m=1.0)
    assert len(found.streets) == 4
    np.testing.assert_allclose(sorted(street.length_m for street in found.streets), 100, atol=5)


@pytest.mark.parametrize("seed", range(5))
def test_passes_of_one_street_are_one_street_whatever_lane_direction_or_noise(seed):
    rng = np.random.default_rng(seed)
    drives = []
    for number, way in enumerate((EAST, EAST[::-1], NORTH, NORTH[::-1]) * 3):
        step = rng.uniform(2, 7)
        drives.append(drive(*way, aside=rng.uniform(1, 5), noise=0.3, spacing=step, seed=number))
    found = network(*drives)
    assert_junctions(found, (0, 0))
    assert len(found.streets) == 4


def test_a_drive_that_crosses_itself_has_a_junction():
    found = network(drive((-100, 0), (80, 0), (80, 80), (0, 80), (0, -100)))
    assert_junctions(found, (0, 0), within_m=1.0)
    assert len(found.streets) == 3  # two ends, and the loop
    assert sum(street.begins == street.ends == 0 for street in found.streets) == 1


@pytest.mark.parametrize(
    "turned", [((-100, 0), (0, 0), (0, 100)), ((0, 100), (0, 0), (100, 0)), ((0, 90), (0, 0))], ids=str
)
def test_a_drive_that_turns_off_another_or_ends_on_it_gives_a_junction_of_three_streets(turned):
    found = network(drive(*EAST, aside=2), drive(*turned, aside=2, noise=0.1))
    assert_junctions(found, (0, 0))
    assert len(found.streets) == 3


def test_a_bridge_over_a_street_is_no_junction_and_a_ramp_onto_it_is_one():
    over = ([0, 0.3, 0.45, 0.55, 0.7, 1], [0, 0, 6, 6, 0, 0])
    assert_junctions(network(drive(*EAST), drive(*NORTH, heights=over)))
    for high in (8, 30):  # the whole place lies on a hill
        hill = ([0, 0.5, 1], [0, high, 0])
        found = network(drive(*EAST, heights=hill), drive(*NORTH, heights=hill))
        assert_junctions(found, (0, 0))
        assert len(found.streets) == 4


@pytest.mark.parametrize(
    "drives",
    [
        [drive(*EAST)],
        [drive(*EAST, aside=2), drive(*EAST[::-1], aside=2)],
        [drive((-100, 0), (0, 0), (0, 100), aside=a, noise=0.2, seed=a) for a in (1, 3, 5)],  # a corner, three times
        [drive((-100, 0), (0, 0), (0, 100), aside=2), drive((0, 100), (0, 0), (-100, 0), aside=2)],
        [drive((-100, 0), (100, 0), (100, 8), (-100, 8))],  # there and back
        [drive((-100, 0), (0, 0), (2, 14), (-100, 22))],  # a hairpin
        [drive(*((100 * np.cos(a), 100 * np.sin(a)) for a in np.linspace(0, 5, 60)))],
        [drive((-100, 0), (100, 10)), drive((-100, 10), (100, 0))],  # lanes that are changed
        [drive(*EAST), drive((0, 60), (0, 200))],  # ends long before the street
        [np.column_stack([np.random.default_rng(0).normal(0, 0.4, (200, 2)), np.zeros(200)])],  # stands still
        [drive((-100, 0), (0, 0)), drive((0, 0), (100, 0))],  # goes on where another ended
    ],
    ids=[
        "alone",
        "both ways",
        "corner",
        "corner both ways",
        "there and back",
        "hairpin",
        "bend",
        "lanes",
        "apart",
        "standing",
        "end to end",
    ],
)
def test_what_is_no_junction(drives):
    assert_junctions(network(*drives))


def test_a_gap_in_a_drive_is_no_street():
    broken = np.concatenate([drive((0, -200), (0, -80)), drive((0, 80), (0, 200))])
    assert_junctions(network(drive(*EAST), broken))


def test_pictures_in_no_order_are_no_drive():
    """Each step leads across the whole place: what lies between is no street."""
    rng = np.random.default_rng(0)
    mixed = rng.permutation(np.concatenate([drive((x, 0), (x, 900), spacing=9.0) for x in range(0, 900, 90)]))
    assert len(network(mixed, size_m=50.0).junctions_xy) == 0


def test_pictures_far_apart_are_a_drive_all_the_same():
    found = network(drive(*EAST, spacing=22.0), drive(*NORTH, spacing=22.0), size_m=50.0)
    assert_junctions(found, (0, 0))
    assert len(found.streets) == 4


def test_a_car_that_stands_at_the_crossing_changes_nothing():
    waiting = np.concatenate(
        [
            drive((-100, 0), (-6, 0)),
            np.tile([[-6.0, 0, 0]], (50, 1)) + np.random.default_rng(0).normal(0, 0.2, (50, 3)),
            drive((-6, 0), (100, 0)),
        ]
    )
    found = network(waiting, drive(*NORTH))
    assert_junctions(found, (0, 0), within_m=2.0)
    assert len(found.streets) == 4


def test_crossings_near_each_other_are_one_junction():
    """A street that goes on a little to the side, and a dual carriageway."""
    found = network(drive(*EAST), drive((0, -100), (0, 0)), drive((12, 0), (12, 100)))
    assert_junctions(found, (6, 0), within_m=8.0)
    found = network(drive(*EAST, aside=7), drive(*EAST[::-1], aside=7), drive(*NORTH))
    assert_junctions(found, (0, 0))
    assert len(found.streets) == 4


def test_a_captures_unit_goes_with_its_block_size():
    """The same place in a model ten times smaller."""
    found = network(drive(*EAST), drive(*NORTH))
    small = network(drive(*EAST) / 10, drive(*NORTH) / 10, size_m=SIZE_M / 10)
    np.testing.assert_allclose(small.junctions_xy * 10, found.junctions_xy, atol=1e-6)
    assert len(small.streets) == len(found.streets)


def city(xs, ys, margin=80.0, noise=0.2) -> list[np.ndarray]:
    """A drive along every street, a little noisy."""
    low, high = np.array([min(xs), min(ys)]) - margin, np.array([max(xs), max(ys)]) + margin
    drives = [drive((low[0], y), (high[0], y), aside=2, noise=noise, seed=i) for i, y in enumerate(ys)]
    return drives + [drive((x, low[1]), (x, high[1]), aside=2, noise=noise, seed=i + 50) for i, x in enumerate(xs)]


def covered_by(placement: Placement, xy: np.ndarray) -> np.ndarray:
    """[blocks, places] whether a camera there is the block's by where it stands, as `claim_images` has it."""
    nearest = placement.cells.nearest(xy)[0]
    found = np.zeros((len(placement), len(xy)), bool)
    for block, (exclusive, shared) in enumerate(zip(placement.exclusive, placement.shared, strict=True)):
        found[block] = np.isin(nearest, [*exclusive, *shared])
        for cell in (*exclusive, *shared):
            found[block] |= placement.cells.distance_m(xy, cell) <= placement.cells.reach_m
    return found


@pytest.mark.parametrize("seed", range(6))
def test_a_block_covers_three_quarters_of_each_street_and_neighbours_half_of_it(seed):
    """Block-NeRF, section 3.1, on streets of 70 to 119 m at random; with the ratio, what docs/concepts.md says."""
    rng = np.random.default_rng(seed)
    xs, ys = (np.cumsum(rng.uniform(70, 119, 3)) for _ in range(2))
    found = network(*city(xs, ys, margin=60.0))
    assert_junctions(found, *[(x, y) for x in xs for y in ys])
    for ratio in (0.0, 0.25, 0.4):
        placement = placed(found, overlap_ratio=ratio, block_size=80.0)
        assert len(placement) == 9
        slack = placement.cells.reach_m  # a cell is a disc
        for y in ys:
            for x, next_x in zip(xs[:-1], xs[1:], strict=True):
                at = np.arange(x, next_x, 0.25)
                covered = covered_by(placement, np.column_stack([at, np.full(len(at), y - 2)]))
                ends = [int(np.linalg.norm(placement.sites_xy - (end, y), axis=1).argmin()) for end in (x, next_x)]
                one, other = covered[ends]
                length = next_x - x
                assert one.mean() == pytest.approx(0.5 + ratio, abs=(slack + 3) / length)
                assert other.mean() == pytest.approx(0.5 + ratio, abs=(slack + 3) / length)
                assert (one & other).mean() == pytest.approx(2 * ratio, abs=2 * slack / length)
                assert covered.any(axis=0).all()
                if ratio <= 0.25:
                    assert not np.delete(covered, ends, axis=0)[:, 20:-20].any()


def test_every_cell_is_one_blocks_own_and_shared_ones_are_others():
    placement = placed(network(*city((0, 90, 200), (0, 100))))
    assert sorted(cell for exclusive in placement.exclusive for cell in exclusive) == list(range(len(placement.cells)))
    for exclusive, shared in zip(placement.exclusive, placement.shared, strict=True):
        assert not {*exclusive} & {*shared}
    assert sum(map(len, placement.shared)) > 0


def test_long_streets_have_blocks_between_and_dead_ends_belong_to_the_last():
    found = network(*city((0, 400), (0,), margin=50.0))
    placement = placed(found, block_size=60.0)
    on_street = np.sort(placement.sites_xy[:, 0])
    np.testing.assert_allclose(on_street, [0, 100, 200, 300, 400], atol=4)  # four pieces of at most 120 m
    assert covered_by(placement, np.array([[-45.0, -2.0]])).sum() == 1
    assert len(placed(found, block_size=220.0)) == 2


def test_a_street_without_any_junction_has_blocks_as_well():
    found = network(*city((0,), (0,)), drive((500, 500), (700, 500)))
    placement = placed(found)
    apart = np.linalg.norm(placement.sites_xy[:, None] - placement.sites_xy, axis=2)
    assert (np.linalg.norm(placement.sites_xy - (550, 500), axis=1) < 10).any()
    assert covered_by(placement, np.array([[505.0, 500.0], [695.0, 500.0]])).any(axis=0).all()
    assert apart[~np.eye(len(apart), dtype=bool)].min() > 50


def test_images_that_come_later_go_to_all_blocks_that_cover_where_they_stand():
    """Also to those that cover a cell of a neighbour (see blocks/growth.py)."""
    whole = crossing(step_m=1.5)
    config = load_config(
        None,
        [
            "block_manager.placement=junctions",
            "block_manager.block_size=24",
            "block_manager.min_images_per_block=1",
            "dataset.test_every=0",
        ],
    )
    before = replace(whole, images=whole.images[::2])
    plan = make_plan(before, config)
    grown = grow_plan(plan, whole, config, [block.id for block in plan.blocks])
    layout, owner = plan.ground(), {cell: block.id for block in plan.blocks for cell in block.cells_xy}
    cells = layout.cells(tuple(owner))
    shared = 0
    for image in whole.images[1::2]:
        xy = layout.frame().to_ground(image.world_from_cam[None, :, 3])[:, :2]
        nearest = tuple(owner)[int(cells.nearest(xy)[0][0])]
        for block in grown.blocks:
            covers = nearest in block.cells_xy + block.shared_xy
            near = layout.cells(block.cells_xy + block.shared_xy).nearest(xy)[1][0] <= layout.cell_reach_m
            assert (image.id in block.train_images) is bool(covers or near)
            shared += nearest in block.shared_xy
    assert shared > 5


def test_a_block_stays_at_its_junction_when_a_smaller_one_joins_it():
    overrides = ["block_manager.placement=junctions", "block_manager.block_size=24"]
    for fewest in (1, 14, 25):
        plan = make_plan(crossing(), load_config(None, [*overrides, f"block_manager.min_images_per_block={fewest}"]))
        assert bool(plan.merged) is (fewest > 1)
        anchors = np.array([block.anchor_world for block in plan.blocks])
        assert np.linalg.norm(anchors[:, :2] - (45, 45), axis=1).min() < 1


def test_the_plan_of_junctions_is_read_as_written(tmp_path):
    config = load_config(None, ["block_manager.placement=junctions", "block_manager.block_size=24"])
    plan = make_plan(crossing(), config)
    assert any(block.shared_xy for block in plan.blocks)
    write_plan(tmp_path / "plan.json", plan)
    assert read_plan(tmp_path / "plan.json") == plan


def test_drives_without_a_junction_have_blocks_along_them_and_that_is_said(caplog):
    overrides = ["block_manager.block_size=30", "block_manager.min_images_per_block=1"]
    along = make_plan(streets(), load_config(None, [*overrides, "block_manager.placement=drives"]))
    with caplog.at_level("INFO", logger="blocknerf"):
        plan = make_plan(streets(), load_config(None, [*overrides, "block_manager.placement=junctions"]))
    assert "No drives cross each other or themselves: blocks are placed along the drives." in caplog.text
    assert plan.blocks == along.blocks


STEPS = ((1, 0), (-1, 0), (0, 1), (0, -1))


def random_city(rng: np.random.Generator) -> tuple[list[np.ndarray], np.ndarray, float]:
    """Drives at random over a grid of streets that was turned and sheared: with the crossings of at least three streets
    that they travelled, and the length of all these streets."""
    columns, rows = rng.integers(3, 6, 2)
    xs, ys = (np.cumsum(rng.uniform(55, 140, count)) for count in (columns, rows))
    turn, shear = rng.uniform(0, 2 * np.pi), rng.uniform(-0.9, 0.9)
    shape = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]]) @ np.array([[1, shear], [0, 1]])
    places = np.stack(np.meshgrid(xs, ys, indexing="ij"), axis=-1) @ shape.T
    drives, streets = [], set()
    for seed in range(rng.integers(2, 9)):
        position, came = (int(rng.integers(columns)), int(rng.integers(rows))), (0, 0)
        way = [position]
        for _ in range(rng.integers(4, 14)):
            inside = [
                step
                for step in STEPS
                if 0 <= position[0] + step[0] < columns
                and 0 <= position[1] + step[1] < rows
                and step != (-came[0], -came[1])
            ]
            came = inside[rng.integers(len(inside))]
            position = (position[0] + came[0], position[1] + came[1])
            streets.add(frozenset((way[-1], position)))
            way.append(position)
        noise, spacing = rng.choice([0, 0.3, 1.0]), rng.uniform(1, 12)
        points = [places[place] for place in way]
        drives.append(drive(*points, aside=rng.uniform(0, 4), noise=noise, spacing=spacing, seed=seed))
    counts = [(place, sum(place in street for street in streets)) for place in np.ndindex(*places.shape[:2])]
    meeting = [places[place] for place, count in counts if count >= 3]
    length = sum(np.linalg.norm(places[a] - places[b]) for a, b in map(tuple, streets))
    return drives, np.array(meeting).reshape(-1, 2), float(length)


@pytest.mark.parametrize("seed", range(20))
def test_junctions_are_where_three_streets_meet_and_every_street_is_there_once(seed):
    drives, meeting, length_m = random_city(np.random.default_rng(seed))
    found = network(*drives)
    assert_junctions(found, *meeting, within_m=12.0)
    assert sum(street.length_m for street in found.streets) == pytest.approx(length_m, rel=0.12)
