"""The terms of the loss as functions: limits, invariances, brute force, finite differences in float64."""

import math

import pytest
import torch

from blocknerf.core.seeds import generator
from blocknerf.kernels.histograms import reference
from blocknerf.rendering.quality import masked_similarity, similarity
from blocknerf.training.block.losses.terms import (
    OUTLIER_SHARE,
    absolute_error,
    consistency_loss,
    depth_gradient_loss,
    dssim,
    laplacian_smoothness,
    passing_loss,
    scale_invariant_log_loss,
    squared_error,
    squared_weights,
    window_loss,
)


def uniform(*shape: int, name: str = "values", low: float = 0.0, high: float = 1.0) -> torch.Tensor:
    return low + (high - low) * torch.rand(*shape, generator=generator(0, name), dtype=torch.float64)


def everywhere(*shape: int) -> torch.Tensor:
    return torch.ones(*shape, dtype=torch.bool)


def test_errors_of_colour_against_brute_force():
    one, other = uniform(7, 3, name="one"), uniform(7, 3, name="other")
    pairs = list(zip(one.flatten().tolist(), other.flatten().tolist(), strict=True))
    assert float(squared_error(one, other)) == pytest.approx(sum((a - b) ** 2 for a, b in pairs) / 21)
    assert float(absolute_error(one, other)) == pytest.approx(sum(abs(a - b) for a, b in pairs) / 21)
    assert float(squared_error(one, one)) == float(absolute_error(one, one)) == 0


def test_equal_pictures_are_not_dissimilar_and_opposite_ones_are_more_than_strange_ones():
    truth, strange = uniform(2, 12, 12, 3, name="truth"), uniform(2, 12, 12, 3, name="strange")
    valid = everywhere(2, 12, 12)
    assert float(dssim(truth, truth, valid)) == pytest.approx(0, abs=1e-12)
    assert 0.5 < float(dssim(strange, truth, valid)) < float(dssim(1 - truth, truth, valid)) < 2


def test_dissimilarity_knows_neither_the_order_of_patches_nor_mirrors():
    one, truth = uniform(3, 11, 13, 3, name="one"), uniform(3, 11, 13, 3, name="truth")
    expected = float(dssim(one, truth, everywhere(3, 11, 13)))
    for turned in (lambda t: t.flip(0), lambda t: t.flip(1), lambda t: t.flip(2), lambda t: t.movedim(1, 2)):
        shape = turned(one).shape[:3]
        assert float(dssim(turned(one), turned(truth), everywhere(*shape))) == pytest.approx(expected)


def test_similarity_is_that_of_one_window_by_hand():
    """The middle of an 11 x 11 picture sees all of it, with Gaussian weights."""
    one, truth = uniform(1, 11, 11, 3, name="one"), uniform(1, 11, 11, 3, name="truth")
    side = torch.exp(-((torch.arange(11, dtype=torch.float64) - 5) ** 2) / (2 * 1.5**2))
    window = (side[:, None] * side / (side[:, None] * side).sum())[..., None]
    mean_a, mean_b = (window * one[0]).sum((0, 1)), (window * truth[0]).sum((0, 1))
    var_a, var_b = (window * one[0] ** 2).sum((0, 1)) - mean_a**2, (window * truth[0] ** 2).sum((0, 1)) - mean_b**2
    both = (window * one[0] * truth[0]).sum((0, 1)) - mean_a * mean_b
    c1, c2 = 0.01**2, 0.03**2
    ssim = (2 * mean_a * mean_b + c1) * (2 * both + c2) / ((mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2))
    torch.testing.assert_close(masked_similarity(one, truth, everywhere(1, 11, 11))[0, 5, 5], ssim)


def test_where_nothing_is_valid_nothing_is_dissimilar():
    one, truth = uniform(1, 11, 11, 3, name="one"), uniform(1, 11, 11, 3, name="truth")
    assert float(dssim(one, truth, ~everywhere(1, 11, 11))) == 0


def test_without_a_mask_dissimilarity_is_that_of_whole_windows():
    one, truth = uniform(3, 14, 19, 3, name="one"), uniform(3, 14, 19, 3, name="truth")
    expected = 1 - similarity(one, truth).mean()
    assert float(dssim(one, truth, everywhere(3, 14, 19))) == pytest.approx(float(expected), rel=1e-9)


