"""Refinement of camera poses while a block learns (Block-NeRF, section 4.2.2): one rigid offset per drive, segment of a
drive, or image.

An offset turns its cameras about their centroid, the pivot, and then moves them. A turn about the world's origin would
also be a large move, and the two could not be learned separately. Motion common to all cameras of a block moves its
content and changes no picture: it is the gauge. It is removed (`_gauge_free`), so that blocks, test poses and the
capture stay in one frame.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from jaxtyping import Float, Float64, Int
from torch import Tensor, nn

from blocknerf.core.config.pose_refinement import PoseMode, PoseRefinementConfig
from blocknerf.core.errors import UserError
from blocknerf.core.stored import Text
from blocknerf.core.types import RayBatch
from blocknerf.geometry import se3, so3

FEATURES = {"resnet18": 512}
"""Number of features that an extractor returns for an image."""


@dataclass(frozen=True, slots=True)
class PoseGroups:
    """Which training images share an offset: those with the same entry in `names`, which has one per image."""

    by: Literal["drive", "segment", "image"]
    names: tuple[Text, ...]

    @property
    def are_free(self) -> bool:
        """Whether offsets can differ: a single one is only gauge."""
        return len(set(self.names)) > 1


def default_groups(mode: PoseMode, image_ids: Sequence[str], drives: Sequence[str]) -> PoseGroups:
    """Groups by `mode` without known segments: every drive is one segment."""
    by = "image" if mode == "features" else mode
    return PoseGroups(by, tuple(image_ids if by == "image" else drives))


def free_groups(mode: PoseMode, image_ids: Sequence[str], drives: Sequence[str], segments: Sequence[str]) -> PoseGroups:
    """Groups by `mode`, or by the next smaller part of a drive if all images would share one offset."""
    parts = [PoseGroups("drive", tuple(drives)), PoseGroups("segment", tuple(segments))]
    allowed = {"drive": parts, "segment": parts[1:]}.get(mode, [])
    return next((groups for groups in allowed if groups.are_free), PoseGroups("image", tuple(image_ids)))


class PoseRefinementNetwork(nn.Module):
    """Offsets of the training images' poses. All public methods use world metres and radians."""

    slot_groups: Tensor
    pivots_world: Tensor
    gauge: Tensor
    features: Tensor

    def __init__(
        self,
        config: PoseRefinementConfig,
        image_ids: tuple[str, ...],
        drives: tuple[str, ...],
        rng: torch.Generator | None = None,
        groups: PoseGroups | None = None,
    ):
        """`drives` has one entry per image; `groups` default to `default_groups`.

        Call `place` with the images' positions, unless a saved state is loaded.
        """
        super().__init__()
        self.config = config
        self._group(groups or default_groups(config.mode, image_ids, drives))
        self.register_buffer("slot_groups", self._slot_groups(), persistent=False)
        self.register_buffer("pivots_world", torch.zeros(len(self.groups), 3))
        self.register_buffer("gauge", torch.zeros(2, len(self.groups), 6, 6))
        if config.mode == "features":
            width = FEATURES[config.feature_extractor]
            self.register_buffer("features", torch.zeros(len(self.groups), width))
            self.network = _network(width, config.hidden_dim, rng)
        else:
            # normalized offsets; block files know the tensor as `poses.shares`
            self.shares = nn.Parameter(torch.zeros(len(self.groups), 6))

    def _group(self, groups: PoseGroups) -> None:
        self.pose_groups = groups
        self.groups = tuple(dict.fromkeys(groups.names))

    def _slot_groups(self) -> Int[Tensor, " images"]:
        numbers = {name: number for number, name in enumerate(self.groups)}
        return torch.tensor([numbers[name] for name in self.pose_groups.names], dtype=torch.int64)

    def place(self, centers_world: Float64[Tensor, "images 3"], radius_m: float) -> None:
        """Takes the camera centres of the training images; in the gauge, a turn counts by its shift at `radius_m`."""
        groups = self.slot_groups.cpu()
        counts = torch.bincount(groups, minlength=len(self.groups)).double()
        sums = torch.zeros(len(self.groups), 3, dtype=torch.float64).index_add(0, groups, centers_world)
        pivots = sums / counts[:, None]
        self.pivots_world.copy_(pivots)
        self.gauge.copy_(_common_motions(pivots - centers_world.mean(0), counts, radius_m))

    @torch.no_grad()
    def grow(
        self,
        image_ids: tuple[str, ...],
        drives: tuple[str, ...],
        centers_world: Float64[Tensor, "images 3"] | None = None,
        segments: tuple[str, ...] | None = None,
    ) -> None:
        """Adds slots for new images; offsets learned before stay bit for bit.

        An image of a known drive or segment joins it (without `segments`, drives are used). A new group begins as
        captured, turns about its `centers_world` (default: the middle of the other pivots), and is not in the gauge.
        `shares` becomes another parameter. Raises UserError if offsets come from features.
        """
        if self.config.mode == "features":
            raise UserError("Offsets from image features cannot take new images; train the block with --overwrite.")
        keys = {"drive": drives, "segment": segments or drives, "image": image_ids}[self.pose_groups.by]
        new = tuple(dict.fromkeys(key for key in keys if key not in self.groups))
        middle = self.pivots_world.mean(0)
        of_new = [[row for row, key in enumerate(keys) if key == name] for name in new]
        pivots = [middle if centers_world is None else centers_world[rows].mean(0).to(middle) for rows in of_new]
        self._group(replace(self.pose_groups, names=self.pose_groups.names + keys))
        self.pivots_world = torch.cat([self.pivots_world, *(pivot[None] for pivot in pivots)])
        self.gauge = torch.cat([self.gauge, self.gauge.new_zeros(2, len(new), 6, 6)], 1)
        self.shares = nn.Parameter(torch.cat([self.shares, self.shares.new_zeros(len(new), 6)]))
        self.slot_groups = self._slot_groups().to(self.slot_groups)

    def offsets(self) -> Float[Tensor, "groups 6"]:
        """Shift in metres and rotation vector of each group: without common motion, and bounded."""
        normalized_offsets = self.network(self.features) if self.config.mode == "features" else self.shares
        bounds = normalized_offsets.new_tensor([self.config.max_translation] * 3 + [self.config.max_rotation] * 3)
        free = _gauge_free(normalized_offsets * bounds, self.gauge)
        return torch.cat(
            [_bounded(free[:, :3], self.config.max_translation), _bounded(free[:, 3:], self.config.max_rotation)], -1
        )

    def penalty(self) -> Float[Tensor, ""]:
        """The mean over groups of squared offsets, each as a share of its bound."""
        offsets = self.offsets()
        moved, turned = offsets[:, :3] / self.config.max_translation, offsets[:, 3:] / self.config.max_rotation
        return (moved.square().sum(-1) + turned.square().sum(-1)).mean()

    def penalty_weight(self, progress: float) -> float:
        """The weight falls during the first share of the run: geometry is learned before poses move."""
        config = self.config
        if config.regularization_decay == "linear" and config.regularization_share > 0:
            left = max(0.0, 1 - progress / config.regularization_share)
            return config.regularization_end + (config.regularization_start - config.regularization_end) * left
        if config.regularization_start == 0 or config.regularization_end == 0 or config.regularization_share == 0:
            return config.regularization_end
        passed = min(1.0, progress / config.regularization_share)
        return config.regularization_start ** (1 - passed) * config.regularization_end**passed

    def refine(self, rays: RayBatch) -> RayBatch:
        """The rays of training images from their refined poses; differentiable in these.

        Rays of no image (slot -1) do not change.
        """
        groups = self.slot_groups[rays.image_slots.clamp(min=0)]
        offsets, pivots = self.offsets(), self.pivots_world[groups]
        turns = so3.exp(offsets[:, 3:])[groups]
        origins = _turned(turns, rays.origins - pivots) + pivots + offsets[groups, :3]
        directions = _turned(turns, rays.directions)
        strange = rays.image_slots[:, None] < 0
        return replace(
            rays,
            origins=torch.where(strange, rays.origins, origins),
            directions=torch.where(strange, rays.directions, directions),
            view=None,
        )

    @torch.no_grad()
    def motion(
        self, image_id: str | None, drive: str | None, segment: str | None = None
    ) -> Float64[Tensor, "3 4"] | None:
        """refined_from_captured of an image, else of its drive or segment; None if it has no offset.

        With offsets per image, drives have none: an image that was not trained on keeps its captured pose.
        """
        key = {"drive": drive, "segment": segment, "image": image_id}[self.pose_groups.by]
        if key not in self.groups:
            return None
        group = self.groups.index(key)
        offset, pivot = self.offsets()[group].double(), self.pivots_world[group].double()
        turn = so3.exp(offset[3:])
        return torch.cat([turn, (pivot + offset[:3] - turn @ pivot)[:, None]], -1)


