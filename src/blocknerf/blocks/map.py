"""The plan as a picture: blocks, cameras by drive and sparse points from above."""

import math
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import colormaps, font_manager
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection
from matplotlib.colors import hsv_to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Circle, Patch, Rectangle
from matplotlib.patheffects import withStroke
from mpl_toolkits.axes_grid1.anchored_artists import AnchoredSizeBar

from blocknerf.blocks.ground import GroundFrame
from blocknerf.blocks.plan import BlockSpec, Layout, Plan
from blocknerf.core.plots import save_figure
from blocknerf.scene.scene import Scene, poses_of

_LONG_SIDE_INCHES = 9.0
_MOST_POINTS = 60_000
_MOST_DRIVES_NAMED = 10
_MOST_CAMERAS = 20_000
"""If there are more, one in every few is drawn: smaller, without viewing directions and test marks."""
_MOST_LABELLED = 200
"""With more blocks than this, names and outlines of overlaps are not drawn."""
_HALO = [withStroke(linewidth=2.5, foreground="white")]


def draw_map(path: Path, plan: Plan, scene: Scene) -> None:
    """Writes a PNG of the plan from above, in its ground frame; the same plan gives the same bytes.

    Raises UserError if the plan has no layout, or the file cannot be written.
    """
    layout = plan.ground()
    frame = layout.frame()
    low, high = _view(plan, layout, frame.to_ground(scene.centers_world)[:, :2])
    width, height = high - low
    scale = _LONG_SIDE_INCHES / max(width, height)
    size = (max(4.5, width * scale) + 2.6, max(2.5, height * scale) + 1.0)
    figure = Figure(figsize=size, layout="constrained", dpi=120)
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.set_aspect("equal")
    axes.set_xlim(low[0], high[0])
    axes.set_ylim(low[1], high[1])
    _draw_points(axes, frame, scene, low, high)
    _draw_blocks(axes, plan, layout)
    drives = _draw_cameras(axes, frame, plan, scene, 0.018 * float(max(width, height)))
    _decorate(axes, plan, layout, drives, float(width), len(scene.images))
    save_figure(figure, path, bbox_inches="tight", pad_inches=0.1)


def block_colours(blocks: int) -> np.ndarray:
    """[blocks, 3] in [0, 1], in the order of the plan: neighbours in it lie far apart on the colour wheel."""
    return hsv_to_rgb(np.array([(number * 0.618034 % 1, 0.75, 0.65) for number in range(blocks)]).reshape(-1, 3))


