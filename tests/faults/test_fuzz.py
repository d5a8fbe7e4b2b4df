"""Every reader and every file of ours under hostile input: a finite value comes out, or one sentence.

The same targets and mutations as the campaign of minutes and hours, `python -m benchmarks.robustness.fuzz`. Inputs that
once failed stand in REGRESSIONS, by target, seed and number.
"""

import signal
import warnings
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from benchmarks.robustness.fuzz import HANG_S, _rng
from benchmarks.robustness.targets import Arena, available, mutated
from blocknerf.core.logging import console, log

TIMES = {"store": 15, "waymo": 40, "waymo_index": 60, "mega_nerf": 60, "photographs": 60}
"""How often each is tried; 100 times as a rule."""
REGRESSIONS: tuple[tuple[str, int, int], ...] = (("transforms", 4, 766), ("camera_paths", 5, 2971))


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    before = log.level
    log.setLevel(1000)
    console.quiet = True
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        yield
    console.quiet = False
    log.setLevel(before)


@pytest.fixture(scope="module")
def arenas(tmp_path_factory: pytest.TempPathFactory):
    made: dict[str, Arena] = {}

    def of(name: str) -> Arena:
        if name not in made:
            made[name] = Arena(available()[name], tmp_path_factory.mktemp("fuzz") / name)
        return made[name]

    return of


def read_within_time(arena: Arena, number: int, seed: int = 0) -> None:
    def hang(*_: object) -> None:
        raise TimeoutError(f"{arena.target.name} took more than {HANG_S} s")

    changed = mutated(arena.target, _rng(seed, arena.target.name, number), arena.seeds)
    before = signal.signal(signal.SIGALRM, hang)
    signal.alarm(HANG_S)
    try:
        assert arena.try_files(changed) is None
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize("name", available())
def test_valid_files_are_read(arenas, name):
    assert arenas(name).try_files({}) is None
    assert arenas(name).target.read(arenas(name).folder) is not None


@pytest.mark.parametrize("name", available())
def test_hostile_files_are_read_or_refused(arenas, name):
    arena = arenas(name)

    @settings(
        max_examples=TIMES.get(name, 100),
        deadline=None,
        database=None,
        derandomize=True,
        suppress_health_check=[HealthCheck.function_scoped_fixture],
    )
    @given(st.integers(0, 10**9))
    def tried(number: int) -> None:
        read_within_time(arena, number)

    tried()


@pytest.mark.parametrize(("name", "seed", "number"), REGRESSIONS)
def test_what_once_failed(arenas, name, seed, number):
    read_within_time(arenas(name), number, seed)
