"""Houses: walls with recessed windows, doors, shops with awnings, ledges, cornices and roofs."""

from dataclasses import dataclass

import numpy as np

from blocknerf.synth.geometry import Material, MeshBuilder, Patch

GROUND_FLOOR_M = 3.8
FLOOR_M = 3.1
BAY_M = 2.9

Span = tuple[float, float]

_WALLS = [
    (Material.BRICK, (0.36, 0.13, 0.08)),
    (Material.BRICK, (0.44, 0.26, 0.16)),
    (Material.BRICK, (0.24, 0.12, 0.09)),
    (Material.PLASTER, (0.62, 0.50, 0.30)),
    (Material.PLASTER, (0.55, 0.56, 0.52)),
    (Material.PLASTER, (0.32, 0.44, 0.52)),
    (Material.PLASTER, (0.60, 0.38, 0.30)),
    (Material.PLASTER, (0.42, 0.50, 0.34)),
    (Material.STONE, (0.50, 0.46, 0.39)),
    (Material.STONE, (0.40, 0.38, 0.36)),
]
_DOORS = [(0.05, 0.14, 0.10), (0.28, 0.04, 0.04), (0.05, 0.08, 0.22), (0.20, 0.10, 0.04)]
_AWNINGS = [(0.50, 0.06, 0.05), (0.05, 0.28, 0.14), (0.08, 0.14, 0.40), (0.55, 0.32, 0.05)]


@dataclass(frozen=True, slots=True)
class Style:
    wall: Material
    tint: np.ndarray
    trim: np.ndarray
    window_m: tuple[float, float]  # width, height
    has_shop: bool


def draw_style(rng: np.random.Generator) -> Style:
    wall, tint = _WALLS[rng.integers(len(_WALLS))]
    window_m = (rng.uniform(1.1, 1.6), rng.uniform(1.5, 1.9))
    trim = np.full(3, rng.uniform(0.45, 0.7)) * (1.0, 0.97, 0.9)
    return Style(wall, np.array(tint) * rng.uniform(0.85, 1.15), trim, window_m, bool(rng.random() < 0.45))


def add_building(
    builder: MeshBuilder, rng: np.random.Generator, low_xy: tuple, high_xy: tuple, floors: int, base_z_m: float
) -> None:
    """A house on an axis-aligned plot; all four walls have windows."""
    style = draw_style(rng)
    height_m = GROUND_FLOOR_M + (floors - 1) * FLOOR_M + 0.5
    (x0, y0), (x1, y1) = low_xy, high_xy
    for (ax, ay), (bx, by) in [
        ((x0, y0), (x1, y0)),
        ((x1, y0), (x1, y1)),
        ((x1, y1), (x0, y1)),
        ((x0, y1), (x0, y0)),
    ]:
        width_m = float(np.hypot(bx - ax, by - ay))
        s_axis = ((bx - ax) / width_m, (by - ay) / width_m, 0.0)
        frame = Patch(style.wall, (ax, ay, base_z_m), s_axis, (0, 0, 1), (width_m, height_m), style.tint, rng.random())
        add_facade(builder, rng, frame, style, floors)
    _add_roof(builder, rng, low_xy, high_xy, base_z_m + height_m)


def add_facade(builder: MeshBuilder, rng: np.random.Generator, frame: Patch, style: Style, floors: int) -> None:
    """One wall in the plane of `frame`, seen from the side s_axis x t_axis."""
    width_m, height_m = np.asarray(frame.size, float)
    bays = max(1, int(width_m / BAY_M))
    bay_m = width_m / bays
    wall, trim = builder.patch(frame), builder.patch(_on(frame, Material.TRIM, style.trim, frame.number))
    door_bay = int(rng.integers(bays))
    for floor in range(floors):
        bottom = 0.0 if floor == 0 else GROUND_FLOOR_M + (floor - 1) * FLOOR_M
        top = GROUND_FLOOR_M + floor * FLOOR_M
        for bay in range(bays):
            cell = (bay * bay_m, (bay + 1) * bay_m), (bottom, top)
            opening, material, tint = _opening(rng, style, cell, floor, bay == door_bay)
            _add_opening(builder, rng, wall, trim, cell, opening, material, tint)
        if floor < floors - 1 or floors == 1:
            _slab(builder, trim, (0.0, width_m), (top - 0.14, top + 0.06), 0.10)
    builder.rectangle(wall, (0.0, width_m), (top, height_m))
    _slab(builder, trim, (-0.15, width_m + 0.15), (height_m - 0.30, height_m), 0.30)
    if style.has_shop:
        _add_awning(builder, rng, frame, door_bay, bay_m, bays)


def _opening(rng, style: Style, cell: tuple[Span, Span], floor: int, is_door: bool):
    """The opening in a bay: ((s span, t span), material, tint)."""
    (s0, s1), (t0, t1) = cell
    middle = 0.5 * (s0 + s1)
    if floor == 0 and is_door:
        return ((middle - 0.6, middle + 0.6), (0.0, 2.5)), Material.DOOR, _DOORS[rng.integers(len(_DOORS))]
    if floor == 0 and style.has_shop:
        return ((s0 + 0.3, s1 - 0.3), (0.5, 2.7)), Material.SHOP, (0.10, 0.11, 0.12)
    width, height = style.window_m
    sill = t0 + (1.1 if floor == 0 else 0.85)
    top = min(sill + height, t1 - 0.35)
    return ((middle - width / 2, middle + width / 2), (sill, top)), Material.WINDOW, (0.75, 0.74, 0.70)


