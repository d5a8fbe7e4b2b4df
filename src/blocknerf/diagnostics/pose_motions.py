"""How far pose refinement has moved the cameras of a block."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import torch

from blocknerf.models.block_nerf import BlockNeRF

ROUNDING_M, ROUNDING_DEG = 1e-5, 1e-5


@dataclass(frozen=True, slots=True)
class PoseMotion:
    """The offset of a drive, a segment or an image: shift of its cameras' centroid, and turn."""

    name: str
    images: int
    shift_m: float
    turn_deg: float

    @property
    def has_moved(self) -> bool:
        """Whether it exceeds the rounding of an offset that is only gauge."""
        return self.shift_m > ROUNDING_M or self.turn_deg > ROUNDING_DEG


@torch.no_grad()
def pose_motions(model: BlockNeRF, name_of: Mapping[str, str]) -> list[PoseMotion]:
    """Every offset that the block has learned, the largest first; `name_of` maps image ids to names.

    Empty if poses are not refined.
    """
    if model.poses is None:
        return []
    offsets = model.poses.offsets().double().cpu()
    images = Counter(model.poses.pose_groups.names)
    motions = [
        PoseMotion(name_of.get(name, name), images[name], float(shift.norm()), float(turn.norm().rad2deg()))
        for name, shift, turn in zip(model.poses.groups, offsets[:, :3], offsets[:, 3:], strict=True)
    ]
    return sorted(motions, key=lambda motion: (-motion.shift_m, motion.name))