def masked_ssim_by_hand(one: torch.Tensor, truth: torch.Tensor, valid: torch.Tensor, row: int, column: int) -> float:
    """Of one channel: every pixel of the window by itself, reflected at the border, hidden ones passed over."""
    height, width = valid.shape
    entries = []
    for down in range(-5, 6):
        for right in range(-5, 6):
            y, x = (height - 1) - abs(height - 1 - abs(row + down)), (width - 1) - abs(width - 1 - abs(column + right))
            if valid[y, x]:
                entries.append((math.exp(-(down**2 + right**2) / 4.5), float(one[y, x]), float(truth[y, x])))
    total = sum(weight for weight, _, _ in entries)
    a, b = (sum(entry[0] * entry[index] for entry in entries) / total for index in (1, 2))
    aa, bb, ab = (sum(entry[0] * entry[i] * entry[j] for entry in entries) / total for i, j in ((1, 1), (2, 2), (1, 2)))
    c1, c2 = 0.01**2, 0.03**2
    return (2 * a * b + c1) * (2 * (ab - a * b) + c2) / ((a * a + b * b + c1) * (aa - a * a + bb - b * b + c2))


@pytest.mark.parametrize("seed", range(4))
def test_dissimilarity_under_a_mask_is_that_of_windows_without_hidden_pixels(seed):
    one, truth = uniform(1, 12, 13, 3, name=f"one {seed}"), uniform(1, 12, 13, 3, name=f"truth {seed}")
    valid = uniform(1, 12, 13, name=f"valid {seed}") > (0.1, 0.5, 0.9, 0.99)[seed]
    valid[0, 3, 4] = True
    places = valid[0].nonzero().tolist()
    channels = ((one[0, ..., c], truth[0, ..., c]) for c in range(3))
    by_hand = [masked_ssim_by_hand(*pair, valid[0], row, column) for pair in channels for row, column in places]
    assert float(dssim(one, truth, valid)) == pytest.approx(1 - sum(by_hand) / len(by_hand), abs=1e-9)


@pytest.mark.parametrize("seed", range(4))
def test_what_stands_under_a_mask_reaches_neither_dissimilarity_nor_its_gradient(seed):
    one, truth = uniform(2, 11, 11, 3, name="one"), uniform(2, 11, 11, 3, name="truth")
    valid = uniform(2, 11, 11, name=f"valid {seed}") > 0.2 * (seed + 1)
    results = []
    for poison in (0.0, 7.0):
        render = torch.where(valid[..., None], one, torch.tensor(poison)).requires_grad_(True)
        other = torch.where(valid[..., None], truth, uniform(2, 11, 11, 3, name=f"poison {poison}"))
        value = dssim(render, other, valid)
        results.append((value.detach(), *torch.autograd.grad(value, render)))
        assert (results[-1][1][~valid] == 0).all()
    assert torch.equal(results[0][0], results[1][0])
    assert torch.equal(results[0][1], results[1][1])


@pytest.mark.parametrize("factor", [0.5, 1.0, 3.0])
def test_a_common_factor_of_depth_costs_half_of_its_squared_log(factor):
    truth = uniform(50, low=1, high=9)
    assert float(scale_invariant_log_loss(factor * truth, truth)) == pytest.approx(math.log(factor) ** 2 / 2, abs=1e-5)


def test_log_loss_is_the_variance_and_half_the_square_of_the_mean():
    depth, truth = uniform(50, name="depth", low=1, high=9), uniform(50, name="truth", low=1, high=9)
    difference = torch.log(depth) - torch.log(truth)
    expected = difference.var(correction=0) + difference.mean() ** 2 / 2
    assert float(scale_invariant_log_loss(depth, truth)) == pytest.approx(float(expected), rel=1e-5)
    swapped, scaled = scale_invariant_log_loss(truth, depth), scale_invariant_log_loss(7 * depth, 7 * truth)
    assert float(swapped) == pytest.approx(float(expected), rel=1e-5)
    assert float(scaled) == pytest.approx(float(expected), rel=1e-5)
    assert float(scale_invariant_log_loss(depth[:0], truth[:0])) == 0


def test_steps_of_depth_against_brute_force_and_only_where_both_are_known():
    depth, truth = uniform(2, 4, 5, name="depth"), uniform(2, 4, 5, name="truth")
    known = torch.rand(2, 4, 5, generator=generator(0, "known")) < 0.7
    sums = []
    for down, right in ((1, 0), (0, 1)):
        differences = []
        for patch in range(2):
            for row in range(4 - down):
                for column in range(5 - right):
                    near, far = (patch, row, column), (patch, row + down, column + right)
                    if known[near] and known[far]:
                        steps = [abs(float(values[far] - values[near])) for values in (depth, truth)]
                        differences.append(abs(steps[0] - steps[1]))
        sums.append(sum(differences) / len(differences))
    assert float(depth_gradient_loss(depth, truth, known)) == pytest.approx(sum(sums))
    spoiled = torch.where(known, depth, torch.full_like(depth, torch.inf))
    assert float(depth_gradient_loss(spoiled, truth, known)) == pytest.approx(sum(sums))


