"""Streets from OpenStreetMap: a file of its XML (.osm), of Overpass' JSON, or GeoJSON with lines.

Of ways with a key `highway`, those that cars may drive are used, by the rule of OSMnx; GeoJSON lines without that key
are all used. Streets that meet share a node, in GeoJSON the same coordinates.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.parsers import expat

import numpy as np
from jaxtyping import Float

from blocknerf.core.errors import UserError, quote
from blocknerf.core.reading import Damaged, opened, read_bytes, read_json
from blocknerf.scene.colmap_module import pycolmap
from blocknerf.scene.scene import GeoOrigin

MOST_MAP_BYTES = 1 << 29
"""The map of a large city has some 100 MB."""
NOT_DRIVEN = frozenset(
    {
        "abandoned",
        "bridleway",
        "bus_guideway",
        "busway",
        "construction",
        "corridor",
        "cycleway",
        "elevator",
        "escalator",
        "footway",
        "no",
        "path",
        "pedestrian",
        "planned",
        "platform",
        "proposed",
        "raceway",
        "razed",
        "rest_area",
        "service",
        "services",
        "steps",
        "track",
    }
)
"""Values of `highway` without cars (OSMnx, network type `drive`)."""
WHAT = "map of streets"
_REMEDY = "Export it again, as .osm or as JSON of Overpass (`out geom;` or `out body; >; out skel;`)."

Node = int | tuple[int, int]
"""What meeting streets share: a node's number, or its place in 1e-7 degrees."""


@dataclass(frozen=True, slots=True)
class StreetMap:
    """Ways as lists of nodes, and the place of each node: latitude and longitude in degrees."""

    ways: tuple[tuple[Node, ...], ...]
    degrees: dict[Node, tuple[float, float]]

    def enu_m(self, origin: GeoOrigin) -> dict[Node, Float[np.ndarray, "2"]]:
        """Metres east and north of an origin, on its level."""
        altitude_m = origin.altitude_m or 0.0
        flat = np.array([(*degrees, altitude_m) for degrees in self.degrees.values()], np.float64).reshape(-1, 3)
        to_enu = pycolmap.GPSTransform(pycolmap.GPSTransformEllipsoid.WGS84).ellipsoid_to_enu
        places = to_enu(flat, origin.latitude_deg, origin.longitude_deg, altitude_m)
        return dict(zip(self.degrees, np.asarray(places)[:, :2], strict=True))


def read_street_map(path: Path) -> StreetMap:
    """Raises UserError if the file is missing, damaged, of another kind, or has no street."""
    with opened(path, WHAT) as handle:
        begins = handle.read(64).lstrip(b"\xef\xbb\xbf \t\r\n")
    if begins.startswith(b"<"):
        found = _read_xml(path)
    elif begins.startswith((b"{", b"[")):
        found = _of_json(read_json(path, WHAT, MOST_MAP_BYTES, remedy=_REMEDY), path)
    else:
        raise UserError(f"The {WHAT} {path} is neither XML of OpenStreetMap nor JSON. {_REMEDY}")
    if not found.ways:
        raise UserError(f"The {WHAT} {path} holds no street that cars may drive. {_REMEDY}")
    return found


class _Collected:
    """Nodes and ways as a file tells them."""

    def __init__(self) -> None:
        self.degrees: dict[Node, tuple[float, float]] = {}
        self.ways: list[tuple[Node, ...]] = []

    def add_node(self, node: Node, latitude: Any, longitude: Any) -> None:
        """Raises Damaged if it is not a place on Earth."""
        numbers = [value for value in (latitude, longitude) if isinstance(value, int | float)]
        if len(numbers) < 2 or not (abs(numbers[0]) <= 90 and abs(numbers[1]) <= 180):
            raise Damaged(f"latitude {quote(latitude)} and longitude {quote(longitude)} are not a place on Earth")
        self.degrees[node] = (float(numbers[0]), float(numbers[1]))

    def add_way(self, nodes: Iterable[Node], highway: Any, takes_all: bool = False) -> None:
        taken = takes_all if highway is None else isinstance(highway, str) and highway not in NOT_DRIVEN
        if taken:
            self.ways.append(tuple(nodes))

    def street_map(self) -> StreetMap:
        """Extracts lack nodes beyond their border: a way is split there."""
        ways = [part for way in self.ways for part in _known_runs(way, self.degrees)]
        used = {node for way in ways for node in way}
        return StreetMap(tuple(ways), {node: place for node, place in self.degrees.items() if node in used})


