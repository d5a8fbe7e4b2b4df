"""One block whose field is computed on several devices."""

import torch

from blocknerf.core.config.config import Config
from blocknerf.core.config.distributed import FieldPart
from blocknerf.core.errors import UserError
from blocknerf.core.types import Exposures
from blocknerf.models.block_nerf import BlockNeRF
from blocknerf.models.poses import PoseGroups


class ModelParallelBlockNeRF(BlockNeRF):
    """A block whose parts are on the devices of `distributed.device_map`; activations travel between them.

    Rays, samples and compositing stay on the CPU. With backbone `hash`, where kernels beside the tables do most of
    that, the whole block follows its encoder. Parameters start with the values and names of a `BlockNeRF`, so block
    files of both are the same. Raises UserError for a missing device.
    """

    def __init__(
        self,
        config: Config,
        center_world: tuple[float, float, float],
        radius_m: float,
        image_ids: tuple[str, ...],
        drives: tuple[str, ...],
        rng: torch.Generator | None = None,
        exposures: Exposures | None = None,
        pose_groups: PoseGroups | None = None,
        bounded: bool = False,
    ):
        super().__init__(config, center_world, radius_m, image_ids, drives, rng, exposures, pose_groups, bounded)
        named = config.distributed.device_map.items()
        places: dict[FieldPart, torch.device] = {part: _device(part, name) for part, name in named}
        if self.field.stands_with_encoder and "encoder" in places:
            self.to(places["encoder"])
        for part, device in places.items():
            self.field.move(part, device)


def _device(part: str, name: str) -> torch.device:
    try:
        device = torch.device(name)
        torch.zeros(1, device=device).cpu()  # "meta" holds nothing that could come back
    except (RuntimeError, AssertionError) as error:  # torch built without CUDA asserts
        known = ["cpu", *(f"cuda:{number}" for number in range(torch.cuda.device_count()))]
        raise UserError(
            f"distributed.device_map puts the {part} on {name!r}, and this machine has {', '.join(known)}. Name one of "
            "those, or leave the part out."
        ) from error
    return device
