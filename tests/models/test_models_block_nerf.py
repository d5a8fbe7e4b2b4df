"""A block: world units, appearance, state, frames."""

import pytest
import torch

from blocknerf.core.config.config import Config
from blocknerf.core.config.load import load_config
from blocknerf.core.seeds import generator
from blocknerf.core.types import Appearance, RayBatch
from blocknerf.models.block_meta import ModelMeta
from blocknerf.models.block_nerf import BlockNeRF
from tests.support.small_field import SMALL, SMALL_HASH


def _config(*overrides: str) -> Config:
    return load_config(None, [*SMALL_HASH, *overrides])


def _model(config: Config, center=(0.0, 0.0, 0.0), radius_m=2.0, seed=1) -> BlockNeRF:
    model = BlockNeRF(config, center, radius_m, ("a", "b", "c"), ("0", "0", "1"), generator(seed, "model"))
    with torch.no_grad():
        model.field.grid.table.mul_(5000)  # structure instead of thin fog
        if model.appearance is not None:
            model.appearance.residuals.normal_(generator=generator(seed, "codes"))
    return model


def _rays(count=64, offset=(0.0, 0.0, 0.0), scale=1.0) -> RayBatch:
    rng = generator(0, "rays")
    directions = torch.nn.functional.normalize(torch.randn(count, 3, generator=rng), dim=-1)
    origins = scale * torch.randn(count, 3, generator=rng) + torch.tensor(offset)
    return RayBatch(origins, directions, torch.zeros(count, dtype=torch.int64), torch.full((count,), 1e-3))


def test_moving_block_and_rays_together_changes_nothing():
    """Translation exactly up to rounding; scale too, with densities per metre going down as lengths go up."""
    config = _config()
    original = _model(config).render(_rays())
    shifted = _model(config, center=(64.0, -32.0, 8.0)).render(_rays(offset=(64.0, -32.0, 8.0)))
    larger = _model(config, radius_m=20.0).render(_rays(scale=10.0))
    assert torch.allclose(original.rgb, shifted.rgb, atol=1e-3)
    assert torch.allclose(original.rgb, larger.rgb, atol=1e-4)
    assert torch.allclose(10 * original.distance_m, larger.distance_m, rtol=1e-3)


def test_rendering_in_chunks_is_rendering_at_once():
    model = _model(_config())
    rays = _rays(5000)
    whole = model.render(rays)
    first = model.render(rays[:700])
    assert torch.allclose(whole.rgb[:700], first.rgb, atol=1e-6)
    assert whole.rgb.shape == (5000, 3)
    assert float(whole.rgb.min()) >= 0
    assert float(whole.rgb.max()) <= 1


def test_chunks_on_several_cores_have_the_bytes_of_one_alone(threads):
    model, rays = _model(_config()), _rays(9000)
    rendered, alone = model.render(rays), model.render(rays[4096:8192])
    assert torch.equal(rendered.rgb[4096:8192], alone.rgb)
    assert torch.equal(rendered.distance_m[4096:8192], alone.distance_m)
    assert not rendered.rgb.requires_grad


def test_a_ray_alone_looks_the_same_as_among_others():
    model = _model(_config())
    rays = _rays()
    assert torch.allclose(model.render(rays[5:6]).rgb, model.render(rays).rgb[5:6], atol=1e-6)


def test_appearance_moves_colour_and_nothing_else():
    model = _model(_config())
    rays = _rays()
    one, other = (
        model.render(rays, model.code_for(Appearance("a"))),
        model.render(rays, model.code_for(Appearance("b"))),
    )
    assert not torch.allclose(one.rgb, other.rgb, atol=1e-3)
    assert torch.equal(one.opacity, other.opacity)
    assert torch.equal(one.distance_m, other.distance_m)


@pytest.mark.parametrize("backbone", ["hash", "mlp"])
@pytest.mark.parametrize("background", ["false", "true"])
def test_pictures_under_several_codes_are_those_of_each_alone(backbone, background):
    settings = load_config(None, [*SMALL[backbone], f"dataset.white_background={background}"])
    model = BlockNeRF(settings, (0.0, 0.0, 0.0), 2.0, ("a", "b"), ("0", "1"), generator(1, "model"))
    rays = _rays()
    codes = [model.code_for(Appearance("a")), None, model.code_for(Appearance("b"))]
    for code, picture in zip(codes, model.render_each(rays, codes), strict=True):
        alone = model.render(rays, code)
        assert torch.equal(picture.rgb, alone.rgb)
        assert torch.equal(picture.distance_m, alone.distance_m)
        assert torch.equal(picture.opacity, alone.opacity)


