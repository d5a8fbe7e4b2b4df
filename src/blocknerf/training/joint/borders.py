"""Borders of neighbouring blocks: which rays both see, and what a block renders on them.

Training has rounds of `distributed.exchange_every` steps. For each round, rays are drawn from images on which two
neighbours both train, and rendered. Until the next round, a block learns what its neighbour rendered.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import torch
from jaxtyping import Float
from torch import Tensor

from blocknerf.blocks.plan import BlockSpec
from blocknerf.core.config.config import Config
from blocknerf.core.seeds import derive_seed
from blocknerf.core.types import RayBatch, on_device
from blocknerf.models.block_nerf import BlockNeRF
from blocknerf.runtime.devices import default_device
from blocknerf.scene.sampler import PixelSampler
from blocknerf.scene.store import ImageStore
from blocknerf.training.block.losses.block_nerf_loss import SharedRays

SHARED_SHARE = 0.25
"""Rays per step for a block and one neighbour, as a share of a batch. Rays without a border are then skipped."""


@dataclass(frozen=True, slots=True)
class Border:
    """Two neighbours, and the images on which both train."""

    first: BlockSpec
    second: BlockSpec
    image_ids: tuple[str, ...]

    def weights(self, points_world: Float[Tensor, "points 3"]) -> Float[Tensor, " points"]:
        """How important it is that both agree on a surface at these points, in [0, 1].

        Let a and b be the distances from the centres of the blocks, and e the maximum norm of the place in block units,
        for the block where it is larger (1 at the edge of its cube). Then

            w = (1 - |a - b| / (a + b)) min(1, (1 - e) / (1 - e_0)), never below 0,

        where e_0 is e half-way between the centres. So w is 1 half-way, and falls to 0 at both centres and at the edges
        of the region that both reach.
        """
        middles = points_world.new_tensor([self.first.center_world, self.second.center_world])
        away_m = (points_world - middles[:, None]).norm(dim=-1)
        between = 1 - away_m.diff(dim=0)[0].abs() / away_m.sum(0)
        return between * (self._inside(points_world) / self._inside(middles.mean(0, keepdim=True))).clamp(0, 1)

    def neighbour_of(self, block: BlockSpec) -> BlockSpec:
        """The other of the two."""
        return self.second if block.id == self.first.id else self.first

    @property
    def is_shared(self) -> bool:
        """Whether both blocks reach the place half-way between them, and both train on some image."""
        middles = torch.tensor([self.first.center_world, self.second.center_world])
        return bool(self.image_ids) and bool(self._inside(middles.mean(0, keepdim=True)) > 0)

    def draw(self, store: ImageStore, count: int, seed: int, number: int) -> RayBatch:
        """Rays of round `number`, equal for both blocks. Slots are positions in `image_ids`."""
        seed = derive_seed(seed, "border", self.first.id, self.second.id, number)
        return PixelSampler(store, self.image_ids, count, seed).next().rays

    def _inside(self, points_world: Float[Tensor, "points 3"]) -> Float[Tensor, " points"]:
        """1 - e: how far the points are inside the cubes of both blocks."""
        units = [
            (points_world - points_world.new_tensor(block.center_world)).abs().amax(-1) / block.radius_m
            for block in (self.first, self.second)
        ]
        return 1 - torch.maximum(*units)


def borders_of(learning: Sequence[BlockSpec], learned: Sequence[BlockSpec], store: ImageStore) -> list[Border]:
    """All shared borders of blocks that are still learning, sorted by block id."""
    blocks = sorted([*learning, *learned], key=lambda block: block.id)
    still = {block.id for block in learning}
    borders = []
    for first, second in combinations(blocks, 2):
        if second.id in first.neighbours and not still.isdisjoint((first.id, second.id)):
            second_images = set(second.train_images)
            common = (name for name in first.train_images if name in second_images and name in store.records)
            borders.append(Border(first, second, tuple(common)))
    return [border for border in borders if border.is_shared]


def shared_rays_per_round(config: Config) -> int:
    """Rays that two neighbours share in a round."""
    return config.distributed.exchange_every * max(1, round(SHARED_SHARE * config.dataset.batch_size))


def with_block_slots(rays: RayBatch, border: Border, image_ids: tuple[str, ...]) -> RayBatch:
    """The border's rays with image slots of a block, which are positions in its `image_ids`."""
    slots = torch.tensor([image_ids.index(image_id) for image_id in border.image_ids])
    return RayBatch(rays.origins, rays.directions, slots[rays.image_slots], rays.radii)


@torch.no_grad()
def render_shared(model: BlockNeRF, rays: RayBatch) -> Float[Tensor, "rays 4"]:
    """Colour, and distance in metres, of rays of the block's images, as it renders them now."""
    parts = []
    for start in range(0, len(rays), model.field.rays_at_once):
        with default_device(model.device):
            rgb, composited = model(on_device(rays[start : start + model.field.rays_at_once], model.device))
        parts.append(torch.cat([rgb, composited.distance[:, None] * model.radius_m], -1).to(rays.origins))
    return torch.cat(parts)


def near_border(border: Border, rays: RayBatch, rendered: Float[Tensor, "rays 4"]) -> SharedRays:
    """The `rays` of a block on which its neighbour `rendered` a surface that both reach."""
    weights = border.weights(rays.origins + rendered[:, 3:] * rays.directions)
    near = weights > 0
    return SharedRays(rays[near], rendered[near, :3], rendered[near, 3], weights[near])
