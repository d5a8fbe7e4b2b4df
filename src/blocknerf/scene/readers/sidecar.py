"""`blocknerf_scene.json` beside a capture: what neither COLMAP nor transforms.json can express about an image.

{"version": 1, "images": {NAME: {"drive", "exposure", "mask", "depth", "hour"}}, "test_names": [...], "geo_origin":
{"latitude_deg", "longitude_deg", "altitude_m"}}, all optional except the version; paths are relative to the capture's
folder.
"""

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from blocknerf.core.errors import UserError, quote
from blocknerf.core.reading import read_json
from blocknerf.core.stored import fitted
from blocknerf.scene.scene import GeoOrigin

SIDECAR_NAME = "blocknerf_scene.json"
SIDECAR_VERSION = 1
_KINDS = {"drive": str, "exposure": (int, float), "mask": str, "depth": str, "hour": (int, float)}


@dataclass(frozen=True, slots=True)
class Sidecar:
    images: dict[str, dict[str, Any]] = field(default_factory=dict)
    test_names: frozenset[str] | None = None
    geo_origin: GeoOrigin | None = None


def read_sidecar(data_root: Path) -> Sidecar:
    """The sidecar of a capture, empty if there is none. Raises UserError on another version or a damaged file."""
    path = data_root / SIDECAR_NAME
    if not path.is_file():
        return Sidecar()
    tree = read_json(path, "scene file")
    version = tree.get("version") if isinstance(tree, dict) else None
    if version != SIDECAR_VERSION:
        raise UserError(
            f"{path} is of version {quote(version)}; this program reads version {SIDECAR_VERSION}. "
            "Make the scene again, or remove the file."
        )
    images, test_names = tree.get("images", {}), tree.get("test_names")
    if not isinstance(images, dict):
        raise UserError(f"{path}: 'images' must map image names to their properties.")
    for name, properties in images.items():
        _check(path, name, properties)
    if test_names is not None and not (isinstance(test_names, list) and all(isinstance(n, str) for n in test_names)):
        raise UserError(f"{path}: 'test_names' must be a list of image names.")
    return Sidecar(images, None if test_names is None else frozenset(test_names), _geo_origin(path, tree))


def _geo_origin(path: Path, tree: dict[str, Any]) -> GeoOrigin | None:
    origin = tree.get("geo_origin")
    remedy = (
        "'geo_origin' must have latitude_deg and longitude_deg and may have altitude_m, all of them numbers; it is "
        f"{quote(origin)}."
    )
    return None if origin is None else fitted(GeoOrigin, origin, "geo_origin of the scene file", path, remedy)


def _check(path: Path, name: str, properties: Any) -> None:
    if not isinstance(properties, dict):
        raise UserError(f"{path}: the image {quote(name)} must have a mapping of properties, not {quote(properties)}.")
    for key, value in properties.items():
        if key not in _KINDS:
            raise UserError(
                f"{path}: the image {quote(name)} has an unknown property {quote(key)}; known are {', '.join(_KINDS)}."
            )
        if (
            not isinstance(value, _KINDS[key])
            or isinstance(value, bool)
            or (key == "exposure" and not 0 < value < math.inf)
        ):
            raise UserError(f"{path}: {quote(value)} cannot be the {key} of the image {quote(name)}.")
