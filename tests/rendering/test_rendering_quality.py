"""PSNR and SSIM against their definitions."""

import math

import pytest
import torch

from blocknerf.core.errors import UserError
from blocknerf.core.seeds import generator
from blocknerf.rendering.quality import psnr, similarity, ssim

ALL = torch.ones(24, 32, dtype=torch.bool)


def picture(name: str) -> torch.Tensor:
    return torch.rand((24, 32, 3), generator=generator(3, name))


def test_equal_pictures_are_as_good_as_it_gets():
    truth = picture("truth")
    assert psnr(truth, truth, ALL) == pytest.approx(100)
    assert ssim(truth, truth, ALL) == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("size", [(11, 11), (24, 32), (13, 40)])
def test_similarity_is_that_of_torchmetrics(size):
    from torchmetrics.functional.image import structural_similarity_index_measure

    truth, noise = (torch.rand((2, *size, 3), generator=generator(3, name), dtype=torch.float64) for name in "ab")
    render = 0.7 * truth + 0.3 * noise
    both = structural_similarity_index_measure(
        render.movedim(-1, 1), truth.movedim(-1, 1), data_range=1.0, return_full_image=True
    )
    torch.testing.assert_close(similarity(render, truth), both[1].movedim(1, -1), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("sigma", [0.01, 0.05, 0.1])
def test_noise_of_a_known_level_has_a_known_psnr(sigma):
    truth = torch.full((200, 200, 3), 0.5)
    noise = torch.randn(truth.shape, generator=generator(3, "noise"))
    valid = torch.ones(200, 200, dtype=torch.bool)
    assert psnr(truth + sigma * noise, truth, valid) == pytest.approx(-20 * math.log10(sigma), abs=0.05)


def test_the_render_is_clamped_before_it_is_judged():
    truth = torch.ones(24, 32, 3)
    assert psnr(truth + 3, truth, ALL) == 100
    assert ssim(truth + 3, truth, ALL) == pytest.approx(1)


def test_pixels_that_are_left_out_have_no_say():
    truth, render = picture("truth"), (picture("truth") + 0.1 * picture("noise")).clamp(0, 1)
    valid = ALL.clone()
    valid[5:11, 8:20] = False
    spoiled = torch.where(valid[..., None], render, torch.full_like(render, 9.0))
    for metric in (psnr, ssim):
        assert metric(spoiled, truth, valid) == metric(render, truth, valid)
        assert metric(spoiled, truth, valid) != metric(render, truth, ALL)


def test_an_error_is_counted_over_valid_pixels_only():
    truth = torch.zeros(24, 32, 3)
    render = truth.clone()
    render[0, 0] = 1.0
    valid = torch.zeros(24, 32, dtype=torch.bool)
    valid[0, :4] = True
    assert psnr(render, truth, valid) == pytest.approx(-10 * math.log10(0.25))


def test_ssim_is_the_formula_of_the_paper_in_one_window():
    """Brute force at one interior pixel: weighted means, variances and covariance in its 11 x 11 window."""
    truth, render = picture("truth").double(), picture("render").double()
    row, column = 12, 16
    offsets = torch.arange(-5, 6, dtype=torch.float64)
    bell = torch.exp(-(offsets**2) / (2 * 1.5**2))
    window = (bell[:, None] * bell[None]) / (bell.sum() ** 2)
    only_there = torch.zeros_like(ALL)
    only_there[row, column] = True
    values = []
    for channel in range(3):
        filled = torch.where(only_there[..., None], render, truth)
        x, y = (image[row - 5 : row + 6, column - 5 : column + 6, channel] for image in (filled, truth))
        mean_x, mean_y = (window * x).sum(), (window * y).sum()
        var_x, var_y = (window * (x - mean_x) ** 2).sum(), (window * (y - mean_y) ** 2).sum()
        covariance = (window * (x - mean_x) * (y - mean_y)).sum()
        luminance = (2 * mean_x * mean_y + 0.01**2) / (mean_x**2 + mean_y**2 + 0.01**2)
        values.append(luminance * (2 * covariance + 0.03**2) / (var_x + var_y + 0.03**2))
    assert ssim(render.float(), truth.float(), only_there) == pytest.approx(float(sum(values) / 3), abs=1e-5)


def test_ssim_falls_with_noise_and_does_not_mind_which_channel_is_which():
    truth, noise = picture("truth"), torch.randn((24, 32, 3), generator=generator(3, "noise"))
    falling = [ssim(truth + level * noise, truth, ALL) for level in (0.01, 0.05, 0.2)]
    assert falling == sorted(falling, reverse=True)
    swapped = (truth + 0.05 * noise).flip(-1)
    assert ssim(swapped, truth.flip(-1), ALL) == pytest.approx(falling[1], abs=1e-6)


def test_pictures_smaller_than_a_window_are_refused():
    small = torch.zeros(10, 32, 3)
    with pytest.raises(UserError, match="at least 11 pixels a side, and these have 32 x 10"):
        ssim(small, small, torch.ones(10, 32, dtype=torch.bool))
