"""Per-image appearance codes (GLO: Bojanowski et al. 2018; Block-NeRF, section 4.2.1). They feed colour only."""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from blocknerf.core.config import AppearanceConfig


class AppearanceEmbedding(nn.Module):
    """One code per image id: a fixed global one that all blocks share, plus a residual that the block learns.

    Residuals start at zero and are pulled towards it, so that a mean of codes means something. Tables have rows in
    reserve; `codes` has those of images.
    """

    global_codes: Tensor | None
    residuals: nn.Parameter | None

    def __init__(
        self,
        config: AppearanceConfig,
        image_ids: tuple[str, ...],
        drives: tuple[str, ...],
        global_codes: Float[Tensor, "images code"] | None = None,
    ):
        """`drives` and `global_codes` have one entry per image; without global codes these are zero."""
        super().__init__()
        self.image_ids = image_ids
        self.drives = drives
        self.dim = config.embedding_dim
        empty = torch.zeros(max(config.num_images, len(image_ids)), self.dim)
        self.residuals = nn.Parameter(empty) if config.use_block_appearance else None
        self.register_buffer("global_codes", empty.clone() if config.use_global_appearance else None)
        if self.global_codes is not None and global_codes is not None:
            self.global_codes[: len(image_ids)] = global_codes

    @property
    def codes(self) -> Float[Tensor, "images code"]:
        """Global code plus residual of every image."""
        tables = [table for table in (self.global_codes, self.residuals) if table is not None]
        return torch.stack([table[: len(self.image_ids)] for table in tables]).sum(0)

    def forward(self, image_slots: Int[Tensor, " rays"]) -> Float[Tensor, "rays code"]:
        """Codes of slots; -1 gets the mean of all."""
        table = self.codes
        codes = table[image_slots.clamp(min=0)]
        if bool((image_slots < 0).any()):
            codes = torch.where(image_slots[:, None] < 0, table.mean(0), codes)
        return codes

    def code_for(self, image_id: str | None, drive: str | None) -> Float[Tensor, " code"]:
        """The image's own code where it was trained, else the mean of its drive's, else the mean of all."""
        codes = self.codes.detach()
        if image_id in self.image_ids:
            return codes[self.image_ids.index(image_id)]
        of_drive = [slot for slot, name in enumerate(self.drives) if name == drive]
        return codes[of_drive].mean(0) if of_drive else codes.mean(0)

    def penalty(self) -> Float[Tensor, ""]:
        """Mean square of the residuals."""
        if self.residuals is None:
            return self.codes.new_zeros(())
        return self.residuals[: len(self.image_ids)].square().mean()

    @torch.no_grad()
    def grow(
        self,
        image_ids: Sequence[str],
        drives: Sequence[str],
        global_codes: Float[Tensor, "images code"] | None = None,
    ) -> None:
        """Appends codes of new images; old ones stay bit for bit. A new residual is the mean of its drive's.

        `residuals` becomes another parameter where the reserve was too small: tell its optimiser
        (`BlockOptimizer.follow_growth`). Raises ValueError for an image that has a code already.
        """
        again = sorted(set(image_ids) & set(self.image_ids))
        if again or len(set(image_ids)) < len(image_ids):
            raise ValueError(f"Images can be added once; these have a code already: {', '.join(again or image_ids)}.")
        old, total = len(self.image_ids), len(self.image_ids) + len(image_ids)
        if self.residuals is not None:
            new = torch.stack([self._mean_residual(drive) for drive in drives])
            if total > len(self.residuals):
                self.residuals = nn.Parameter(_longer(self.residuals, total))
            self.residuals[old:total] = new
        if self.global_codes is not None:
            self.global_codes = _longer(self.global_codes, total)
            if global_codes is not None:
                self.global_codes[old:total] = global_codes
        self.image_ids, self.drives = (*self.image_ids, *image_ids), (*self.drives, *drives)

    def _mean_residual(self, drive: str) -> Float[Tensor, " code"]:
        assert self.residuals is not None
        of_drive = [slot for slot, name in enumerate(self.drives) if name == drive]
        known = self.residuals[of_drive] if of_drive else self.residuals[: len(self.image_ids)]
        return known.mean(0)


def _longer(table: Float[Tensor, "rows code"], rows: int) -> Float[Tensor, "longer code"]:
    """The table with zero rows appended, if it has fewer than `rows`."""
    missing = max(0, rows - len(table))
    return torch.cat([table.detach(), table.new_zeros(missing, table.shape[1])])
