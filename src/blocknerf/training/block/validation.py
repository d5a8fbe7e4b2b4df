"""Renders of a block that it was not trained on: its test images, and views between training cameras."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from blocknerf.core.names import natural_order
from blocknerf.core.types import Appearance, RenderOutput
from blocknerf.geometry import se3
from blocknerf.models.block_nerf import BlockNeRF
from blocknerf.rendering.colours import distance_colours, error_colours
from blocknerf.rendering.perceptual import Metric, perceptual_metrics
from blocknerf.rendering.quality import SSIM_WINDOW_PX, psnr, ssim
from blocknerf.scene.rays import rays_from_directions
from blocknerf.scene.scene import ImageRecord
from blocknerf.scene.store import ImageStore


@dataclass(frozen=True, slots=True)
class ValidationView:
    """A test image and its render, with the mean code and the learned pose offset of its drive."""

    record: ImageRecord
    truth: Float[Tensor, "h w 3"]
    valid: Bool[Tensor, "h w"]
    render: RenderOutput  # pixels are [h, w]
    distance_m: Float[Tensor, "h w"] | None = None  # along rays, as captured; 0 where unknown

    @property
    def panels(self) -> dict[str, Float[Tensor, "h w 3"]]:
        """Colours by kind; masked pixels of the photograph are darkened."""
        return {
            "truth": torch.where(self.valid[..., None], self.truth, 0.5 * self.truth),
            "render": self.render.rgb,
            "distance": distance_colours(self.render),
            "error": error_colours(self.render.rgb, self.truth, self.valid),
        }


def render_test_view(
    model: BlockNeRF, store: ImageStore, image_id: str, rays_at_once: int | None = None
) -> ValidationView:
    record = store.records[image_id]
    code = model.code_for(Appearance(drive=record.drive, exposure=record.exposure))
    rays = model.refined_rays(store.rays(image_id), drive=record.drive, segment=record.segment)
    return ValidationView(
        record,
        truth=torch.from_numpy(store.rgb(image_id).astype(np.float32) / 255),
        valid=torch.from_numpy(store.valid(image_id).copy()),
        render=model.render(rays, code, rays_at_once).reshape(*store.size(image_id)),
        distance_m=_captured_distance_m(store, image_id),
    )


def _captured_distance_m(store: ImageStore, image_id: str) -> Float[Tensor, "h w"] | None:
    depth_z_m = store.depth_z_m(image_id)
    if depth_z_m is None:
        return None
    return torch.from_numpy(np.nan_to_num(depth_z_m / store.directions_cam(image_id)[..., 2]).astype(np.float32))


def render_novel_views(
    model: BlockNeRF, store: ImageStore, image_ids: Sequence[str], count: int
) -> Iterator[RenderOutput]:
    """Up to `count` renders from halfway between neighbouring cameras, each with the mean code of its drive.

    Neighbours are successive images, by name, of the same drive and camera; of the same drive, if every image has
    another camera. Pixels are [h, w].
    """
    neighbours = _neighbours([store.records[image_id] for image_id in image_ids])
    for one, other in evenly_picked(neighbours, count):
        pose = halfway(torch.from_numpy(one.world_from_cam), torch.from_numpy(other.world_from_cam))
        rays = rays_from_directions(store.directions_cam(one.id), pose.numpy())
        rays = model.refined_rays(rays, drive=one.drive, segment=one.segment)
        yield model.render(rays, model.code_for(Appearance(drive=one.drive))).reshape(*store.size(one.id))


def halfway(one: Float[Tensor, "3 4"], other: Float[Tensor, "3 4"]) -> Float[Tensor, "3 4"]:
    """The pose in the middle of the screw motion from `one` to `other`, both world_from_cam."""
    return se3.compose(one, se3.exp(0.5 * se3.log(se3.compose(se3.inverse(one), other))))


def figures_of(views: Sequence[ValidationView]) -> dict[str, float]:
    """Means over the views that have a pixel to measure; empty if no view has.

    PSNR, SSIM if no picture is smaller than its window, and LPIPS if its weights are on this machine.
    """
    measured = [view for view in views if bool(view.valid.any())]
    if not measured:
        return {}
    smallest_side_px = min(min(view.valid.shape) for view in measured)
    judges: dict[str, Metric] = {"psnr": psnr}
    if smallest_side_px >= SSIM_WINDOW_PX:
        judges["ssim"] = ssim
    judges |= perceptual_metrics(smallest_side_px, ("lpips_alex",))[0]
    return {
        name: float(np.mean([judge(view.render.rgb, view.truth, view.valid) for view in measured]))
        for name, judge in judges.items()
    }


def evenly_picked(things: Sequence, count: int) -> list:
    """Up to `count` of the things, spread evenly over the list, each at most once."""
    if not things or count == 0:
        return []
    return [things[i] for i in np.unique(np.linspace(0, len(things) - 1, count).round().astype(int))]


def _neighbours(records: Sequence[ImageRecord]) -> list[tuple[ImageRecord, ImageRecord]]:
    ordered = sorted(records, key=lambda record: (record.drive, record.camera_key, natural_order(record.name)))
    of_one_camera = [(a, b) for a, b in pairwise(ordered) if (a.drive, a.camera_key) == (b.drive, b.camera_key)]
    if of_one_camera:
        return of_one_camera
    ordered = sorted(records, key=lambda record: (record.drive, natural_order(record.name)))
    return [(a, b) for a, b in pairwise(ordered) if a.drive == b.drive]
