"""The list of picture pairs to compare."""

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float

from blocknerf.core.errors import UserError
from blocknerf.core.logging import log
from blocknerf.prepare.shots import CapturedImage

Matching = Literal["auto", "exhaustive", "sequential", "spatial", "vocabulary"]

FEW = 100
"""Up to this many pictures, all pairs are compared."""
OVERLAP = 8
NEIGHBOURS = 24
_MOST_GAPS = 64
_ANCHORS = 60
_LEAST_GPS_SHARE = 0.9
_CHUNK = 2048


@dataclass(frozen=True, slots=True)
class PairPlan:
    """Pairs of names, and how they were chosen; with `vocabulary` a tree of visual words will find more."""

    matching: Matching
    pairs: tuple[tuple[str, str], ...]


def plan_pairs(
    shots: Sequence[CapturedImage], places_m: Float[np.ndarray, "n 2"] | None, matching: Matching, has_vocabulary: bool
) -> PairPlan:
    """Chooses pairs for `matching`; `auto` also chooses the method, and logs it.

    `places_m` are horizontal positions by GPS, in the order of `shots`, nan without GPS. Raises UserError if the method
    lacks what it needs.
    """
    chosen = _choose(shots, places_m, has_vocabulary) if matching == "auto" else matching
    if chosen == "vocabulary" and not has_vocabulary:
        raise UserError(
            "--matching vocabulary needs --vocabulary FILE, a tree of visual words that the COLMAP project offers for "
            "download. Or take --matching spatial (GPS), sequential (video) or exhaustive (patience)."
        )
    if chosen == "spatial" and (places_m is None or not np.isfinite(places_m).all(axis=1).any()):
        raise UserError("--matching spatial needs GPS positions, and no picture has one. Take sequential, exhaustive.")
    pairs = set(_chosen_pairs(shots, places_m, chosen))
    names = [shot.name for shot in shots]
    named = tuple((names[a], names[b]) for a, b in sorted(pairs))
    log.info(
        "Comparing %d pairs of %d pictures (%s%s).",
        len(named),
        len(names),
        chosen,
        ", chosen by --matching auto" if matching == "auto" else "",
    )
    return PairPlan(chosen, named)


def _choose(shots: Sequence[CapturedImage], places_m: np.ndarray | None, has_vocabulary: bool) -> Matching:
    if len(shots) <= FEW:
        return "exhaustive"
    share = 0.0 if places_m is None else float(np.isfinite(places_m).all(axis=1).mean())
    if share >= _LEAST_GPS_SHARE:
        return "spatial"
    if has_vocabulary:
        return "vocabulary"
    log.warning(
        "%d pictures are too many to compare each with each, only %.0f %% have a GPS position, and no --vocabulary "
        "is given: each is compared with those before and after it, and a few with all. Where the camera comes back "
        "to a place, that can be missed; --matching exhaustive finds it, slowly.",
        len(shots),
        100 * share,
    )
    return "sequential"


def _chosen_pairs(
    shots: Sequence[CapturedImage], places_m: np.ndarray | None, chosen: Matching
) -> Iterable[tuple[int, int]]:
    if chosen == "exhaustive":
        return itertools.combinations(range(len(shots)), 2)
    following = sequential_pairs(shots, OVERLAP)
    if chosen == "spatial":
        assert places_m is not None
        return itertools.chain(following, spatial_pairs(places_m, NEIGHBOURS))
    return following if chosen == "vocabulary" else itertools.chain(following, anchor_pairs(len(shots)))


def sequential_pairs(shots: Sequence[CapturedImage], overlap: int) -> Iterable[tuple[int, int]]:
    """Within each folder, by time and then by name: the next `overlap` pictures, and 2, 4, 8, ... further on."""
    rows: dict[str, list[int]] = {}
    for row in sorted(range(len(shots)), key=lambda row: (shots[row].time_s or 0.0, shots[row].name)):
        rows.setdefault(shots[row].folder, []).append(row)
    steps = sorted({*range(1, overlap + 1), *(2**k for k in range(_MOST_GAPS.bit_length()))})
    for order in rows.values():
        for place, row in enumerate(order):
            for step in steps:
                if place + step < len(order):
                    yield _ascending(row, order[place + step])


def anchor_pairs(count: int) -> Iterable[tuple[int, int]]:
    """All pairs of a few pictures spread over all, so that loops and meeting drives can be found."""
    anchors = np.unique(np.linspace(0, count - 1, min(count, _ANCHORS)).round().astype(int)).tolist()
    return itertools.combinations(anchors, 2)


def spatial_pairs(places_m: Float[np.ndarray, "n 2"], neighbours: int) -> Iterable[tuple[int, int]]:
    """Each with its nearest `neighbours` by horizontal position; pictures without a position are skipped."""
    known = np.flatnonzero(np.isfinite(places_m).all(axis=1))
    places = places_m[known]
    count = min(neighbours + 1, len(known))
    for first in range(0, len(known), _CHUNK):
        chunk = places[first : first + _CHUNK]
        squared = ((chunk[:, None] - places[None]) ** 2).sum(axis=2)
        nearest = np.argpartition(squared, count - 1, axis=1)[:, :count]
        for row, others in enumerate(nearest, first):
            for other in others:
                if other != row:
                    yield _ascending(int(known[row]), int(known[other]))


def _ascending(a: int, b: int) -> tuple[int, int]:
    return (a, b) if a < b else (b, a)
