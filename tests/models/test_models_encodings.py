"""Spherical harmonics are orthonormal; the hash grid starts small."""

import torch

from blocknerf.core.config import HashGridConfig
from blocknerf.core.seeds import generator
from blocknerf.models.encodings import HashGrid, spherical_harmonics


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
