"""One ray in detail: its samples, the field's answers, and the renderer's result."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from torch import Tensor

from blocknerf.core.plots import new_figure, picture, quiet, save_figure
from blocknerf.core.types import RayBatch, on_device
from blocknerf.kernels.marching.ops import s_to_t
from blocknerf.models.block_nerf import BlockNeRF
from blocknerf.rendering.volume import transmittance
from blocknerf.runtime.devices import default_device

CROP_PX = 48
LEAST_DENSITY = 1e-8
"""That is drawn, as a share of the largest."""
RED, GREEN, BLUE = "#c8453b", "#3d8b53", "#3565b0"
INK, PALE = "#20242a", "#8d96a1"


@dataclass(frozen=True, slots=True)
class RayTrace:
    """One ray, from the renderer's own pass: S samples of the field between `edges_m`, after P first samples.

    Weights and transmittance are the renderer's; density (per metre) and colour are the field's in the same intervals.
    Transmittance is exclusive: the light that arrives at an interval's beginning. With the `hash` backbone, which
    shades a ray once, an interval's colour is what the ray would show if it met nothing else.
    """

    edges_m: Float[Tensor, " edges"]
    density: Float[Tensor, " samples"]
    rgb: Float[Tensor, "samples 3"]
    weights: Float[Tensor, " samples"]
    transmittance: Float[Tensor, " samples"]
    first_edges_m: Float[Tensor, " first_edges"]
    first_weights: Float[Tensor, " first"]
    pixel_rgb: Float[Tensor, "3"]
    distance_m: float

    @property
    def opacity(self) -> float:
        return float(self.weights.sum())


@torch.no_grad()
def trace_ray(model: BlockNeRF, ray: RayBatch, code: Float[Tensor, " code"] | None) -> RayTrace:
    """Renders a batch of one ray as `BlockNeRF.render` does, and keeps everything, on the ray's device.

    `code` as in `render`.
    """
    if len(ray) != 1:
        raise ValueError(f"One ray is traced at a time, not {len(ray)}.")
    code = model.code_for() if code is None else code
    codes = None if code is None else code[None].to(model.device)
    with default_device(model.device):
        trace = _traced(model, on_device(ray, model.device), codes)
    return on_device(trace, ray.origins.device)


def _traced(model: BlockNeRF, ray: RayBatch, codes: Float[Tensor, "1 code"] | None) -> RayTrace:
    pixel_rgb, composited = model.composite(ray, codes, None)
    field = model.field_of_rays()
    origins, spacing = model.to_block(ray.origins), field.spacing
    density, rgb = field.query_intervals(origins, ray.directions, ray.radii, codes, composited.edges)
    first = s_to_t(origins, ray.directions, composited.proposal_edges_s, spacing.ends(origins, ray.directions))
    return RayTrace(
        edges_m=composited.edges[0] * model.radius_m,
        density=density[0] / model.radius_m,
        rgb=rgb[0],
        weights=composited.weights[0],
        transmittance=transmittance(composited.weights)[0],
        first_edges_m=first[0] * model.radius_m,
        first_weights=composited.proposal_weights[0],
        pixel_rgb=pixel_rgb[0],
        distance_m=float(composited.distance[0]) * model.radius_m,
    )


def draw_ray(
    path: Path,
    trace: RayTrace,
    photograph: Float[np.ndarray, "h w 3"],
    pixel_xy: tuple[int, int],
    title: str,
) -> Path:
    """Writes a PNG: density, colours, weights and transmittance over distance, beside the pixel in its photograph.

    `photograph` is in [0, 1]; `pixel_xy` are column and row in it.
    """
    figure = new_figure(12.0, 6.6)
    figure.suptitle(title, fontsize=11, x=0.01, ha="left")
    left, right = cast(Any, figure.subfigures(1, 2, width_ratios=(1, 3.1)))
    crop, truth, rendered = left.subplots(3, 1, height_ratios=(3.4, 1, 1))
    _draw_crop(crop, photograph, pixel_xy)
    x, y = pixel_xy
    _draw_swatch(truth, "the pixel in the photograph", photograph[y, x])
    _draw_swatch(rendered, "as the block shows it", trace.pixel_rgb.clamp(0, 1).numpy())
    density, colours, weights, places = right.subplots(4, 1, sharex=True, height_ratios=(3, 1.7, 3, 1))
    _draw_density(density, trace)
    _draw_colours(colours, trace)
    _draw_weights(weights, trace)
    _draw_places(places, trace)
    for axes in (density, colours, weights, places):
        axes.axvline(trace.distance_m, color=INK, linewidth=0.9, linestyle=":")
        quiet(axes)
    places.set_xscale("log")
    places.set_xlim(float(trace.first_edges_m[0]), float(trace.first_edges_m[-1]))
    places.set_xlabel("distance along the ray, m (dotted: the expected distance)", fontsize=8, color="0.35")
    return save_figure(figure, path)


def _draw_crop(axes: Axes, photograph: np.ndarray, pixel_xy: tuple[int, int]) -> None:
    x, y = pixel_xy
    height, width = photograph.shape[:2]
    left, top = (max(0, min(at - CROP_PX // 2, side - CROP_PX)) for at, side in ((x, width), (y, height)))
    crop = photograph[top : top + CROP_PX, left : left + CROP_PX]
    axes.imshow(crop, interpolation="nearest", extent=(left, left + crop.shape[1], top + crop.shape[0], top))
    for colour, thickness in (("white", 3.0), ("black", 1.2)):
        axes.add_patch(Rectangle((x - 0.5, y - 0.5), 2, 2, fill=False, edgecolor=colour, linewidth=thickness))
    picture(axes, f"pixel ({x}, {y}) of {width} x {height}")


def _draw_swatch(axes: Axes, title: str, rgb: np.ndarray) -> None:
    axes.add_patch(Rectangle((0, 0), 1, 1, color=tuple(float(part) for part in rgb)))
    axes.text(1.06, 0.5, " ".join(f"{part:.2f}" for part in rgb), fontsize=8, va="center", color="0.25")
    axes.set_xlim(0, 2.1)
    axes.set_ylim(0, 1)
    picture(axes, title)


def _draw_density(axes: Axes, trace: RayTrace) -> None:
    density = trace.density.clamp(min=1e-12).numpy()
    edges_m = trace.edges_m.numpy()
    axes.stairs(density, edges_m, color=INK, linewidth=1.2, baseline=None)
    axes.set_yscale("log")
    top = 10.0 ** np.ceil(np.log10(density.max()) + 0.1)
    bottom = 10.0 ** np.floor(np.log10(density.min()) - 0.1)
    axes.set_ylim(max(bottom, top * LEAST_DENSITY), top)
    axes.tick_params(which="minor", labelleft=False)
    axes.set_ylabel("density, 1/m", fontsize=8, color="0.35")


def _draw_colours(axes: Axes, trace: RayTrace) -> None:
    edges_m, rgb = trace.edges_m.numpy(), trace.rgb.clamp(0, 1).numpy()
    for begin, end, colour in zip(edges_m[:-1], edges_m[1:], rgb, strict=True):
        axes.axvspan(float(begin), float(end), ymax=0.28, color=tuple(float(part) for part in colour), linewidth=0)
    for channel, colour in enumerate((RED, GREEN, BLUE)):
        axes.stairs(0.4 + 0.6 * rgb[:, channel], edges_m, color=colour, linewidth=1.1, baseline=None)
    axes.set_ylim(0, 1.05)
    axes.set_yticks([0.4, 0.7, 1.0], ["0", "0.5", "1"])
    axes.set_ylabel("colour", fontsize=8, color="0.35")


def _draw_weights(axes: Axes, trace: RayTrace) -> None:
    edges_m = trace.edges_m.numpy()
    axes.stairs(trace.weights.numpy(), edges_m, fill=True, color="#e0a030", label="weight")
    begins = np.repeat(edges_m, 2)[1:-1]
    arrives = np.repeat(trace.transmittance.numpy(), 2)
    axes.plot(begins, arrives, color=BLUE, linewidth=1.2, label="light that arrives at the interval")
    axes.set_ylim(0, 1.05)
    axes.set_ylabel(f"share of the light (opacity {trace.opacity:.3f})", fontsize=8, color="0.35")
    axes.legend(fontsize=8, frameon=False, loc="center left")


def _draw_places(axes: Axes, trace: RayTrace) -> None:
    for row, (edges_m, colour) in enumerate(((trace.first_edges_m, PALE), (trace.edges_m, INK))):
        middles = 0.5 * (edges_m[1:] + edges_m[:-1])
        axes.vlines(middles.numpy(), 0.58 - 0.5 * row, 0.92 - 0.5 * row, color=colour, linewidth=0.8)
    axes.set_ylim(0, 1)
    axes.set_yticks([0.75, 0.25], [f"first {len(trace.first_weights)}", f"field {len(trace.weights)}"])