def moved_rays(rays: RayBatch, motion: Float64[Tensor, "3 4"]) -> RayBatch:
    """Rays after a rigid motion of the world; differentiable in it."""
    turn = motion[:, :3].mT
    origins = rays.origins.to(motion) @ turn + motion[:, 3]
    directions = rays.directions.to(motion) @ turn
    view = rays.view
    if view is not None:
        view = replace(view, world_from_cam=se3.compose(motion, view.world_from_cam.to(motion)))
    return replace(rays, origins=origins.to(rays.origins), directions=directions.to(rays.directions), view=view)


def _turned(turns: Float[Tensor, "rays 3 3"], vectors: Float[Tensor, "rays 3"]) -> Float[Tensor, "rays 3"]:
    return (turns @ vectors[..., None])[..., 0]


def _bounded(vectors: Float[Tensor, "groups 3"], bound: float) -> Float[Tensor, "groups 3"]:
    """Vectors shortened to `bound` tanh(length / bound): short ones stay, long ones approach the bound."""
    length = vectors.square().sum(-1, keepdim=True).clamp(min=1e-20).sqrt() / bound
    return vectors * (length.tanh() / length)


def _common_motions(
    pivots: Float64[Tensor, "groups 3"], counts: Float64[Tensor, " groups"], radius_m: float
) -> Float64[Tensor, "2 groups 6 6"]:
    """What `_gauge_free` needs: the six motions that groups at `pivots` can share, to first order, as a projector.

    A common twist (v, w) moves a group by v + w x pivot and turns it by w. It is removed by least squares over all
    images, where a turn w counts as a move by `radius_m` w.
    """
    moves = torch.cat([torch.eye(3).double().expand(len(pivots), 3, 3), -so3.hat(pivots)], -1)
    turns = torch.cat([torch.zeros(len(pivots), 3, 3).double(), torch.eye(3).double().expand(len(pivots), 3, 3)], -1)
    scales = torch.tensor([1.0] * 3 + [radius_m] * 3, dtype=torch.float64) * counts.sqrt()[:, None]
    motions = torch.cat([moves, turns], -2) * scales[..., None]
    basis = torch.linalg.qr(motions.reshape(-1, 6)).Q.reshape(-1, 6, 6)
    return torch.stack([basis / scales[..., None], basis * scales[..., None]])


def _gauge_free(offsets: Float[Tensor, "groups 6"], gauge: Float[Tensor, "2 groups 6 6"]) -> Float[Tensor, "groups 6"]:
    common = torch.einsum("gik,gi->k", gauge[1], offsets)
    return offsets - gauge[0] @ common


def _network(width: int, hidden: int, rng: torch.Generator | None) -> nn.Sequential:
    """Features to shares; its last layer is zero, so that poses begin as captured."""
    first, last = nn.Linear(width, hidden), nn.Linear(hidden, 6)
    with torch.no_grad():
        bound = (6 / width) ** 0.5  # He et al. 2015, uniform
        first.weight.uniform_(-bound, bound, generator=rng) if rng is not None else first.weight.zero_()
        for parameter in (first.bias, last.weight, last.bias):
            parameter.zero_()
    return nn.Sequential(nn.LayerNorm(width), first, nn.ReLU(), last)
