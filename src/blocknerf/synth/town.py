"""The static part of the city: a grid of streets, lots with houses between them, trees, lamps, parked cars."""

from dataclasses import dataclass

import numpy as np

from blocknerf.synth.buildings import add_building
from blocknerf.synth.cars import add_car
from blocknerf.synth.geometry import Material, Mesh, MeshBuilder, Patch, blob, cylinder

HALF_ROAD_M = 5.0  # two lanes of 3 m, two parking strips of 2 m
LANE_M = 1.5  # from the middle of the road to the middle of a lane
PARKING_M = 4.0
PAVEMENT_M = 3.2
KERB_M = 0.12
HOUSE_DEPTH_M = 9.0


@dataclass(frozen=True, slots=True)
class StreetPlan:
    """Streets run north at each x of `xs` and east at each y of `ys`, to the bounds (west, south, east, north)."""

    xs: tuple[float, ...]
    ys: tuple[float, ...]
    bounds: tuple[float, float, float, float]

    def lots(self) -> list[tuple[float, float, float, float]]:
        west, south, east, north = self.bounds
        columns, rows = _gaps(self.xs, west, east), _gaps(self.ys, south, north)
        return [(x0, y0, x1, y1) for x0, x1 in columns for y0, y1 in rows]


@dataclass(frozen=True, slots=True)
class Edge:
    """A side of a lot along a street: from `start` along `along`, `inward` into the lot."""

    start: np.ndarray
    along: np.ndarray
    inward: np.ndarray
    length_m: float
    houses_m: tuple[float, float]  # where along it houses stand; another row is around the corner

    def point(self, along_m: float, inward_m: float) -> np.ndarray:
        return self.start + along_m * self.along + inward_m * self.inward


def build_town(plan: StreetPlan, rng: np.random.Generator) -> Mesh:
    builder = MeshBuilder()
    _add_ground(builder, plan)
    _add_markings(builder, plan)
    for lot in plan.lots():
        _add_lot(builder, rng, plan, lot)
    _add_street_ends(builder, rng, plan)
    _add_skyline(builder, rng, plan)
    return builder.mesh()


def _gaps(streets: tuple[float, ...], low: float, high: float) -> list[tuple[float, float]]:
    edges = [low, *(street + side for street in streets for side in (-HALF_ROAD_M, HALF_ROAD_M)), high]
    return [(a, b) for a, b in zip(edges[::2], edges[1::2], strict=True) if b - a > 1.0]


def _flat(builder: MeshBuilder, x: tuple, y: tuple, z_m: float, material: Material, tint) -> None:
    patch = builder.patch(Patch(material, (0, 0, z_m), (1, 0, 0), (0, 1, 0), (1, 1), tint))
    builder.quad([(x[0], y[0], z_m), (x[1], y[0], z_m), (x[1], y[1], z_m), (x[0], y[1], z_m)], patch)


def _add_ground(builder: MeshBuilder, plan: StreetPlan) -> None:
    west, south, east, north = plan.bounds
    _flat(builder, (west - 500, east + 500), (south - 500, north + 500), -0.05, Material.GRASS, (0.12, 0.17, 0.05))
    _flat(builder, (west - 2, east + 2), (south - 2, north + 2), 0.0, Material.ROAD, (0.13, 0.13, 0.135))


def _add_markings(builder: MeshBuilder, plan: StreetPlan) -> None:
    """Dashed middle lines, and zebra crossings where streets meet."""
    west, south, east, north = plan.bounds
    white = (0.62, 0.62, 0.58)

    def mark(along: float, across: float, length: float, width: float, eastward: bool) -> None:
        x, y = ((along, along + length), (across - width / 2, across + width / 2))
        _flat(builder, *((x, y) if eastward else (y, x)), 0.006, Material.ROAD, white)

    for eastward, streets, crossings, low, high in (
        (True, plan.ys, plan.xs, west, east),
        (False, plan.xs, plan.ys, south, north),
    ):
        for street in streets:
            for along in np.arange(low + 2.0, high - 2.0, 5.0):
                if all(abs(along + 1.2 - crossing) > HALF_ROAD_M + 6.0 for crossing in crossings):
                    mark(along, street, 2.4, 0.16, eastward)
            for crossing in crossings:
                for side in (-HALF_ROAD_M - 4.2, HALF_ROAD_M + 1.2):
                    for across in np.arange(-HALF_ROAD_M + 0.6, HALF_ROAD_M - 0.3, 1.0):
                        mark(crossing + side, street + across, 3.0, 0.5, eastward)


