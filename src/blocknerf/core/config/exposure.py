"""The encoding of exposure."""

from typing import Annotated

from pydantic import Field

from blocknerf.core.config.section import Section


class ExposureConfig(Section):
    """The encoding of a photograph's exposure (Block-NeRF, section 4.2.1)."""

    num_levels: Annotated[int, Field(ge=1, le=10)] = 4
    """Octaves of sin and cos of value / 1000. The scene's mean exposure has the value 250."""
