"""Codes of images."""

from typing import Annotated

from pydantic import Field, model_validator

from blocknerf.core.config.section import Count, Section


class AppearanceConfig(Section):
    """Appearance codes: one vector per image for what is neither geometry nor exposure, such as light and white
    balance."""

    embedding_dim: Annotated[int, Field(ge=1, le=256)] = 32
    """Length of an image's code (32 in the paper)."""
    num_images: Count = 256
    """Initial rows of a block's table of codes, so that images can be added without a new table. Not a limit."""
    use_global_appearance: bool = True
    """An image's code starts at that of its drive, which is random and the same in every block. If false, it starts at
    zero."""
    use_block_appearance: bool = True
    """Each block learns an offset from that start for every image."""

    @model_validator(mode="after")
    def _codes_come_from_somewhere(self) -> "AppearanceConfig":
        if not (self.use_global_appearance or self.use_block_appearance):
            raise ValueError(
                "use_global_appearance and use_block_appearance are both false, which leaves no codes; to have none, "
                "set training.use_appearance_embedding to false"
            )
        return self
