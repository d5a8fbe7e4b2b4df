"""Fitting a code to colours: what was planted comes back, nothing else moves, the same numbers every time."""

import pytest
import torch

from blocknerf.core.config.load import load_config
from blocknerf.core.seeds import generator
from blocknerf.core.types import MEAN_EXPOSURE_VALUE, Exposures, RayBatch
from blocknerf.geometry import so3
from blocknerf.models.block_nerf import BlockNeRF
from blocknerf.models.fit import RAYS_PER_STEP, draw, fit_code, fit_code_to_areas, fit_pose, frozen
from blocknerf.models.poses import moved_rays
from blocknerf.rendering.quality import psnr
from tests.support.small_field import SMALL_HASH, SMALL_MLP

SMALL = (
    *SMALL_HASH,
    "appearance_embedding.embedding_dim=4",
)


def _model(*overrides: str, exposures: Exposures | None = None) -> BlockNeRF:
    model = _block([*SMALL, *overrides], exposures)
    with torch.no_grad():
        model.field.grid.table.mul_(5000)  # structure instead of thin fog
    return model


def _block(overrides: list[str], exposures: Exposures | None = None) -> BlockNeRF:
    config = load_config(None, overrides)
    return BlockNeRF(config, (0.0, 0.0, 0.0), 2.0, ("a", "b"), ("0", "1"), generator(1, "model"), exposures)


def _rays(count: int, name: str) -> RayBatch:
    rng = generator(0, name)
    directions = torch.nn.functional.normalize(torch.randn(count, 3, generator=rng), dim=-1)
    origins = torch.randn(count, 3, generator=rng)
    return RayBatch(origins, directions, torch.full((count,), -1), torch.full((count,), 1e-3))


PLANTED = torch.tensor([0.6, -0.4, 0.3, 0.5])


def test_a_planted_code_comes_back_from_colours():
    model = _model()
    seen, unseen = _rays(400, "seen"), _rays(400, "unseen")
    truth, unseen_truth = model.render(seen, PLANTED).rgb, model.render(unseen, PLANTED).rgb
    code = fit_code(model, seen, truth, torch.zeros(4), generator(0, "fit"), 100)
    before = psnr(model.render(unseen, torch.zeros(4)).rgb, unseen_truth)
    assert psnr(model.render(unseen, code).rgb, unseen_truth) > before + 20
    assert torch.allclose(code, PLANTED, atol=0.05)


def _camera(center: torch.Tensor, directions: torch.Tensor) -> RayBatch:
    count = len(directions)
    return RayBatch(
        center.expand(count, 3).contiguous(), directions, torch.full((count,), -1), torch.full((count,), 1e-3)
    )


@pytest.mark.parametrize("start", [PLANTED, torch.zeros(4)], ids=["code known", "code fitted along"])
def test_a_small_planted_motion_comes_back_from_colours(start):
    """A degree and 5 cm in a block of 2 m; with a fit of the code beside it a little less of it."""
    model = _model("block_nerf.hash_grid.base_resolution=4", "block_nerf.hash_grid.finest_resolution=16")
    directions, center = _rays(200, "camera").directions, torch.tensor([0.1, -0.2, 0.05])
    truth = model.render(_camera(center, directions), PLANTED).rgb
    turn, shift = so3.exp(torch.tensor([0.010, -0.012, 0.008]).double()), torch.tensor([0.03, -0.02, 0.035])
    given = _camera(center + shift, directions @ turn.float().mT)
    motion = fit_pose(model, given, truth, start, generator(0, "fit"), 100)
    found = moved_rays(given, motion)
    left = 0.05 if start is PLANTED else 0.2
    assert float((found.origins[0] - center).norm()) < left * float(shift.norm())
    assert float(so3.log(motion[:, :3] @ turn).norm()) < left * 0.0175
    assert all(parameter.grad is None and parameter.requires_grad for parameter in model.parameters())


def test_without_rays_a_pose_stays():
    rays = _rays(10, "seen")[:0]
    motion = fit_pose(_model(), rays, torch.zeros(0, 3), PLANTED, generator(0, "fit"), 100)
    assert torch.equal(motion, torch.eye(4).double()[:3])


def test_a_code_that_fits_already_stays():
    model, rays = _model(), _rays(300, "seen")
    code = fit_code(model, rays, model.render(rays, PLANTED).rgb, PLANTED, generator(0, "fit"), 100)
    assert torch.allclose(code, PLANTED, atol=1e-3)


def _areas(model: BlockNeRF, name: str, code: torch.Tensor) -> tuple[list[RayBatch], torch.Tensor]:
    rays = _rays(400, name)
    areas = [rays[start : start + 20] for start in range(0, 400, 20)]
    return areas, torch.stack([model.render(area, code).rgb.mean(0) for area in areas])


