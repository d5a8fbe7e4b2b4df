"""Streets and junctions: where drives cross themselves or each other, and the streets between.

They come from the drives or from a map. Passes along one street are one street, whatever their lane, direction and
number. A junction of drives is a place from which at least three streets lead, at one height. A corner that every drive
takes is not a junction, nor is a bridge over another street.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from jaxtyping import Bool, Float, Int

from blocknerf.blocks.placement import Cells, along, travelled_m, ways_of
from blocknerf.scene.street_map import Node, StreetMap

STREET_M = 15.0
"""Parallel passes less than this apart are one street; streets this near to a crossing belong to it."""
HEADROOM_M = 3.5
"""Ways that differ by more than this in height are on different levels."""
FULL_SCALE_M = 60.0
"""Block sizes below this shrink both lengths: a capture in other units than metres has a block size in these units."""
STEPS = 5
"""Points of a way for each width of a street."""
CROSSING = np.cos(np.radians(30))
"""Ways at a clear angle are those that differ by more than 30 degrees."""
ALIKE = np.cos(np.radians(45))
ARM_GAP = np.radians(20)
"""Directions nearer to each other than this are one arm of a junction."""
FEWEST_ON_ARM = 2
"""Points that lead along an arm; a single one is noise."""
STEEPEST = 0.3
"""Slope of the steepest streets of San Francisco."""
BREAK = 4.0
"""A step longer than half a block and this many times the typical step is a gap in a drive, not a street; so is any
step longer than a block."""


@dataclass(frozen=True, slots=True)
class Street:
    """A way on the ground from one junction (a row of the network's) to the next; None where it ends without one."""

    path_xy: Float[np.ndarray, "n 2"]
    begins: int | None
    ends: int | None

    @property
    def length_m(self) -> float:
        return float(travelled_m(self.path_xy)[-1])


@dataclass(frozen=True, slots=True)
class StreetNetwork:
    """Every street once, with the junctions at its ends."""

    junctions_xy: Float[np.ndarray, "junctions 2"]
    streets: tuple[Street, ...]


@dataclass(frozen=True, slots=True)
class _Points:
    """Points of ways, evenly along them, with unit directions; `way` is the number of each one's."""

    places: Float[np.ndarray, "n 3"]
    ahead_xy: Float[np.ndarray, "n 2"]
    way: Int[np.ndarray, " n"]

    def __getitem__(self, rows) -> "_Points":
        return _Points(self.places[rows], self.ahead_xy[rows], self.way[rows])

    def __len__(self) -> int:
        return len(self.places)

    @property
    def xy(self) -> Float[np.ndarray, "n 2"]:
        return self.places[:, :2]


def street_m(block_size_m: float) -> float:
    """Assumed width of a street, in the capture's unit."""
    return STREET_M * min(1.0, block_size_m / FULL_SCALE_M)


def streets_of_drives(
    cameras: Float[np.ndarray, "n 3"], drives: Sequence[str], names: Sequence[str], block_size_m: float
) -> StreetNetwork:
    """The network that the drives travelled, from camera positions in the ground frame."""
    width_m, headroom_m = street_m(block_size_m), HEADROOM_M / STREET_M * street_m(block_size_m)
    points = _points_of([cameras[rows] for rows in ways_of(drives, names)], width_m / STEPS, block_size_m / 2)
    if not len(points):
        return StreetNetwork(np.zeros((0, 2)), ())
    known = points[_distinct(points, width_m, headroom_m)]
    junctions = _junctions(known, width_m, headroom_m)
    return StreetNetwork(junctions[:, :2], _streets(points, junctions, width_m, headroom_m))


def streets_of_map(
    streets: StreetMap, places_xy: dict[Node, Float[np.ndarray, "2"]], block_size_m: float
) -> StreetNetwork:
    """The network of a map whose nodes lie at these places on the ground: three ways that meet are a junction."""
    width_m, headroom_m = street_m(block_size_m), HEADROOM_M / STREET_M * street_m(block_size_m)
    beside: dict[Node, list[Node]] = {}
    for one, other in (pair for way in streets.ways for pair in pairwise(way)):
        for node, neighbour in ((one, other), (other, one)):
            known = beside.setdefault(node, [])
            if neighbour not in known and neighbour != node:
                known.append(neighbour)
    meeting = [node for node, others in beside.items() if len(others) > 2]
    flat = {node: np.append(places_xy[node], 0.0) for node in beside}
    found = np.array([flat[node] for node in meeting]).reshape(-1, 3)
    junctions = _merged(found, np.ones(len(found)), width_m, headroom_m)
    ways = [np.array([flat[node] for node in chain]) for chain in _chains(beside)]
    points = _points_of(ways, width_m / STEPS, np.inf)
    return StreetNetwork(junctions[:, :2], _streets(points, junctions, width_m, headroom_m) if len(points) else ())


def _chains(beside: dict[Node, list[Node]]) -> Iterator[list[Node]]:
    """Every edge of the map once, joined to the longest ways without branches."""
    walked: set[tuple[Node, Node]] = set()
    ends_first = sorted(beside, key=lambda node: len(beside[node]) == 2)
    for begin in ends_first:
        for ahead in beside[begin]:
            chain = [begin]
            while (chain[-1], ahead) not in walked:
                walked |= {(chain[-1], ahead), (ahead, chain[-1])}
                chain.append(ahead)
                if len(beside[ahead]) != 2:
                    break
                ahead = next(node for node in beside[ahead] if node != chain[-2])
            if len(chain) > 1:
                yield chain


def _points_of(ways: list[Float[np.ndarray, "_ 3"]], step_m: float, gap_m: float) -> _Points:
    """Every `step_m` along the ways, which are cut at gaps and where they turn round."""
    unbroken = [part for way in ways for part in _unbroken(way, step_m, gap_m)]
    parts = [part for way in unbroken for part in _between_turns(_every(way, step_m))]
    numbers = np.repeat(np.arange(len(parts)), [len(part) for part in parts])
    directions = [np.zeros((0, 2)), *(_directions(part[:, :2]) for part in parts)]
    return _Points(np.concatenate([np.zeros((0, 3)), *parts]), np.concatenate(directions), numbers)


def _unbroken(way: np.ndarray, step_m: float, gap_m: float) -> Iterator[np.ndarray]:
    """The parts of a way between its gaps, without standing still."""
    x, y = way[0, :2].tolist()
    kept = [0]
    for row, (next_x, next_y, _) in enumerate(way.tolist()):
        if math.hypot(next_x - x, next_y - y) >= step_m:
            kept.append(row)
            x, y = next_x, next_y
    way = way[kept]
    steps_m = np.linalg.norm(np.diff(way[:, :2], axis=0), axis=1)
    if len(steps_m):
        longest_m = np.clip(BREAK * np.median(steps_m), gap_m, 2 * gap_m)
        gaps = np.flatnonzero(steps_m > longest_m) + 1
        yield from (part for part in np.split(way, gaps) if len(part) > 1)


def _every(way: np.ndarray, step_m: float) -> np.ndarray:
    length_m = travelled_m(way)[-1]
    return along(way, np.linspace(0, length_m, max(2, int(np.ceil(length_m / step_m)) + 1)))


def _between_turns(places: np.ndarray) -> list[np.ndarray]:
    """A way is cut where it turns round within the width of a street: there and back again are two passes."""
    before, after = np.arange(len(places)) - STEPS, np.arange(len(places)) + STEPS
    inside = (before >= 0) & (after < len(places))
    back, ahead = np.zeros((2, len(places), 2))
    back[inside] = places[inside, :2] - places[before[inside], :2]
    ahead[inside] = places[after[inside], :2] - places[inside, :2]
    lengths = np.linalg.norm(back, axis=1) * np.linalg.norm(ahead, axis=1)
    cosines = np.divide((back * ahead).sum(1), lengths, out=np.ones(len(places)), where=lengths > 0)
    turning = np.flatnonzero(cosines < -ALIKE)
    runs = np.split(turning, np.flatnonzero(np.diff(turning) > 1) + 1) if len(turning) else []
    cuts = [int(run[cosines[run].argmin()]) for run in runs]
    return [part for part in np.split(places, cuts) if len(part) > 1]


def _directions(xy: np.ndarray) -> np.ndarray:
    """Unit vectors along a way, over nearly the width of a street to either side: places are noisy."""
    last = len(xy) - 1
    rows = np.arange(len(xy))
    along = xy[np.minimum(rows + 4, last)] - xy[np.maximum(rows - 4, 0)]
    return along / np.linalg.norm(along, axis=1, keepdims=True).clip(min=1e-12)


def _smooth(xy: np.ndarray) -> np.ndarray:
    """Means of as many points as a street is wide; its ends stay."""
    reach = np.minimum(np.arange(len(xy)), np.arange(len(xy))[::-1]).clip(max=STEPS // 2)
    sums = np.concatenate([np.zeros((1, 2)), np.cumsum(xy, axis=0)])
    rows = np.arange(len(xy))
    return (sums[rows + reach + 1] - sums[rows - reach]) / (2 * reach + 1)[:, None]


def _distinct(points: _Points, width_m: float, headroom_m: float) -> Int[np.ndarray, " some"]:
    """One of all points that nearly agree in place and undirected angle, however often a street is driven."""
    angles = np.arctan2(points.ahead_xy[:, 1], points.ahead_xy[:, 0]) % np.pi
    bins = np.column_stack(
        [
            np.floor(points.xy / (width_m / STEPS)),
            np.floor(points.places[:, 2] / headroom_m),
            np.floor(angles / ARM_GAP),
        ]
    )
    return np.sort(np.unique(bins, axis=0, return_index=True)[1])


def _near(xy: np.ndarray, others_xy: np.ndarray, within_m: float) -> tuple[np.ndarray, np.ndarray]:
    """(row, other) of all pairs within this distance."""
    return Cells(others_xy, within_m, within_m, "disc").within_reach(xy)


def _junctions(known: _Points, width_m: float, headroom_m: float) -> Float[np.ndarray, "junctions 3"]:
    """Places near which ways cross at a clear angle and from which at least three arms lead, merged where near."""
    one, other = _near(known.xy, known.xy, width_m)
    level = np.abs(known.places[one, 2] - known.places[other, 2]) <= headroom_m
    cosines = np.abs((known.ahead_xy[one] * known.ahead_xy[other]).sum(axis=1))
    pairs = np.flatnonzero(level & (cosines < CROSSING) & (one < other))
    one, other = one[pairs], other[pairs]
    crossings = _where_lines_meet(known[one], known[other])
    heights = (known.places[one, 2] + known.places[other, 2]) / 2
    found = _merged(np.column_stack([crossings, heights]), 1 - cosines[pairs] ** 2, width_m, headroom_m)
    arms = np.array([_arms(known, place, width_m, headroom_m) for place in found], np.int64)
    return found[arms >= 3]


def _where_lines_meet(one: _Points, other: _Points) -> Float[np.ndarray, "n 2"]:
    """The crossing of the straight lines through both, which differ in direction."""
    apart = other.xy - one.xy
    a, b = one.ahead_xy, other.ahead_xy
    turned = a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]
    along = (apart[:, 0] * b[:, 1] - apart[:, 1] * b[:, 0]) / turned
    return one.xy + along[:, None] * a


def _merged(
    places: Float[np.ndarray, "n 3"], weights: Float[np.ndarray, " n"], width_m: float, headroom_m: float
) -> Float[np.ndarray, "places 3"]:
    """Means of places that are nearer to each other than twice the width of a street, on one level; heaviest first."""
    if not len(places):
        return places
    cells = np.column_stack([np.floor(places[:, :2] / (width_m / 2)), np.floor(places[:, 2] / headroom_m)])
    cell = np.unique(cells, axis=0, return_inverse=True)[1].reshape(-1)
    total = np.bincount(cell, weights)
    means = np.stack([np.bincount(cell, weights * column) / total for column in places.T], axis=1)
    heaps: list[tuple[float, np.ndarray]] = []
    for row in np.argsort(-total, kind="stable"):
        place, weight = means[row], float(total[row])
        for number, (heavy, known) in enumerate(heaps):
            offset = np.abs(place - known)
            if math.hypot(*offset[:2]) <= 2 * width_m and offset[2] <= headroom_m:
                heaps[number] = (heavy + weight, (heavy * known + weight * place) / (heavy + weight))
                break
        else:
            heaps.append((weight, place))
    return np.array([place for _, place in heaps])


def _arms(known: _Points, place: Float[np.ndarray, "3"], width_m: float, headroom_m: float) -> int:
    """In how many directions ways lead away where they cross a ring around the place: lanes of a street in one."""
    offsets = known.places - place
    distances_m = np.linalg.norm(offsets[:, :2], axis=1)
    level = np.abs(offsets[:, 2]) <= headroom_m + STEEPEST * distances_m
    ring = (distances_m > 1.2 * width_m) & (distances_m < 2 * width_m) & level
    radial = (offsets[ring, :2] * known.ahead_xy[ring]).sum(axis=1) / distances_m[ring]
    leads = np.abs(radial) > ALIKE
    outward = known.ahead_xy[ring][leads] * np.sign(radial[leads])[:, None]
    angles = np.sort(np.arctan2(outward[:, 1], outward[:, 0]))
    gaps = np.flatnonzero(np.diff(angles, append=angles[:1] + 2 * np.pi) > ARM_GAP)
    if not len(gaps):
        return min(len(angles), 1)
    points = np.diff(gaps, prepend=gaps[-1] - len(angles))
    return int((points >= FEWEST_ON_ARM).sum())


def _streets(
    points: _Points, junctions: Float[np.ndarray, "junctions 3"], width_m: float, headroom_m: float
) -> tuple[Street, ...]:
    """Pieces of ways between junctions, each street once: those from junction to junction first, then the longest."""
    ways = np.split(np.arange(len(points)), np.flatnonzero(np.diff(points.way)) + 1)
    pieces = [piece for way in ways for piece in _pieces(points[way], junctions, width_m, headroom_m)]
    pieces.sort(key=lambda piece: (-piece.junctions, 0 if piece.junctions == 2 else -len(piece.points)))
    kept: list[_Piece] = []
    for piece in pieces:
        fresh = piece.fresh(kept, width_m, headroom_m)
        if piece.junctions == 2:
            kept += [piece] * bool(fresh.mean() > 0.5)
            continue
        for end in {piece.begins, piece.ends} - {None}:
            fresh &= np.linalg.norm(piece.points.xy - junctions[end, :2], axis=1) > 1.5 * width_m
        kept += [part for part in piece.parts(fresh, junctions, width_m) if len(part.points) > STEPS]
    return tuple(piece.street(junctions) for piece in kept)


@dataclass(frozen=True, slots=True)
class _Piece:
    """Points of a way between two junctions, or between one and an end."""

    points: _Points
    begins: int | None
    ends: int | None

    @property
    def junctions(self) -> int:
        return (self.begins is not None) + (self.ends is not None)

    def fresh(self, kept: "list[_Piece]", width_m: float, headroom_m: float) -> Bool[np.ndarray, " points"]:
        """Which points lie on no street that is known, nor on an earlier part of this one."""
        one, other = _near(self.points.xy, self.points.xy, width_m)
        again = self._along(one, self.points, other, headroom_m) & (one - other > 4 * STEPS)
        fresh = np.ones(len(self.points), bool)
        fresh[one[again]] = False
        low, high = self.points.xy.min(axis=0) - width_m, self.points.xy.max(axis=0) + width_m
        for street in kept:
            if (street.points.xy.max(axis=0) < low).any() or (street.points.xy.min(axis=0) > high).any():
                continue
            one, other = _near(self.points.xy, street.points.xy, width_m)
            fresh[one[self._along(one, street.points, other, headroom_m)]] = False
        return fresh

    def _along(self, rows: np.ndarray, others: _Points, near: np.ndarray, headroom_m: float) -> np.ndarray:
        """Which of its points run along points of a street, on their level."""
        alike = np.abs((self.points.ahead_xy[rows] * others.ahead_xy[near]).sum(axis=1)) > ALIKE
        return alike & (np.abs(self.points.places[rows, 2] - others.places[near, 2]) <= headroom_m)

    def parts(self, fresh: Bool[np.ndarray, " points"], junctions: np.ndarray, width_m: float) -> "Iterator[_Piece]":
        """The runs of fresh points; one that begins or ends beside this piece's junction leads there."""
        edges = np.concatenate([[-1], np.flatnonzero(~fresh), [len(fresh)]])
        for before, after in zip(edges[:-1], edges[1:], strict=True):
            if after - before > 1:
                run = self.points[slice(before + 1, after)]
                beside = [
                    end if end is not None and np.linalg.norm(place - junctions[end, :2]) < 2 * width_m else None
                    for end, place in ((self.begins, run.xy[0]), (self.ends, run.xy[-1]))
                ]
                yield _Piece(run, *beside)

    def street(self, junctions: np.ndarray) -> Street:
        """Through the middles of its junctions; without the noise of places, which would make it longer."""
        path = [junctions[[end], :2] if end is not None else np.zeros((0, 2)) for end in (self.begins, self.ends)]
        return Street(np.concatenate([path[0], _smooth(self.points.xy), path[1]]), self.begins, self.ends)


def _pieces(
    way: _Points, junctions: Float[np.ndarray, "junctions 3"], width_m: float, headroom_m: float
) -> Iterator[_Piece]:
    """A way, cut where it passes the junctions."""
    visits = sorted(_visits(way, junctions, width_m, headroom_m))
    stops = [(0, None), *visits, (len(way), None)]
    for (first, begins), (end, ends) in zip(stops[:-1], stops[1:], strict=True):
        if end - first > 1:
            yield _Piece(way[slice(first, end)], begins, ends)


def _visits(way: _Points, junctions: np.ndarray, width_m: float, headroom_m: float) -> Iterator[tuple[int, int]]:
    """(point, junction): where the way is nearest to a junction, each time that it comes by."""
    if not len(junctions):
        return
    rows, numbers = _near(way.xy, junctions[:, :2], 1.5 * width_m)
    level = np.abs(way.places[rows, 2] - junctions[numbers, 2]) <= headroom_m
    rows, numbers = rows[level], numbers[level]
    for junction in np.unique(numbers).tolist():
        rows_near = rows[numbers == junction]
        for run in np.split(rows_near, np.flatnonzero(np.diff(rows_near) > 1) + 1):
            distances_m = np.linalg.norm(way.xy[run] - junctions[junction, :2], axis=1)
            yield int(run[distances_m.argmin()]), junction
