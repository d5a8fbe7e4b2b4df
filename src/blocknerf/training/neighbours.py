"""What neighbouring blocks show each other of the rays that both see, for the consistency term of their loss.

Training goes in rounds of `distributed.exchange_every` steps. For each round, rays are drawn from images that two
neighbours both train on, and rendered. Until the next round a block is drawn towards what its neighbour showed. Blocks
that learn side by side show each other what they know at the time (`ConsistencyExchange`). Otherwise a block learns
from neighbours that have been trained before it (`LearnedNeighbours`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from blocknerf.blocks.plan import BlockSpec
from blocknerf.core.config.config import Config
from blocknerf.core.seeds import derive_seed
from blocknerf.core.types import RAY_TENSORS, RayBatch, on_device
from blocknerf.models.block_nerf import BlockNeRF
from blocknerf.runtime.devices import default_device
from blocknerf.runtime.process_group import ProcessGroup
from blocknerf.scene.sampler import PixelSampler
from blocknerf.scene.store import ImageStore
from blocknerf.training.losses import SharedRays

NEIGHBOURS = "neighbours"
"""Name of what neighbours show among the parts of a checkpoint."""
SHARED_SHARE = 0.25
"""Rays drawn for a step of a block and one neighbour, as a share of a batch; those that show no border are left out."""


@dataclass(frozen=True, slots=True)
class Border:
    """Two neighbours, and the images that both train on."""

    first: BlockSpec
    second: BlockSpec
    image_ids: tuple[str, ...]

    def weights(self, points_world: Float[Tensor, "points 3"]) -> Float[Tensor, " points"]:
        """How much it matters that both agree on a surface there, in [0, 1].

        With a and b the distances from the middles of the blocks, and e the maximum norm of the place in either block's
        units, whichever is larger (1 at the edge of its cube):

            w = (1 - |a - b| / (a + b)) min(1, (1 - e) / (1 - e_0)), never below 0,

        e_0 being e half-way between the middles. So w is 1 there, and falls to 0 at either middle and at the edges of
        what both reach.
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
        """Whether both blocks reach the place half-way between them, and train on an image in common."""
        middles = torch.tensor([self.first.center_world, self.second.center_world])
        return bool(self.image_ids) and bool(self._inside(middles.mean(0, keepdim=True)) > 0)

    def draw(self, store: ImageStore, count: int, seed: int, number: int) -> RayBatch:
        """Rays of round `number`, the same for both; slots are positions in `image_ids`."""
        seed = derive_seed(seed, "border", self.first.id, self.second.id, number)
        return PixelSampler(store, self.image_ids, count, seed).next().rays

    def _inside(self, points_world: Float[Tensor, "points 3"]) -> Float[Tensor, " points"]:
        """1 - e: how far inside the cubes of both blocks."""
        units = [
            (points_world - points_world.new_tensor(block.center_world)).abs().amax(-1) / block.radius_m
            for block in (self.first, self.second)
        ]
        return 1 - torch.maximum(*units)


def borders_of(learning: Sequence[BlockSpec], learned: Sequence[BlockSpec], store: ImageStore) -> list[Border]:
    """All borders of blocks that are still learning on which there is something to agree on, by the blocks' ids."""
    blocks = sorted([*learning, *learned], key=lambda block: block.id)
    still = {block.id for block in learning}
    borders = []
    for first, second in combinations(blocks, 2):
        if second.id in first.neighbours and not still.isdisjoint((first.id, second.id)):
            theirs = set(second.train_images)
            common = (name for name in first.train_images if name in theirs and name in store.records)
            borders.append(Border(first, second, tuple(common)))
    return [border for border in borders if border.is_shared]


class SharedBorders:
    """What the neighbours of a block showed for the present round, by neighbour."""

    def __init__(self, every: int):
        self.every = every
        self.number = 0
        """Of the round; 0 before the first one."""
        self.borders: dict[str, SharedRays] = {}

    def at(self, step: int, share: float = 1.0) -> list[SharedRays]:
        """What one step, or a part of one, is to learn: in steps as a whole every ray of the round comes once."""
        rows = slice(step % self.every, None, self.every * round(1 / share))
        mine = [_some(shared, rows) for shared in self.borders.values()]
        return [shared for shared in mine if len(shared.rays)]


