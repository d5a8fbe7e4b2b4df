"""A file that is cut while it is mapped ends the process with a sentence, whoever reads it."""

import subprocess
import sys

import pytest

CODE = """
import os, signal, sys, threading
import numpy as np
from blocknerf.runtime.bus_error import on_bus_error
{before}
on_bus_error("The store {name} was cut.")
path = sys.argv[1]
with open(path, "wb") as file:
    file.write(bytes(1 << 20))
mapped = np.memmap(path, np.uint8, "r")
os.truncate(path, 0)
def read():
    print(mapped.sum())
{read}
"""


def read_what_is_cut(path, read: str, before: str = "", name: str = "Straße") -> subprocess.CompletedProcess[str]:
    code = CODE.format(read=read, before=before, name=name)
    return subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize("read", ["read()", "thread = threading.Thread(target=read); thread.start(); thread.join()"])
def test_it_is_one_sentence_and_exit_code_2(tmp_path, read):
    done = read_what_is_cut(tmp_path / "level_0.rgb", read)
    assert (done.returncode, done.stderr) == (2, "\nblocknerf: The store Straße was cut.\n")


def test_a_name_that_the_locale_cannot_read_is_said_in_its_own_bytes(tmp_path):
    done = read_what_is_cut(tmp_path / "level_0.rgb", "read()", name="Stra\\udcc3\\udc9fe")
    assert (done.returncode, done.stderr) == (2, "\nblocknerf: The store Straße was cut.\n")


def test_who_asks_python_for_stacks_gets_them(tmp_path):
    done = read_what_is_cut(tmp_path / "level_0.rgb", "read()", "import faulthandler; faulthandler.enable()")
    assert done.returncode < 0
    assert "Bus error" in done.stderr
