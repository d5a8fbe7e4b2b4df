"""How many cores: what OMP_NUM_THREADS may hold; and work that is spread over them, item by item."""

import os
import threading
import time

import pytest

from blocknerf.runtime.cores import available_cores, settle_threads
from blocknerf.runtime.pool import num_threads
from blocknerf.runtime.threads import each_on_a_core
from tests.support.control_groups import write_groups


@pytest.fixture(autouse=True)
def eight_cores(monkeypatch):
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: set(range(8)), raising=False)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.delenv("NUMBA_NUM_THREADS", raising=False)


@pytest.mark.parametrize("name", ["OMP_NUM_THREADS", "NUMBA_NUM_THREADS"])
@pytest.mark.parametrize(
    ("value", "cores"),
    [("3", 3), ("4,2", 4), (" 2 , 1", 2), ("007", 7), ("99", 8), ("", 8), ("0", 8), ("-1", 8), ("many", 8), ("2x", 8)],
)
def test_the_first_number_counts_and_anything_else_asks_for_nothing(monkeypatch, tmp_path, name, value, cores):
    monkeypatch.setenv(name, value)
    assert available_cores(tmp_path) == cores


@pytest.mark.parametrize("value", ["0", "-1", "many", "9" * 4000])
def test_what_is_no_number_of_threads_is_passed_over(monkeypatch, value):
    """numba refuses to be imported with some of these, and OpenMP complains in lines of its own."""
    monkeypatch.setenv("NUMBA_NUM_THREADS", value)
    monkeypatch.setenv("OMP_NUM_THREADS", "2,1")
    warnings = []
    monkeypatch.setattr(
        "blocknerf.core.logging.log.warning", lambda text, *arguments: warnings.append(text % arguments)
    )
    settle_threads()
    assert "NUMBA_NUM_THREADS" not in os.environ
    assert os.environ["OMP_NUM_THREADS"] == "2,1"
    (message,) = warnings
    assert "NUMBA_NUM_THREADS" in message
    assert len(message) < 120


@pytest.mark.parametrize("policy", [None, "active"])
def test_nobody_spins_unless_asked_to(monkeypatch, policy):
    monkeypatch.setenv("OMP_WAIT_POLICY", policy or "")
    if policy is None:
        monkeypatch.delenv("OMP_WAIT_POLICY")
    settle_threads()
    assert os.environ["OMP_WAIT_POLICY"] == (policy or "passive")


@pytest.mark.parametrize(
    ("group", "files", "cores"),
    [
        ("0::/", {"cpu.max": "200000 100000\n"}, 2),
        ("0::/", {"cpu.max": "150000 100000\n"}, 2),
        ("0::/", {"cpu.max": "10000 100000\n"}, 1),
        ("0::/", {"cpu.max": "max 100000\n"}, 8),
        ("0::/", {"cpu.max": "9900000 100000\n"}, 8),
        ("0::/", {"cpu.max": "nonsense"}, 8),
        ("0::/", {}, 8),
        ("0::/a/b", {"a/b/cpu.max": "max 100000\n", "a/cpu.max": "300000 100000\n"}, 3),
        ("0::/a:b", {"a:b/cpu.max": "300000 100000\n"}, 3),
        ("0::/hidden", {"cpu.max": "300000 100000\n"}, 3),
        ("0::/../other", {"cpu.max": "300000 100000\n"}, 3),
        ("4:cpu,cpuacct:/", {"cpu/cpu.cfs_quota_us": "50000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 1),
        ("4:cpu,cpuacct:/d/x", {"cpu/d/x/cpu.cfs_quota_us": "400000", "cpu/d/x/cpu.cfs_period_us": "100000"}, 4),
        ("4:cpu:/", {"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, 8),
        ("3:cpuset:/a", {"cpu/a/cpu.cfs_quota_us": "100000", "cpu/a/cpu.cfs_period_us": "100000"}, 8),
    ],
)
def test_a_quota_of_time_counts_as_cores(tmp_path, group, files, cores):
    """Of the group itself and of all around it, wherever the container sees them."""
    write_groups(tmp_path, group, files)
    assert available_cores(tmp_path) == cores


def test_a_mask_of_cores_counts(monkeypatch, tmp_path):
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: {3, 5}, raising=False)
    assert available_cores(tmp_path) == 2


def test_items_keep_their_order_and_each_has_one_thread(threads):
    """The first item ends last, and nobody's number of threads has changed afterwards."""

    def call(number):
        time.sleep(0.05 if number == 0 else 0)
        return number, num_threads(), threading.get_ident()

    numbers, inside, who = zip(*each_on_a_core(call, range(8)), strict=True)
    assert numbers == tuple(range(8))
    assert set(inside) == {1}
    assert (threading.get_ident() in who) == (threads == 1)
    assert num_threads() == threads
    assert each_on_a_core(call, []) == []


def test_what_goes_wrong_in_an_item_comes_out(threads):
    with pytest.raises(ZeroDivisionError):
        each_on_a_core(lambda number: 1 / number, [1, 2, 0, 3])
