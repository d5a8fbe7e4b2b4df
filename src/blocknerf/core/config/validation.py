"""What is rendered and kept while a block is trained."""

from typing import Annotated

from pydantic import Field

from blocknerf.core.config.section import Positive, Section


class ValidationConfig(Section):
    """What is rendered and kept while a block is trained."""

    val_freq: Positive = 1
    """Epochs between validations."""
    num_val_images: Annotated[int, Field(ge=0)] = 2
    """Test images rendered at each validation and at the end of a block, spread over the list. 0: none are rendered."""
    save_freq: Positive | None = None
    """Epochs between states of a block that are kept and can be resumed from. Default: only the newest state is kept.
    """
    render_test_views: bool = False
    """At each validation, saves pictures of these test images: photograph, render and distance side by side."""
    render_novel_views: bool = False
    """At each validation, saves as many pictures from halfway between training cameras: render and distance."""
