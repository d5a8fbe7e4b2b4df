"""Triangles around solids whose surface is known."""

import numpy as np
import pytest

from blocknerf.blocks.ground import GroundFrame
from blocknerf.core.errors import UserError
from blocknerf.export.maps import CUBES
from blocknerf.export.mesh import Fusing, TriangleMesh, extract_mesh, face_areas_m2, wanted_bricks, without_specks
from blocknerf.export.mesh_file import write_mesh
from tests.support.solids import Solid, ball, colours_at, maps_of, regions_of

trimesh = pytest.importorskip("trimesh", reason="needs: pip install 'blocknerf[export]'")
pytest.importorskip("skimage", reason="needs: pip install 'blocknerf[export]'")
FINE = Fusing(voxel_m=0.05)


@pytest.fixture(scope="module")
def sphere(tmp_path_factory) -> TriangleMesh:
    return extract_mesh(maps_of(tmp_path_factory.mktemp("maps"), [ball(1.0)]), regions_of((0, 0)), FINE)


def _opened(mesh: TriangleMesh):
    return trimesh.Trimesh(mesh.vertices, mesh.faces, process=False)


def test_a_ball_has_its_radius_and_is_closed(sphere):
    radii = np.linalg.norm(sphere.vertices, axis=1)
    assert np.abs(radii - 1).max() < 0.05
    assert abs(np.median(radii) - 1) < 0.02  # planes stand for the ball within a truncation, a fifth of its radius
    assert face_areas_m2(sphere).sum() == pytest.approx(4 * np.pi, rel=0.05)
    assert _opened(sphere).is_watertight  # it spans many bricks: they are welded
    assert _opened(sphere).euler_number == 2


def test_normals_point_outwards_and_colours_are_those_of_the_places(sphere):
    a, b, c = sphere.vertices[sphere.faces].transpose(1, 0, 2)
    assert _opened(sphere).volume == pytest.approx(4 / 3 * np.pi, rel=0.06)
    facing = (np.cross(b - a, c - a) * (a + b + c)).sum(1)
    assert (facing[face_areas_m2(sphere) > 1e-6] > 0).all()
    np.testing.assert_allclose(sphere.colours / 255, colours_at(sphere.vertices), atol=0.03)


def test_two_blocks_that_disagree_meet_in_one_surface(tmp_path):
    """Each has half a ball, of other sizes: at their border one closed surface steps from one to the other."""
    maps = maps_of(tmp_path, [ball(1.0), ball(1.1)])
    mesh = extract_mesh(maps, regions_of((-2, 0), (2, 0)), FINE)
    assert _opened(mesh).is_watertight
    assert _opened(mesh).body_count == 1
    radii = np.linalg.norm(mesh.vertices, axis=1)
    left, right = mesh.vertices[:, 0] < -0.06, mesh.vertices[:, 0] > 0.06
    assert abs(np.median(radii[left]) - 1.0) < 0.02
    assert abs(np.median(radii[right]) - 1.1) < 0.02
    assert face_areas_m2(mesh).sum() == pytest.approx(2 * np.pi * (1 + 1.1**2), rel=0.08)


def test_a_block_says_nothing_beyond_its_border_and_its_cube(tmp_path):
    regions = regions_of((-2, 0), (2, 0))
    alone = extract_mesh(maps_of(tmp_path, [ball(1.0)]), regions, FINE)
    assert -1.05 < alone.vertices[:, 0].min() < -0.95
    assert alone.vertices[:, 0].max() < 0.06
    regions.cubes[0] = (-1.0, 0, 0, 0.5 / CUBES)
    boxed = extract_mesh(maps_of(tmp_path, [ball(1.0)]), regions, FINE)
    assert np.abs(boxed.vertices - (-1.0, 0, 0)).max() < 0.5 + 0.06


def test_unsure_rays_count_less_than_sure_ones(tmp_path):
    """A block's every second picture shows the ball too large, and says that it is not sure."""
    maps = maps_of(tmp_path, [ball(1.0)])
    pixels = np.arange(len(maps.inverse_depths)) // (64 * 64) % 2 == 1
    depth = np.where(maps.inverse_depths > 0, 1 / maps.inverse_depths.clip(min=1e-3) - 0.1, np.inf)
    maps.inverse_depths[pixels] = (1 / depth)[pixels]
    even = extract_mesh(maps, regions_of((0, 0)), FINE)
    maps.spreads_m[pixels] = 0.3
    mesh = extract_mesh(maps, regions_of((0, 0)), FINE)
    off, off_even = (abs(np.median(np.linalg.norm(one.vertices, axis=1)) - 1) for one in (mesh, even))
    assert off < 0.5 * off_even


def test_specks_are_removed_by_their_area(tmp_path, sphere):
    speck = TriangleMesh(0.1 * sphere.vertices + 5, sphere.faces, sphere.colours)
    both = TriangleMesh(
        np.concatenate([speck.vertices, sphere.vertices]),
        np.concatenate([speck.faces, sphere.faces + len(speck.vertices)]),
        np.concatenate([speck.colours, sphere.colours]),
    )
    assert len(without_specks(both, 0.1).faces) == len(both.faces)
    left = without_specks(both, 0.2)
    np.testing.assert_array_equal(left.vertices[left.faces], sphere.vertices[sphere.faces])
    assert len(without_specks(both, 20.0).faces) == 0


def test_a_city_that_is_sure_of_nothing_says_so(tmp_path):
    maps = maps_of(tmp_path, [Solid(lambda origins, directions: np.full(len(origins), np.nan))], views=2)
    assert wanted_bricks(maps, regions_of((0, 0)), FINE).shape == (0, 3)
    with pytest.raises(UserError, match="nowhere sure of a surface.*Train it for longer"):
        extract_mesh(maps, regions_of((0, 0)), FINE)


@pytest.mark.parametrize("ending", ["ply", "glb"])
def test_files_are_opened_again_by_others(tmp_path, sphere, ending):
    """An up that is not z: GLB stands upright for viewers, PLY holds the world."""
    ground_from_world = np.array([[1.0, 0, 0], [0, 0, 1.0], [0, -1.0, 0]])  # the world's -y is up
    frame = GroundFrame(np.zeros(3), ground_from_world, (1.0, 1.0))
    path = tmp_path / f"mesh.{ending}"
    write_mesh(path, sphere, frame)
    again = trimesh.load(path, process=False)
    if ending == "glb":
        (body,) = again.geometry.values()
        turn = again.graph.get("city")[0][:3, :3]
        np.testing.assert_allclose(turn @ [0, -1, 0], [0, 1, 0], atol=1e-9)
        assert np.linalg.det(turn) == pytest.approx(1)
    else:
        body = again
    np.testing.assert_allclose(body.vertices, sphere.vertices, atol=1e-6)
    np.testing.assert_array_equal(body.faces, sphere.faces)
    np.testing.assert_array_equal(np.asarray(body.visual.vertex_colors)[:, :3], sphere.colours)
