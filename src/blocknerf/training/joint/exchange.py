"""Exchange between blocks that learn at the same time, in several processes."""

from collections.abc import Mapping, Sequence

import torch

from blocknerf.core.config.config import Config
from blocknerf.models.block_nerf import BlockNeRF
from blocknerf.runtime.process_group import ProcessGroup
from blocknerf.scene.store import ImageStore
from blocknerf.training.block.neighbour_targets import NeighbourTargets
from blocknerf.training.joint.borders import (
    Border,
    near_border,
    render_shared,
    shared_rays_per_round,
    with_block_slots,
)


class ConsistencyExchange:
    """Lets the blocks of all processes exchange renders of their borders.

    Every process knows all borders. `hosts` says which process trains each block.
    """

    def __init__(
        self,
        config: Config,
        borders: Sequence[Border],
        hosts: Mapping[str, int],
        store: ImageStore,
        group: ProcessGroup,
    ):
        self.borders, self.hosts, self.store, self.group = borders, hosts, store, group
        self.seed, self.every = config.training.seed, config.distributed.exchange_every
        self.count = shared_rays_per_round(config)

    def __call__(self, number: int, models: Mapping[str, BlockNeRF], learning: Mapping[str, NeighbourTargets]) -> None:
        """Begins round `number` for the blocks `learning` in this process. All processes call this together.

        `models` are those of this process by block id, of blocks that learn and of blocks already trained.
        """
        rays = [border.draw(self.store, self.count, self.seed, number) for border in self.borders]
        rendered = torch.zeros(len(self.borders), 2, self.count, 4)
        for index, border in enumerate(self.borders):
            for side, block in enumerate((border.first, border.second)):
                if block.id in models:
                    model = models[block.id]
                    rendered[index, side] = render_shared(model, with_block_slots(rays[index], border, model.image_ids))
        by_process = self.group.gather(rendered)
        for targets in learning.values():
            targets.number, targets.borders = number, {}
        for index, border in enumerate(self.borders):
            for side, block in enumerate((border.first, border.second)):
                neighbour = border.neighbour_of(block).id
                if block.id in learning and neighbour in self.hosts:
                    of_neighbour = by_process[self.hosts[neighbour]][index, 1 - side]
                    block_rays = with_block_slots(rays[index], border, models[block.id].image_ids)
                    learning[block.id].borders[neighbour] = near_border(border, block_rays, of_neighbour)
