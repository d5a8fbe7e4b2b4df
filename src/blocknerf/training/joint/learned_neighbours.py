"""What a block learns from neighbours that were trained before it."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from blocknerf.blocks.plan import BlockSpec
from blocknerf.core.config.config import Config
from blocknerf.models.block_nerf import BlockNeRF
from blocknerf.scene.store import ImageStore
from blocknerf.training.block.inputs import usable_images
from blocknerf.training.block.losses.block_nerf_loss import SharedRays
from blocknerf.training.block.neighbour_targets import SharedBorders
from blocknerf.training.joint.borders import (
    Border,
    near_border,
    render_shared,
    shared_rays_per_round,
    with_block_slots,
)


class LearnedNeighbours(SharedBorders):
    """Targets from neighbours that were trained before. They are rendered when a round begins, always equal."""

    def __init__(
        self,
        config: Config,
        block: BlockSpec,
        neighbours: Mapping[str, BlockNeRF],
        borders: Sequence[Border],
        store: ImageStore,
    ):
        """`neighbours` by id, and the `borders` of `block` with them."""
        super().__init__(config.distributed.exchange_every)
        self.store, self.image_ids = store, usable_images(block, store)
        self.seed, self.count = config.training.seed, shared_rays_per_round(config)
        self.teachers: dict[str, tuple[BlockNeRF, Border]] = {}
        for border in borders:
            neighbour = border.neighbour_of(block).id
            model = neighbours[neighbour]
            border = replace(border, image_ids=tuple(name for name in border.image_ids if name in model.image_ids))
            if border.is_shared:  # a scene may have gained images since the neighbour was trained
                self.teachers[neighbour] = model, border

    def at(self, step: int, share: float = 1.0) -> list[SharedRays]:
        number = step // self.every + 1
        if number != self.number:
            self.number = number
            self.borders = {neighbour: self._targets_of(*teacher) for neighbour, teacher in self.teachers.items()}
        return super().at(step, share)

    def _targets_of(self, model: BlockNeRF, border: Border) -> SharedRays:
        rays = border.draw(self.store, self.count, self.seed, self.number)
        rendered = render_shared(model, with_block_slots(rays, border, model.image_ids))
        return near_border(border, with_block_slots(rays, border, self.image_ids), rendered)
