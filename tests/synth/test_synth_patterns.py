"""Patterns, light and development, against brute force and limits."""

import numpy as np
import pytest

from blocknerf.synth.develop import develop
from blocknerf.synth.drives import lane_path
from blocknerf.synth.geometry import blob, cylinder
from blocknerf.synth.lighting import lighting_at, sky
from blocknerf.synth.noise import fractal_noise, interval, stripes


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(5)


def test_stripes_and_intervals_are_exact_means_over_the_footprint(rng):
    x, footprint = rng.uniform(-5, 5, 200), rng.uniform(0.01, 3.0, 200)
    inside = x[:, None] + footprint[:, None] * ((np.arange(4000) + 0.5) / 4000 - 0.5)
    np.testing.assert_allclose(stripes(x, 0.7, 0.2, footprint), (np.mod(inside, 0.7) < 0.2).mean(1), atol=2e-3)
    between = (inside >= -1.0) & (inside < 2.5)
    np.testing.assert_allclose(interval(x, -1.0, 2.5, footprint), between.mean(1), atol=2e-3)


def test_noise_is_continuous_and_fades_under_a_large_footprint(rng):
    x, y = rng.uniform(-100, 100, (2, 500))
    sharp = fractal_noise(x, y, 1.0, 5, np.full(500, 1e-4))
    assert sharp.std() > 0.2
    near = fractal_noise(x + 1e-4, y, 1.0, 5, np.full(500, 1e-4))
    np.testing.assert_allclose(near, sharp, atol=0.02)
    assert not fractal_noise(x, y, 1.0, 5, np.full(500, 1.0)).any()


def test_the_sun_is_highest_at_one_and_goes_from_east_to_west():
    hours = np.linspace(6.5, 19.5, 53)
    directions = np.array([lighting_at(float(h)).sun_direction for h in hours])
    np.testing.assert_allclose(np.linalg.norm(directions, axis=1), 1.0)
    assert hours[directions[:, 2].argmax()] == 13.0
    assert directions[:, 2].min() > 0
    assert (np.diff(directions[:, 0]) < 0)[4:-4].all()  # east is +x
    warm = [lighting_at(h).sun[0] / lighting_at(h).sun[2] for h in (13.0, 16.0, 19.0)]
    assert warm == sorted(warm)


def test_sky_is_finite_and_not_negative_everywhere(rng):
    directions = rng.normal(size=(2000, 3)).astype(np.float32)
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    for hour in (6.0, 8.5, 13.0, 18.5, 20.0):
        radiance = sky(lighting_at(hour), directions)
        assert np.isfinite(radiance).all()
        assert radiance.min() >= 0


def test_development_keeps_black_and_order_and_approaches_white():
    ramp = np.repeat(np.linspace(0, 8, 500)[None, :, None], 3, axis=2)
    developed = develop(ramp, 1.0)[0, :, 0].astype(int)
    assert developed[0] == 0
    assert developed[-1] == 255
    assert (np.diff(developed) >= 0).all()
    assert (develop(ramp, 2.0)[0, :, 0] >= developed).all()


def test_lanes_are_on_the_right_and_turn_without_a_kink():
    path = lane_path(np.array([(-40.0, 0.0), (10.0, 0.0), (10.0, 40.0)]))
    np.testing.assert_allclose(path[0], (-40.0, -1.5))
    np.testing.assert_allclose(path[-1], (11.5, 40.0))
    steps = np.diff(path, axis=0)
    headings = np.unwrap(np.arctan2(steps[:, 1], steps[:, 0]))
    assert (np.diff(headings) > -1e-9).all()
    assert np.abs(np.diff(headings)).max() < 0.12
    np.testing.assert_allclose(headings[-1] - headings[0], np.pi / 2)


def test_round_things_are_closed_and_face_outwards(rng):
    for triangles in (blob((1.0, 2.0, 3.0), 1.5, rng), cylinder((1.0, 2.0, 3.0), 2.0, (0.5, 0.4))):
        doubled_areas = np.cross(triangles[:, 1] - triangles[:, 0], triangles[:, 2] - triangles[:, 0])
        assert np.linalg.norm(doubled_areas, axis=1).min() > 1e-6
        outward = np.einsum("nc,nc->n", doubled_areas, triangles.mean(1) - triangles.reshape(-1, 3).mean(0))
        assert (outward > 0).all()
    ball = blob((0.0, 0.0, 0.0), 1.0, rng)
    edges = np.sort(np.round(ball[:, [[0, 1], [1, 2], [2, 0]]], 9).reshape(-1, 2, 3).view("f8,f8,f8")[..., 0], axis=1)
    _, counts = np.unique(edges, axis=0, return_counts=True)
    assert (counts == 2).all()
