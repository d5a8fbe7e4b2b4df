"""What is rendered and kept while a block is trained."""

from typing import Annotated

from pydantic import Field

from blocknerf.core.config.section import Positive, Section


class ValidationConfig(Section):
    val_freq: Positive = 1
    """Epochs between validations."""
    num_val_images: Annotated[int, Field(ge=0)] = 2
    """Test images rendered at each validation and at the end of a block, spread over its list; 0: none."""
    save_freq: Positive | None = None
    """Epochs between states of a block that are kept for good, each one to go on from; none: only the newest."""
    render_test_views: bool = False
    """Pictures of these test images at each validation: photograph, render and distance side by side."""
    render_novel_views: bool = False
    """Pictures from as many places halfway between training cameras at each validation: render and distance."""