def test_a_planted_code_comes_back_from_mean_colours_of_areas():
    model, start = _model(), torch.zeros(4)
    areas, truth = _areas(model, "seen", PLANTED)
    code = fit_code_to_areas(model, areas, truth, start, generator(0, "fit"), 100)
    others, unseen_truth = _areas(model, "unseen", PLANTED)
    left, before = (
        torch.stack([model.render(area, at).rgb.mean(0) for area in others]) - unseen_truth for at in (code, start)
    )
    assert float(left.square().mean()) < 0.05 * float(before.square().mean())


def test_areas_that_agree_in_the_mean_move_no_code():
    """Whatever their single pixels show: a scene that stands a little beside costs no contrast."""
    model = _model()
    areas, truth = _areas(model, "seen", PLANTED)
    code = fit_code_to_areas(model, areas, truth, PLANTED, generator(0, "fit"), 100)
    assert torch.allclose(code, PLANTED, atol=1e-3)
    assert torch.equal(fit_code_to_areas(model, [], torch.zeros(0, 3), PLANTED, generator(0, "fit"), 5), PLANTED)


def test_only_the_code_moves_and_no_gradient_is_left_behind():
    model, rays = _model(), _rays(300, "seen")
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    fit_code(
        model, rays, torch.rand((300, 3), generator=generator(0, "truth")), torch.zeros(4), generator(0, "fit"), 100
    )
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert all(parameter.grad is None and parameter.requires_grad for parameter in model.parameters())


def test_entries_behind_the_appearance_stay_as_they_are():
    exposures = Exposures(MEAN_EXPOSURE_VALUE, (-1.0, 1.0), {}, {})
    model, rays = _model("exposure_encoding.num_levels=1", exposures=exposures), _rays(300, "seen")
    start = torch.tensor([0.0, 0, 0, 0, 0.25, -0.5])
    truth = torch.rand((300, 3), generator=generator(0, "truth"))
    code = fit_code(model, rays, truth, start, generator(0, "fit"), 5)
    assert torch.equal(code[4:], start[4:])
    assert not torch.equal(code[:4], start[:4])


@pytest.mark.parametrize("small", [SMALL_HASH, SMALL_MLP], ids=["deferred shading", "codes at every sample"])
def test_colours_by_code_are_the_colours_of_these_rays(small):
    model, rays, chosen = _block([*small, SMALL[-1]]), _rays(50, "seen"), torch.tensor([7, 7, 49, 0])
    model.field.rays_at_once = 20
    code, same = (PLANTED.clone().requires_grad_() for _ in range(2))
    colours, expected = model.colours_by_code(rays)(code, chosen), model.colours(rays[chosen], same)
    assert torch.allclose(colours, expected, atol=1e-6)
    for rgb in (colours, expected):
        rgb.square().sum().backward()
    assert torch.allclose(code.grad, same.grad, rtol=1e-4, atol=1e-6)
    assert float(code.grad.abs().max()) > 1e-4


def test_without_codes_or_rays_there_is_nothing_to_fit():
    rays, truth = _rays(10, "seen"), torch.zeros(10, 3)
    without = _model("training.use_appearance_embedding=false")
    start = torch.tensor([0.5])
    assert fit_code(without, rays, truth, start, generator(0, "fit"), 100) is start
    assert fit_code(_model(), rays[:0], truth[:0], PLANTED, generator(0, "fit"), 100) is PLANTED


def test_the_same_generator_gives_the_same_code():
    model, rays = _model(), _rays(RAYS_PER_STEP + 200, "seen")
    truth = model.render(rays, PLANTED).rgb
    one, same, other = (fit_code(model, rays, truth, torch.zeros(4), generator(seed, "fit"), 8) for seed in (1, 1, 2))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


def test_a_batch_keeps_rays_and_colours_together():
    rays = _rays(3 * RAYS_PER_STEP, "seen")
    batch, colours = draw(rays, rays.directions, generator(0, "draw"))
    assert len(batch) == RAYS_PER_STEP
    assert torch.equal(batch.directions, colours)
    few = rays[:5]
    assert draw(few, few.origins, generator(0, "draw"))[1] is few.origins


def test_what_was_frozen_before_stays_frozen():
    model = _model()
    model.field.head[0].weight.requires_grad_(False)
    with frozen(model):
        assert not any(parameter.requires_grad for parameter in model.parameters())
    assert [name for name, parameter in model.named_parameters() if not parameter.requires_grad] == [
        "field.head.0.weight"
    ]
