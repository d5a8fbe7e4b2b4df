"""The rule of a budget: more time or more cores never give less, pixels are visited, and the time is not exceeded."""

import heapq
import itertools
from dataclasses import replace

import pytest

from blocknerf.blocks.budget import (
    FEWEST_PASSES,
    SAMPLES_OF_OBJECTS,
    SMALLEST_SIDE_PX,
    Choice,
    Given,
    Images,
    Machine,
    Todo,
    choose,
    least_seconds,
    pixels_of,
)

PHONE: Images = ((44, 1920, 1080),)
WALK: Images = ((100, 768, 1024), (12, 600, 800))
FEW: Images = ((3, 90, 120),)
SECONDS = [10.0 * 1.7**power for power in range(16)]


def todo_of(blocks: int, at_once: int, overhead_s: float = 3.0) -> Todo:
    return Todo(((0.0,) * blocks,), at_once, overhead_s)


def chosen(
    left_s: float, images: list[Images], rate: float = 20_000.0, cores: int = 2, given: Given | None = None
) -> Choice:
    todo = todo_of(len(images), min(cores, len(images)))
    return choose(Machine(rate, cores), left_s, todo, images, given or Given(validation_images=2))


def is_no_less(more: Choice, less: Choice) -> bool:
    return (
        more.image_downsample <= less.image_downsample
        and more.log2_table_rows >= less.log2_table_rows
        and more.batch_size >= less.batch_size
        and more.rays >= less.rays * (1 - 1e-9)
    )


@pytest.mark.parametrize("images", [[PHONE], [WALK] * 5, [FEW, WALK, FEW]], ids=["phone", "walk", "uneven"])
@pytest.mark.parametrize("given", [Given(), Given(validation_images=4), Given(by_surface=True)], ids=str)
def test_more_time_never_gives_less(images, given):
    for cores in (1, 2, 7):
        choices = [chosen(left_s, images, cores=cores, given=given) for left_s in SECONDS]
        assert all(is_no_less(more, less) for less, more in itertools.pairwise(choices))
        assert choices[0] != choices[-1]


@pytest.mark.parametrize("images", [[PHONE], [WALK] * 5, [FEW, WALK, FEW]], ids=["phone", "walk", "uneven"])
def test_more_cores_or_faster_ones_never_give_less(images):
    for left_s in SECONDS:
        more_cores = [chosen(left_s, images, cores=cores) for cores in range(1, 17)]
        faster = [chosen(left_s, images, rate=rate) for rate in (50.0, 1_000.0, 20_000.0, 300_000.0)]
        for choices in (more_cores, faster):
            assert all(is_no_less(more, less) for less, more in itertools.pairwise(choices))