def test_steps_of_depth_do_not_mind_where_depth_begins():
    truth, known = uniform(2, 6, 6), everywhere(2, 6, 6)
    assert float(depth_gradient_loss(truth + 5, truth, known)) == pytest.approx(0, abs=1e-12)
    assert float(depth_gradient_loss(-truth, truth, known)) == 0  # the size of a step, not its sign
    assert float(depth_gradient_loss(2 * truth, truth, ~known)) == 0


def test_density_that_is_linear_is_smooth_and_a_bump_is_not():
    steps = torch.tensor([[0, 0, 0], [-1, 0, 0], [1, 0, 0], [0, -1, 0], [0, 1, 0], [0, 0, -1], [0, 0, 1]])
    points = uniform(20, 1, 3, name="points") + 0.1 * steps
    linear = points @ torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64) + 3
    assert float(laplacian_smoothness(linear)) == pytest.approx(0, abs=1e-20)
    assert float(laplacian_smoothness(points.square().sum(-1))) == pytest.approx(
        (6 * 0.1**2) ** 2
    )  # Laplacian 6, times step^2
    saddle = points[..., 0] ** 2 - points[..., 1] ** 2
    assert float(laplacian_smoothness(saddle)) == pytest.approx(0, abs=1e-20)


def test_squared_weights_are_those_of_matrices():
    assert float(squared_weights([torch.full((2, 3), 2.0), torch.full((7,), 5.0)])) == 24


def test_consistency_by_hand_and_weights_of_zero_leave_a_ray_out():
    rgb, neighbour = torch.zeros(2, 3), torch.full((2, 3), 0.5)
    distance, neighbours = torch.tensor([1.0, 1.0]), torch.tensor([3.0, 9.0])
    expected = (0.25 + 0.1 * 2) / 2
    loss = consistency_loss(rgb, distance, neighbour, neighbours, torch.tensor([1.0, 0.0]))
    assert float(loss) == pytest.approx(expected)
    assert float(consistency_loss(rgb, distance, rgb, distance, torch.ones(2))) == 0


def test_consistency_teaches_the_block_and_never_its_neighbour():
    rgb, neighbour = (uniform(4, 3, name=name).requires_grad_() for name in ("rgb", "neighbour"))
    distance, neighbours = (uniform(4, name=name).requires_grad_() for name in ("distance", "neighbours"))
    consistency_loss(rgb, distance, neighbour, neighbours, uniform(4, name="weights")).backward()
    assert rgb.grad is not None
    assert distance.grad is not None
    assert neighbour.grad is None
    assert neighbours.grad is None


PATCH = (2, 11, 11)
TRUTH, KNOWN = uniform(*PATCH, 3, name="truth"), torch.rand(*PATCH, generator=generator(1, "known")) < 0.8
LINES = TRUTH[0]
DIFFERENTIABLE = {
    "squared": (lambda rgb: squared_error(rgb, TRUTH[0, 0]), (11, 3)),
    "absolute": (lambda rgb: absolute_error(rgb, TRUTH[0, 0]), (11, 3)),
    "dssim": (lambda rgb: dssim(rgb, TRUTH, KNOWN), (*PATCH, 3)),
    "log": (lambda depth: scale_invariant_log_loss(depth, TRUTH[0, 0, :, 0] + 0.5), (11,)),
    "steps": (lambda depth: depth_gradient_loss(depth, TRUTH[..., 0], KNOWN), PATCH),
    "consistency of colour": (
        lambda rgb: consistency_loss(rgb, LINES[0, :, 0], LINES[1], LINES[2, :, 0], LINES[3, :, 0]),
        (11, 3),
    ),
    "consistency of distance": (
        lambda distance: consistency_loss(LINES[0], distance, LINES[1], LINES[2, :, 0], LINES[3, :, 0]),
        (11,),
    ),
    "laplacian_smoothness": (laplacian_smoothness, (5, 7)),
    "weights": (lambda matrix: squared_weights([matrix]), (4, 3)),
}


@pytest.mark.parametrize("name", DIFFERENTIABLE)
def test_gradients_are_those_of_finite_differences(name):
    loss, shape = DIFFERENTIABLE[name]
    at = uniform(*shape, name=name, low=0.2, high=1.2).requires_grad_()
    assert float(loss(at).detach()) > 0
    assert torch.autograd.gradcheck(loss, at, eps=1e-7, atol=1e-6, rtol=1e-4, fast_mode=True)


def histograms(rays: int = 5, bins: int = 9) -> tuple[torch.Tensor, torch.Tensor]:
    edges = uniform(rays, bins + 1, name="edges").sort(-1).values
    weights = uniform(rays, bins, name="weights")
    return edges, 0.9 * weights / weights.sum(-1, keepdim=True)


def windows(rays: int = 5) -> tuple[torch.Tensor, torch.Tensor]:
    low = uniform(rays, name="low", high=0.6)
    return low, low + uniform(rays, name="width", low=0.02, high=0.5)


