"""Which pictures are compared."""

import itertools

import numpy as np
import pytest

from blocknerf.core.errors import UserError
from blocknerf.prepare.pairs import FEW, OVERLAP, anchor_pairs, plan_pairs, sequential_pairs, spatial_pairs
from blocknerf.prepare.shots import CapturedImage


def shots_in(*folders: tuple[str, int]) -> list[CapturedImage]:
    return [
        CapturedImage(f"{folder}/{n:04d}.jpg", 40, 30, "", folder) for folder, count in folders for n in range(count)
    ]


def grid(count: int) -> np.ndarray:
    rng = np.random.default_rng(0)
    return np.stack(np.divmod(np.arange(count), 20), 1) * 10.0 + rng.uniform(0, 1, (count, 2))


def test_few_are_compared_each_with_each():
    plan = plan_pairs(shots_in(("a", 5), ("b", 4)), None, "auto", has_vocabulary=False)
    names = [shot.name for shot in shots_in(("a", 5), ("b", 4))]
    assert plan.matching == "exhaustive"
    assert plan.pairs == tuple(itertools.combinations(names, 2))


def test_neighbours_by_gps_are_those_of_brute_force():
    places = grid(150)
    places[7] = np.nan
    found = set(spatial_pairs(places, 6))
    distances = np.linalg.norm(places[:, None] - places[None], axis=2)
    expected = set()
    for row in range(150):
        nearest = [other for other in np.argsort(distances[row]) if other != row and np.isfinite(distances[row, other])]
        expected |= {(min(row, int(other)), max(row, int(other))) for other in nearest[:6] if row != 7}
    assert found == expected


def test_all_in_one_place_are_no_crash():
    assert set(spatial_pairs(np.zeros((4, 2)), 6)) == set(itertools.combinations(range(4), 2))


def test_sequences_stay_in_their_folder_and_reach_further_and_further():
    shots = shots_in(("a", 40), ("b", 40))
    pairs = set(sequential_pairs(shots, OVERLAP))
    assert all(shots[a].folder == shots[b].folder for a, b in pairs)
    assert {b - a for a, b in pairs} == {*range(1, OVERLAP + 1), 16, 32}


def test_sequences_go_by_time_where_it_is_known():
    order = [3, 0, 4, 1, 5, 2]
    shots = [CapturedImage(f"{n}.jpg", 40, 30, "", "", float(order.index(n))) for n in range(6)]
    expected = {tuple(sorted((order[i], order[i + step]))) for step in (1, 2, 4) for i in range(6 - step)}
    assert set(sequential_pairs(shots, 1)) == expected


CHOICES = [(True, True, "spatial"), (False, True, "vocabulary"), (False, False, "sequential")]


@pytest.mark.parametrize(("gps", "has_vocabulary", "expected"), CHOICES)
def test_of_many_auto_takes_what_there_is(gps, has_vocabulary, expected, caplog):
    shots = shots_in(("a", FEW + 20))
    plan = plan_pairs(shots, grid(FEW + 20) if gps else None, "auto", has_vocabulary)
    assert plan.matching == expected
    assert len(plan.pairs) < 0.6 * (FEW + 20) * (FEW + 19) / 2
    named = {name for pair in plan.pairs for name in pair}
    assert named == {shot.name for shot in shots}


def test_a_few_are_compared_with_all_over_a_long_way():
    pairs = set(anchor_pairs(10_000))
    assert len(pairs) == 60 * 59 / 2
    assert {0, 9999} <= {row for pair in pairs for row in pair}


@pytest.mark.parametrize(
    ("matching", "match"), [("vocabulary", "needs --vocabulary FILE"), ("spatial", "no picture has one")]
)
def test_what_a_choice_lacks_is_said(matching, match):
    with pytest.raises(UserError, match=match):
        plan_pairs(shots_in(("a", 9)), None, matching, has_vocabulary=False)
