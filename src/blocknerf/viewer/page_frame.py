"""Coordinates of the page: ground axes, z up, scaled so that a browser can draw a whole city."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from blocknerf.blocks.ground import GroundFrame
from blocknerf.city.manifest import Manifest
from blocknerf.geometry.spline import quaternions_of, rotations_of
from blocknerf.scene.scene import Scene

LARGEST_UNITS = 100.0
"""The page's depth ends at 168 units: a city is not longer than this."""


@dataclass(frozen=True, slots=True)
class PageFrame:
    """Metres of the world to units of the page and back; rotations as quaternions (w, x, y, z)."""

    ground: GroundFrame
    units_per_m: float

    @staticmethod
    def of(manifest: Manifest, scene: Scene | None) -> "PageFrame":
        """For a city without a layout, from older programs, the world's axes are used."""
        anchors = np.array([block.anchor_world for block in manifest.blocks])
        layout = manifest.layout
        ground = GroundFrame(anchors.mean(axis=0), np.eye(3), (0.0, 0.0)) if layout is None else layout.frame()
        places = anchors if scene is None else np.concatenate([anchors, scene.centers_world])
        reach_m = 0.0 if layout is None else 2 * layout.cell_reach_m
        extent_m = float(np.ptp(ground.to_ground(places), axis=0).max()) + reach_m
        return PageFrame(ground, LARGEST_UNITS / extent_m if extent_m > LARGEST_UNITS else 1.0)

    def points(self, points_world: Float[np.ndarray, "n 3"]) -> Float[np.ndarray, "n 3"]:
        return self.ground.to_ground(points_world) * self.units_per_m

    def on_ground(self, xy: Float[np.ndarray, "n 2"], height_m: float = 0.0) -> Float[np.ndarray, "n 3"]:
        """Points of the ground frame at that height over its origin, in units of the page."""
        return np.concatenate([xy, np.full((len(xy), 1), height_m)], axis=1) * self.units_per_m

    def place(self, world_from_cam: Float[np.ndarray, "3 4"]) -> tuple[np.ndarray, np.ndarray]:
        """(quaternion, position) of a camera, OpenCV axes on both sides."""
        rotation = self.ground.ground_from_world @ world_from_cam[:, :3]
        return quaternions_of(rotation[None])[0], self.points(world_from_cam[:, 3][None])[0]

    def pose(self, wxyz: Float[np.ndarray, "4"], position: Float[np.ndarray, "3"]) -> Float[np.ndarray, "3 4"]:
        """The inverse of `place`: world_from_cam."""
        rotation = self.ground.ground_from_world.T @ rotations_of(wxyz[None])[0]
        center = self.ground.to_world(position[None] / self.units_per_m)[0]
        return np.concatenate([rotation, center[:, None]], axis=1)