def _add_lot(builder: MeshBuilder, rng: np.random.Generator, plan: StreetPlan, lot: tuple) -> None:
    x0, y0, x1, y1 = lot
    builder.box((x0, y0, 0.0), (x1, y1, KERB_M), Material.PAVEMENT, (0.33, 0.32, 0.30))
    edges = _street_edges(plan, lot)
    inner = [PAVEMENT_M if any(e.inward @ n > 0 for e in edges) else 0.0 for n in ((1, 0), (0, 1), (-1, 0), (0, -1))]
    _flat(
        builder,
        (x0 + inner[0], x1 - inner[2]),
        (y0 + inner[1], y1 - inner[3]),
        KERB_M + 0.02,
        Material.GRASS,
        (0.10, 0.17, 0.045),
    )
    for edge in edges:
        _add_houses(builder, rng, edge)
        _add_trees(builder, rng, edge)
        _add_lamps(builder, edge)
        _add_parked_cars(builder, rng, edge)


def _street_edges(plan: StreetPlan, lot: tuple) -> list[Edge]:
    x0, y0, x1, y1 = lot
    west, south, east, north = plan.bounds
    eastward_m = [PAVEMENT_M if x0 > west else 1.0, PAVEMENT_M if x1 < east else 1.0]
    around = PAVEMENT_M + HOUSE_DEPTH_M + 3.0  # the house on the corner belongs to the eastward street
    northward_m = [around if y0 > south else 1.0, around if y1 < north else 1.0]
    sides = [
        (y0 > south, (x0, y0), (1, 0), (0, 1), x1 - x0, eastward_m),
        (y1 < north, (x0, y1), (1, 0), (0, -1), x1 - x0, eastward_m),
        (x0 > west, (x0, y0), (0, 1), (1, 0), y1 - y0, northward_m),
        (x1 < east, (x1, y0), (0, 1), (-1, 0), y1 - y0, northward_m),
    ]
    edges = []
    for on_street, start, along, inward, length_m, (before_m, after_m) in sides:
        if on_street:
            start_xy, along_xy, inward_xy = (np.array(v, float) for v in (start, along, inward))
            edges.append(Edge(start_xy, along_xy, inward_xy, length_m, (before_m, length_m - after_m)))
    return edges


def _add_houses(builder: MeshBuilder, rng: np.random.Generator, edge: Edge) -> None:
    position, end = edge.houses_m
    while end - position > 6.0:
        width = min(rng.uniform(9.0, 15.0), end - position)
        if end - position - width < 6.0:
            width = min(end - position, 19.0)
        front = PAVEMENT_M + rng.choice([0.0, 0.0, 0.6, 1.2])
        a, b = edge.point(position, front), edge.point(position + width, front + HOUSE_DEPTH_M)
        low, high = np.minimum(a, b), np.maximum(a, b)
        add_building(builder, rng, tuple(low), tuple(high), int(rng.integers(2, 5)), KERB_M)
        position += width + (rng.uniform(2.5, 5.0) if rng.random() < 0.35 else 0.05)


def _add_trees(builder: MeshBuilder, rng: np.random.Generator, edge: Edge) -> None:
    for along in np.arange(6.0, edge.length_m - 5.0, 11.0):
        if rng.random() < 0.7:
            add_tree(builder, rng, edge.point(along + rng.uniform(-1.5, 1.5), 0.9))


