"""The loss of a block: the weighted total of its terms."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from blocknerf.core.config.training import TrainingConfig
from blocknerf.core.types import RayBatch
from blocknerf.geometry.spacing import share_from_distance
from blocknerf.kernels.histograms.ops import distortion_loss, interlevel_loss
from blocknerf.models.block_nerf import BlockNeRF
from blocknerf.rendering.quality import SSIM_WINDOW_PX
from blocknerf.rendering.volume import CompositedRays, expected_distance
from blocknerf.scene.sampler import PixelBatch, PointSights
from blocknerf.training.block.losses.regularization import regularization
from blocknerf.training.block.losses.terms import (
    GRADIENT_SHARE,
    absolute_error,
    consistency_loss,
    depth_gradient_loss,
    dssim,
    passing_loss,
    scale_invariant_log_loss,
    squared_error,
    window_loss,
)
from blocknerf.training.block.losses.visibility import visibility_loss
from blocknerf.training.block.validation import ValidationView

POINTS_END_SHARE = 0.1
"""Of its weight that the term of points has when training ends: photographs know more than points by then."""
DEVIATIONS = 2.0
LEAST_HALF_WINDOW = 0.005
"""Of the whole ray, in the coordinate of geometry.spacing."""


@dataclass(frozen=True, slots=True)
class SharedRays:
    """Rays near the border of two blocks, as the neighbour renders them, with weights in [0, 1].

    The image slots of `rays` are those of the block, not of the neighbour.
    """

    rays: RayBatch
    rgb: Float[Tensor, "rays 3"]
    distance_m: Float[Tensor, " rays"]
    weights: Float[Tensor, " rays"]


class BlockNeRFLoss:
    """The weighted total, and every term by name, unweighted and detached.

    The terms include `mse`, the squared error from which PSNR follows, whatever the rgb term is.
    """

    def __init__(self, config: TrainingConfig):
        self.l1_share, self.ssim_share = config.rgb_l1_share, config.rgb_ssim_share
        self.weights = {
            "rgb": config.rgb_loss_weight,
            "interlevel": config.interlevel_loss_weight,
            "coarse_rgb": config.coarse_loss_weight,
            "distortion": config.distortion_loss_weight,
            "depth": config.depth_loss_weight,
            "points": config.point_loss_weight,
            "consistency": config.consistency_loss_weight,
            "regularization": config.regularization_weight,
            "appearance": config.appearance_loss_weight,
            "appearance_smoothness": config.appearance_smoothness_weight,
            "visibility": config.visibility_loss_weight,
        }

    def __call__(
        self,
        model: BlockNeRF,
        batch: PixelBatch,
        rng: torch.Generator | None,
        shared: Sequence[SharedRays] = (),
    ) -> tuple[Float[Tensor, ""], dict[str, Float[Tensor, ""]]]:
        """Masked pixels of patches are in no term. `shared` has one entry per neighbour; if empty, it adds no term."""
        rays, truth, sights = batch.rays, batch.rgb, batch.sights
        if batch.num_patches > 0 and not bool(batch.valid.all()):
            rays, truth = rays[batch.valid], truth[batch.valid]
            sights = None if sights is None else sights[batch.valid]
        rgb, composited = model(rays, rng)
        mse = squared_error(rgb, truth)
        terms = {
            "rgb": self._rgb(mse, rgb, truth, batch),
            "distortion": distortion_loss(composited.edges_s, composited.weights),
        }
        if composited.coarse_rgb is not None:
            terms["coarse_rgb"] = squared_error(composited.coarse_rgb, truth)
        elif composited.proposal_weights is not composited.weights:
            terms["interlevel"] = interlevel_loss(
                composited.proposal_edges_s, composited.proposal_weights, composited.edges_s, composited.weights
            )
            if model.bounded:
                terms["interlevel"] = terms["interlevel"] + passing_loss(
                    composited.proposal_weights, composited.weights
                )
        if model.appearance is not None:
            terms["appearance"] = model.appearance.penalty(rays.image_slots)
            if self.weights["appearance_smoothness"] > 0:
                terms["appearance_smoothness"] = model.appearance.roughness()
        if model.visibility is not None and bool(mse.isfinite()):  # what it counts must stay finite
            terms["visibility"] = visibility_loss(model, rays, composited, rng)
        if batch.distance_m is not None and self.weights["depth"] > 0:
            terms["depth"] = _depth(batch, composited, model.radius_m)
        if sights is not None and self.weights["points"] > 0:
            weight = batch.sight_weight * POINTS_END_SHARE**model.progress
            terms["points"] = weight * _points(model, rays, sights, composited)
        if shared and self.weights["consistency"] > 0:
            differences = [_consistency(model, border, rng) for border in shared]
            terms["consistency"] = torch.stack(differences).mean()
        if self.weights["regularization"] > 0:
            terms["regularization"] = regularization(model, rng)
        weights = self.weights
        if model.poses is not None:
            terms["pose"] = model.poses.penalty()
            weights = weights | {"pose": model.poses.penalty_weight(model.progress)}
        total = sum((weights[name] * term for name, term in terms.items()), torch.zeros(()))
        return total, {name: term.detach() for name, term in (terms | {"mse": mse}).items()}

    def of_view(self, view: ValidationView, radius_m: float) -> dict[str, Float[Tensor, ""]]:
        """The terms that compare a whole picture with its photograph: rgb, mse and, if it is known, depth."""
        valid = view.valid
        rgb, truth = view.render.rgb[valid], view.truth[valid]
        mse = squared_error(rgb, truth)
        patches = (view.render.rgb[None], view.truth[None], valid[None])
        has_windows = self.ssim_share > 0 and min(valid.shape) >= SSIM_WINDOW_PX
        terms = {"mse": mse, "rgb": self._mixed(mse, rgb, truth, dssim(*patches) if has_windows else None)}
        if view.distance_m is not None:
            known = valid & (view.distance_m > 0)
            rendered, distance = view.render.distance_m / radius_m, view.distance_m / radius_m
            steps = depth_gradient_loss(rendered[None], distance[None], known[None])
            terms["depth"] = scale_invariant_log_loss(rendered[known], distance[known]) + GRADIENT_SHARE * steps
        return terms

    def _rgb(
        self,
        mse: Float[Tensor, ""],
        rgb: Float[Tensor, "valid 3"],
        truth: Float[Tensor, "valid 3"],
        batch: PixelBatch,
    ) -> Float[Tensor, ""]:
        if self.ssim_share == 0 or batch.num_patches == 0:
            return self._mixed(mse, rgb, truth, None)
        rendered = torch.zeros_like(batch.rgb).masked_scatter(batch.valid[:, None], rgb)
        patches = (batch.patches(values) for values in (rendered, batch.rgb, batch.valid))
        return self._mixed(mse, rgb, truth, batch.patch_weight * dssim(*patches))

    def _mixed(
        self,
        mse: Float[Tensor, ""],
        rgb: Float[Tensor, "valid 3"],
        truth: Float[Tensor, "valid 3"],
        dssim: Float[Tensor, ""] | None,
    ) -> Float[Tensor, ""]:
        """The mixture of squared error, absolute error and, if there are windows, 1 - SSIM."""
        term = mse
        if self.l1_share > 0 or self.ssim_share > 0:
            term = (1 - self.l1_share - self.ssim_share) * mse + self.l1_share * absolute_error(rgb, truth)
        return term if dssim is None else term + self.ssim_share * dssim


def _depth(batch: PixelBatch, composited: CompositedRays, radius_m: float) -> Float[Tensor, ""]:
    """The depth term, of distances along rays in block radii, so that the scene's unit does not matter."""
    assert batch.distance_m is not None
    truth = batch.distance_m / radius_m
    known = batch.valid & (truth > 0)
    distance = torch.zeros_like(truth).masked_scatter(
        batch.valid, expected_distance(composited.weights, composited.edges)
    )
    error = scale_invariant_log_loss(distance[known], truth[known])
    if batch.num_patches == 0:
        return error
    steps = depth_gradient_loss(batch.patches(distance), batch.patches(truth), batch.patches(known))
    return error + GRADIENT_SHARE * batch.patch_weight * steps


