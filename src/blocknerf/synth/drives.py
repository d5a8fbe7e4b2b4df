"""The path of a drive, the poses of its camera rig, and the moving cars."""

from dataclasses import dataclass

import numpy as np

from blocknerf.core.camera import Camera
from blocknerf.synth.cars import LENGTH_M, add_car
from blocknerf.synth.geometry import Mesh, MeshBuilder
from blocknerf.synth.town import LANE_M, StreetPlan

CAMERA_HEIGHT_M = 2.0
RIG_YAW_DEG = {"front_left": 35.0, "front_right": -35.0, "left": 95.0, "right": -95.0}
PITCH_UP_DEG = 4.0
FOV_DEG = 75.0
STATION_S = 0.7


@dataclass(frozen=True, slots=True)
class Drive:
    """One run of the rig along way points on the middles of streets, at one hour of one day.

    Between several `passes`, it drives back without taking pictures. The stations of a pass are between those of the
    others.
    """

    name: str
    hour: float
    way_points: tuple[tuple[float, float], ...]
    stations: int  # of each pass
    passes: int = 1


def rig_cameras(width: int, height: int) -> dict[str, Camera]:
    """One PINHOLE camera per place on the rig. Focal lengths differ slightly, like those of real cameras."""
    focal = 0.5 * width / np.tan(np.deg2rad(FOV_DEG) / 2)
    cameras = {}
    for number, place in enumerate(RIG_YAW_DEG):
        cameras[place] = Camera.pinhole(width, height, round(float(focal) * (1 + 0.004 * number), 3))
    return cameras


def stations(drive: Drive, rng: np.random.Generator) -> list[dict[str, np.ndarray]]:
    """world_from_cam [3, 4] of every camera at every station, pass after pass, with a slight sway of the vehicle."""
    path = lane_path(np.array(drive.way_points))
    travelled = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(path, axis=0), axis=1))])
    poses = []
    spots = np.linspace(0.5, travelled[-1] - 0.5, drive.stations * drive.passes)
    for distance in np.concatenate([spots[first :: drive.passes] for first in range(drive.passes)]):
        behind, position, ahead = (
            np.array([np.interp(distance + step, travelled, path[:, axis]) for axis in (0, 1)])
            for step in (-0.4, 0.0, 0.4)
        )
        heading_rad = np.arctan2(*(ahead - behind)[::-1])
        sway_rad = np.deg2rad(rng.normal(0.0, 0.4, 3))
        center = np.array([*position, CAMERA_HEIGHT_M + rng.normal(0.0, 0.015)])
        poses.append(
            {
                place: _pose(
                    center,
                    heading_rad + np.deg2rad(yaw) + sway_rad[0],
                    np.deg2rad(PITCH_UP_DEG) + sway_rad[1],
                    sway_rad[2],
                )
                for place, yaw in RIG_YAW_DEG.items()
            }
        )
    return poses


def lane_path(way_points: np.ndarray, turn_m: float = 5.0) -> np.ndarray:
    """The right-hand lane along way points [W, 2], corners rounded, as a fine polyline [N, 2]."""
    steps = np.diff(way_points, axis=0)
    along = steps / np.linalg.norm(steps, axis=1, keepdims=True)
    right = np.stack([along[:, 1], -along[:, 0]], 1)
    corners = way_points[1:-1] + LANE_M * (right[:-1] + right[1:])  # streets meet at right angles
    pieces = [way_points[:1] + LANE_M * right[:1]]
    u = np.linspace(0.0, 1.0, 24)[:, None]
    for corner, before, after in zip(corners, along[:-1], along[1:], strict=True):
        enter, leave = corner - turn_m * before, corner + turn_m * after
        pieces.append((1 - u) ** 2 * enter + 2 * u * (1 - u) * corner + u**2 * leave)
    return np.concatenate([*pieces, way_points[-1:] + LANE_M * right[-1:]])


def _pose(center: np.ndarray, yaw_rad: float, pitch_rad: float, roll_rad: float) -> np.ndarray:
    """An OpenCV camera that looks along `yaw` (0 is east, counterclockwise) and up by `pitch`."""
    forward = np.array([np.cos(yaw_rad) * np.cos(pitch_rad), np.sin(yaw_rad) * np.cos(pitch_rad), np.sin(pitch_rad)])
    right = np.array([np.sin(yaw_rad), -np.cos(yaw_rad), 0.0])
    down = np.cross(forward, right)
    cos, sin = np.cos(roll_rad), np.sin(roll_rad)
    return np.stack([cos * right + sin * down, cos * down - sin * right, forward, center], axis=1)


@dataclass(frozen=True, slots=True)
class MovingCar:
    """A car that always drives up and down one lane."""

    start: np.ndarray
    along: np.ndarray
    length_m: float
    speed_mps: float
    offset_m: float
    colour: int

    def position(self, time_s: float) -> np.ndarray:
        return self.start + np.mod(self.offset_m + self.speed_mps * time_s, self.length_m) * self.along


def draw_traffic(plan: StreetPlan, count: int, rng: np.random.Generator) -> list[MovingCar]:
    west, south, east, north = plan.bounds
    lanes: list[tuple[tuple[float, float], tuple[float, float], float]] = []
    for y in plan.ys:
        lanes += [((west, y - LANE_M), (1.0, 0.0), east - west), ((east, y + LANE_M), (-1.0, 0.0), east - west)]
    for x in plan.xs:
        lanes += [((x + LANE_M, south), (0.0, 1.0), north - south), ((x - LANE_M, north), (0.0, -1.0), north - south)]
    cars = []
    for _ in range(count):
        start, along, length = lanes[rng.integers(len(lanes))]
        speed, offset, colour = rng.uniform(5.0, 10.0), rng.uniform(0.0, length), int(rng.integers(6))
        cars.append(MovingCar(np.array(start), np.array(along), length, speed, offset, colour))
    return cars


def traffic_at(cars: list[MovingCar], time_s: float, rig_xy: np.ndarray) -> Mesh | None:
    """The cars at a moment, without those that would touch the rig or each other. None if the road is empty."""
    builder, taken = MeshBuilder(), [rig_xy]
    for car in cars:
        position = car.position(time_s)
        if min(np.linalg.norm(position - other) for other in taken) > LENGTH_M + 1.2:
            taken.append(position)
            add_car(builder, position[0], position[1], float(np.arctan2(car.along[1], car.along[0])), car.colour)
    return builder.mesh() if builder.triangles else None