def _add_opening(builder: MeshBuilder, rng, wall: int, trim: int, cell, opening, material: Material, tint) -> None:
    """The wall of a bay around its opening, the reveals, the pane behind them, and a sill."""
    (s0, s1), (t0, t1) = cell
    (a, b), (c, d) = opening
    depth_m = 0.18
    for s, t in (((s0, a), (t0, t1)), ((b, s1), (t0, t1)), ((a, b), (d, t1))):
        builder.rectangle(wall, s, t)
    if c > t0:
        builder.rectangle(wall, (a, b), (t0, c))
    _tube(builder, trim, (a, b), (c, d), -depth_m, 0.0)
    frame = builder.patches[wall]
    pane = Patch(material, frame.point(a, c), frame.s_axis, frame.t_axis, (b - a, d - c), tint, rng.random())
    builder.rectangle(builder.patch(pane), (0.0, b - a), (0.0, d - c), -depth_m)
    if material == Material.WINDOW:
        _slab(builder, trim, (a - 0.12, b + 0.12), (c - 0.10, c), 0.13)


def _add_awning(builder: MeshBuilder, rng, frame: Patch, door_bay: int, bay_m: float, bays: int) -> None:
    """A striped, sloping cloth over the shop windows on each side of the door."""
    tint = _AWNINGS[rng.integers(len(_AWNINGS))]
    awning = builder.patch(_on(frame, Material.AWNING, tint, rng.random()))
    for first, last in ((0, door_bay), (door_bay + 1, bays)):
        if first < last:
            s = (first * bay_m + 0.15, last * bay_m - 0.15)
            high, low = _points(frame, s, 3.3, 0.0), _points(frame, s, 2.75, 1.1)
            builder.quad([high[0], high[1], low[1], low[0]], awning)
            hem = _points(frame, s, 2.55, 1.1)
            builder.quad([low[0], low[1], hem[1], hem[0]], awning)


def _add_roof(builder: MeshBuilder, rng, low_xy: tuple, high_xy: tuple, z_m: float) -> None:
    """A flat roof, or four tiled slopes to a ridge."""
    (x0, y0), (x1, y1) = low_xy, high_xy
    corners = [(x0, y0, z_m), (x1, y0, z_m), (x1, y1, z_m), (x0, y1, z_m)]
    tint = np.array([(0.30, 0.10, 0.06), (0.16, 0.15, 0.16), (0.24, 0.14, 0.09)][rng.integers(3)])
    if rng.random() < 0.4:
        builder.quad(corners, builder.patch(Patch(Material.TRIM, tint=(0.25, 0.25, 0.25), t_axis=(0, 1, 0))))
        return
    inset = 0.5 * min(x1 - x0, y1 - y0) - 0.2
    top_z = z_m + 0.8 * inset
    inner = [
        (x0 + inset, y0 + inset, top_z),
        (x1 - inset, y0 + inset, top_z),
        (x1 - inset, y1 - inset, top_z),
        (x0 + inset, y1 - inset, top_z),
    ]
    for k in range(4):
        a, b = np.array(corners[k]), np.array(corners[(k + 1) % 4])
        s_axis = (b - a) / np.linalg.norm(b - a)
        slope = Patch(Material.ROOF, a, s_axis, _up_slope(s_axis), tint=tint, number=rng.random())
        builder.quad([a, b, inner[(k + 1) % 4], inner[k]], builder.patch(slope))


def _up_slope(s_axis: np.ndarray) -> np.ndarray:
    inward = np.cross((0, 0, 1), s_axis)
    return (inward + (0, 0, 0.8)) / np.hypot(1.0, 0.8)


def _on(frame: Patch, material: Material, tint, number: float) -> Patch:
    return Patch(material, frame.origin, frame.s_axis, frame.t_axis, frame.size, tint, number)


def _points(frame: Patch, s: Span, t: float, out_m: float) -> list[np.ndarray]:
    return [frame.point(x, t, out_m) for x in s]


def _tube(builder: MeshBuilder, patch: int, s: Span, t: Span, back_m: float, front_m: float) -> None:
    """The four sides of a box from `back_m` to `front_m` in front of the plane of a patch."""
    frame = builder.patches[patch]
    back, front = (_points(frame, s, t[0], out) + _points(frame, s, t[1], out)[::-1] for out in (back_m, front_m))
    for k in range(4):
        builder.quad([back[k], back[(k + 1) % 4], front[(k + 1) % 4], front[k]], patch)


def _slab(builder: MeshBuilder, patch: int, s: Span, t: Span, out_m: float) -> None:
    """A block that projects from the wall."""
    builder.rectangle(patch, s, t, out_m)
    _tube(builder, patch, s, t, 0.0, out_m)
