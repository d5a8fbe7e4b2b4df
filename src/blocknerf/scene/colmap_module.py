"""The only import of pycolmap: `from blocknerf.scene.colmap_module import pycolmap`.

pycolmap's wheel carries its own zlib. If it is loaded before Python's `zlib` and Pillow's `_imaging`, the next PNG or
`zlib.compress` crashes or hangs; loaded after them, all is well. Hence the order below, and no other import.

Its logging (glog) takes SIGSEGV, SIGABRT, SIGTERM and others for itself, to print a stack. A process that crashes in
its allocator then waits in that handler for ever, and SIGTERM no longer ends it. Hence every signal is given back.
"""

import zlib  # noqa: F401, I001

import PIL._imaging  # noqa: F401

from blocknerf.core.signal_handlers import kept_handlers

with kept_handlers():
    import pycolmap

__all__ = ["pycolmap"]
