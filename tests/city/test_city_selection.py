"""Laws of block selection and of the blending weights."""

import pytest
import torch

from blocknerf.city.selection import (
    FADE_SHARE,
    FAINT,
    TIE_MARGIN,
    block_weights,
    distances_to,
    fades,
    inverse_distance_weights,
    surface_weights,
    visibility_weights,
    visible_block_weights,
)
from blocknerf.core.errors import UserError
from blocknerf.core.seeds import generator

GRID = torch.tensor([[x, y, 0.0] for x in (0.0, 50.0, 100.0, 150.0) for y in (0.0, 50.0, 100.0)], dtype=torch.float64)
FAR = 1e9


def select_blocks(camera: torch.Tensor, anchors: torch.Tensor, distance_threshold: float, most: int) -> torch.Tensor:
    """Rows of `anchors` that may have weight in a picture from `camera`, nearest first."""
    distances = distances_to(camera, anchors)
    fade = fades(distances, distance_threshold, most)
    order = torch.argsort(distances, stable=True)
    return order[fade[order] > 0]


def random_points(name: str, count: int, scale: float = 100.0) -> torch.Tensor:
    return scale * torch.rand((count, 3), generator=generator(1, name), dtype=torch.float64)


@pytest.mark.parametrize("power", [0.0, 1.0, 4.0])
@pytest.mark.parametrize("most", [1, 2, 3, 8])
def test_weights_sum_to_one_and_are_positive_for_selected_blocks_only(power, most):
    for camera in random_points("cameras", 50, 200.0):
        weights = block_weights(camera, GRID, 75.0, most, power)
        assert weights.sum() == pytest.approx(1, abs=1e-12)
        assert (weights >= 0).all()
        selected = set(select_blocks(camera, GRID, 75.0, most).tolist())
        assert set(weights.nonzero().ravel().tolist()) <= selected


def test_renumbering_the_blocks_renumbers_the_weights():
    order = torch.randperm(len(GRID), generator=generator(1, "order"))
    for camera in random_points("cameras", 20, 150.0):
        weights = block_weights(camera, GRID, 75.0, 3, 4.0)
        torch.testing.assert_close(block_weights(camera, GRID[order], 75.0, 3, 4.0), weights[order])


def test_plain_weights_are_the_papers_formula():
    distances = torch.tensor([3.0, 10.0, 40.0], dtype=torch.float64)
    for power in (1.0, 2.5, 4.0):
        expected = distances**-power / (distances**-power).sum()
        torch.testing.assert_close(inverse_distance_weights(distances, power), expected)


def test_well_inside_the_reach_the_fades_change_nothing():
    anchors = torch.tensor([[0.0, 0, 0], [20, 0, 0], [0, 30, 0]], dtype=torch.float64)
    camera = torch.tensor([5.0, 5, 1], dtype=torch.float64)
    plain = inverse_distance_weights(distances_to(camera, anchors), 2.0)
    assert torch.equal(fades(distances_to(camera, anchors), FAR, 3), torch.ones(3, dtype=torch.float64))
    shaved = (plain / plain.max() - FAINT).clamp(min=0)
    torch.testing.assert_close(block_weights(camera, anchors, FAR, 3, 2.0), shaved / shaved.sum())


def test_however_many_blocks_are_equally_near_all_of_them_share_the_picture():
    around = torch.linspace(0, 2 * torch.pi, 401, dtype=torch.float64)[:-1]
    anchors = 30 * torch.stack([around.cos(), around.sin(), torch.zeros(400)], 1)
    weights = block_weights(torch.zeros(3, dtype=torch.float64), anchors, FAR, 3, 4.0)
    torch.testing.assert_close(weights, torch.full((400,), 1 / 400, dtype=torch.float64))


def test_on_an_anchor_that_block_is_alone_and_close_to_it_nearly_so():
    for row, anchor in enumerate(GRID):
        for power in (1.0, 4.0, 60.0):
            weights = block_weights(anchor, GRID, 75.0, 3, power)
            assert weights[row] == 1
            near = block_weights(anchor + torch.tensor([1e-3, 0, 0]), GRID, 75.0, 3, power)
            assert near[row] > 0.999


def test_power_zero_weighs_all_alike_inside_the_ramp():
    distances = torch.tensor([0.0, 1e-200, 3.0, 7.0], dtype=torch.float64)
    assert inverse_distance_weights(distances, 0.0).tolist() == [0.25] * 4


