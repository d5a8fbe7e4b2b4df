"""How many cores: what OMP_NUM_THREADS may hold; and work that is spread over them, item by item."""

import threading
import time

import numba
import pytest

from blocknerf.runtime.threads import available_cores, each_on_a_core


@pytest.mark.parametrize(
    ("value", "cores"),
    [("3", 3), ("4,2", 4), (" 2 , 1", 2), ("007", 7), ("99", 8), ("", 8), ("0", 8), ("-1", 8), ("many", 8), ("2x", 8)],
)
def test_the_first_number_counts_and_anything_else_asks_for_nothing(monkeypatch, value, cores):
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: set(range(8)), raising=False)
    monkeypatch.setenv("OMP_NUM_THREADS", value)
    assert available_cores() == cores


def test_items_keep_their_order_and_each_has_one_thread(threads):
    """The first item ends last, and nobody's number of threads has changed afterwards."""

    def call(number):
        time.sleep(0.05 if number == 0 else 0)
        return number, numba.get_num_threads(), threading.get_ident()

    numbers, inside, who = zip(*each_on_a_core(call, range(8)), strict=True)
    assert numbers == tuple(range(8))
    assert set(inside) == {1}
    assert (threading.get_ident() in who) == (threads == 1)
    assert numba.get_num_threads() == threads
    assert each_on_a_core(call, []) == []


def test_what_goes_wrong_in_an_item_comes_out(threads):
    with pytest.raises(ZeroDivisionError):
        each_on_a_core(lambda number: 1 / number, [1, 2, 0, 3])
