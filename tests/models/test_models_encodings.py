"""Spherical harmonics are orthonormal; the hash grid starts small; sinusoids of Gaussians are mean sinusoids."""

import torch

from blocknerf.core.seeds import generator
from blocknerf.models.backbones.hash_grid.config import HashGridConfig
from blocknerf.models.backbones.hash_grid.grid import HashGrid
from blocknerf.models.encodings import (
    integrated_positional_encoding,
    positional_encoding,
    spherical_harmonics,
)


def test_orthonormal_over_the_sphere():
    rng = generator(0, "sphere")
    directions = torch.nn.functional.normalize(torch.randn(400_000, 3, generator=rng), dim=-1)
    harmonics = spherical_harmonics(directions, 4)
    products = 4 * torch.pi * harmonics.T @ harmonics / len(directions)
    assert torch.allclose(products, torch.eye(16), atol=0.03)


def test_levels_are_nested():
    directions = torch.nn.functional.normalize(torch.randn(9, 3, generator=generator(0, "a")), dim=-1)
    for levels in (1, 2, 3):
        assert torch.equal(spherical_harmonics(directions, levels), spherical_harmonics(directions, 4)[:, : levels**2])


def test_the_same_seed_gives_the_same_table():
    config = HashGridConfig(num_levels=2, log2_table_rows=8)
    tables = [HashGrid(config, generator(seed, "grid")).table for seed in (1, 1, 2)]
    assert torch.equal(tables[0], tables[1])
    assert not torch.equal(tables[0], tables[2])
    assert float(tables[0].detach().abs().max()) <= 1e-4


def _gaussians(count=10) -> tuple[torch.Tensor, torch.Tensor]:
    rng = generator(0, "gaussians")
    means = 2 * torch.randn(count, 3, generator=rng, dtype=torch.float64)
    return means, 10 ** (-4 + 4 * torch.rand(count, 3, generator=rng, dtype=torch.float64))


def test_the_integrated_encoding_is_the_mean_encoding_of_points_drawn():
    means, variances = _gaussians()
    noise = torch.randn(40_000, 1, 3, generator=generator(1, "noise"), dtype=torch.float64)
    drawn = positional_encoding(means + variances.sqrt() * noise, 5).mean(0)
    assert torch.allclose(integrated_positional_encoding(means, variances, 5), drawn, atol=0.02)


def test_gaussians_without_extent_are_points():
    means, _ = _gaussians()
    points = positional_encoding(means, 16)
    assert torch.allclose(integrated_positional_encoding(means, torch.zeros_like(means), 16), points)
    nearly = integrated_positional_encoding(means, torch.full_like(means, 1e-16), 16)
    assert torch.allclose(nearly, points, atol=1e-6)


def test_wide_gaussians_fade_from_the_fastest_octave_on():
    encoded = integrated_positional_encoding(torch.full((1, 3), 0.4), torch.full((1, 3), 0.05), 6).reshape(2, 6, 3)
    strength = encoded.square().sum(0)[:, 0].sqrt()
    assert bool((strength.diff() < 0).all())
    assert float(strength[0]) > 0.9
    assert float(strength[-1]) < 1e-6


def test_octaves_are_sines_and_cosines_of_doubled_angles():
    encoded = positional_encoding(torch.tensor([[0.3, -0.2, 0.7]]), 2)[0]
    angles = torch.tensor([0.3, -0.2, 0.7, 0.6, -0.4, 1.4])
    assert torch.allclose(encoded, torch.cat([angles.sin(), angles.cos()]))


def test_space_contracted_has_no_two_places_of_one_encoding():
    """The slowest sinusoid has a period of 2 pi, and contracted space is 4 wide."""
    places = torch.linspace(-2, 2, 400)[:, None].expand(-1, 3)
    encoded = positional_encoding(places, 1)
    apart = torch.cdist(encoded, encoded) + torch.eye(400)
    assert float(apart.min()) > 0.01


def test_encodings_have_gradients_in_float64():
    means, variances = _gaussians(3)
    inputs = means.requires_grad_(), variances.requires_grad_()
    assert torch.autograd.gradcheck(lambda m, v: integrated_positional_encoding(m, v, 3), inputs)
    assert torch.autograd.gradcheck(lambda m: positional_encoding(m, 3), inputs[:1])
