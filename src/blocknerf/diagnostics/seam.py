"""The seam of two blocks: what each shows of the same view, and the difference."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from matplotlib.colors import LogNorm
from torch import Tensor

from blocknerf.city.alignment.overlaps import SEEN_WELL, cameras_between, seen_by_both
from blocknerf.city.city import City
from blocknerf.core.errors import UserError
from blocknerf.core.plots import new_figure, picture, save_figure
from blocknerf.core.types import Appearance, RenderOutput
from blocknerf.scene.scene import Scene
from blocknerf.scene.store import ImageStore

LEAST_SIDE_PX = 96
LARGEST_DIFFERENCE = 0.25
"""Mean difference of the channels with the brightest colour."""


@dataclass(frozen=True, slots=True)
class SeamView:
    """One view from two blocks under the look of one drive; pictures are [H, W]. `well` is where both see well."""

    blocks: tuple[str, str]
    image: str
    drive: str
    pictures: tuple[RenderOutput, RenderOutput]
    well: Float[Tensor, "h w"]

    @property
    def colour_apart(self) -> Float[Tensor, "h w"]:
        """Mean |difference| of the channels, colours in [0, 1]."""
        one, other = self.pictures
        return (one.rgb.clamp(0, 1) - other.rgb.clamp(0, 1)).abs().mean(-1)

    @property
    def distance_apart(self) -> Float[Tensor, "h w"]:
        """|difference| of the distances over the nearer of them."""
        one, other = self.pictures
        nearer = torch.minimum(one.distance_m, other.distance_m).clamp(min=1e-6)
        return (one.distance_m - other.distance_m).abs() / nearer

    def figures(self) -> dict[str, float | None]:
        """Means over the whole view, and over what both blocks see well (None if there is nothing)."""
        well = self.well >= SEEN_WELL
        in_common = bool(well.any())
        return {
            "colour_difference": float(self.colour_apart.mean()),
            "relative_distance_difference": float(self.distance_apart.mean()),
            "share_seen_well": float(well.float().mean()),
            "colour_difference_seen_well": float(self.colour_apart[well].mean()) if in_common else None,
            "relative_distance_difference_seen_well": float(self.distance_apart[well].mean()) if in_common else None,
        }


def view_seam(city: City, scene: Scene, store: ImageStore, pair: tuple[str, str]) -> SeamView:
    """Renders both blocks from the camera nearest to both, at the smallest useful size of the store.

    Raises UserError if the blocks are the same, or a block is not trained.
    """
    if pair[0] == pair[1]:
        raise UserError(f"--seam {pair[0]},{pair[1]}: a seam lies between two blocks; name two.")
    one, other = (city.model(block_id) for block_id in pair)
    image = next((image for image in cameras_between(city, pair, scene) if image.id in store.records), None)
    if image is None:
        raise UserError(f"No photograph that block {pair[0]} or {pair[1]} was trained on can be decoded any more.")
    level = small_level(store, image.id)
    size, rays = store.size(image.id, level), store.rays(image.id, level)
    pictures = [
        model.render(rays, city.code_for(block_id, Appearance(drive=image.drive))).reshape(*size)
        for model, block_id in zip((one, other), pair, strict=True)
    ]
    well = seen_by_both(one, other, rays).reshape(*size)
    return SeamView(pair, image.name, image.drive, (pictures[0], pictures[1]), well)


def small_level(store: ImageStore, image_id: str) -> int:
    """The coarsest level of the store at which the image's longer side still has LEAST_SIDE_PX pixels, else 0."""
    fitting = [level for level in range(store.num_levels) if max(store.size(image_id, level)) >= LEAST_SIDE_PX]
    return max(fitting, default=0)


def draw_seam(path: Path, view: SeamView) -> Path:
    """Writes a PNG: both pictures and their difference, both distances and theirs."""
    height, width = view.well.shape
    figure = new_figure(12.0, 2 * 4.0 * height / width * 0.92 + 1.2)
    figure.suptitle(
        f"Blocks {view.blocks[0]} and {view.blocks[1]} from the camera of {view.image}, look of drive {view.drive}",
        fontsize=10,
        x=0.01,
        ha="left",
    )
    colours, depths = figure.subplots(2, 3)
    both_m = np.stack([rendered.distance_m.clamp(min=1e-6).numpy() for rendered in view.pictures])
    low, high = np.percentile(both_m, (2, 98))
    scale = LogNorm(float(low), float(max(high, low * 1.01)))
    for column, (block_id, rendered) in enumerate(zip(view.blocks, view.pictures, strict=True)):
        colours[column].imshow(rendered.rgb.clamp(0, 1).numpy(), interpolation="nearest")
        picture(colours[column], f"block {block_id}")
        depths[column].imshow(both_m[column], cmap="viridis_r", norm=scale, interpolation="nearest")
        picture(depths[column], f"its distance, m, {low:.2g} to {high:.2g}")
    apart = [(colours[2], view.colour_apart, LARGEST_DIFFERENCE), (depths[2], view.distance_apart, 1.0)]
    for axes, values, brightest in apart:
        heatmap = axes.imshow(values.numpy(), cmap="inferno", vmin=0, vmax=brightest, interpolation="nearest")
        bar = figure.colorbar(heatmap, ax=axes, shrink=0.85)
        bar.ax.tick_params(labelsize=7, labelcolor="0.35", color="0.6")
    picture(colours[2], f"difference of colours, mean {float(view.colour_apart.mean()):.3f}")
    picture(depths[2], f"relative difference of distances, mean {float(view.distance_apart.mean()):.3f}")
    return save_figure(figure, path)
