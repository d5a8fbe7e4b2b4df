"""One seed, many independent streams, the same everywhere."""

import itertools

import torch

from blocknerf.core.seeds import derive_seed, generator


def test_a_seed_is_the_same_on_every_machine():
    assert derive_seed(42, "block", 3) == 5603336020782753341


def test_every_name_and_its_place_matters():
    names = [(), ("a",), ("b",), ("a", "b"), ("b", "a"), ("ab",), ("a", 1), ("a", "1"), (1,)]
    seeds = [derive_seed(seed, *name) for seed in (0, 1) for name in names]
    assert len(set(seeds)) == len(seeds)
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_the_same_names_draw_the_same_numbers_whatever_was_drawn_elsewhere():
    first = torch.rand(8, generator=generator(7, "rays"))
    torch.rand(100)
    torch.rand(100, generator=generator(7, "weights"))
    assert torch.equal(first, torch.rand(8, generator=generator(7, "rays")))


def test_streams_of_neighbouring_names_are_unrelated():
    draws = [torch.randn(4096, generator=generator(0, "block", index)) for index in range(6)]
    correlations = [float(torch.corrcoef(torch.stack(pair))[0, 1]) for pair in itertools.combinations(draws, 2)]
    assert max(abs(value) for value in correlations) < 5 / 64  # five standard deviations, 1 / sqrt(4096) each


def test_the_global_generator_is_left_alone():
    before = torch.get_rng_state()
    torch.rand(8, generator=generator(7, "rays"))
    assert torch.equal(before, torch.get_rng_state())
