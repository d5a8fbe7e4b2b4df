"""pycolmap's zlib trap: one module imports it, after zlib and Pillow."""

import subprocess
import sys
from pathlib import Path

import blocknerf

SOURCE = Path(blocknerf.__file__).parent

PROGRAM = """
from blocknerf.scene.colmap_module import pycolmap
import io, zlib
from PIL import Image
file = io.BytesIO()
Image.new("RGB", (64, 48), (1, 2, 3)).save(file, "PNG")
assert Image.open(io.BytesIO(file.getvalue())).getpixel((5, 5)) == (1, 2, 3)
assert zlib.decompress(zlib.compress(b"abc" * 10000)) == b"abc" * 10000
assert pycolmap.Camera(model="PINHOLE", width=2, height=2, params=[1, 1, 1, 1]).width == 2
print("whole")
"""


def test_png_and_zlib_work_after_pycolmap_in_a_fresh_interpreter():
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout.strip()) == (0, "whole"), done.stderr


def test_nothing_else_imports_pycolmap():
    imports = [
        path.relative_to(SOURCE).as_posix()
        for path in SOURCE.rglob("*.py")
        for line in path.read_text().splitlines()
        if line.strip().startswith(("import pycolmap", "from pycolmap"))
    ]
    assert imports == ["scene/colmap_module.py"]