def _view(plan: Plan, layout: Layout, cameras_xy: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The corner points of what is shown: every cell with its overlap and every camera, with a margin."""
    cells_xy = np.array([cell for block in plan.blocks for cell in block.cells_xy])
    extent_xy = np.concatenate([cells_xy - layout.cell_reach_m, cells_xy + layout.cell_reach_m, cameras_xy])
    low, high = extent_xy.min(axis=0), extent_xy.max(axis=0)
    margin = 0.04 * (high - low).max()
    return low - margin, high + margin


def _draw_points(axes: Axes, frame: GroundFrame, scene: Scene, low: np.ndarray, high: np.ndarray) -> None:
    points_xy = frame.to_ground(scene.points_world)[:, :2]
    visible = np.flatnonzero(np.all((points_xy >= low) & (points_xy <= high), axis=1))
    visible = visible[:: len(visible) // _MOST_POINTS + 1]
    paled = 1 - 0.55 * (1 - scene.points_rgb[visible] / 255.0)
    axes.scatter(points_xy[visible, 0], points_xy[visible, 1], s=1.2, c=paled, linewidths=0, zorder=1, rasterized=True)


def _draw_blocks(axes: Axes, plan: Plan, layout: Layout) -> None:
    for block, colour in zip(plan.blocks, block_colours(len(plan.blocks)), strict=True):
        if layout.cell_shape == "street":
            _draw_street_cells(axes, plan, layout, block, colour)
            site = layout.frame().to_ground(np.array([block.anchor_world]))[0, :2].tolist()
            labelled, above_m = [(site[0], site[1])], 3 * layout.cell_half_edge_m
        else:
            _draw_cells(axes, plan, layout, block, colour)
            labelled, above_m = list(block.cells_xy), 0.6 * layout.cell_half_edge_m
        if len(plan.blocks) <= _MOST_LABELLED:
            _label(axes, block, labelled, colour, len(plan.blocks), above_m)


def _draw_cells(axes: Axes, plan: Plan, layout: Layout, block: BlockSpec, colour: np.ndarray) -> None:
    busy = len(plan.blocks) > 30
    for cell in block.cells_xy:
        inner = _outline(layout, cell, layout.cell_half_edge_m)
        inner.set(facecolor=(*colour, 0.13), edgecolor=(*colour, 0.9), linewidth=0.8 if busy else 1.4, zorder=2)
        axes.add_patch(inner)
        outer = _outline(layout, cell, layout.cell_reach_m)
        outer.set(
            facecolor="none",
            edgecolor=(*colour, 0.45 if busy else 0.7),
            linestyle=(0, (5, 4)),
            linewidth=0.4 if busy else 0.9,
            zorder=2,
        )
        if _shows_overlap(plan, layout):
            axes.add_patch(outer)


def _shows_overlap(plan: Plan, layout: Layout) -> bool:
    overlaps = layout.cell_reach_m > layout.cell_half_edge_m or any(block.shared_xy for block in plan.blocks)
    return 1 < len(plan.blocks) <= _MOST_LABELLED and overlaps


def _draw_street_cells(axes: Axes, plan: Plan, layout: Layout, block: BlockSpec, colour: np.ndarray) -> None:
    """Its own cells as discs, and around those that it covers of its neighbours a ring."""
    for cell in block.cells_xy:
        axes.add_patch(Circle(cell, 1.5 * layout.cell_half_edge_m, facecolor=(*colour, 0.35), linewidth=0, zorder=2))
    if _shows_overlap(plan, layout):
        for cell in block.shared_xy:
            ring = Circle(cell, 1.9 * layout.cell_half_edge_m)
            ring.set(facecolor="none", edgecolor=(*colour, 0.8), linestyle=(0, (2, 1.5)), linewidth=1.0, zorder=2)
            axes.add_patch(ring)


def _outline(layout: Layout, center_xy: tuple[float, float], half_m: float) -> Patch:
    if layout.cell_shape == "disc":
        return Circle(center_xy, half_m)
    return Rectangle((center_xy[0] - half_m, center_xy[1] - half_m), 2 * half_m, 2 * half_m)


def _label(
    axes: Axes,
    block: BlockSpec,
    places_xy: list[tuple[float, float]],
    colour: np.ndarray,
    blocks: int,
    above_m: float,
) -> None:
    """The id at each of these places, the number of its images at the first; above the middle for streets."""
    size = 11 if blocks <= 16 else 8 if blocks <= 49 else 6
    for place in places_xy:
        text = block.id
        if place == places_xy[0] and blocks <= 49:
            text += f"\n{len(block.train_images)} images"
        axes.annotate(
            text,
            (place[0], place[1] + above_m),
            ha="center",
            va="center",
            color=tuple(0.7 * colour),
            fontsize=size,
            fontweight="bold",
            path_effects=_HALO,
            zorder=5,
            annotation_clip=True,
            clip_on=True,
        )


def _draw_cameras(axes: Axes, frame: GroundFrame, plan: Plan, scene: Scene, tick_m: float) -> list[Line2D]:
    """Cameras as dots with a tick where they look; returns the legend's entries."""
    test = {image for block in plan.blocks for image in block.test_images}
    by_drive = defaultdict(list)
    for image in scene.images:
        by_drive[image.drive].append(image)
    palette = drive_colours(len(by_drive))
    size = 4.5 if len(scene.images) <= 400 else 2.5 if len(scene.images) <= _MOST_CAMERAS else 1.0
    every = len(scene.images) // _MOST_CAMERAS + 1
    entries = []
    for (drive, images), colour in zip(sorted(by_drive.items()), palette, strict=True):
        entries.append(_dots(np.zeros((0, 2)), colour, colour, size, f"drive {drive}, {len(images)} images"))
        images = images[::every]
        poses = poses_of(images)
        centers = frame.to_ground(poses[:, :, 3])[:, :2]
        ahead = (poses[:, :, 2] @ frame.ground_from_world.T)[:, :2]
        if every == 1:
            ticks = np.stack([centers, centers + tick_m * ahead], axis=1)
            axes.add_collection(LineCollection(list(ticks), colors=[colour], linewidths=0.8, zorder=3))
        kept = np.array([every == 1 and image.id in test for image in images])
        axes.add_line(_dots(centers[~kept], colour, colour, size))
        axes.add_line(_dots(centers[kept], colour, "white", size))
    if len(by_drive) == 1:
        entries[0].set_label(f"camera ({len(scene.images)} in all)")
    elif len(by_drive) > _MOST_DRIVES_NAMED:
        entries = entries[:1]
        entries[0].set_label(f"cameras of {len(by_drive)} drives,\n{len(scene.images)} images, a colour each")
    return entries


def _dots(centers: np.ndarray, edge, face, size: float, label: str = "") -> Line2D:
    return Line2D(
        centers[:, 0],
        centers[:, 1],
        linestyle="none",
        marker="o",
        markersize=size,
        markeredgecolor=edge,
        markerfacecolor=face,
        markeredgewidth=0 if edge is face else 1.1,
        label=label,
        zorder=4,
    )


def drive_colours(drives: int) -> list[tuple[float, ...]]:
    """RGBA in [0, 1], in the order of their names."""
    if drives <= _MOST_DRIVES_NAMED:
        return [colormaps["tab10"](i) for i in range(drives)] if drives > 1 else [(0.13, 0.2, 0.3, 1.0)]
    return [colormaps["turbo"](0.05 + 0.9 * i / (drives - 1)) for i in range(drives)]


def _decorate(axes: Axes, plan: Plan, layout: Layout, drives: list[Line2D], width_m: float, cameras: int) -> None:
    bar_m = nice_length(width_m / 5)
    bar = AnchoredSizeBar(
        axes.transData,
        bar_m,
        f"{bar_m:g} m",
        "lower left",
        pad=0.4,
        borderpad=0.6,
        sep=4,
        fontproperties=font_manager.FontProperties(size=9),
    )
    bar.size_bar.get_children()[0].set(linewidth=3, edgecolor="0.1")
    bar.patch.set(edgecolor="none", alpha=0.8)
    axes.add_artist(bar)
    tests = cameras <= _MOST_CAMERAS and any(block.test_images for block in plan.blocks)
    entries = [
        *drives,
        *([_dots(np.zeros((0, 2)), "0.2", "white", 4.5, "hollow: test camera")] if tests else []),
        Patch(facecolor=(0.3, 0.3, 0.5, 0.15), edgecolor=(0.3, 0.3, 0.5), label="block"),
    ]
    if _shows_overlap(plan, layout):
        entries.append(Patch(facecolor="none", edgecolor=(0.3, 0.3, 0.5), linestyle="--", label="its overlap"))
    beside: Any = "outside center right"  # matplotlib's stubs do not know the places outside
    axes.figure.legend(handles=entries, loc=beside, frameon=False, fontsize=9)
    images = {image for block in plan.blocks for image in block.train_images}
    blocks = "1 block" if len(plan.blocks) == 1 else f"{len(plan.blocks)} blocks"
    merged = f", {len(plan.merged)} merged away" if plan.merged else ""
    axes.set_title(f"{blocks}{merged}, {len(images)} training images, seen from above", fontsize=11, loc="left")
    axes.tick_params(labelsize=8, color="0.6", labelcolor="0.4")
    axes.spines[:].set_color("0.8")
    axes.set_xlabel("m", fontsize=8, color="0.4")


def nice_length(about_m: float) -> float:
    """The largest of 1, 2, 5 x 10^k that is not longer."""
    power = 10.0 ** math.floor(math.log10(about_m))
    return max(step * power for step in (1, 2, 5) if step * power <= about_m * (1 + 1e-9))
