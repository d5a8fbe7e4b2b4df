"""The two pictures of the quality page: the scene from above, and where pictures have points."""

from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection

from blocknerf.core.plots import new_figure, quiet, save_figure
from blocknerf.scene.scene import Scene, poses_of

_MOST_POINTS = 60_000
_MOST_NAMED = 10
_LONG_INCHES, _SHORT_INCHES = 9.0, 3.5


def draw_from_above(path: Path, scene: Scene, gps: dict[str, dict[str, float]]) -> Path:
    """Cameras with a tick where they look, a colour for each drive; points; a line to each GPS position."""
    centers = scene.centers_world
    places = np.array([[gps[i.name]["east_m"], gps[i.name]["north_m"]] for i in scene.images if i.name in gps])
    drawn = centers[:, :2] if not len(places) else np.concatenate([centers[:, :2], places])
    low, high = drawn.min(axis=0), drawn.max(axis=0)
    low, high = _with_margin(low, high)
    width, height = high - low
    scale = _LONG_INCHES / max(width, height)
    figure = new_figure(max(_SHORT_INCHES, width * scale) + 2.6, max(_SHORT_INCHES, height * scale) + 1.0)
    axes = figure.add_subplot()
    axes.set_aspect("equal")
    axes.set_xlim(low[0], high[0])
    axes.set_ylim(low[1], high[1])
    _draw_points(axes, scene, low, high)
    _draw_gps(axes, scene, gps)
    _draw_cameras(axes, scene, 0.02 * float(max(width, height)))
    quiet(axes)
    axes.set_xlabel("east, m" if gps else "units of the model", fontsize=8, color="0.4")
    axes.set_ylabel("north, m" if gps else "", fontsize=8, color="0.4")
    beside: Any = "outside center right"  # matplotlib's stubs do not know the places outside
    figure.legend(loc=beside, frameon=False, fontsize=8)
    return save_figure(figure, path)


def _with_margin(low: np.ndarray, high: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A margin of a tenth, and no side below a quarter of the other, so that streets are shown with their houses."""
    long = float(max((high - low).max(), 1e-6))
    grow = np.maximum(0.1 * long, (0.25 * long - (high - low)) / 2 + 0.05 * long)
    return low - grow, high + grow


def _draw_points(axes: Axes, scene: Scene, low: np.ndarray, high: np.ndarray) -> None:
    inside = np.flatnonzero(np.all((scene.points_world[:, :2] >= low) & (scene.points_world[:, :2] <= high), axis=1))
    inside = inside[:: len(inside) // _MOST_POINTS + 1]
    xy = scene.points_world[inside]
    axes.scatter(xy[:, 0], xy[:, 1], s=2.0, c=0.8 * scene.points_rgb[inside] / 255.0, linewidths=0, zorder=1)


def _draw_gps(axes: Axes, scene: Scene, gps: dict[str, dict[str, float]]) -> None:
    pairs = [
        (image.world_from_cam[:2, 3], (gps[image.name]["east_m"], gps[image.name]["north_m"]))
        for image in scene.images
        if image.name in gps
    ]
    if not pairs:
        return
    axes.add_collection(LineCollection([np.array(pair) for pair in pairs], colors="0.45", linewidths=0.6, zorder=2))
    places = np.array([place for _, place in pairs])
    axes.plot(places[:, 0], places[:, 1], "x", color="0.3", markersize=4, markeredgewidth=0.8, label="GPS", zorder=2)


def _draw_cameras(axes: Axes, scene: Scene, tick: float) -> None:
    drives = sorted({image.drive for image in scene.images})
    for number, drive in enumerate(drives):
        colour = colormaps["tab10"](number) if len(drives) <= _MOST_NAMED else colormaps["turbo"](number / len(drives))
        poses = poses_of([image for image in scene.images if image.drive == drive])
        centers, ahead = poses[:, :2, 3], poses[:, :2, 2]
        ticks = np.stack([centers, centers + tick * ahead], axis=1)
        axes.add_collection(LineCollection(list(ticks), colors=[colour], linewidths=1.0, zorder=3))
        label = f"{drive} ({len(poses)})" if number < _MOST_NAMED else None
        axes.plot(centers[:, 0], centers[:, 1], "o", color=colour, markersize=4, label=label, zorder=4)


def draw_coverage(path: Path, cells: Float[np.ndarray, "rows columns"]) -> Path:
    """Mean number of points in each cell of a picture: holes in the middle are masks, fog or a dirty lens."""
    figure = new_figure(5.0, 3.8)
    axes = figure.add_subplot()
    drawn = axes.imshow(cells, cmap="viridis", extent=(0, 1, 1, 0), aspect=0.75, vmin=0)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_visible(False)
    bar = figure.colorbar(drawn, ax=axes, shrink=0.8)
    bar.set_label("points in a cell, mean over pictures", fontsize=8)
    bar.ax.tick_params(labelsize=8)
    return save_figure(figure, path)
