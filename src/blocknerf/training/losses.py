"""What a block is trained on: pure terms, their weighted sum, each by name."""

import torch
from jaxtyping import Float
from torch import Tensor

from blocknerf.core.config import TrainingConfig
from blocknerf.core.types import RayBatch
from blocknerf.kernels.intervals import distortion_loss, interlevel_loss
from blocknerf.models.block_nerf import BlockNeRF
from blocknerf.training.visibility import visibility_loss


def rgb_loss(rgb: Float[Tensor, "rays 3"], truth: Float[Tensor, "rays 3"]) -> Float[Tensor, ""]:
    """Mean squared error: what PSNR is made of."""
    return (rgb - truth).square().mean()


class BlockNeRFLoss:
    """The weighted total, and every term by name, unweighted and detached."""

    def __init__(self, config: TrainingConfig):
        self.weights = {
            "rgb": config.rgb_loss_weight,
            "interlevel": config.interlevel_loss_weight,
            "coarse_rgb": config.coarse_loss_weight,
            "distortion": config.distortion_loss_weight,
            "appearance": config.appearance_loss_weight,
            "visibility": config.visibility_loss_weight,
        }

    def __call__(
        self,
        model: BlockNeRF,
        rays: RayBatch,
        truth: Float[Tensor, "rays 3"],
        rng: torch.Generator | None,
    ) -> tuple[Float[Tensor, ""], dict[str, Float[Tensor, ""]]]:
        rgb, composited = model(rays, rng)
        terms = {
            "rgb": rgb_loss(rgb, truth),
            "distortion": distortion_loss(composited.edges_s, composited.weights),
        }
        if composited.coarse_rgb is not None:
            terms["coarse_rgb"] = rgb_loss(composited.coarse_rgb, truth)
        elif composited.proposal_weights is not composited.weights:
            terms["interlevel"] = interlevel_loss(
                composited.proposal_edges_s, composited.proposal_weights, composited.edges_s, composited.weights
            )
        if model.appearance is not None:
            terms["appearance"] = model.appearance.penalty()
        if model.visibility is not None:
            terms["visibility"] = visibility_loss(model, rays, composited, rng)
        weights = self.weights
        if model.poses is not None:
            terms["pose"] = model.poses.penalty()
            weights = weights | {"pose": model.poses.penalty_weight(model.progress)}
        total = sum((weights[name] * term for name, term in terms.items()), torch.zeros(()))
        return total, {name: term.detach() for name, term in terms.items()}