def test_codes_of_images_drives_and_strangers():
    model = _model(_config())
    assert model.appearance is not None
    codes = model.appearance.codes.detach()
    assert torch.equal(model.code_for(Appearance("b", "1")), codes[1])
    assert torch.allclose(model.code_for(Appearance("new", "0")), codes[:2].mean(0))
    assert torch.allclose(model.code_for(Appearance(drive="never driven")), codes.mean(0))
    slots = torch.tensor([2, -1])
    assert torch.allclose(model.appearance(slots), torch.stack([codes[2], codes.mean(0)]))


def test_without_codes():
    model = _model(_config("training.use_appearance_embedding=false"))
    assert model.code_for(Appearance("a", "0")) is None
    assert model.render(_rays()).rgb.isfinite().all()


def test_state_round_trip_renders_the_same_bytes():
    model = _model(_config())
    again = BlockNeRF.from_state(model.description(), model.state_dict())
    assert torch.equal(model.render(_rays()).rgb, again.render(_rays()).rgb)


@pytest.mark.parametrize("backbone", ["hash", "mlp"])
def test_a_bounded_block_shows_nothing_outside_of_its_ball_and_comes_back_so(backbone):
    config = load_config(None, [*SMALL[backbone], "training.use_visibility_network=false"])
    place = ((1.0, 2.0, 3.0), 2.0, ("a",), ("0",))
    model = BlockNeRF(config, *place, generator(1, "model"), bounded=True).eval()
    again = BlockNeRF.from_state(model.description(), model.state_dict())
    old = {name: value for name, value in model.description().to_json().items() if name != "bounded"}
    assert not BlockNeRF.from_state(ModelMeta(**old), model.state_dict()).bounded
    rays = _rays(offset=(1.0, 2.0, 3.0), scale=2.0)
    offsets = rays.origins - model.center_world
    along = -(offsets * rays.directions).sum(-1, keepdim=True)
    misses = ((offsets + along * rays.directions).norm(dim=-1) > 2.0) & (offsets.norm(dim=-1) > 2.1)
    assert 10 < int(misses.sum()) < 60
    rendered, copied = model.render(rays), again.render(rays)
    assert torch.equal(rendered.rgb, copied.rgb)
    assert float(rendered.opacity[misses].max()) < 0.01
    assert torch.allclose(model.render(rays[misses]).rgb, rendered.rgb[misses], atol=1e-5)


def test_a_missing_tensor_is_refused():
    model = _model(_config())
    state = dict(model.state_dict())
    state.pop("field.head.0.weight")
    with pytest.raises(RuntimeError, match=r"field\.head\.0\.weight"):
        BlockNeRF.from_state(model.description(), state)


def test_white_background_shows_where_nothing_is():
    model = _model(_config("dataset.white_background=true"))
    with torch.no_grad():
        model.field.base[-1].bias[0] = -30.0  # no density anywhere
        model.field.base[-1].weight[0] = 0.0
    assert torch.allclose(model.render(_rays()).rgb, torch.ones(64, 3), atol=1e-3)


def test_query_points_is_per_metre():
    small, large = _model(_config(), radius_m=2.0), _model(_config(), radius_m=20.0)
    points = torch.randn(30, 3, generator=generator(0, "points"))
    directions = torch.nn.functional.normalize(points, dim=-1)
    near, far = small.query_points(points, directions), large.query_points(10 * points, directions)
    assert torch.allclose(near.density, 10 * far.density, rtol=1e-3)
    assert bool((near.density >= 0).all())


def test_gradients_reach_every_parameter():
    model = _model(_config())
    rgb, composited = model(_rays(), generator(0, "jitter"))
    (rgb.square().mean() + composited.proposal_weights.square().sum()).backward()
    for name, parameter in model.named_parameters():
        if name.startswith("visibility"):
            continue  # has a loss of its own
        assert parameter.grad is not None, name
        assert bool((parameter.grad != 0).any()), name


def test_random_samples_come_from_the_generator():
    model = _model(_config())
    one, same, other = (model(_rays(), generator(seed, "jitter"))[0] for seed in (3, 3, 4))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