def add_tree(builder: MeshBuilder, rng: np.random.Generator, xy: np.ndarray) -> None:
    """A trunk and a crown of lumpy balls."""
    base, trunk_m = np.array([*xy, KERB_M]), rng.uniform(2.4, 3.2)
    bark = builder.patch(Patch(Material.BARK, base, tint=(0.16, 0.11, 0.07), number=rng.random()))
    builder.add(cylinder(base, trunk_m + 0.8, (0.17, 0.10)), bark)
    tint = np.array((0.11, 0.20, 0.045)) * rng.uniform(0.8, 1.25) + (rng.uniform(0, 0.06), 0.0, 0.0)
    crown_m, size_m = base + (0, 0, trunk_m + 1.1), rng.uniform(0.85, 1.15)
    for offset in [np.zeros(3), *rng.normal(size=(5, 3)) * (0.85, 0.85, 0.55)]:
        center = crown_m + size_m * offset
        leaves = builder.patch(Patch(Material.LEAVES, center, tint=tint, number=rng.random()))
        builder.add(blob(center, size_m * rng.uniform(0.8, 1.2), rng), leaves)


def _add_lamps(builder: MeshBuilder, edge: Edge) -> None:
    """Lamp posts every 22 m; their arms reach over the kerb."""
    for along in np.arange(11.5, edge.length_m - 4.0, 22.0):
        base = np.array([*edge.point(along, 0.35), KERB_M])
        post = builder.patch(Patch(Material.METAL, base, tint=(0.07, 0.08, 0.08)))
        builder.add(cylinder(base, 4.6, (0.08, 0.05)), post)
        head = base + np.array([*(-0.45 * edge.inward), 4.6])
        builder.box(head - (0.3, 0.3, 0.08), head + (0.3, 0.3, 0.08), Material.TRIM, (0.5, 0.5, 0.48))


def _add_parked_cars(builder: MeshBuilder, rng: np.random.Generator, edge: Edge) -> None:
    heading = np.arctan2(edge.along[1], edge.along[0])
    for along in np.arange(9.0, edge.length_m - 8.0, 6.2):
        if rng.random() < 0.25:
            x, y = edge.point(along + rng.uniform(-0.4, 0.4), PARKING_M - HALF_ROAD_M)
            add_car(builder, x, y, heading + np.pi * rng.integers(2), int(rng.integers(6)))


def _add_street_ends(builder: MeshBuilder, rng: np.random.Generator, plan: StreetPlan) -> None:
    """A house and a hedge close every street, so that it does not end in empty space."""
    west, south, east, north = plan.bounds
    depth, half = HOUSE_DEPTH_M, 13.0
    ends = [((x0, y - half), (x0 + depth, y + half)) for y in plan.ys for x0 in (west - depth - 3, east + 3)]
    ends += [((x - half, y0), (x + half, y0 + depth)) for x in plan.xs for y0 in (south - depth - 3, north + 3)]
    for low, high in ends:
        add_building(builder, rng, low, high, int(rng.integers(3, 5)), 0.0)


def _add_skyline(builder: MeshBuilder, rng: np.random.Generator, plan: StreetPlan) -> None:
    """A ring of plain tall blocks far away, visible over the roofs and through gaps."""
    west, south, east, north = plan.bounds
    center, reach = np.array([(west + east) / 2, (south + north) / 2]), 0.5 * max(east - west, north - south)
    for angle in np.arange(0.0, 2 * np.pi, 0.16):
        x, y = center + (reach + rng.uniform(60, 140)) * np.array([np.cos(angle), np.sin(angle)])
        size, tint = rng.uniform(8, 16, 2), rng.uniform(0.25, 0.5) * np.array((1.0, 0.95, 0.9))
        builder.box(
            (x - size[0], y - size[1], -0.05),
            (x + size[0], y + size[1], rng.uniform(10, 32)),
            Material.STONE,
            tint,
            rng.random(),
        )
