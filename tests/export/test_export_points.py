"""Points on solids whose surface is known."""

import numpy as np
import pytest

from blocknerf.core.errors import UserError
from blocknerf.export.points import Agreement, extract_points
from tests.support.solids import ball, colours_at, maps_of, regions_of


def test_points_lie_on_the_surface_with_its_normals_and_colours(tmp_path):
    cloud = extract_points(maps_of(tmp_path, [ball(1.0)]), regions_of((0, 0)), Agreement(spacing_m=0.02))
    radii = np.linalg.norm(cloud.places, axis=1)
    assert len(radii) > 5000
    assert np.abs(radii - 1).max() < 0.01
    outwards = (cloud.normals * cloud.places / radii[:, None]).sum(1)
    assert np.median(outwards) > 0.999
    assert (outwards > 0.5).all()
    np.testing.assert_allclose(np.linalg.norm(cloud.normals, axis=1), 1, atol=1e-6)
    np.testing.assert_allclose(cloud.colours / 255, colours_at(cloud.places), atol=0.03)


def test_no_two_points_of_a_block_in_one_cube_and_every_block_its_own(tmp_path):
    maps = maps_of(tmp_path, [ball(1.0), ball(1.04)])
    cloud = extract_points(maps, regions_of((-2, 0), (2, 0)), Agreement(spacing_m=0.1))
    cubes = np.floor(cloud.places / 0.1)
    assert len(np.unique(cubes, axis=0)) == len(cubes)  # the border lies between cubes
    radii = np.linalg.norm(cloud.places, axis=1)
    np.testing.assert_allclose(radii, np.where(cloud.places[:, 0] < 0, 1.0, 1.04), atol=0.01)


def test_what_one_picture_shows_alone_is_left_out(tmp_path):
    """A picture with everything half a metre nearer: all others look through what it shows."""
    maps = maps_of(tmp_path, [ball(1.0)])
    rows = maps.rows(0)
    near = maps.inverse_depths[rows] > 0
    maps.inverse_depths[rows] = np.where(near, 1 / (1 / np.where(near, maps.inverse_depths[rows], 1) - 0.5), 0)
    cloud = extract_points(maps, regions_of((0, 0)), Agreement(spacing_m=0.02))
    assert np.abs(np.linalg.norm(cloud.places, axis=1) - 1).max() < 0.02
    lenient = extract_points(maps, regions_of((0, 0)), Agreement(spacing_m=0.02, least_views=0, tolerance_share=0.9))
    assert np.linalg.norm(lenient.places, axis=1).max() > 1.3


def test_unsure_rays_give_no_points(tmp_path):
    maps = maps_of(tmp_path, [ball(1.0)], views=8)
    maps.spreads_m[:] = 0.5
    with pytest.raises(UserError, match="No point was confirmed by 2 other pictures"):
        extract_points(maps, regions_of((0, 0)), Agreement())
