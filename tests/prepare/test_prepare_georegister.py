"""Laws of the fit to GPS: exact where GPS is, and unmoved by what is wrong with it."""

import numpy as np
import pytest

from blocknerf.geometry.similarity import Similarity
from blocknerf.prepare.georegister import (
    fit_plane,
    georegister,
    level,
    places_of,
    scale_against_gps,
)
from blocknerf.prepare.shots import CapturedImage

COUNT = 24
NEARLY_M = 0.02
"""Up is estimated from cameras and, a little, from their plane: to some 1e-4 rad on a street of 100 m."""


def rotation_of(rng: np.random.Generator) -> np.ndarray:
    q, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    return q * np.sign(np.linalg.det(q))


def street(rng: np.random.Generator) -> np.ndarray:
    """Poses [n, 3, 4] of level cameras along a bent street, 100 m long, east, north, up."""
    along = np.linspace(0, 100, COUNT)
    centers = np.stack([along, 12 * np.sin(along / 30), 2 + 0.1 * rng.normal(size=COUNT)], 1)
    yaw = rng.uniform(0, 2 * np.pi, COUNT)
    forward = np.stack([np.cos(yaw), np.sin(yaw), np.zeros(COUNT)], 1)
    down = np.tile([0.0, 0.0, -1.0], (COUNT, 1))
    return np.stack([np.cross(down, forward), down, forward, centers], axis=2)


def as_model(poses: np.ndarray, model_from_world: Similarity) -> np.ndarray:
    """The same cameras in a frame of another turn, scale and place, as structure from motion gives them."""
    rotations = model_from_world.rotation @ poses[:, :, :3]
    return np.concatenate([rotations, model_from_world.points(poses[:, :, 3])[:, :, None]], axis=2)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(5)


@pytest.fixture
def world(rng) -> np.ndarray:
    return street(rng)


@pytest.fixture
def model(rng, world) -> np.ndarray:
    return as_model(world, Similarity(0.037, rotation_of(rng), rng.normal(size=3)))


def test_exact_positions_give_back_the_world(world, model):
    fit = georegister(model, world[:, :, 3], seed=0)
    np.testing.assert_allclose(fit.world_from_model.points(model[:, :, 3]), world[:, :, 3], atol=NEARLY_M)
    np.testing.assert_allclose(fit.world_from_model.rotation @ model[:, :, :3], world[:, :, :3], atol=1e-4)
    assert fit.world_from_model.scale == pytest.approx(1 / 0.037, rel=1e-6)
    assert np.nanmax(fit.residuals_m) < NEARLY_M
    assert fit.is_believed
    assert fit.altitude_residual_m < NEARLY_M


