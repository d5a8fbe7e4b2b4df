"""Per-image appearance codes (GLO: Bojanowski et al. 2018; Block-NeRF, section 4.2.1). They feed colour only.

Blocks are trained separately, so a shared table cannot be learned. It is drawn instead: each drive has a fixed code
that follows from its name and the seed, on every machine and in every block.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from blocknerf.core.config.appearance import AppearanceConfig
from blocknerf.core.seeds import generator
from blocknerf.core.types import TrajectoryPoint

GLOBAL_NORM = 2**0.5  # in many dimensions random directions are nearly orthogonal: two drives are about 2 apart


class AppearanceEmbedding(nn.Module):
    """One code per image id: its drive's global code, the same in all blocks, plus a residual that the block learns.

    Residuals start at zero and are pulled towards it, so that means of codes are meaningful. Tables have spare rows;
    `codes` has those of images.
    """

    global_codes: Tensor | None
    residuals: nn.Parameter | None
    adjacent: Tensor

    def __init__(
        self,
        config: AppearanceConfig,
        image_ids: tuple[str, ...],
        drives: tuple[str, ...],
        seed: int,
    ):
        """`drives` has one entry per image; `seed` is the run's."""
        super().__init__()
        self._number(image_ids, drives)
        self.dim = config.embedding_dim
        self.seed = seed
        rows = max(config.num_images, len(image_ids))
        self.residuals = nn.Parameter(torch.zeros(rows, self.dim)) if config.use_block_appearance else None
        self.register_buffer("adjacent", torch.zeros(2, 0, dtype=torch.int64), persistent=False)
        self.register_buffer("global_codes", self._global_codes(drives) if config.use_global_appearance else None)

    @property
    def codes(self) -> Float[Tensor, "images code"]:
        """Global code plus residual of every image."""
        return self._of(torch.arange(len(self.image_ids)))

    def _of(self, image_slots: Int[Tensor, " rays"]) -> Float[Tensor, "rays code"]:
        """Reads only the requested rows, however many images there are."""
        tables = [table for table in (self.global_codes, self.residuals) if table is not None]
        return torch.stack([table[image_slots.to(table.device)] for table in tables]).sum(0)

    def forward(self, image_slots: Int[Tensor, " rays"]) -> Float[Tensor, "rays code"]:
        """Codes of slots; -1 gets the mean of all."""
        codes = self._of(image_slots.clamp(min=0))
        if bool((image_slots < 0).any()):
            codes = torch.where(image_slots[:, None] < 0, self.codes.mean(0), codes)
        return codes

    def code_for(
        self, image_id: str | None, drive: str | None, point: TrajectoryPoint | None = None
    ) -> Float[Tensor, " code"]:
        """The image's code if it was trained, else that between the neighbours of `point`, else the mean of its
        drive's, else the mean of all."""
        if image_id in self.slots:
            return self._of(torch.tensor([self.slots[image_id]]))[0].detach()
        neighbours = [] if point is None else point.neighbours(self.slots)
        if neighbours:
            codes = self._of(torch.tensor([self.slots[name] for name, _ in neighbours])).detach()
            return codes.new_tensor([weight for _, weight in neighbours]) @ codes
        return self._of(self.slots_of.get(drive, torch.arange(len(self.image_ids)))).detach().mean(0)

    def penalty(self, image_slots: Int[Tensor, " rays"]) -> Float[Tensor, ""]:
        """Mean square of the rays' residuals: codes are drawn to their drive's global one, or without those to zero."""
        if self.residuals is None:
            return self.codes.new_zeros(())
        known = (image_slots >= 0)[:, None]
        return (self.residuals[image_slots.clamp(min=0)] * known).square().mean()

    def connect(self, adjacent: Sequence[tuple[str, str]]) -> None:
        """Takes the pairs of images that follow each other on a trajectory, for `roughness`."""
        slots = [[self.slots[name] for name in pair] for pair in adjacent]
        self.adjacent = torch.tensor(slots, dtype=torch.int64).reshape(-1, 2).T.contiguous().to(self.adjacent.device)

    def roughness(self) -> Float[Tensor, ""]:
        """Mean square of the difference of residuals over adjacent images; 0 if none is adjacent to another."""
        if self.residuals is None or self.adjacent.shape[1] == 0:
            return self.codes.new_zeros(())
        one, other = self.residuals[self.adjacent]
        return (one - other).square().mean()

    def size(self) -> Float[Tensor, ""]:
        """Mean absolute value of the residuals."""
        if self.residuals is None:
            return self.codes.new_zeros(())
        return self.residuals[: len(self.image_ids)].abs().mean()

    @torch.no_grad()
    def grow(self, image_ids: Sequence[str], drives: Sequence[str]) -> None:
        """Appends codes of new images; old ones stay bit for bit. A new residual is the mean of its drive's.

        If the reserve is too small, `residuals` becomes another parameter. Raises ValueError for an image that has a
        code already.
        """
        again = sorted(set(image_ids) & set(self.image_ids))
        if again or len(set(image_ids)) < len(image_ids):
            raise ValueError(f"Images can be added once; these have a code already: {', '.join(again or image_ids)}.")
        old, total = len(self.image_ids), len(self.image_ids) + len(image_ids)
        if self.residuals is not None:
            new = torch.stack([self._mean_residual(drive) for drive in drives])
            if total > len(self.residuals):
                more = self.residuals.new_zeros(total - len(self.residuals), self.dim)
                self.residuals = nn.Parameter(torch.cat([self.residuals, more]))
            self.residuals[old:total] = new
        if self.global_codes is not None:
            self.global_codes = torch.cat([self.global_codes, self._global_codes(drives).to(self.global_codes)])
        self._number((*self.image_ids, *image_ids), (*self.drives, *drives))

    def _number(self, image_ids: tuple[str, ...], drives: tuple[str, ...]) -> None:
        self.image_ids, self.drives = image_ids, drives
        self.slots = {name: slot for slot, name in enumerate(image_ids)}
        of_drive: dict[str | None, list[int]] = {}
        for slot, drive in enumerate(drives):
            of_drive.setdefault(drive, []).append(slot)
        self.slots_of = {drive: torch.tensor(slots) for drive, slots in of_drive.items()}

    def _global_codes(self, drives: Sequence[str]) -> Float[Tensor, "images code"]:
        drawn = {drive: _direction(self.dim, generator(self.seed, "appearance", drive)) for drive in set(drives)}
        return GLOBAL_NORM * torch.stack([drawn[drive] for drive in drives]) if drives else torch.zeros(0, self.dim)

    def _mean_residual(self, drive: str) -> Float[Tensor, " code"]:
        assert self.residuals is not None
        return self.residuals[self.slots_of.get(drive, slice(len(self.image_ids)))].mean(0)


def _direction(dim: int, rng: torch.Generator) -> Float[Tensor, " code"]:
    return nn.functional.normalize(torch.randn(dim, generator=rng), dim=0)