def _known_runs(way: tuple[Node, ...], known: dict[Node, tuple[float, float]]) -> list[tuple[Node, ...]]:
    runs: list[list[Node]] = [[]]
    for node in way:
        if node in known:
            runs[-1].append(node)
        elif runs[-1]:
            runs.append([])
    return [tuple(run) for run in runs if len(run) > 1]


def _read_xml(path: Path) -> StreetMap:
    found, way, tags = _Collected(), [], {}

    def begin(name: str, attributes: dict[str, str]) -> None:
        if name == "node":
            found.add_node(int(attributes["id"]), float(attributes["lat"]), float(attributes["lon"]))
        elif name == "way":
            way.clear()
            tags.clear()
        elif name == "nd":
            way.append(int(attributes["ref"]))
        elif name == "tag":
            tags[attributes["k"]] = attributes["v"]

    def end(name: str) -> None:
        if name == "way":
            found.add_way(tuple(way), tags.get("highway"))

    def refuse(*_: object) -> None:
        raise Damaged("it defines entities, which no map does")

    parser = expat.ParserCreate()
    parser.StartElementHandler, parser.EndElementHandler = begin, end
    parser.StartDoctypeDeclHandler = refuse
    content = read_bytes(path, WHAT, MOST_MAP_BYTES)
    try:
        parser.Parse(content, True)
    except (expat.ExpatError, KeyError, ValueError) as error:
        reason = f"it lacks {error}" if isinstance(error, KeyError) else error
        raise UserError(f"The {WHAT} {path} is damaged: {reason}. {_REMEDY}") from error
    return found.street_map()


def _of_json(tree: Any, path: Path) -> StreetMap:
    try:
        if isinstance(tree, dict) and "elements" in tree:
            return _of_overpass(tree["elements"])
        if isinstance(tree, dict) and "type" in tree:
            return _of_geojson(tree)
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        raise UserError(f"The {WHAT} {path} is damaged: {error}. {_REMEDY}") from error
    raise UserError(f"The {WHAT} {path} is neither JSON of Overpass nor GeoJSON. {_REMEDY}")


def _of_overpass(elements: list[dict[str, Any]]) -> StreetMap:
    """Places of nodes come as elements, or beside the ways (`out geom`)."""
    found = _Collected()
    for element in elements:
        if element["type"] == "node":
            found.add_node(int(element["id"]), element["lat"], element["lon"])
        elif element["type"] == "way":
            nodes = [int(node) for node in element["nodes"]]
            for node, place in zip(nodes, element.get("geometry") or [], strict=False):
                if place is not None:
                    found.add_node(node, place["lat"], place["lon"])
            found.add_way(nodes, element.get("tags", {}).get("highway"))
    return found.street_map()


def _of_geojson(tree: dict[str, Any]) -> StreetMap:
    found = _Collected()
    features = tree["features"] if tree["type"] == "FeatureCollection" else [tree]
    for feature in features:
        geometry = feature["geometry"] if feature["type"] == "Feature" else feature
        if geometry is None or geometry["type"] not in ("LineString", "MultiLineString"):
            continue
        highway = (feature.get("properties") or {}).get("highway")
        lines = [geometry["coordinates"]] if geometry["type"] == "LineString" else geometry["coordinates"]
        for line in lines:
            nodes = []
            for longitude, latitude, *_ in line:
                nodes.append((round(1e7 * latitude), round(1e7 * longitude)))
                found.add_node(nodes[-1], latitude, longitude)
            found.add_way(nodes, highway, takes_all=True)
    return found.street_map()