def test_two_fifths_of_the_positions_may_be_anywhere(rng, world, model):
    gps = world[:, :, 3].copy()
    wrong = rng.permutation(COUNT)[: 2 * COUNT // 5]
    gps[wrong, :2] += rng.normal(scale=300, size=(len(wrong), 2))
    fit = georegister(model, gps, seed=0)
    np.testing.assert_allclose(fit.world_from_model.points(model[:, :, 3])[:, :2], world[:, :2, 3], atol=NEARLY_M)
    assert fit.is_believed


@pytest.mark.parametrize("altitudes", ["missing", "the same", "absurd", "rising"])
def test_altitudes_decide_nothing_but_the_height(rng, world, model, altitudes):
    gps = world[:, :, 3].copy()
    gps[:, 2] = {
        "missing": np.full(COUNT, np.nan),
        "the same": np.full(COUNT, 7.0),
        "absurd": rng.uniform(-1e5, 1e5, COUNT),
        "rising": np.linspace(0, 500, COUNT),
    }[altitudes]
    moved = georegister(model, gps, seed=0).world_from_model.points(model[:, :, 3]) - world[:, :, 3]
    np.testing.assert_allclose(moved[:, :2], 0, atol=NEARLY_M)
    assert np.ptp(moved[:, 2]) < NEARLY_M


def test_ordinary_noise_leaves_the_scale_within_five_percent(rng, world, model):
    gps = world[:, :, 3] + rng.normal(scale=4.0, size=(COUNT, 3))
    fit = georegister(model, gps, seed=0)
    assert fit.world_from_model.scale * 0.037 == pytest.approx(1, abs=0.05)
    assert 1 < fit.typical_m < 8
    ratio = scale_against_gps(fit.world_from_model.points(model[:, :, 3]), gps, 20.0)
    assert ratio == pytest.approx(1, abs=0.05)


def test_positions_in_another_order_are_not_believed(rng, world, model):
    believed = [georegister(model, rng.permutation(world[:, :, 3]), seed=0).is_believed for _ in range(8)]
    assert believed == [False] * 8


def test_some_cameras_without_gps_have_no_residual(world, model):
    gps = world[:, :, 3].copy()
    gps[::3] = np.nan
    fit = georegister(model, gps, seed=0)
    np.testing.assert_array_equal(np.isnan(fit.residuals_m), np.arange(COUNT) % 3 == 0)
    np.testing.assert_allclose(fit.world_from_model.points(model[:, :, 3]), world[:, :, 3], atol=NEARLY_M)
    gps[4:] = np.nan
    assert georegister(model, gps, seed=0) is None


def test_level_puts_z_up_and_keeps_the_scale(world, model):
    levelled = level(model)
    centers = levelled.points(model[:, :, 3])
    assert levelled.scale == 1
    np.testing.assert_allclose(centers.mean(axis=0), 0, atol=1e-9)
    np.testing.assert_allclose((levelled.rotation @ model[:, :, :3])[:, 2], world[:, 2, :3], atol=1e-4)
    assert np.linalg.det(levelled.rotation) == pytest.approx(1)


def test_fit_plane_is_least_squares_where_nothing_is_wrong(rng):
    """Against the normal equations, with noise so small against its scale that Tukey's weights are nearly one."""
    model = rng.normal(size=400) + 1j * rng.normal(size=400)
    gps = (2 - 3j) * model + (5 + 1j) + 0.01 * (rng.uniform(-1, 1, 400) + 1j * rng.uniform(-1, 1, 400))
    a, b = fit_plane(model, gps, rng)
    design = np.stack([model, np.ones(400)], 1)
    expected = np.linalg.lstsq(design, gps, rcond=None)[0]
    np.testing.assert_allclose([a, b], expected, atol=5e-4)


def test_positions_all_in_one_place_are_no_crash(rng, model):
    fit = georegister(model, np.zeros((COUNT, 3)), seed=0)
    assert np.isfinite(fit.residuals_m).all()
    still = np.repeat(model[:1], COUNT, axis=0)
    assert np.isfinite(georegister(still, rng.normal(size=(COUNT, 3)), seed=0).residuals_m).all()


def test_degrees_become_metres_of_the_ellipsoid():
    """One second of arc north and east at 60 degrees: the meridian's and the parallel's radius of WGS84."""
    latitude, second = np.deg2rad(60.0), np.deg2rad(1 / 3600)
    a, e2 = 6378137.0, 0.00669437999014
    squared = 1 - e2 * np.sin(latitude) ** 2
    north, east = a * (1 - e2) / squared**1.5 * second, a / squared**0.5 * np.cos(latitude) * second
    degrees = [(60, 10), (60, 10), (60, 10), (60 + 1 / 3600, 10), (60, 10 + 1 / 3600), (60, 10)]
    shots = [CapturedImage(str(n), 4, 3, "", "", None, float(lat), float(lon)) for n, (lat, lon) in enumerate(degrees)]
    places = places_of([*shots, CapturedImage("x", 4, 3, "", "")])
    np.testing.assert_allclose(places.horizontal_m[3], (0, north), atol=1e-3)
    np.testing.assert_allclose(places.horizontal_m[4], (east, 0), atol=1e-3)
    assert np.isnan(places.horizontal_m[6]).all()
    assert np.isnan(places.enu_m[:, 2]).all()
    assert places.origin == (60, 10, 0)


def test_the_date_line_is_no_border():
    degrees = [179.9999, 179.99995, -180.0, -179.99995, -179.9999]
    places = places_of([CapturedImage(str(n), 4, 3, "", "", None, 0.5, lon, 3.0) for n, lon in enumerate(degrees)])
    np.testing.assert_allclose(places.horizontal_m[:, 0], np.arange(-2, 3) * 5.5657, atol=0.01)
    assert places.origin[2] == 3
