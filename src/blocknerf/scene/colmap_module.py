"""The one door to pycolmap: `from blocknerf.scene.colmap_module import pycolmap`.

pycolmap's wheel carries its own zlib. Where it is loaded before Python's `zlib` and Pillow's `_imaging`, the next
PNG or `zlib.compress` crashes or hangs; loaded after them, all is well. Hence the order below, and no other import.

Its logging takes SIGTERM for itself, to print a stack trace: that signal is given back to who had it.
"""

import signal
import threading
import zlib  # noqa: F401, I001

import PIL._imaging  # noqa: F401

_terminate = signal.getsignal(signal.SIGTERM)
import pycolmap  # noqa: E402

if threading.current_thread() is threading.main_thread():
    signal.signal(signal.SIGTERM, _terminate)

__all__ = ["pycolmap"]
