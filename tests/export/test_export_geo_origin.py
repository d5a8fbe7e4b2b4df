"""Where on Earth a scene lies travels with it: scene, plan, city, map."""

import json
from pathlib import Path

import pytest

from blocknerf.blocks.output import load_output, plan_scene
from blocknerf.city.manifest import manifest_of, read_manifest, write_manifest
from blocknerf.cli.main import main
from blocknerf.core.config.dataset import DatasetConfig
from blocknerf.core.config.load import load_config
from blocknerf.core.errors import UserError
from blocknerf.scene.readers.read import read_scene
from blocknerf.scene.scene import GeoOrigin, scene_hash
from tests.support.room import write_room
from tests.support.tiny_run import TINY, tiny_run, train

LUND = GeoOrigin(55.7047, 13.191, 62.0)


def say(scene: Path, origin: object) -> None:
    (scene / "blocknerf_scene.json").write_text(json.dumps({"version": 1, "geo_origin": origin}))


@pytest.fixture(scope="module")
def city(tmp_path_factory) -> Path:
    """Trained before anybody said where it lies, and again after that."""
    scene, out = write_room(tmp_path_factory.mktemp("room"), images=8), tmp_path_factory.mktemp("city") / "out"
    train(tiny_run(scene, out, "training.max_steps=2"))
    before = read_scene(scene, DatasetConfig())
    assert before.geo_origin is read_manifest(out).geo_origin is None
    say(scene, {"latitude_deg": 55.7047, "longitude_deg": 13.191, "altitude_m": 62})
    assert scene_hash(read_scene(scene, DatasetConfig())) == scene_hash(before)
    train(tiny_run(scene, out, "training.max_steps=2"), resume=True)
    return out


def placed(path: Path, *options: str) -> tuple[float, float] | None:
    """Longitude and latitude of the origin of the map."""
    rasterio = pytest.importorskip("rasterio")
    warp = pytest.importorskip("rasterio.warp")
    main(["export", "orthophoto", str(path.parent), "--out", str(path), "--pixel", "1", "--top", "1", *options])
    with rasterio.open(path) as file:
        if not file.crs.is_projected:
            return None
        (longitude,), (latitude,) = warp.transform(file.crs, "EPSG:4326", [0.0], [0.0])
        return longitude, latitude


def test_what_the_scene_says_is_where_the_map_lies_and_what_is_told_wins(city):
    assert load_output(city)[1].geo_origin == read_manifest(city).geo_origin == LUND
    assert placed(city / "own.tif") == pytest.approx((13.191, 55.7047), abs=1e-6)
    assert placed(city / "told.tif", "--origin", "48.2", "16.37") == pytest.approx((16.37, 48.2), abs=1e-6)


def test_a_city_that_knows_no_place_says_so_and_gets_a_local_map(city, capsys):
    manifest = json.loads((city / "city.json").read_text())
    for key in ("geo_origin", "earlier_scene_hashes", "checksum"):
        del manifest[key]  # as it was written before there were such keys
    written = (city / "city.json").read_bytes()
    (city / "city.json").write_text(json.dumps(manifest))
    assert placed(city / "local.tif") is None
    assert "Nobody said where on Earth this city lies" in "".join(capsys.readouterr()).replace("\n", " ")
    (city / "city.json").write_bytes(written)


def test_a_plan_that_is_used_again_takes_the_scenes_new_place(tmp_path):
    scene, out, config = write_room(tmp_path / "room", images=8), tmp_path / "out", load_config(None, TINY)
    _, _, before = plan_scene(config, scene, out)
    say(scene, {"latitude_deg": -33.9, "longitude_deg": 151.2})
    _, _, after = plan_scene(config, scene, out)
    assert (before.geo_origin, after.geo_origin) == (None, GeoOrigin(-33.9, 151.2))
    assert load_output(out)[1] == after
    write_manifest(out, manifest_of(after, config.block_manager))
    assert read_manifest(out).geo_origin == GeoOrigin(-33.9, 151.2)


@pytest.mark.parametrize(
    ("origin", "message"),
    [
        ({"latitude_deg": 1}, "'geo_origin' must have latitude_deg and longitude_deg"),
        ({"latitude_deg": "north", "longitude_deg": 1}, "all of them numbers; it is"),
        ([55.7, 13.2], "all of them numbers; it is"),
        ({"latitude_deg": 155.7, "longitude_deg": 13.2}, "Latitude 155.7 and longitude 13.2 are not a place"),
        ({"latitude_deg": float("nan"), "longitude_deg": 13.2}, "NaN is not a number that JSON has"),
    ],
)
def test_an_origin_that_is_no_place(tmp_path, origin, message):
    say(write_room(tmp_path, images=4), origin)
    with pytest.raises(UserError, match=message):
        read_scene(tmp_path, DatasetConfig())
