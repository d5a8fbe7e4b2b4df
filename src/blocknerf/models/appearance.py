"""Per-image appearance codes (GLO: Bojanowski et al. 2018; Block-NeRF, section 4.2.1). They feed colour only."""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn


class AppearanceEmbedding(nn.Module):
    """One code per image id. Codes start at zero and are pulled towards it, so that a mean of codes means something."""

    def __init__(self, embedding_dim: int, image_ids: tuple[str, ...], drives: tuple[str, ...]):
        super().__init__()
        self.image_ids = image_ids
        self.drives = drives
        self.codes = nn.Parameter(torch.zeros(len(image_ids), embedding_dim))

    def forward(self, image_slots: Int[Tensor, " rays"]) -> Float[Tensor, "rays code"]:
        """Codes of rows of the table; -1 gets the mean of all."""
        codes = self.codes[image_slots.clamp(min=0)]
        if bool((image_slots < 0).any()):
            codes = torch.where(image_slots[:, None] < 0, self.codes.mean(0), codes)
        return codes

    def code_for(self, image_id: str | None, drive: str | None) -> Float[Tensor, " code"]:
        """The image's own code where it was trained, else the mean of its drive's, else the mean of all."""
        codes = self.codes.detach()
        if image_id in self.image_ids:
            return codes[self.image_ids.index(image_id)]
        of_drive = [slot for slot, name in enumerate(self.drives) if name == drive]
        return codes[of_drive].mean(0) if of_drive else codes.mean(0)
