"""Junctions from OpenStreetMap: its XML, JSON of Overpass and GeoJSON say the same, and what is wrong is a sentence."""

import json
from dataclasses import replace
from pathlib import Path
from xml.sax.saxutils import quoteattr

import numpy as np
import pytest

from blocknerf.blocks.planner import make_plan, planning_hash
from blocknerf.blocks.streets import streets_of_map
from blocknerf.core.config.load import load_config
from blocknerf.core.errors import UserError
from blocknerf.scene.colmap_module import pycolmap
from blocknerf.scene.scene import GeoOrigin
from blocknerf.scene.street_map import read_street_map
from tests.support.made_scenes import crossing

ORIGIN = GeoOrigin(55.7047, 13.191, 62.0)
NODES = {
    1: (-200, 45),
    2: (45, 45),
    3: (85, 45),
    4: (300, 45),
    5: (45, -200),
    6: (45, 300),
    7: (85, 200),
    8: (10, 45),
    9: (10, 90),
    10: (140, 45),
}
"""Metres east and north. Node 2 is where the drives of `crossing` cross; 3 is a side street that nobody drove."""
WAYS = [
    ((1, 8, 2), {"highway": "residential"}),
    ((2, 3, 10, 4), {"highway": "residential", "name": "goes on under another number"}),
    ((5, 2, 6), {"highway": "secondary"}),
    ((3, 7), {"highway": "tertiary"}),
    ((8, 9), {"highway": "footway"}),
    ((10, 9), {"building": "yes"}),
]


def degrees(node: int) -> tuple[float, float]:
    to_degrees = pycolmap.GPSTransform(pycolmap.GPSTransformEllipsoid.WGS84).enu_to_ellipsoid
    place = to_degrees(np.array([(*NODES[node], 0.0)]), ORIGIN.latitude_deg, ORIGIN.longitude_deg, ORIGIN.altitude_m)[0]
    return round(float(place[0]), 7), round(float(place[1]), 7)


def xml() -> str:
    nodes = [f'<node id="{node}" lat="{degrees(node)[0]}" lon="{degrees(node)[1]}"/>' for node in NODES]
    ways = []
    for number, (way, tags) in enumerate(WAYS):
        tag_lines = "".join(f"<tag k={quoteattr(key)} v={quoteattr(value)}/>" for key, value in tags.items())
        ways.append(
            f'<way id="{number}">{"".join(f"<nd ref={quoteattr(str(node))}/>" for node in way)}{tag_lines}</way>'
        )
    return f'<?xml version="1.0" encoding="UTF-8"?>\n<osm version="0.6">{"".join(nodes + ways)}</osm>'


def overpass() -> str:
    nodes = [{"type": "node", "id": node, "lat": degrees(node)[0], "lon": degrees(node)[1]} for node in NODES]
    ways = [{"type": "way", "id": i, "nodes": way, "tags": tags} for i, (way, tags) in enumerate(WAYS)]
    return json.dumps({"version": 0.6, "elements": [*nodes, *ways]})


def overpass_with_geometry() -> str:
    ways = [
        {
            "type": "way",
            "id": i,
            "nodes": way,
            "tags": tags,
            "geometry": [{"lat": degrees(node)[0], "lon": degrees(node)[1]} for node in way],
        }
        for i, (way, tags) in enumerate(WAYS)
    ]
    return json.dumps({"elements": ways})


def geojson() -> str:
    features = [
        {
            "type": "Feature",
            "properties": tags,
            "geometry": {"type": "LineString", "coordinates": [degrees(node)[::-1] for node in way]},
        }
        for way, tags in WAYS
        if "highway" in tags
    ]
    return json.dumps({"type": "FeatureCollection", "features": features})


FORMS = {"map.osm": xml, "map.json": overpass, "geom.json": overpass_with_geometry, "map.geojson": geojson}


@pytest.fixture(params=FORMS)
def path(request, tmp_path) -> Path:
    path = tmp_path / request.param
    path.write_text(FORMS[request.param]())
    return path


def planned(path: Path, scene=None, *overrides: str):
    scene = replace(crossing(), geo_origin=ORIGIN) if scene is None else scene
    settings = (
        "block_manager.placement=junctions",
        "block_manager.block_size=24",
        f"block_manager.streets_file={path}",
    )
    return make_plan(scene, load_config(None, [*settings, "block_manager.min_images_per_block=1", *overrides]))


def test_every_form_gives_the_same_streets_and_what_cars_may_not_drive_is_none(path):
    streets = read_street_map(path)
    places = streets.enu_m(ORIGIN)
    network = streets_of_map(streets, places, 60.0)
    found = sorted(map(tuple, np.round(network.junctions_xy, 1).tolist()))
    assert found == [(45.0, 45.0), (85.0, 45.0)]
    np.testing.assert_allclose(
        sorted(street.length_m for street in network.streets), [40, 155, 215, 245, 245, 255], atol=3
    )


def test_a_side_street_that_nobody_drove_is_a_junction_on_the_map(path):
    plan = planned(path)
    anchors = np.array([block.anchor_world for block in plan.blocks])[:, :2]
    assert np.linalg.norm(anchors - (45, 45), axis=1).min() < 0.5
    assert np.linalg.norm(anchors - (85, 45), axis=1).min() < 0.5
    from_drives = make_plan(
        replace(crossing(), geo_origin=ORIGIN),
        load_config(None, ["block_manager.placement=junctions", "block_manager.block_size=24"]),
    )
    anchors = np.array([block.anchor_world for block in from_drives.blocks])[:, :2]
    assert np.linalg.norm(anchors - (85, 45), axis=1).min() > 5


