"""Photographs with another colour profile (Display P3 of telephones, Adobe RGB of cameras), converted to sRGB.

All later code treats stored numbers as sRGB. Otherwise photographs of several cameras would differ in colour.
"""

import io
from functools import lru_cache

import numpy as np
from PIL import Image, ImageCms

_AS_GOOD_AS_SRGB = 3
"""Levels of 255 by which a profile may differ from sRGB and still count as sRGB."""


class UnreadableProfile(Exception):
    """The profile is damaged, or of another kind than its picture."""


def profile_name(image: Image.Image) -> str:
    """The profile's name."""
    return ImageCms.getProfileDescription(_profile(image.info["icc_profile"])).strip() or "a profile without a name"


def in_srgb(image: Image.Image) -> Image.Image | None:
    """The picture in sRGB, without its profile; None if it is already sRGB or has no profile.

    Gray and four-colour pictures become RGB. Raises UnreadableProfile.
    """
    profile, mode = image.info.get("icc_profile"), image.mode
    colours = {"RGBA": "RGB", "LA": "L"}.get(mode, mode)
    if not profile or colours not in ("RGB", "L", "CMYK"):
        return None
    transform = _to_srgb(profile, colours)
    if transform is None:
        return None
    converted = ImageCms.applyTransform(image.convert(colours) if colours != mode else image, transform)
    assert converted is not None
    if colours != mode:
        converted.putalpha(image.getchannel("A"))
    converted.info = {key: value for key, value in image.info.items() if key != "icc_profile"}
    return converted


@lru_cache(maxsize=8)
def _to_srgb(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    """None for a profile that is practically sRGB."""
    try:
        transform = ImageCms.buildTransform(
            _profile(profile), ImageCms.createProfile("sRGB"), mode, "RGB", ImageCms.Intent.RELATIVE_COLORIMETRIC
        )
        if mode == "CMYK":
            return transform
        levels = np.arange(0, 256, 51, dtype=np.uint8)
        colours = (
            levels[:, None] if mode == "L" else np.stack(np.meshgrid(levels, levels, levels), -1).reshape(1, -1, 3)
        )
        probe = Image.fromarray(colours)
        moved = ImageCms.applyTransform(probe, transform)
    except ImageCms.PyCMSError as error:
        raise UnreadableProfile(str(error)) from error
    assert moved is not None
    difference = np.asarray(moved, np.int16) - np.asarray(probe.convert("RGB"), np.int16)
    return transform if np.abs(difference).max() > _AS_GOOD_AS_SRGB else None


def _profile(profile: bytes) -> ImageCms.ImageCmsProfile:
    try:
        return ImageCms.ImageCmsProfile(io.BytesIO(profile))
    except OSError as error:
        raise UnreadableProfile(str(error)) from error
