"""Materials of surfaces: linear albedo at hit points, procedural and blurred to the size of a pixel."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from blocknerf.synth.geometry import Material, Mesh
from blocknerf.synth.noise import cell_random, fractal_noise, hash01, interval, stripes


@dataclass(frozen=True, slots=True)
class Surface:
    """Points on surfaces. `s`, `t` are metres on the patch, `footprint_m` is the width of a sample there."""

    s: np.ndarray  # [N]
    t: np.ndarray  # [N]
    width: np.ndarray  # [N] size of the patch
    height: np.ndarray  # [N]
    tint: np.ndarray  # [N, 3]
    number: np.ndarray  # [N]
    points: np.ndarray  # [N, 3] world
    footprint_m: np.ndarray  # [N]

    def __getitem__(self, index: np.ndarray) -> "Surface":
        return Surface(*(np.take(getattr(self, name), index, axis=0) for name in Surface.__slots__))


def surface_at(mesh: Mesh, patch: np.ndarray, points: np.ndarray, footprint_m: np.ndarray) -> Surface:
    origin, s_axis, t_axis, size, tint, number = (
        np.take(column, patch, axis=0)  # several times as fast as column[patch]
        for column in (mesh.origin, mesh.s_axis, mesh.t_axis, mesh.size, mesh.tint, mesh.number)
    )
    local = points - origin
    s, t = np.einsum("nc,nc->n", local, s_axis), np.einsum("nc,nc->n", local, t_axis)
    return Surface(s, t, size[:, 0], size[:, 1], tint, number, points, footprint_m)


def albedo(materials: np.ndarray, surface: Surface) -> np.ndarray:
    """Linear albedo [N, 3] of points with the given materials."""
    out = np.empty_like(surface.tint)
    for material in np.unique(materials):
        chosen = np.flatnonzero(materials == material)
        out[chosen] = _PAINTERS[Material(material)](surface[chosen])
    return np.clip(out, 0.0, 0.85)


def window_glow(materials: np.ndarray, surface: Surface) -> np.ndarray:
    """Radiance [N, 3] of lit rooms behind windows when the lamps are on."""
    glow = np.zeros_like(surface.tint)
    chosen = np.flatnonzero((materials == Material.WINDOW) | (materials == Material.SHOP))
    panes = surface[chosen]
    lit = (hash01(panes.number + 5.0) < 0.3) * (0.5 + 0.5 * panes.t / panes.height) * (1 - _window_bars(panes))
    glow[chosen] = lit[:, None] * np.array([1.0, 0.66, 0.30], np.float32)
    return glow


def _colour(red: float, green: float, blue: float) -> np.ndarray:
    return np.array([red, green, blue], np.float32)


def _mix(a: np.ndarray, b: np.ndarray | tuple[float, float, float] | float, share: np.ndarray) -> np.ndarray:
    return a + (np.asarray(b, np.float32) - a) * share[:, None]


def _sharp(size_m: float, p: Surface) -> np.ndarray:
    """1 where details of this size are visible, 0 where they are smaller than the footprint."""
    return np.clip(1.5 - p.footprint_m / size_m, 0.0, 1.0)


def _grain(p: Surface, coarsest_m: float, octaves: int, strength: float) -> np.ndarray:
    """A factor around 1 that varies over the surface."""
    shift = 37.0 * p.number
    return (1 + strength * fractal_noise(p.s + shift, p.t + 0.7 * shift, coarsest_m, octaves, p.footprint_m))[:, None]


def _courses(p: Surface, length_m: float, height_m: float, joint_m: float) -> tuple[np.ndarray, np.ndarray]:
    """Bonded masonry: the share of joint, and a random number per stone (0.5 where stones are too small to see)."""
    row = np.floor(p.t / height_m)
    s = p.s + 0.5 * length_m * np.mod(row, 2)
    beds = stripes(p.t, height_m, joint_m, p.footprint_m)
    heads = stripes(s, length_m, joint_m, p.footprint_m)
    stone = cell_random(s / length_m, row + np.floor(977 * p.number))
    return 1 - (1 - beds) * (1 - heads), 0.5 + (stone - 0.5) * _sharp(height_m, p)


def _stains(p: Surface) -> np.ndarray:
    """Walls are darker near the ground, and streaked from above."""
    streaks = fractal_noise(p.s * 3.0 + 91 * p.number, p.t * 0.25, 1.0, 3, p.footprint_m * 3)
    return ((1 - 0.25 * np.exp(-p.t / 0.8)) * (1 + 0.10 * streaks))[:, None]


def _brick(p: Surface) -> np.ndarray:
    joint, stone = _courses(p, 0.44, 0.15, 0.024)
    bricks = p.tint * (0.65 + 0.7 * stone)[:, None] * _grain(p, 0.8, 5, 0.25)
    return _mix(bricks, (0.42, 0.40, 0.36), joint) * _stains(p)


def _stone(p: Surface) -> np.ndarray:
    joint, stone = _courses(p, 1.1, 0.5, 0.035)
    stones = p.tint * (0.8 + 0.4 * stone)[:, None] * _grain(p, 1.2, 6, 0.28)
    return _mix(stones, (0.16, 0.15, 0.14), joint) * _stains(p)


def _plaster(p: Surface) -> np.ndarray:
    crumbled = np.clip(3 * fractal_noise(p.s + 53 * p.number, p.t + 29 * p.number, 2.5, 5, p.footprint_m) - 2.2, 0, 1)
    joint, stone = _courses(p, 0.44, 0.15, 0.024)
    under = _mix(_colour(0.36, 0.17, 0.11) * (0.7 + 0.6 * stone)[:, None], (0.42, 0.40, 0.36), joint)
    paint = p.tint * _grain(p, 2.0, 6, 0.17)
    return (paint + (under - paint) * crumbled[:, None]) * _stains(p)


def _trim(p: Surface) -> np.ndarray:
    return p.tint * _grain(p, 0.6, 4, 0.15)


def _window_bars(p: Surface) -> np.ndarray:
    """The frame around a window, and the cross in it."""
    middle = 0.5 * p.width
    inside_s = interval(p.s, 0.08, middle - 0.03, p.footprint_m) + interval(
        p.s, middle + 0.03, p.width - 0.08, p.footprint_m
    )
    transom = 0.68 * p.height
    inside_t = interval(p.t, 0.08, transom - 0.03, p.footprint_m) + interval(
        p.t, transom + 0.03, p.height - 0.08, p.footprint_m
    )
    return 1 - inside_s * inside_t


def _window(p: Surface) -> np.ndarray:
    dark = _colour(0.045, 0.055, 0.07) * (1 + 0.9 * p.t / p.height)[:, None]
    curtain_tint = 0.25 + 0.4 * np.stack([hash01(p.number + k) for k in (1.0, 1.5, 2.0)], 1)
    folds = (1 + 0.25 * np.sin(p.s * 30.0) * _sharp(0.2, p))[:, None]
    width = 0.45 * hash01(p.number + 3.0) * p.width
    drawn = interval(p.s, 0.0, width, p.footprint_m) + interval(p.s, p.width - width, p.width, p.footprint_m)
    blind = interval(p.t, p.height * (1 - 0.6 * hash01(p.number + 4.0) ** 2), p.height, p.footprint_m)
    room = _mix(dark, 0.45, blind)
    room = room + (curtain_tint * folds - room) * drawn[:, None]
    return room + (p.tint - room) * _window_bars(p)[:, None]


def _door(p: Surface) -> np.ndarray:
    cell_s, cell_t = p.width / 2, p.height / 3
    s, t = np.mod(p.s, cell_s), np.mod(p.t, cell_t)
    panel = interval(s, 0.12, cell_s - 0.12, p.footprint_m) * interval(t, 0.12, cell_t - 0.12, p.footprint_m)
    knob = interval(p.s, p.width - 0.16, p.width - 0.08, p.footprint_m) * interval(p.t, 1.0, 1.08, p.footprint_m)
    lintel = interval(p.t, p.height - 0.35, p.height, p.footprint_m)
    wood = p.tint * (1 - 0.35 * panel)[:, None] * _grain(p, 0.3, 4, 0.2)
    return _mix(_mix(wood, (0.10, 0.12, 0.14), lintel), (0.6, 0.5, 0.2), knob)


def _shop(p: Surface) -> np.ndarray:
    """A shop window: shelves with goods of many colours behind a frame."""
    shelf_t, goods_s = np.mod(p.t, 0.7), 0.28
    kind = cell_random(p.s / goods_s, p.t / 0.7 + np.floor(499 * p.number))
    hue = np.stack([hash01(kind + k) for k in (1.0, 2.0, 3.0)], 1)
    tall = 0.2 + 0.4 * hash01(kind + 7.0)
    goods = interval(shelf_t, 0.05, tall, p.footprint_m) * interval(np.mod(p.s, goods_s), 0.03, 0.25, p.footprint_m)
    board = interval(shelf_t, 0.0, 0.05, p.footprint_m)
    inside = _mix(p.tint * 0.6, (0.3, 0.22, 0.14), board)
    inside = inside + (0.05 + 0.5 * hue - inside) * (goods * _sharp(0.4, p))[:, None]
    frame = 1 - interval(p.s, 0.09, p.width - 0.09, p.footprint_m) * interval(p.t, 0.09, p.height - 0.09, p.footprint_m)
    return _mix(inside, (0.12, 0.10, 0.08), frame)


def _awning(p: Surface) -> np.ndarray:
    return _mix(p.tint * _grain(p, 0.4, 3, 0.12), (0.68, 0.66, 0.60), stripes(p.s, 0.6, 0.3, p.footprint_m))


def _roof(p: Surface) -> np.ndarray:
    joint, tile = _courses(p, 0.4, 0.34, 0.05)
    return _mix(p.tint * (0.7 + 0.6 * tile)[:, None] * _grain(p, 1.5, 5, 0.25), (0.05, 0.04, 0.04), 0.7 * joint)


def _road(p: Surface) -> np.ndarray:
    """Asphalt, or the paint on it: coarse patches of repair, fine grit, dark cracks."""
    x, y = p.points[:, 0], p.points[:, 1]
    tone = 1 + 0.20 * fractal_noise(x, y, 7.0, 3, p.footprint_m) + 0.22 * fractal_noise(x, y, 0.7, 5, p.footprint_m)
    ridge = np.abs(fractal_noise(x + 300, y + 100, 4.0, 4, p.footprint_m))
    crack = np.clip(1 - ridge / 0.035, 0, 1) * _sharp(0.12, p)
    return p.tint * (tone * (1 - 0.55 * crack))[:, None]


def _pavement(p: Surface) -> np.ndarray:
    x, y = p.points[:, 0], p.points[:, 1]
    joints = 1 - (1 - stripes(x, 0.8, 0.03, p.footprint_m)) * (1 - stripes(y, 0.8, 0.03, p.footprint_m))
    slab = 0.5 + (cell_random(x / 0.8, y / 0.8) - 0.5) * _sharp(0.8, p)
    tone = (0.82 + 0.36 * slab) * (1 + 0.2 * fractal_noise(x, y, 1.5, 6, p.footprint_m))
    return _mix(p.tint * tone[:, None], (0.10, 0.095, 0.09), joints)


def _grass(p: Surface) -> np.ndarray:
    x, y = p.points[:, 0], p.points[:, 1]
    tone = 1 + 0.35 * fractal_noise(x, y, 3.0, 7, p.footprint_m)
    dry = np.clip(fractal_noise(x + 80, y - 50, 6.0, 4, p.footprint_m), 0, 1)
    return _mix(p.tint * tone[:, None], (0.28, 0.24, 0.10), 0.6 * dry)


def _solid_noise(p: Surface, coarsest_m: float, octaves: int) -> np.ndarray:
    """Noise for round objects: two upright projections, averaged."""
    x, y, z = p.points.T
    return 0.5 * (
        fractal_noise(x, z, coarsest_m, octaves, p.footprint_m)
        + fractal_noise(y + 70, z + 30, coarsest_m, octaves, p.footprint_m)
    )


def _bark(p: Surface) -> np.ndarray:
    return p.tint * (1 + 0.6 * _solid_noise(p, 0.25, 3))[:, None]


def _leaves(p: Surface) -> np.ndarray:
    clumps = 1 + 0.9 * _solid_noise(p, 0.35, 4) + 0.5 * _solid_noise(p, 0.08, 2)
    young = np.clip(0.4 + 0.8 * _solid_noise(p, 1.6, 2), 0, 1)
    return _mix(p.tint, p.tint * _colour(1.45, 1.25, 0.9), young) * np.maximum(clumps, 0.15)[:, None]


def _paint(p: Surface) -> np.ndarray:
    """Car paint with the seams of doors."""
    seams = stripes(p.s + 0.45, 1.0, 0.03, p.footprint_m) * interval(p.s, -0.6, 1.0, p.footprint_m)
    return p.tint * (1 - 0.6 * seams)[:, None]


def _plain(p: Surface) -> np.ndarray:
    return p.tint


_PAINTERS: dict[Material, Callable[[Surface], np.ndarray]] = {
    Material.BRICK: _brick,
    Material.PLASTER: _plaster,
    Material.STONE: _stone,
    Material.TRIM: _trim,
    Material.WINDOW: _window,
    Material.DOOR: _door,
    Material.SHOP: _shop,
    Material.AWNING: _awning,
    Material.ROOF: _roof,
    Material.ROAD: _road,
    Material.PAVEMENT: _pavement,
    Material.GRASS: _grass,
    Material.BARK: _bark,
    Material.LEAVES: _leaves,
    Material.PAINT: _paint,
    Material.CAR_GLASS: _plain,
    Material.RUBBER: _plain,
    Material.METAL: _plain,
}
