"""Cars: two extruded profiles, four wheels, lamps. Parked ones belong to the town, moving ones to a moment."""

import numpy as np

from blocknerf.synth.geometry import Material, MeshBuilder, Patch, cylinder

LENGTH_M = 4.3
_BODY = np.array([(-2.15, 0.32), (2.10, 0.32), (2.15, 0.70), (1.15, 0.92), (-2.00, 0.97), (-2.15, 0.80)])
_CABIN = np.array([(-1.75, 0.94), (1.05, 0.92), (0.35, 1.42), (-1.30, 1.46)])
_COLOURS = [
    (0.45, 0.04, 0.03),
    (0.05, 0.10, 0.30),
    (0.55, 0.55, 0.55),
    (0.10, 0.10, 0.11),
    (0.60, 0.42, 0.05),
    (0.08, 0.25, 0.14),
]


def add_car(builder: MeshBuilder, x_m: float, y_m: float, heading_rad: float, colour: int) -> None:
    """A car on the ground at (x, y) whose nose points along `heading_rad` (0 is east)."""
    cos, sin = np.cos(heading_rad), np.sin(heading_rad)
    world_from_car = np.array([[cos, -sin, 0.0], [sin, cos, 0.0], [0.0, 0.0, 1.0]])
    tint = _COLOURS[colour % len(_COLOURS)]

    def patch(material: Material, tint) -> int:
        return builder.patch(Patch(material, (x_m, y_m, 0.0), (cos, sin, 0.0), (0, 0, 1), (4.3, 1.5), tint))

    def add(triangles: np.ndarray, into: int) -> None:
        builder.add(triangles @ world_from_car.T + (x_m, y_m, 0.0), into)

    paint, glass = patch(Material.PAINT, tint), patch(Material.CAR_GLASS, (0.03, 0.035, 0.04))
    add(np.concatenate(_extrude(_BODY, 0.88)), paint)
    cabin_rim, cabin_sides = _extrude(_CABIN, 0.72)
    add(cabin_sides, glass)
    add(cabin_rim[[2, 3, 6, 7]], glass)  # windscreen and rear window
    add(cabin_rim[[4, 5]], paint)  # roof
    rubber = patch(Material.RUBBER, (0.03, 0.03, 0.03))
    for wheel_x in (-1.35, 1.35):
        for wheel_y in (-0.90, 0.72):
            upright = cylinder((0, 0, 0), 0.18, (0.33, 0.33), sides=12)
            add(upright[..., [0, 2, 1]] + (wheel_x, wheel_y, 0.33), rubber)
    for lamp_x, tint in ((2.17, (0.8, 0.8, 0.7)), (-2.17, (0.5, 0.02, 0.02))):
        lamp = patch(Material.PAINT, tint)
        for y in (-0.65, 0.45):
            corners = np.array([(lamp_x, y, 0.58), (lamp_x, y + 0.2, 0.58), (lamp_x, y + 0.2, 0.72), (lamp_x, y, 0.72)])
            builder.quad(corners @ world_from_car.T + (x_m, y_m, 0.0), lamp)


def _extrude(profile_xz: np.ndarray, half_width_m: float) -> tuple[np.ndarray, np.ndarray]:
    """A convex profile swept sideways: the rim (two triangles per edge) and the two sides."""
    right, left = (np.insert(profile_xz, 1, y, axis=1) for y in (-half_width_m, half_width_m))
    right_next, left_next = np.roll(right, -1, 0), np.roll(left, -1, 0)
    rim = np.stack([np.stack([right, right_next, left_next], 1), np.stack([right, left_next, left], 1)], 1)
    fans = [np.stack([np.broadcast_to(p[0], p[1:-1].shape), p[1:-1], p[2:]], 1) for p in (right, left)]
    return rim.reshape(-1, 3, 3), np.concatenate(fans)
