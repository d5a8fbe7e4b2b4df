"""What a block promises whichever backbone it has."""

import math

import pytest
import torch

from blocknerf.core.config.config import Config
from blocknerf.core.config.load import load_config
from blocknerf.core.seeds import generator
from blocknerf.core.types import Appearance, RayBatch
from blocknerf.geometry.contraction import uncontract
from blocknerf.models.backbones.interface import Backbone
from blocknerf.models.backbones.mip_nerf.field import MLPField
from blocknerf.models.block_nerf import BlockNeRF
from tests.support.small_field import SMALL

both = pytest.mark.parametrize("backbone", SMALL)


def _config(backbone: str, *overrides: str) -> Config:
    return load_config(None, [*SMALL[backbone], *overrides])


def _model(config: Config, center=(0.0, 0.0, 0.0), radius_m=2.0, seed=1) -> BlockNeRF:
    model = BlockNeRF(config, center, radius_m, ("a", "b"), ("0", "1"), generator(seed, "model"))
    with torch.no_grad():
        if "table" in model.field.sparse_tables():
            model.field.sparse_tables()["table"].rows.mul_(5000)  # structure instead of thin fog
        model.appearance.residuals.normal_(generator=generator(seed, "codes"))
    return model


def _rays(count=48, offset=(0.0, 0.0, 0.0), scale=1.0, radius=1e-3) -> RayBatch:
    rng = generator(0, "rays")
    directions = torch.nn.functional.normalize(torch.randn(count, 3, generator=rng), dim=-1)
    return RayBatch(
        origins=scale * torch.randn(count, 3, generator=rng) + torch.tensor(offset),
        directions=directions,
        image_slots=torch.zeros(count, dtype=torch.int64),
        radii=torch.full((count,), radius),
    )


@both
def test_it_is_a_backbone(backbone):
    assert isinstance(_model(_config(backbone)).field, Backbone)


@both
def test_moving_block_and_rays_together_changes_nothing(backbone):
    config = _config(backbone)
    original = _model(config).render(_rays())
    shifted = _model(config, center=(64.0, -32.0, 8.0)).render(_rays(offset=(64.0, -32.0, 8.0)))
    larger = _model(config, radius_m=20.0).render(_rays(scale=10.0))
    assert torch.allclose(original.rgb, shifted.rgb, atol=1e-3)
    assert torch.allclose(original.rgb, larger.rgb, atol=1e-4)
    assert torch.allclose(10 * original.distance_m, larger.distance_m, rtol=1e-3)


@both
def test_rendering_in_chunks_is_rendering_at_once(backbone):
    model = _model(_config(backbone))
    rays = _rays(model.field.rays_at_once + 100)
    whole = model.render(rays)
    assert torch.allclose(whole.rgb[:70], model.render(rays[:70]).rgb, atol=1e-5)
    assert float(whole.rgb.min()) >= 0
    assert float(whole.rgb.max()) <= 1


@both
def test_appearance_moves_colour_and_nothing_else(backbone):
    model = _model(_config(backbone))
    one, other = (model.render(_rays(), model.code_for(Appearance(image))) for image in ("a", "b"))
    assert not torch.allclose(one.rgb, other.rgb, atol=1e-3)
    assert torch.equal(one.opacity, other.opacity)
    assert torch.equal(one.distance_m, other.distance_m)


@both
def test_points_have_density_per_metre_and_colour(backbone):
    small, large = _model(_config(backbone), radius_m=2.0), _model(_config(backbone), radius_m=20.0)
    points = torch.randn(30, 3, generator=generator(0, "points"))
    directions = torch.nn.functional.normalize(points, dim=-1)
    near, far = small.query_points(points, directions), large.query_points(10 * points, directions)
    assert torch.allclose(near.density, 10 * far.density, rtol=1e-3)
    assert bool((near.density >= 0).all())
    assert near.rgb.shape == (30, 1, 3)
    assert not torch.allclose(near.rgb, small.query_points(points, directions, small.code_for(Appearance("b"))).rgb)


@both
def test_state_round_trip_renders_the_same_bytes(backbone):
    model = _model(_config(backbone))
    again = BlockNeRF.from_state(model.description(), model.state_dict())
    assert type(again.field) is type(model.field)
    assert torch.equal(model.render(_rays()).rgb, again.render(_rays()).rgb)


