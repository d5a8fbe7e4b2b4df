"""Codes of images."""

from typing import Annotated

from pydantic import Field, model_validator

from blocknerf.core.config.section import Count, Section


class AppearanceConfig(Section):
    """Codes of images: what of a picture's look is neither geometry nor exposure."""

    embedding_dim: Annotated[int, Field(ge=1, le=256)] = 32
    """Numbers in the code of an image (32 in the paper)."""
    num_images: Count = 256
    """Rows that a block's table begins with, so that images can join it without a new table; never a limit."""
    use_global_appearance: bool = True
    """Codes begin at one of their drive, drawn once and the same in every block; else at zero."""
    use_block_appearance: bool = True
    """Each block learns by how much the code of an image differs from where it begins."""

    @model_validator(mode="after")
    def _codes_come_from_somewhere(self) -> "AppearanceConfig":
        if not (self.use_global_appearance or self.use_block_appearance):
            raise ValueError(
                "use_global_appearance and use_block_appearance are both false, which leaves no codes; to have none, "
                "set training.use_appearance_embedding to false"
            )
        return self
