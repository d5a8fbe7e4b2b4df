"""Triangles and the patches painted on them, from which the synthetic city is built."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import IntEnum

import numpy as np

Vector = Sequence[float | int] | np.ndarray  # two or three numbers


class Material(IntEnum):
    BRICK = 0
    PLASTER = 1
    STONE = 2
    TRIM = 3  # ledges, reveals, frames: plain with a little grain
    WINDOW = 4
    DOOR = 5
    SHOP = 6
    AWNING = 7
    ROOF = 8
    ROAD = 9
    PAVEMENT = 10
    GRASS = 11
    BARK = 12
    LEAVES = 13
    PAINT = 14  # the body of a car
    CAR_GLASS = 15
    RUBBER = 16
    METAL = 17


@dataclass(frozen=True, slots=True)
class Patch:
    """A painted surface: texture coordinates s, t in metres run along `s_axis` and `t_axis` from `origin`."""

    material: Material
    origin: Vector = (0.0, 0.0, 0.0)
    s_axis: Vector = (1.0, 0.0, 0.0)
    t_axis: Vector = (0.0, 0.0, 1.0)
    size: Vector = (1.0, 1.0)
    tint: Vector = (0.5, 0.5, 0.5)  # linear colour
    number: float = 0.0  # in [0, 1), distinguishes patches of one material

    def point(self, s_m: float, t_m: float, out_m: float = 0.0) -> np.ndarray:
        """World point [3] at (s, t), `out_m` in front of the plane (along s_axis x t_axis)."""
        ox, oy, oz = self.origin
        (ax, ay, az), (bx, by, bz) = self.s_axis, self.t_axis
        nx, ny, nz = ay * bz - az * by, az * bx - ax * bz, ax * by - ay * bx  # np.cross takes 30 us, which is too long
        return np.array(
            [
                ox + s_m * ax + t_m * bx + out_m * nx,
                oy + s_m * ay + t_m * by + out_m * ny,
                oz + s_m * az + t_m * bz + out_m * nz,
            ]
        )


@dataclass(frozen=True, slots=True)
class Mesh:
    """Triangles with one patch each, and the patches as a table (one row per patch), ready for the tracer."""

    triangles: np.ndarray  # [T, 3, 3] float32, world metres
    normals: np.ndarray  # [T, 3] float32, unit; either side
    patch_of: np.ndarray  # [T] int
    material: np.ndarray  # [P] int
    origin: np.ndarray  # [P, 3] float32
    s_axis: np.ndarray  # [P, 3] float32
    t_axis: np.ndarray  # [P, 3] float32
    size: np.ndarray  # [P, 2] float32
    tint: np.ndarray  # [P, 3] float32
    number: np.ndarray  # [P] float32

    @staticmethod
    def joined(first: "Mesh", second: "Mesh") -> "Mesh":
        """Both meshes; the triangles of `second` follow those of `first`."""
        columns = {name: [getattr(first, name), getattr(second, name)] for name in Mesh.__slots__}
        columns["patch_of"][1] = second.patch_of + len(first.material)
        return Mesh(**{name: np.concatenate(pair) for name, pair in columns.items()})


@dataclass
class MeshBuilder:
    """Collects triangles; `mesh()` freezes them."""

    triangles: list[np.ndarray] = field(default_factory=list)
    patch_of: list[np.ndarray] = field(default_factory=list)
    patches: list[Patch] = field(default_factory=list)

    def patch(self, patch: Patch) -> int:
        self.patches.append(patch)
        return len(self.patches) - 1

    def add(self, triangles: np.ndarray, patch: int) -> None:
        self.triangles.append(np.asarray(triangles, np.float64).reshape(-1, 3, 3))
        self.patch_of.append(np.full(len(self.triangles[-1]), patch))

    def quad(self, corners: Sequence[Vector] | np.ndarray, patch: int) -> None:
        """A quadrilateral from four corners in order around it."""
        a, b, c, d = np.asarray(corners, np.float64)
        self.add(np.array([[a, b, c], [a, c, d]]), patch)

    def rectangle(self, patch: int, s: tuple[float, float], t: tuple[float, float], out_m: float = 0.0) -> None:
        """The part s x t of a patch, moved `out_m` in front of its plane."""
        frame = self.patches[patch]
        corners = (s[0], t[0]), (s[1], t[0]), (s[1], t[1]), (s[0], t[1])
        self.quad([frame.point(x, y, out_m) for x, y in corners], patch)

    def box(self, low: Vector, high: Vector, material: Material, tint: Vector, number: float = 0.0) -> None:
        """An axis-aligned box without a bottom; every side is a patch with its own texture coordinates."""
        for patch, corners in box_sides(low, high, material, tint, number):
            self.quad(corners, self.patch(patch))

    def mesh(self) -> Mesh:
        triangles = np.concatenate(self.triangles)
        normals = np.cross(triangles[:, 1] - triangles[:, 0], triangles[:, 2] - triangles[:, 0])
        normals /= np.linalg.norm(normals, axis=1, keepdims=True)
        columns = {name: np.array([getattr(p, name) for p in self.patches], np.float32) for name in Patch.__slots__}
        return Mesh(
            triangles.astype(np.float32),
            normals.astype(np.float32),
            np.concatenate(self.patch_of),
            columns["material"].astype(np.int64),
            *(columns[name] for name in ("origin", "s_axis", "t_axis", "size", "tint", "number")),
        )


def box_sides(low: Vector, high: Vector, material: Material, tint: Vector, number: float):
    """The four walls and the top of a box, as (patch, corners)."""
    (x0, y0, z0), (x1, y1, z1) = low, high
    walls = [((x0, y0), (x1, y0)), ((x1, y0), (x1, y1)), ((x1, y1), (x0, y1)), ((x0, y1), (x0, y0))]
    for (ax, ay), (bx, by) in walls:
        length = np.hypot(bx - ax, by - ay)
        s_axis = ((bx - ax) / length, (by - ay) / length, 0.0)
        patch = Patch(material, (ax, ay, z0), s_axis, (0, 0, 1), (length, z1 - z0), tint, number)
        yield patch, [(ax, ay, z0), (bx, by, z0), (bx, by, z1), (ax, ay, z1)]
    top = Patch(material, (x0, y0, z1), (1, 0, 0), (0, 1, 0), (x1 - x0, y1 - y0), tint, number)
    yield top, [(x0, y0, z1), (x1, y0, z1), (x1, y1, z1), (x0, y1, z1)]


def cylinder(base: Vector, height_m: float, radii_m: tuple[float, float], sides: int = 8) -> np.ndarray:
    """Side and cap triangles of an upright (tapered) cylinder, [T, 3, 3]."""
    angles = 2 * np.pi * np.arange(sides) / sides
    ring = np.stack([np.cos(angles), np.sin(angles), np.zeros(sides)], 1)
    low = np.asarray(base) + radii_m[0] * ring
    high = np.asarray(base) + radii_m[1] * ring + (0, 0, height_m)
    low_next, high_next, top = np.roll(low, -1, 0), np.roll(high, -1, 0), np.asarray(base) + (0, 0, height_m)
    return np.concatenate(
        [
            np.stack([low, low_next, high_next], 1),
            np.stack([low, high_next, high], 1),
            np.stack([high, high_next, np.broadcast_to(top, high.shape)], 1),
        ]
    )


def blob(center: Vector, radius_m: float, rng: np.random.Generator, laplacian_smoothness: float = 0.5) -> np.ndarray:
    """A lumpy ball: a sphere of 10 x 16 cells whose vertices move in and out, [T, 3, 3]."""
    polar, turn = np.meshgrid(np.linspace(0.0, np.pi, 11), 2 * np.pi * np.arange(16) / 16, indexing="ij")
    ball = np.stack([np.sin(polar) * np.cos(turn), np.sin(polar) * np.sin(turn), np.cos(polar)], -1)
    waves, phases = 3.0 * rng.normal(size=(8, 3)), rng.uniform(0, 2 * np.pi, 8)
    lumps = np.sin(ball @ waves.T + phases).mean(-1, keepdims=True)
    vertices = np.asarray(center) + ball * (1 + laplacian_smoothness * lumps) * radius_m * (1, 1, 0.85)
    a, d = vertices[:-1], vertices[1:]
    b, c = np.roll(a, -1, 1), np.roll(d, -1, 1)
    upper, lower = np.stack([a, d, c], 2)[:-1], np.stack([a, c, b], 2)[1:]  # a cell at a pole is one triangle
    return np.concatenate([upper.reshape(-1, 3, 3), lower.reshape(-1, 3, 3)])