@both
def test_weights_come_from_the_generator(backbone):
    config = _config(backbone)
    one, same, other = (_model(config, seed=seed).render(_rays()).rgb for seed in (1, 1, 2))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
    assert all(bool((p == 0).all()) for p in BlockNeRF(config, (0.0, 0.0, 0.0), 1.0, ("a",), ("0",)).parameters())


@both
def test_gradients_reach_every_parameter_in_either_list(backbone):
    model = _model(_config(backbone))
    rgb, composited = model(_rays(), generator(0, "jitter"))
    (rgb.square().mean() + composited.proposal_weights.square().sum()).backward()
    for name, parameter in model.field.named_parameters():
        assert parameter.grad is not None, name
        assert bool((parameter.grad != 0).any()), name
    tables = sum(table.rows.numel() for table in model.field.sparse_tables().values())
    networks = sum(parameter.numel() for parameter in model.field.networks())
    assert tables + networks == sum(parameter.numel() for parameter in model.field.parameters())


@both
@pytest.mark.parametrize("activation", ["exp", "softplus", "relu"])
def test_every_activation_gives_fog_that_learns(backbone, activation):
    config = _config(
        backbone, f"block_nerf.density_activation={activation}", "block_nerf.rgb_activation=padded_sigmoid"
    )
    _, composited = BlockNeRF(config, (0.0, 0.0, 0.0), 1.0, ("a",), ("0",), generator(0, "model"))(_rays())
    density = composited.weights.detach()
    assert bool((density >= 0).all())
    assert bool((composited.opacity > 0.1).all())


@both
def test_on_white_empty_space_is_white(backbone):
    model = _model(_config(backbone, "dataset.white_background=true", "block_nerf.density_activation=relu"))
    with torch.no_grad():
        layer = model.field.density if isinstance(model.field, MLPField) else model.field.base[-1]
        layer.weight.zero_()
        layer.bias.fill_(-1.0)
    assert torch.allclose(model.render(_rays()).rgb, torch.ones(48, 3))


FOG = 3.0  # per block radius, within a ball of half a block radius


def _fog_at(points: torch.Tensor) -> torch.Tensor:
    return torch.where(points.norm(dim=-1) < 0.5, FOG, 0.0)


def _fill_with_fog(field) -> None:
    """The networks give way to the ball; sampling, compositing and units stay."""
    if isinstance(field, MLPField):

        def query_intervals(origins, directions, radii, codes, edges):
            middles = 0.5 * (edges[:, 1:] + edges[:, :-1])
            density = _fog_at(origins[:, None] + middles[..., None] * directions[:, None])
            return density, torch.ones(*density.shape, 3)

        field.query_intervals = query_intervals
    else:

        def density_and_features(points):
            density = _fog_at(uncontract((points - 0.5) * 4))
            return density, torch.ones(*density.shape, 15)

        field.density_and_features = density_and_features


@both
def test_a_ball_of_fog_stops_the_light_of_its_chord(backbone):
    """The closed form: opacity 1 - exp(-density chord), and the mean distance of what is seen."""
    config = _config(backbone, "block_nerf.num_samples_coarse=256", "block_nerf.num_samples_fine=512")
    model = _model(config, radius_m=4.0)
    _fill_with_fog(model.field)
    impacts_m = torch.linspace(0, 3, 13)
    origins = torch.stack([impacts_m, torch.zeros(13), torch.full((13,), -3.0)], -1)
    rays = RayBatch(origins, torch.tensor([[0.0, 0, 1]]).expand(13, 3), torch.full((13,), -1), torch.full((13,), 1e-3))
    render = model.render(rays)
    half_chord = (0.25 - (impacts_m / 4).square()).clamp(min=0).sqrt()
    opacity = 1 - torch.exp(-2 * FOG * half_chord)
    assert torch.allclose(render.opacity, opacity, atol=0.02)
    deep = 2 * half_chord
    mean = 0.75 - half_chord + 1 / FOG - deep * torch.exp(-FOG * deep) / opacity
    hit = opacity > 0.1
    assert torch.allclose(render.distance_m[hit], 4 * mean[hit], atol=0.03)
    assert math.isclose(float(render.opacity[-1]), 0.0, abs_tol=1e-6)