def test_extreme_distances_and_powers_stay_finite():
    distances = torch.tensor([1e-300, 1e-3, 1e6], dtype=torch.float64)
    for power in (0.5, 4.0, 100.0):
        weights = inverse_distance_weights(distances, power)
        assert torch.isfinite(weights).all()
        assert weights.sum() == pytest.approx(1)


def test_coinciding_anchors_share():
    anchors = torch.tensor([[0.0, 0, 0], [0, 0, 0], [9, 0, 0]], dtype=torch.float64)
    weights = block_weights(torch.zeros(3, dtype=torch.float64), anchors, 75.0, 1, 4.0)
    torch.testing.assert_close(weights, torch.tensor([0.5, 0.5, 0.0], dtype=torch.float64))


def test_the_weights_do_not_depend_on_the_unit_of_length():
    for camera in random_points("cameras", 20, 150.0):
        in_metres = block_weights(camera, GRID, 75.0, 3, 4.0)
        in_kilometres = block_weights(camera / 1000, GRID / 1000, 0.075, 3, 4.0)
        torch.testing.assert_close(in_metres, in_kilometres, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("power", [0.0, 4.0])
@pytest.mark.parametrize("most", [1, 3])
def test_weights_are_continuous_along_any_path(power, most):
    """Where the weights change fastest, steps an eighth as long change them about an eighth: a jump would not shrink.

    The paths cross the threshold, rank changes and the exact corners and edges of the grid, and leave the city.
    """
    paths = [
        [[10, 20, 2], [140, 75, 2]],
        [[0, 0, 0], [150, 150, 0]],
        [[75, -200, 5], [75, 300, 5]],
        [[25, 0, 0], [25, 99, 0]],
    ]
    for start, stop in torch.tensor(paths, dtype=torch.float64):
        changes = weight_changes(start, stop, 400, power, most)
        assert changes.max() < 0.5
        for step in changes.topk(3).indices:
            ends = [start + share * (stop - start) for share in (step / 400, (step + 1) / 400)]
            assert weight_changes(*ends, 8, power, most).max() < changes[step] / 4


def test_the_continuity_check_catches_a_hard_rule():
    start, stop = torch.tensor([[20.0, 30.0, 0.0], [30.0, 30.0, 0.0]], dtype=torch.float64)

    def nearest_only(camera):
        return torch.nn.functional.one_hot(distances_to(camera, GRID).argmin(), len(GRID)).double()

    for steps in (8, 64):
        assert weight_changes(start, stop, steps, 0.0, 1, nearest_only).max() == 1


def weight_changes(start, stop, steps: int, power: float, most: int, rule=None) -> torch.Tensor:
    """Largest change of any weight in each of `steps` equal steps from start to stop."""
    rule = rule or (lambda camera: block_weights(camera, GRID, 60.0, most, power))
    shares = torch.linspace(0, 1, steps + 1, dtype=torch.float64)
    return torch.stack([rule(start + share * (stop - start)) for share in shares]).diff(dim=0).abs().amax(1)


def test_the_nearest_is_always_selected_and_first():
    for camera in random_points("cameras", 30, 1000.0):
        for most in (1, 3):
            selected = select_blocks(camera, GRID, 1.0, most)
            assert selected[0] == distances_to(camera, GRID).argmin()


def test_blocks_beyond_the_threshold_are_not_selected():
    for camera in random_points("cameras", 30, 150.0):
        distances = distances_to(camera, GRID)
        reach = max(40.0, (1 + TIE_MARGIN) * float(distances.min()))
        selected = select_blocks(camera, GRID, 40.0, len(GRID))
        assert set(selected.tolist()) == set((distances < reach).nonzero().ravel().tolist())


def test_more_than_the_most_are_blended_only_where_they_tie():
    for camera in random_points("cameras", 100, 150.0):
        distances = distances_to(camera, GRID)
        for most in (1, 2, 3):
            extra = select_blocks(camera, GRID, FAR, most)[most:]
            assert (distances[extra] <= (1 + TIE_MARGIN) * distances.min()).all()


def test_the_fade_begins_at_three_quarters_of_the_reach_and_falls_to_zero_at_it():
    distances = torch.tensor([1.0, 75.0, 80.0, 90.0, 99.999, 100.0, 120.0], dtype=torch.float64)
    fade = fades(distances, 100.0, 8)
    assert (1 - FADE_SHARE) * 100.0 == 75.0
    assert fade[:2].tolist() == [1, 1]
    assert (fade.diff() <= 0).all()
    assert 0 < fade[4] < 1e-6
    assert fade[5:].tolist() == [0, 0]


def test_a_camera_nowhere_is_an_error():
    with pytest.raises(UserError, match="three finite numbers"):
        block_weights(torch.tensor([0.0, float("nan"), 0.0]), GRID, 75.0, 3, 4.0)


def test_a_pixel_belongs_to_the_block_whose_ground_it_shows():
    distances = torch.tensor([[1.0, 10.0, 5.0], [9.0, 0.0, 5.0]])
    shares = surface_weights(distances, torch.tensor([0.5, 0.5]), 8.0)
    torch.testing.assert_close(shares.sum(0), torch.ones(3))
    torch.testing.assert_close(shares[0], torch.tensor([1.0, 0.0, 0.5]), atol=1e-6, rtol=0)


def test_a_block_that_leaves_the_picture_leaves_every_pixel():
    distances = 0.5 + torch.rand(3, 50, generator=torch.Generator().manual_seed(0))
    with_it = surface_weights(distances, torch.tensor([0.5, 0.5, 1e-9]), 4.0)
    without = surface_weights(distances[:2], torch.tensor([0.5, 0.5]), 4.0)
    torch.testing.assert_close(with_it[:2], without, atol=1e-4, rtol=0)


def test_blocks_that_see_too_little_fade_to_nothing_without_a_step():
    half = torch.tensor([0.5, 0.5], dtype=torch.float64)
    seen = torch.linspace(0, 1, 2001, dtype=torch.float64)
    left = torch.stack([visible_block_weights(half, torch.stack([s, torch.ones_like(s)]), 0.1)[0] for s in seen])
    assert (left[seen <= 0.1] == 0).all()
    assert (left[seen >= 0.2] == 0.5).all()
    assert (left.diff() >= 0).all()
    assert left.diff().max() < 0.01


def test_where_no_block_sees_enough_all_stay_by_what_they_see():
    weights = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)
    for best in (0.02, 0.05, 0.1):
        left = visible_block_weights(weights, torch.tensor([best, 0.5 * best, 0.9 * best]).double(), 0.1)
        assert (left > 0).all()
        gain = left / weights
        assert gain[0] > gain[2] > gain[1]
    torch.testing.assert_close(visible_block_weights(weights, torch.zeros(3).double(), 0.1), weights)
    assert visible_block_weights(weights, torch.tensor([0.0, 1.0, 0.0]).double(), 0.0) is weights


