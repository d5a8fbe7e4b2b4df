"""From the ground to the pixel and back, as the file of a map says it."""

import math

import numpy as np
import pytest
import torch

from blocknerf.blocks.ground import GroundFrame
from blocknerf.blocks.plan import Layout
from blocknerf.core.errors import UserError
from blocknerf.export.orthophoto import (
    TILE_PX,
    Raster,
    map_crs,
    map_frame,
    raster_over,
    rays_from_above,
    write_orthophoto,
)
from blocknerf.scene.scene import GeoOrigin

rasterio = pytest.importorskip("rasterio", reason="needs: pip install 'blocknerf[export]'")
LEVEL = GroundFrame(np.zeros(3), np.eye(3), (1.0, 1.0))
TURN = math.radians(30)
TURNED = ((math.cos(TURN), math.sin(TURN), 0.0), (-math.sin(TURN), math.cos(TURN), 0.0), (0.0, 0.0, 1.0))
LYING = ((1.0, 0.0, 0.0), (0.0, 0.0, 1.0), (0.0, -1.0, 0.0))  # the world's -y is up


def _layout(axes) -> Layout:
    return Layout((3.0, 5.0, 7.0), axes, "square", 10.0, 12.0)


def _painted(places_world: np.ndarray) -> np.ndarray:
    return np.floor(places_world).astype(int) % 256


def test_rays_hit_the_ground_where_the_files_affine_puts_their_pixels(tmp_path):
    """A world whose colour at a place is the place: every pixel of the file tells where it was seen."""
    frame = GroundFrame(np.array([10.0, 20.0, 30.0]), np.array(LYING), (1.0, 1.0))
    raster = raster_over(frame, _layout(LYING), np.zeros((1, 2)), 0.5, (-60.2, 3.0, 90.0, 80.0))
    assert (raster.width, raster.height) == (301, 154)  # -60.5 to 90, 3 to 80

    def tiles():
        for row in range(0, raster.height, TILE_PX):
            for column in range(0, raster.width, TILE_PX):
                size = min(TILE_PX, raster.width - column), min(TILE_PX, raster.height - row)
                rays = rays_from_above(raster, (column, row), size, 40.0)
                assert torch.equal(rays.directions, torch.tensor([[0.0, 1.0, 0.0]]).expand(len(rays), -1))
                ground = (rays.origins + 40.0 * rays.directions).double().numpy()
                rgba = np.append(_painted(ground), np.full((len(rays), 1), 255), axis=1)
                yield (column, row), rgba.reshape(size[1], size[0], 4).astype(np.uint8)

    write_orthophoto(tmp_path / "map.tif", raster, tiles(), map_crs(raster, None))
    with rasterio.open(tmp_path / "map.tif") as file:
        assert 'UNIT["metre",1' in file.crs.wkt
        assert file.bounds == (-60.5, 3.0, 90.0, 80.0)
        assert [float(value) for value in file.tags()["ORIGIN_WORLD"].split()] == [10, 20, 30]
        axes = np.array([float(value) for value in file.tags()["AXES_WORLD"].split()]).reshape(3, 3)
        picture = file.read()
        for x, y in ((-60.3, 79.9), (0.2, 40.2), (89.8, 3.2)):
            row, column = file.index(x, y)
            center = file.xy(row, column)
            np.testing.assert_allclose(raster.xy_m(np.array(column + 0.5), np.array(row + 0.5)), center)
            place = np.array([10.0, 20.0, 30.0]) + np.array([*center, 0.0]) @ axes
            np.testing.assert_array_equal(picture[:3, row, column], _painted(place))


def test_a_level_world_keeps_its_axes_and_another_takes_its_grounds():
    np.testing.assert_array_equal(map_frame(_layout(TURNED)).ground_from_world, np.eye(3))
    np.testing.assert_array_equal(map_frame(_layout(TURNED)).origin_world, np.zeros(3))
    np.testing.assert_array_equal(map_frame(_layout(LYING)).ground_from_world, np.array(LYING))
    np.testing.assert_array_equal(map_frame(_layout(LYING), is_enu=True).ground_from_world, np.eye(3))


def test_without_bounds_all_cells_are_shown():
    raster = raster_over(map_frame(_layout(TURNED)), _layout(TURNED), np.array([[0.0, 0.0]]), 0.25)
    half = 10 * (math.cos(TURN) + math.sin(TURN))
    assert raster.left_m == pytest.approx(3 - half, abs=0.25)
    assert raster.top_m == pytest.approx(5 + half, abs=0.25)
    assert raster.width * 0.25 == pytest.approx(2 * half, abs=0.5)
    assert raster.left_m / 0.25 == pytest.approx(round(raster.left_m / 0.25))  # neighbours' pixels coincide


@pytest.mark.parametrize(
    ("pixel_m", "bounds_m", "message"),
    [
        (0.0, None, "give the edge of a pixel in metres"),
        (math.nan, None, "give the edge of a pixel"),
        (1.0, (1.0, 0.0, 1.0, 2.0), "hold nothing"),
        (1e-4, None, "neither side may have more than 65536"),
    ],
)
def test_rasters_that_cannot_be(pixel_m, bounds_m, message):
    with pytest.raises(UserError, match=message):
        raster_over(LEVEL, _layout(TURNED), np.zeros((1, 2)), pixel_m, bounds_m)


def test_an_origin_gives_places_on_earth():
    """A metre north and a metre east of the origin are that far away on the ellipsoid."""
    warp = pytest.importorskip("rasterio.warp")
    crs = map_crs(Raster(LEVEL, 0.0, 0.0, 1.0, 1, 1), GeoOrigin(48.2, 16.37))
    longitude, latitude = warp.transform(crs, "EPSG:4326", [0.0, 1000.0, 0.0], [0.0, 0.0, 1000.0])
    assert (longitude[0], latitude[0]) == pytest.approx((16.37, 48.2))
    east_m = (
        math.radians(longitude[1] - 16.37) * 6378137 / math.sqrt(1 - 0.00669438 * math.sin(math.radians(48.2)) ** 2)
    )
    assert east_m * math.cos(math.radians(48.2)) == pytest.approx(1000, abs=0.1)
    assert math.radians(latitude[2] - 48.2) * 6371000 == pytest.approx(1000, abs=5)


def test_origins_that_cannot_be():
    with pytest.raises(UserError, match="are not a place"):
        GeoOrigin(91.0, 0.0)
    with pytest.raises(UserError, match="needs a world whose z points up"):
        map_crs(
            Raster(GroundFrame(np.zeros(3), np.array(LYING), (1.0, 1.0)), 0.0, 0.0, 1.0, 1, 1), GeoOrigin(48.0, 16.0)
        )