class NeighbourTargets(SharedBorders):
    """Of neighbours that learn at the same time: a part of a block's checkpoint, for nobody can render it again."""

    def state(self) -> dict[str, Any]:
        state: dict[str, Any] = {"number": self.number}
        for neighbour, shared in self.borders.items():
            state |= {f"{neighbour}.{name}": tensor for name, tensor in _tensors(shared).items()}
        return state

    def restore(self, state: dict[str, Any]) -> None:
        self.number = state["number"]
        neighbours = dict.fromkeys(name.partition(".")[0] for name in state if "." in name)
        self.borders = {}
        for neighbour in neighbours:
            own = {name: state[f"{neighbour}.{name}"] for name in (*RAY_TENSORS, "rgb", "distance_m", "weights")}
            rays = RayBatch(*(own.pop(name) for name in RAY_TENSORS))
            self.borders[neighbour] = SharedRays(rays, **own)


class LearnedNeighbours(SharedBorders):
    """Of neighbours that have been trained before: rendered when a round begins, the same whenever that is."""

    def __init__(
        self,
        config: Config,
        block: BlockSpec,
        neighbours: Mapping[str, BlockNeRF],
        borders: Sequence[Border],
        store: ImageStore,
    ):
        """`neighbours` by id; `borders`: those that `block` has with them."""
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
            self.borders = {neighbour: self._shown_by(*teacher) for neighbour, teacher in self.teachers.items()}
        return super().at(step, share)

    def _shown_by(self, model: BlockNeRF, border: Border) -> SharedRays:
        rays = border.draw(self.store, self.count, self.seed, self.number)
        shown = shown_by(model, own_slots(rays, border, model.image_ids))
        return _near_border(border, own_slots(rays, border, self.image_ids), shown)


class ConsistencyExchange:
    """Lets the blocks of all processes show each other their borders.

    Every process knows all blocks and who has which; `models` are those that it has itself.
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
        """Begins round `number` for the blocks that are still learning here; all processes call at once."""
        rays = [border.draw(self.store, self.count, self.seed, number) for border in self.borders]
        here = torch.zeros(len(self.borders), 2, self.count, 4)
        for index, border in enumerate(self.borders):
            for side, block in enumerate((border.first, border.second)):
                if block.id in models:
                    model = models[block.id]
                    here[index, side] = shown_by(model, own_slots(rays[index], border, model.image_ids))
        everywhere = self.group.gather(here)
        for shown in learning.values():
            shown.number, shown.borders = number, {}
        for index, border in enumerate(self.borders):
            for side, (block, other) in enumerate(((border.first, border.second), (border.second, border.first))):
                if block.id in learning and other.id in self.hosts:
                    told = everywhere[self.hosts[other.id]][index, 1 - side]
                    own = own_slots(rays[index], border, models[block.id].image_ids)
                    learning[block.id].borders[other.id] = _near_border(border, own, told)


def usable_images(block: BlockSpec, store: ImageStore) -> tuple[str, ...]:
    """The block's training images that could be decoded."""
    return tuple(image_id for image_id in block.train_images if image_id in store.records)


def shared_rays_per_round(config: Config) -> int:
    """Of two neighbours, as many for every step."""
    return config.distributed.exchange_every * max(1, round(SHARED_SHARE * config.dataset.batch_size))


def own_slots(rays: RayBatch, border: Border, image_ids: tuple[str, ...]) -> RayBatch:
    """The border's rays with the slots that a block has for their images, by its `image_ids`."""
    slots = torch.tensor([image_ids.index(image_id) for image_id in border.image_ids])
    return RayBatch(rays.origins, rays.directions, slots[rays.image_slots], rays.radii)


@torch.no_grad()
def shown_by(model: BlockNeRF, rays: RayBatch) -> Float[Tensor, "rays 4"]:
    """Colour, and distance in metres, of rays of the block's own images as it sees them now."""
    parts = []
    for start in range(0, len(rays), model.field.rays_at_once):
        with default_device(model.device):
            rgb, composited = model(on_device(rays[start : start + model.field.rays_at_once], model.device))
        parts.append(torch.cat([rgb, composited.distance[:, None] * model.radius_m], -1).to(rays.origins))
    return torch.cat(parts)


def _near_border(border: Border, rays: RayBatch, told: Float[Tensor, "rays 4"]) -> SharedRays:
    """Those rays on which the neighbour shows a surface that both blocks reach."""
    weights = border.weights(rays.origins + told[:, 3:] * rays.directions)
    near = weights > 0
    return SharedRays(rays[near], told[near, :3], told[near, 3], weights[near])


def _some(shared: SharedRays, index: slice) -> SharedRays:
    return SharedRays(shared.rays[index], shared.rgb[index], shared.distance_m[index], shared.weights[index])


def _tensors(shared: SharedRays) -> dict[str, Tensor]:
    own = {name: getattr(shared, name) for name in ("rgb", "distance_m", "weights")}
    return {name: getattr(shared.rays, name) for name in RAY_TENSORS} | own