@pytest.mark.parametrize("seed", range(20))
def test_a_block_that_has_just_entered_changes_nothing_yet_whatever_it_sees(seed):
    rng = generator(seed, "entering")
    count = 1 + seed % 4
    weights = torch.rand(count, generator=rng, dtype=torch.float64)
    visibilities = torch.rand(count + 1, generator=rng, dtype=torch.float64) ** (1 + 3 * (seed % 3))
    visibilities[:count] *= seed % 5 > 0  # now and then nobody sees anything but the one that enters
    alone = visible_block_weights(weights / weights.sum(), visibilities[:count], 0.25)
    for entering in (1e-300, 1e-18, 1e-9, 1e-6):
        together = torch.cat([weights / weights.sum() * (1 - entering), torch.tensor([entering]).double()])
        left = visible_block_weights(together, visibilities, 0.25)
        torch.testing.assert_close(left[:count], alone, rtol=0, atol=1e3 * entering)
        assert left[count] <= 1e3 * entering


def test_a_block_enters_every_pixel_no_faster_than_the_picture():
    sights = 0.02 + torch.rand(3, 50, generator=generator(1, "sights"), dtype=torch.float64)
    for entering in (1e-12, 1e-9, 1e-6):
        weights = torch.tensor([0.7, 0.3 - entering, entering], dtype=torch.float64)
        assert visibility_weights(sights, weights)[2].max() < 2e3 * entering


def test_the_root_of_weights_is_kept_where_they_are_not_faint():
    weights = torch.tensor([0.7, 0.2, 0.1], dtype=torch.float64)
    roots = weights.sqrt() / weights.sqrt().sum()
    torch.testing.assert_close(visibility_weights(torch.ones(3, 1).double(), weights)[:, 0], roots, rtol=1e-9, atol=0)
