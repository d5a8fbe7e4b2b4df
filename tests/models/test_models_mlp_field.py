"""The paper's network: what cones do to it, how its layers join, its gradients."""

import torch

from blocknerf.core.config.load import load_config
from blocknerf.core.seeds import generator
from blocknerf.models.backbones.mip_nerf.config import MipNerfConfig
from blocknerf.models.backbones.mip_nerf.field import MLPField
from blocknerf.rendering.volume import RaySamplingConfig

SMALL = ("hidden_dim=8", "num_layers=3", "skip_connections=[0]", "pos_encoding_levels=4", "dir_encoding_levels=2")


def _config(*overrides: str) -> MipNerfConfig:
    settings = ["block_nerf.backbone=mlp", *(f"block_nerf.{o}" for o in (*SMALL, *overrides))]
    config = load_config(None, settings).block_nerf
    assert isinstance(config, MipNerfConfig)
    return config


def _field(*overrides: str, code_dim=3) -> MLPField:
    return MLPField(
        _config(*overrides), code_dim, RaySamplingConfig(0.05, 10.0, 8, 8), rng=generator(1, "field")
    ).double()


def _rays(count=5, radius=0.05) -> tuple[torch.Tensor, ...]:
    rng = generator(0, "rays")
    origins, directions = torch.randn(2, count, 3, generator=rng, dtype=torch.float64)
    codes = torch.randn(count, 3, generator=rng, dtype=torch.float64)
    directions = torch.nn.functional.normalize(directions, dim=-1)
    return origins, directions, torch.full((count,), radius, dtype=torch.float64), codes


EDGES = torch.tensor([0.1, 0.4, 0.5, 1.5, 6.0]).double().expand(5, -1)


def test_thin_short_frusta_are_points():
    field = _field()
    origins, directions, _, codes = _rays()
    edges = torch.tensor([0.7, 0.7 + 1e-7]).double().expand(5, -1)
    density, rgb = field.query_intervals(origins, directions, torch.zeros(5).double(), codes, edges)
    at_points, rgb_at_points = field.query(origins + 0.7 * directions, directions, codes)
    assert torch.allclose(density[:, 0], at_points, atol=1e-5)
    assert torch.allclose(rgb[:, 0], rgb_at_points, atol=1e-5)


def test_the_width_of_a_pixel_matters_to_the_integrated_encoding_only():
    for integrated in (True, False):
        field = _field(f"use_integrated_pos_enc={integrated}".lower())
        thin, wide = (field.query_intervals(*_rays(radius=radius), EDGES)[0] for radius in (1e-3, 0.3))
        assert torch.equal(thin, wide) == (not integrated)


def test_a_very_wide_cone_sees_a_blur():
    """Where every octave has faded, all places look alike."""
    field = _field()
    origins, directions, radii, codes = _rays(radius=400.0)
    density, _ = field.query_intervals(0.3 * origins, directions, radii, codes, EDGES[:, :2])
    nothing = field.density(_hidden(field, torch.zeros(1, 24).double()))
    assert torch.allclose(density, torch.nn.functional.softplus(nothing - 1).expand(5, 1), atol=1e-6)


def _hidden(field: MLPField, encoded: torch.Tensor) -> torch.Tensor:
    """The trunk written out for SMALL."""
    first, second, third = field.trunk
    hidden = torch.cat([first(encoded).relu(), encoded], -1)
    return third(second(hidden).relu()).relu()


def test_the_paper_is_eight_layers_of_512_and_a_head_of_three_of_128():
    model = MLPField(MipNerfConfig(), 32, RaySamplingConfig(0.05, 10.0, 8, 8))
    assert [tuple(layer.weight.shape) for layer in model.trunk] == [
        (256, 60),
        *[(256, 256)] * 4,
        (256, 316),
        *[(256, 256)] * 2,
    ]
    head = [tuple(layer.weight.shape) for layer in model.head if isinstance(layer, torch.nn.Linear)]
    assert head == [(128, 256 + 27 + 32), (128, 128), (128, 128), (3, 128)]


def test_octaves_are_let_in_one_after_the_other():
    """With three octaves shown, nothing finer counts; with all, the field is what it was."""
    field = _field("pos_encoding_levels=6")
    rays = _rays()
    whole, _ = field.query_intervals(*rays, EDGES)
    encoded = {}
    for share in (0.0, 0.5, 1.0):
        field.set_encoding_progress(share)
        encoded[share] = field._encode(rays[0], torch.zeros_like(rays[0])).reshape(5, 2, 6, 3)
    assert torch.equal(encoded[0.0][:, :, 3:], torch.zeros(5, 2, 3, 3).double())
    assert torch.equal(encoded[0.0][:, :, :3], encoded[1.0][:, :, :3])
    assert torch.allclose(encoded[0.5][:, :, 4], 0.5 * encoded[1.0][:, :, 4])
    assert torch.equal(field.query_intervals(*rays, EDGES)[0], whole)


def test_gradients_to_rays_and_codes_in_float64():
    """Of density and colour on fixed intervals: where the second pass looks is not learned through the ray."""
    field = _field("num_samples_coarse=8")
    inputs = [tensor.requires_grad_() for tensor in _rays(3)]
    assert torch.autograd.gradcheck(lambda o, d, r, c: field.query_intervals(o, d, r, c, EDGES[:3]), inputs)


def test_gradients_of_pixels_to_the_networks_in_float64():
    """Along random directions: the head alone has too many weights to move one by one."""
    field = _field("use_hierarchical_sampling=false")
    inputs, rng = _rays(2), generator(0, "directions")
    with torch.no_grad():
        for parameter in field.parameters():  # biases of zero leave units exactly on the edge of a rectifier
            parameter += 0.1 * torch.randn(parameter.shape, generator=rng, dtype=torch.float64)
    weights = [parameter.detach().clone() for parameter in field.parameters()]
    field.composite(*inputs, None)[0].square().sum().backward()
    gradients = [parameter.grad for parameter in field.parameters()]
    step = 1e-8  # so small that no unit crosses the edge of its rectifier

    def loss_at(along: list[torch.Tensor], distance: float) -> torch.Tensor:
        with torch.no_grad():
            for parameter, weight, direction in zip(field.parameters(), weights, along, strict=True):
                parameter.copy_(weight + distance * direction)
            return field.composite(*inputs, None)[0].square().sum()

    for _ in range(5):
        along = [torch.randn(weight.shape, generator=rng, dtype=torch.float64) for weight in weights]
        slope = (loss_at(along, step) - loss_at(along, -step)) / (2 * step)
        expected = sum((gradient * direction).sum() for gradient, direction in zip(gradients, along, strict=True))
        assert torch.allclose(slope, expected, rtol=1e-5)
