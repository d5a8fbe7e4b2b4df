"""The one door to pycolmap: `from blocknerf.scene.colmap_module import pycolmap`.

pycolmap's wheel carries its own zlib. Where it is loaded before Python's `zlib` and Pillow's `_imaging`, the next
PNG or `zlib.compress` crashes or hangs; loaded after them, all is well. Hence the order below, and no other import.
"""

import zlib  # noqa: F401, I001

import PIL._imaging  # noqa: F401
import pycolmap

__all__ = ["pycolmap"]