@pytest.mark.parametrize("images", [[PHONE], [WALK] * 3, [FEW, PHONE]], ids=["phone", "walk", "uneven"])
def test_the_pixels_of_every_block_are_visited_and_no_larger_images_could_be(images):
    given = Given(validation_images=2)
    for left_s in SECONDS:
        choice = chosen(left_s, images, given=given)
        shortest_px = min(min(height, width) for block in images for _, height, width in block)
        most_pixels = max(pixels_of(block, choice.image_downsample) for block in images)
        assert choice.passes == pytest.approx(choice.rays / most_pixels)
        if choice.passes < FEWEST_PASSES:
            assert choice.image_downsample == max(1, min(64, shortest_px // SMALLEST_SIDE_PX))
        if choice.image_downsample > 1:
            larger = chosen(left_s, images, given=replace(given, image_downsample=choice.image_downsample - 1))
            assert larger.passes < FEWEST_PASSES


def test_what_is_given_stays_and_the_rest_follows_from_it():
    given = Given(image_downsample=7, batch_size=333, log2_table_rows=11)
    choice = chosen(600.0, [PHONE], given=given)
    assert (choice.image_downsample, choice.batch_size, choice.log2_table_rows) == (7, 333, 11)
    small, full = (chosen(36_000.0, [WALK], given=Given(image_downsample=factor)) for factor in (30, 1))
    assert small.log2_table_rows < full.log2_table_rows  # of a few pixels, all that there is to see is soon seen
    assert chosen(2.0, [FEW], rate=50.0, given=Given(fewest_rays=500)).batch_size == 500


def test_choices_are_those_that_were_found_good():
    """On two cores: an object in four minutes, a building in half an hour, cells of the ground in five a block."""
    thing = chosen(240.0, [((44, 240, 135),)], rate=41_000.0, given=Given(image_downsample=1))
    assert (thing.log2_table_rows, thing.batch_size) == (16, 2048)
    building = chosen(1800.0, [WALK, WALK], rate=41_000.0)
    assert (building.log2_table_rows, building.batch_size) == (18, 4096)
    cells = chosen(600.0, [((40, 225, 300),)] * 4, rate=24_000.0, given=Given(image_downsample=1, by_surface=True))
    assert (cells.log2_table_rows, cells.batch_size) == (14, 1024)


def ends_at(todo: Todo, machine_s: float) -> float:
    """A clock: whoever is idle takes the next block, which learns until it has had its time, and is saved."""
    now_s = 0.0
    for wave in todo.waves:
        places = min(todo.at_once, len(wave))
        idle_at = [now_s] * places
        for behind_s in wave:
            heapq.heappush(idle_at, heapq.heappop(idle_at) + max(0.0, machine_s * places - behind_s) + todo.overhead_s)
        now_s = max(idle_at)
    return now_s


@pytest.mark.parametrize("blocks", [1, 2, 3, 4, 5, 9])
@pytest.mark.parametrize("at_once", [1, 2, 4])
def test_the_run_ends_in_time_and_not_long_before(blocks, at_once):
    machine, images = Machine(20_000.0, 4), [WALK] * blocks
    for todo in (
        todo_of(blocks, at_once),
        Todo((tuple(7.0 * number for number in range(blocks)),), at_once, 2.0),
        Todo(((0.0,) * blocks, (0.0,)), at_once, 1.0),
    ):
        for left_s in (60.0, 180.0, 7200.0):
            machine_s = choose(machine, left_s, todo, images, Given()).machine_s
            if machine_s == 0:
                assert ends_at(todo, 0) > left_s - 1e-6
            else:
                assert ends_at(todo, machine_s) <= left_s + 1e-6
                assert ends_at(todo, 1.001 * machine_s) > left_s - 1e-6


def test_every_block_has_its_share():
    """Two at a time, four blocks: half of the time each, of half the machine."""
    machine_s = choose(Machine(20_000.0, 2), 100.0, todo_of(4, 2, 0.0), [WALK] * 4, Given()).machine_s
    assert machine_s == pytest.approx(25.0)


def test_what_blocks_have_behind_them_counts():
    todo = Todo(((0.0, 30.0),), 1, 0.0)
    machine_s = choose(Machine(20_000.0, 1), 50.0, todo, [WALK] * 2, Given()).machine_s
    assert machine_s == pytest.approx(40.0)  # 40 for the first, 10 more for the second


def test_validation_takes_its_part():
    machine, todo, left_s = Machine(20_000.0, 1), todo_of(2, 1), 600.0
    without, with_it = (
        choose(machine, left_s, todo, [WALK] * 2, Given(image_downsample=2, validation_images=count))
        for count in (0, 3)
    )
    pictures_s = 2 * 3 * pixels_of(WALK, 2) / 112 / 4 / machine.rays_per_s  # at the end of both blocks
    assert 2 * with_it.machine_s < 2 * without.machine_s - pictures_s
    assert with_it.machine_s > 0.9 * without.machine_s


@pytest.mark.parametrize("at_once", [1, 2])
def test_the_least_is_a_step_of_each_block(at_once):
    machine, images, given = Machine(2_000.0, 2), [WALK] * 3, Given(validation_images=1)
    todo = todo_of(3, at_once)
    short = choose(machine, 1.0, todo, images, given)
    assert short.machine_s == 0
    least_s = least_seconds(machine, todo, images, short, given)
    fixed = replace(given, image_downsample=short.image_downsample, batch_size=short.batch_size)
    enough, little = (choose(machine, least_s + more_s, todo, images, fixed) for more_s in (0.01, -0.01))
    assert enough.steps > 1 > little.steps


def test_samples_are_chosen_for_objects_only():
    assert chosen(600.0, [FEW], given=Given(num_samples_fine=7)).num_samples_fine == 7
    assert chosen(600.0, [FEW], given=Given()).num_samples_fine == SAMPLES_OF_OBJECTS