def test_weight_in_a_window_against_brute_force():
    edges, weights = histograms()
    low, high = windows()
    expected, even = 0.0, [(place + 0.5) / 1000 for place in range(1000)]
    for begins, heavy, first, last in zip(edges.tolist(), weights.tolist(), low.tolist(), high.tolist(), strict=True):
        bins = zip(begins[:-1], begins[1:], heavy, strict=True)
        shares = [(w, sum(first <= b + (e - b) * place <= last for place in even) / 1000) for b, e, w in bins]
        inside = sum(weight * share for weight, share in shares)
        expected -= math.log((1 - OUTLIER_SHARE) * inside + OUTLIER_SHARE) / 5
    assert float(window_loss(edges, weights, low, high)) == pytest.approx(expected, abs=1e-2)


def test_a_window_with_all_weight_costs_nothing_and_one_without_any_the_share_of_outliers():
    edges, weights = histograms()
    weights = weights / weights.sum(-1, keepdim=True)
    zero, one = torch.zeros(5, dtype=torch.float64), torch.ones(5, dtype=torch.float64)
    assert float(window_loss(edges, weights, zero, one)) == pytest.approx(0, abs=1e-9)
    assert float(window_loss(edges, weights, 2 * one, 3 * one)) == pytest.approx(-math.log(OUTLIER_SHARE))
    low, high = windows()
    wider = [float(window_loss(edges, weights, low - more, high + more)) for more in (0.0, 0.05, 0.2)]
    assert wider == sorted(wider, reverse=True)


def test_splitting_a_bin_in_two_changes_no_window():
    edges, weights = histograms()
    low, high = windows()
    middle = 0.3 * edges[:, 3:4] + 0.7 * edges[:, 4:5]
    finer = torch.cat([edges[:, :4], middle, edges[:, 4:]], 1)
    split = torch.cat([weights[:, :3], 0.7 * weights[:, 3:4], 0.3 * weights[:, 3:4], weights[:, 4:]], 1)
    torch.testing.assert_close(window_loss(finer, split, low, high), window_loss(edges, weights, low, high))


def test_the_gradient_of_windows_is_that_of_finite_differences():
    edges, weights = histograms()
    low, high = windows()
    assert torch.autograd.gradcheck(lambda w: window_loss(edges, w, low, high), weights.requires_grad_())


def test_a_ray_that_clearly_ends_elsewhere_is_hardly_moved():
    """By logits of its weights, as the field moves them; and never by more than the share of outliers allows."""
    edges = torch.linspace(0, 1, 10, dtype=torch.float64).expand(1, -1)
    low, high = torch.tensor([0.8], dtype=torch.float64), torch.tensor([0.9], dtype=torch.float64)

    def pull(height: float) -> float:
        logits = torch.zeros(1, 9, dtype=torch.float64)
        logits[0, 1] = height
        logits.requires_grad_()
        window_loss(edges, logits.softmax(-1), low, high).backward()
        assert logits.grad is not None
        return float(logits.grad.abs().max())

    assert pull(12.0) < 0.01 * pull(2.0)
    weights = torch.zeros(1, 9, dtype=torch.float64, requires_grad=True)
    window_loss(edges, weights, low, high).backward()
    assert weights.grad is not None
    assert float(weights.grad.abs().max()) <= (1 - OUTLIER_SHARE) / OUTLIER_SHARE
    assert bool((weights.grad[0, :7] == 0).all())


def test_bins_without_width_have_a_finite_gradient():
    edges = torch.tensor([[0.0, 0.5, 0.5, 1.0]], dtype=torch.float64)
    weights = torch.full((1, 3), 0.3, dtype=torch.float64, requires_grad=True)
    low, high = (torch.tensor([end], dtype=torch.float64) for end in (0.4, 0.7))
    window_loss(edges, weights, low, high).backward()
    assert weights.grad is not None
    assert bool(weights.grad.isfinite().all())


def test_light_that_passes_is_one_more_interval_of_the_interlevel_term():
    edges, weights = histograms()
    fine_edges, fine_weights = histograms(bins=6)
    field = 0.4 * fine_weights

    def to_the_end(values):
        return torch.cat([values[:, :-1], torch.ones_like(values[:, :1])], -1)

    def with_rest(edges, weights):
        behind = torch.full_like(edges[:, :1], 2.0)
        return torch.cat([edges, behind], -1), torch.cat([weights, 1 - weights.sum(-1, keepdim=True)], -1)

    first, second = (to_the_end(edges), weights), (to_the_end(fine_edges), field)
    more = reference.interlevel_loss(*with_rest(*first), *with_rest(*second))
    more = more - reference.interlevel_loss(*first, *second)
    assert float(passing_loss(weights, field)) == pytest.approx(float(more), rel=1e-4)
    assert float(more) > 0.01
    assert float(passing_loss(field, weights)) == 0.0