def _points(model: BlockNeRF, rays: RayBatch, sights: PointSights, composited: CompositedRays) -> Float[Tensor, ""]:
    """How unlikely it is that rays end in the points that their images saw, by the field's weights and the proposal's.

    A window reaches DEVIATIONS standard deviations to both sides, and at least as far as samples can tell. Zero if no
    ray is known to end in a point.
    """
    rows = sights.known.nonzero()[:, 0]
    if len(rows) == 0:
        return sights.distance_m.new_zeros(())
    origins, directions = model.to_block(rays.origins[rows].detach()), rays.directions[rows].detach()
    spacing = model.field_of_rays().spacing
    distance, deviation = sights.distance_m[rows] / model.radius_m, sights.deviation_m[rows] / model.radius_m
    reach = torch.stack([distance, distance + DEVIATIONS * deviation], -1)
    place, end = share_from_distance(reach, origins, directions, spacing.ends(origins, directions)).unbind(-1)

    def loss(edges_s: Float[Tensor, "rays edges"], weights: Float[Tensor, "rays bins"], least: float) -> Tensor:
        half = (end - place).clamp(min=least)
        return window_loss(edges_s[rows], weights[rows], place - half, place + half)

    total = loss(composited.edges_s, composited.weights, LEAST_HALF_WINDOW)
    if composited.proposal_weights is not composited.weights:
        half_bin = 0.5 / composited.proposal_weights.shape[1]
        total = total + loss(composited.proposal_edges_s, composited.proposal_weights, half_bin)
    return total


def _consistency(model: BlockNeRF, border: SharedRays, rng: torch.Generator | None) -> Float[Tensor, ""]:
    rgb, composited = model(border.rays, rng)
    distance = expected_distance(composited.weights, composited.edges)
    return consistency_loss(rgb, distance, border.rgb, border.distance_m / model.radius_m, border.weights)
