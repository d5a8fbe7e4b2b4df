"""Pictures with many samples only where they are needed, against pictures with all samples everywhere."""

from dataclasses import replace

import numpy as np
import pytest

from blocknerf.core.camera import Camera
from blocknerf.synth import generate
from blocknerf.synth.develop import develop
from blocknerf.synth.drives import STATION_S, draw_traffic, rig_cameras, stations, traffic_at
from blocknerf.synth.geometry import Material, Mesh, MeshBuilder
from blocknerf.synth.lighting import lighting_at
from blocknerf.synth.presets import PRESETS
from blocknerf.synth.town import build_town
from blocknerf.synth.tracer import Picture, Tracer, _over_windows, render_image

pytest.importorskip("embreex", reason="the synthetic city needs: pip install 'blocknerf[demo]'")
pytestmark = pytest.mark.demo
DOWN = np.array([[1.0, 0.0, 0.0, 0.0], [0.0, -1.0, 0.0, 0.0], [0.0, 0.0, -1.0, 4.0]])


def street_view(contrast: float, size: tuple[int, int] = (120, 90)) -> Picture:
    """A picture of the street's first drive, with a moving car in it."""
    preset = PRESETS["street"]
    town = build_town(preset.plan, generate._rng(0, "town"))
    drive, number = preset.drives[0], 5
    poses = stations(drive, generate._rng(0, drive.name, "sway"))[number]
    traffic = draw_traffic(preset.plan, preset.cars, generate._rng(0, drive.name, "traffic"))
    cars = traffic_at(traffic, number * STATION_S, poses["front_left"][:2, 3])
    assert cars is not None
    tracer = Tracer(Mesh.joined(town, cars), len(town.triangles))
    camera = rig_cameras(*size)["front_left"]
    return render_image(tracer, camera, poses["front_left"], lighting_at(drive.hour), 3, contrast)


def test_few_samples_give_the_picture_of_all_samples_with_the_same_depth_and_mask():
    size = PRESETS["street"].width, PRESETS["street"].height
    full, sparing = street_view(0.0, size), street_view(PRESETS["street"].contrast, size)
    exposure = 0.32 / float(full.radiance.mean())
    error = develop(full.radiance, exposure).astype(float) - develop(sparing.radiance, exposure)
    assert 38 < 10 * np.log10(255**2 / np.mean(error**2)) < 60
    assert full.moving.sum() > 100
    np.testing.assert_array_equal(full.moving, sparing.moving)
    np.testing.assert_array_equal(full.depth_z_m, sparing.depth_z_m)


def test_the_error_falls_with_the_contrast_to_zero():
    full = street_view(0.0).radiance
    errors = [float(np.mean((street_view(contrast).radiance - full) ** 2)) for contrast in (0.8, 0.2, 0.05, 1e-9)]
    assert errors == sorted(errors, reverse=True)
    assert errors[0] > 10 * errors[2]
    assert errors[-1] < 1e-2 * errors[0]


def test_a_flat_surface_in_even_light_is_the_same_with_one_sample():
    builder = MeshBuilder()
    builder.box((-50.0, -50.0, -1.0), (50.0, 50.0, 0.0), Material.METAL, (0.3, 0.2, 0.1))
    tracer, camera = Tracer(builder.mesh(), 10**9), Camera.pinhole(16, 12, 14.0)
    full, sparing = (render_image(tracer, camera, DOWN, lighting_at(13.0), 3, contrast) for contrast in (0.0, 0.2))
    assert full.radiance.min() > 0.01
    np.testing.assert_allclose(sparing.radiance, full.radiance, rtol=2e-4)


def test_windows_are_those_of_brute_force():
    image = np.random.default_rng(0).normal(size=(7, 9))
    for reduce in (np.add, np.maximum, np.minimum):
        got = _over_windows(reduce, image, 3)
        for row in range(7):
            for column in range(9):
                y, x = min(max(row, 1), 5), min(max(column, 1), 7)
                np.testing.assert_allclose(got[row, column], reduce.reduce(image[y - 1 : y + 2, x - 1 : x + 2].ravel()))


def test_the_small_street_is_the_street_in_fewer_pixels():
    small, street = PRESETS["street_small"], PRESETS["street"]
    assert (street.width, street.height) == (3 * small.width, 3 * small.height)
    same = {"width": 0, "height": 0, "contrast": 0.0, "points_per_image": 0}
    assert replace(small, **same) == replace(street, **same)
