"""Whether photographs and rays end in the same colour."""

from collections.abc import Callable

import numpy as np

from blocknerf.core.logging import log
from blocknerf.scene.store import ImageStore

_LOOKED_AT = 16
_NEARLY = 8
_MOST = 0.5
"""Share of the pixels at the edges of photographs."""


def say_other_ground(store: ImageStore, white_background: bool) -> None:
    """Warns if rays end in white but most of the photographs' edges are black, or the reverse.

    The field could then learn an empty background only as walls in the air.
    """
    ids = store.image_ids[:: -(-len(store.image_ids) // _LOOKED_AT)]
    edges = [edge for image_id in ids for edge in _edges(store, image_id)]
    pixels = np.concatenate(edges).astype(np.int16)
    ends, other, is_other = ("white", "black", _is_black) if white_background else ("black", "white", _is_white)
    share = float(np.mean(is_other(pixels))) if len(pixels) else 0.0
    if share > _MOST:
        log.warning(
            "Rays end in %s, but %.0f %% of the pixels at the edges of photographs are %s. Where that is nothing, no "
            "surface, set dataset.white_background=%s.",
            ends,
            100 * share,
            other,
            "false" if white_background else "true",
        )


def _edges(store: ImageStore, image_id: str) -> list[np.ndarray]:
    level = store.num_levels - 1
    rgb, valid = store.rgb(image_id, level), store.valid(image_id, level)
    sides: list[Callable[[np.ndarray], np.ndarray]] = [
        lambda of: of[0],
        lambda of: of[-1],
        lambda of: of[:, 0],
        lambda of: of[:, -1],
    ]
    return [side(rgb)[side(valid)] for side in sides]


def _is_black(pixels: np.ndarray) -> np.ndarray:
    return pixels.max(axis=1) <= _NEARLY


def _is_white(pixels: np.ndarray) -> np.ndarray:
    return pixels.min(axis=1) >= 255 - _NEARLY
