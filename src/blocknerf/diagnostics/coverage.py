"""How many images see each piece of ground, as a map from above."""

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int
from matplotlib import colormaps
from matplotlib.collections import LineCollection
from matplotlib.colors import BoundaryNorm, ListedColormap

from blocknerf.blocks.ground import GroundFrame, ground_frame
from blocknerf.blocks.map import nice_length
from blocknerf.core.plots import new_figure, quiet, save_figure
from blocknerf.scene.scene import ImageRecord, Scene, upright_poses_of
from blocknerf.scene.store import ImageStore

CELLS_ACROSS = 100
RAYS_ACROSS = 48
COUNTS = (0, 1, 2, 3, 5, 10, 20, 50)
"""Numbers of images at which the colour of the map changes."""


def draw_coverage(path: Path, scene: Scene, store: ImageStore) -> Path:
    """Writes a PNG: the ground from above, coloured by the number of images that look over it within `reach_of`."""
    images = list(store.records.values())
    frame = ground_frame(upright_poses_of(images))
    reach_m = reach_of(scene, images)
    centers = frame.to_ground(np.stack([image.world_from_cam[:, 3] for image in images]))[:, :2]
    low, high = centers.min(0) - reach_m, centers.max(0) + reach_m
    cell_m = float((high - low).max()) / CELLS_ACROSS
    counts = images_over_ground(store, images, frame, low, high, cell_m, reach_m)

    size = 7.0 * (high - low) / (high - low).max()
    figure = new_figure(max(4.0, size[0]) + 1.4, max(1.8, size[1]) + 0.9)
    axes = figure.add_subplot()
    bounds = [count for count in COUNTS if count <= counts.max()]
    blues = colormaps["YlGnBu"](np.linspace(0.12, 0.95, len(bounds) - 1))
    colours = ListedColormap(np.concatenate([[[1, 1, 1, 1]], blues]))
    ends = [*bounds, int(counts.max()) + 1]
    norm = BoundaryNorm(ends, colours.N)
    extent = (low[0], low[0] + counts.shape[1] * cell_m, low[1], low[1] + counts.shape[0] * cell_m)
    heatmap = axes.imshow(counts, origin="lower", extent=extent, cmap=colours, norm=norm, interpolation="nearest")
    ahead = np.stack([frame.ground_from_world @ image.world_from_cam[:, 2] for image in images])[:, :2]
    ticks = np.stack([centers, centers + 0.025 * (high - low).max() * ahead], axis=1)
    axes.add_collection(LineCollection(list(ticks), colors="0.15", linewidths=0.6))
    axes.plot(centers[:, 0], centers[:, 1], "o", color="#d1495b", markersize=3, markeredgewidth=0)
    middles = [(begin + end) / 2 for begin, end in pairwise(ends)]
    bar = figure.colorbar(heatmap, ax=axes, ticks=middles, aspect=16, spacing="uniform")
    bar.set_ticklabels(labels_of(ends), minor=False)
    bar.minorticks_off()
    bar.set_label("images that look over it", fontsize=8, color="0.35")
    bar.ax.tick_params(labelsize=8, labelcolor="0.35", color="0.6")
    bar.outline.set_edgecolor("0.8")
    axes.set_title(f"Where {len(images)} cameras look, up to {reach_m:g} m ahead", fontsize=10, loc="left")
    axes.set_xlabel("m", fontsize=8, color="0.35")
    quiet(axes)
    return save_figure(figure, path)


def labels_of(ends: Sequence[int]) -> list[str]:
    """Of the colours between `ends`, which are counts that begin one: "0", "3-4", the last "50+"."""
    inner = [str(begin) if end == begin + 1 else f"{begin}-{end - 1}" for begin, end in pairwise(ends[:-1])]
    return [*inner, f"{ends[-2]}+"]


def reach_of(scene: Scene, images: Sequence[ImageRecord]) -> float:
    """Viewing distance of a camera: the median distance of what it saw, else the extent of the cameras.

    Rounded down to 1, 2 or 5 times a power of ten, in metres.
    """
    distances = [
        np.linalg.norm(scene.points_world[image.point_rows] - image.world_from_cam[:, 3], axis=1)
        for image in images
        if len(image.point_rows)
    ]
    if distances:
        return nice_length(float(np.median(np.concatenate(distances))))
    centers = np.stack([image.world_from_cam[:, 3] for image in images])
    return nice_length(max(float(np.ptp(centers, axis=0).max()), 1e-3))


def images_over_ground(
    store: ImageStore,
    images: Sequence[ImageRecord],
    frame: GroundFrame,
    low: Float[np.ndarray, "2"],
    high: Float[np.ndarray, "2"],
    cell_m: float,
    reach_m: float,
) -> Int[np.ndarray, "rows columns"]:
    """How many images have a ray over each cell within `reach_m` along the ground, ignoring occlusion."""
    columns, rows = (int(np.ceil(side / cell_m)) + 1 for side in high - low)
    counts = np.zeros((rows, columns), np.int64)
    steps = np.arange(0, reach_m, cell_m / 2)
    for image in images:
        directions = store.directions_cam(image.id)
        height, width = directions.shape[:2]
        picked = directions[:: max(1, height // RAYS_ACROSS), :: max(1, width // RAYS_ACROSS)].reshape(-1, 3)
        pose = frame.ground_from_world @ image.world_from_cam[:, :3]
        along = (picked @ pose.T)[:, :2]
        center = frame.to_ground(image.world_from_cam[:, 3][None])[0, :2]
        places = center + along[:, None] * steps[:, None]
        cells = np.floor((places.reshape(-1, 2) - low) / cell_m).astype(np.int64)
        seen = np.unique(cells[:, 1] * columns + cells[:, 0])
        counts.ravel()[seen] += 1
    return counts
