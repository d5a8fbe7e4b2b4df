"""What the transparent pixels of a capture become: always an explicit choice."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

from blocknerf.core.errors import UserError
from blocknerf.scene.photographs import DECODE_ERRORS, read_picture
from blocknerf.scene.scene import ImageRecord

_LOOKED_AT = 3


def with_alpha(
    images: Sequence[ImageRecord], ground: Literal["white", "black", "mask"] | None
) -> tuple[ImageRecord, ...]:
    """Images whose files have transparency, with the choice for it.

    Without a choice, raises UserError if one of the first few is not opaque, so that the user is asked before planning;
    the others are checked when they are decoded.
    """
    if ground is not None:
        return tuple(image if image.alpha == "opaque" else replace(image, alpha=ground) for image in images)
    for image in [image for image in images if image.alpha == "unchosen"][:_LOOKED_AT]:
        try:
            read_picture(image.path, image.orientation, image.alpha)
        except UserError:
            raise
        except DECODE_ERRORS:  # skipped, with the reason, when all are decoded
            continue
    return tuple(images)