def test_only_what_was_driven_has_blocks(path):
    cells = [cell for block in planned(path).blocks for cell in block.cells_xy]
    frame = planned(path).ground().frame()
    world = frame.to_world(np.column_stack([np.array(cells), np.zeros(len(cells))]))
    cameras = crossing().centers_world
    assert np.linalg.norm(world[:, None, :2] - cameras[None, :, :2], axis=2).min(axis=1).max() < 15


def test_a_capture_that_was_shifted_stands_on_the_same_streets(path):
    scene = replace(crossing(), geo_origin=ORIGIN)
    offset = np.array([1000.0, -3000.0, 0.0])
    images = tuple(
        replace(image, world_from_cam=image.world_from_cam - np.column_stack([np.zeros((3, 3)), offset]))
        for image in scene.images
    )
    shifted = planned(path, replace(scene, images=images, world_offset_m=tuple(offset.tolist())))
    for block, before in zip(shifted.blocks, planned(path).blocks, strict=True):
        assert block.train_images == before.train_images
        np.testing.assert_allclose(np.array(block.anchor_world) + offset, before.anchor_world, atol=1e-3)


def test_without_a_place_on_earth_a_map_is_of_no_use(path):
    with pytest.raises(UserError, match="Give its geo_origin"):
        planned(path, crossing())


def test_a_map_of_another_place_is_refused(path):
    other_city = replace(crossing(), geo_origin=GeoOrigin(40.0, -74.0))
    with pytest.raises(UserError, match=r"No street of .* runs within 6 m of a camera"):
        planned(path, other_city)


def test_a_map_without_junctions_leaves_blocks_along_the_drives(tmp_path, caplog):
    path = tmp_path / "one.geojson"
    path.write_text(json.dumps({"type": "LineString", "coordinates": [degrees(1)[::-1], degrees(4)[::-1]]}))
    with caplog.at_level("INFO", logger="blocknerf"):
        plan = planned(path)
    assert "blocks are placed along the drives" in caplog.text
    assert plan.ground().cell_shape == "disc"


def test_another_map_makes_another_plan(tmp_path):
    path = tmp_path / "map.osm"
    overrides = ["block_manager.placement=junctions", f"block_manager.streets_file={path}"]
    path.write_text(xml())
    before = planning_hash(load_config(None, overrides))
    path.write_text(xml().replace("tertiary", "footway"))
    assert planning_hash(load_config(None, overrides)) != before


def test_a_map_goes_with_junctions_alone():
    with pytest.raises(UserError, match="streets_file would change nothing with placement grid"):
        load_config(None, ["block_manager.streets_file=a.osm"])
    with pytest.raises(UserError, match="blocks at junctions are given whole pictures"):
        load_config(None, ["block_manager.placement=junctions", "block_manager.divide_by=surface"])


BOMB = '<?xml version="1.0"?><!DOCTYPE osm [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;&a;">]><osm><node id="&b;"/></osm>'


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "neither XML of OpenStreetMap nor JSON"),
        ("OSMHeader", "neither XML of OpenStreetMap nor JSON"),
        ("<osm><node id='1' lat='1' lon=", "damaged"),
        ("<osm><node id='1' lat='1'/></osm>", "it lacks 'lon'"),
        ("<osm><node id='1' lat='91' lon='0'/></osm>", "latitude 91.0 and longitude 0.0 are not a place on Earth"),
        ("<osm><node id='1' lat='nan' lon='0'/></osm>", "are not a place on Earth"),
        ("<osm><node id='one' lat='1' lon='0'/></osm>", "damaged"),
        (BOMB, "it defines entities"),
        ("<osm/>", "holds no street that cars may drive"),
        ("{", "damaged"),
        ("[1]", "neither JSON of Overpass nor GeoJSON"),
        ('{"type": "FeatureCollection"}', "damaged"),
        ('{"type": "FeatureCollection", "features": []}', "holds no street"),
        ('{"type": "LineString", "coordinates": [[1], [2, 3]]}', "damaged"),
        ('{"type": "LineString", "coordinates": [["a", 1], [2, 3]]}', "damaged"),
        ('{"type": "LineString", "coordinates": [[true, 1], [2, 300]]}', "are not a place on Earth"),
        ('{"elements": [{"type": "way", "nodes": 3}]}', "damaged"),
        ('{"elements": [{"type": "way", "nodes": [3, 4], "tags": {"highway": "primary"}}]}', "holds no street"),
        ('{"elements": [{"type": "way", "nodes": [3, 4], "tags": {"highway": 7}}]}', "holds no street"),
        ('{"elements": {"a": 1}}', "damaged"),
    ],
)
def test_what_is_no_map_is_a_sentence(tmp_path, content, message):
    path = tmp_path / "map"
    path.write_text(content)
    with pytest.raises(UserError, match=message):
        read_street_map(path)


def test_a_missing_map_is_a_sentence(tmp_path):
    with pytest.raises(UserError, match="There is no map of streets at"):
        planned(tmp_path / "none.osm")
