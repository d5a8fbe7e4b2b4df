"""How many cores: what OMP_NUM_THREADS may hold."""

import pytest

from blocknerf.runtime.threads import available_cores


@pytest.mark.parametrize(
    ("value", "cores"),
    [("3", 3), ("4,2", 4), (" 2 , 1", 2), ("007", 7), ("99", 8), ("", 8), ("0", 8), ("-1", 8), ("many", 8), ("2x", 8)],
)
def test_the_first_number_counts_and_anything_else_asks_for_nothing(monkeypatch, value, cores):
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: set(range(8)), raising=False)
    monkeypatch.setenv("OMP_NUM_THREADS", value)
    assert available_cores() == cores
