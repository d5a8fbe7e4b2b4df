"""Photographs from files: headers, exposure, pixels as 8-bit RGB, masks, and their reduction by area."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Bool, UInt8
from PIL import ExifTags, Image

from blocknerf.scene.orientation import AS_STORED, Orientation

DECODE_ERRORS = (OSError, ValueError, SyntaxError, Image.DecompressionBombError)

DYNAMIC_MASK = "dynamic_mask_"
"""Begins the names of instant-ngp's masks, whose polarity is the other one: they hide where they are not 0."""


def exposure_of(image: Image.Image) -> float | None:
    """Shutter time in seconds x ISO / 100 / f-number^2 from EXIF, None where any of the three is missing or absurd."""
    try:
        tags = image.getexif().get_ifd(ExifTags.IFD.Exif)
        shutter_s, iso, f_number = (
            float(np.ravel(tags[tag])[0])
            for tag in (ExifTags.Base.ExposureTime, ExifTags.Base.ISOSpeedRatings, ExifTags.Base.FNumber)
        )
    except (*DECODE_ERRORS, KeyError, TypeError, IndexError, ZeroDivisionError, OverflowError):
        return None
    plausible = 1e-6 <= shutter_s <= 3600 and 1 <= iso <= 1e7 and 0.3 <= f_number <= 256
    return shutter_s * iso / 100 / f_number**2 if plausible else None


def read_rgb(path: Path, orientation: Orientation = AS_STORED) -> Image.Image:
    """The pixels that the camera belongs to, as 8-bit RGB: as they are stored, or turned upright.

    16-bit gray keeps its high byte; transparent pixels stand before black. Raises one of DECODE_ERRORS.
    """
    image = _stored_rgb(path)
    return Image.fromarray(orientation.picture(np.asarray(image))) if orientation.is_turned else image


def _stored_rgb(path: Path) -> Image.Image:
    with Image.open(path) as image:
        image.load()
        if image.mode.startswith("I"):
            gray = np.clip(np.asarray(image, np.int64), 0, 65535) / 257
            return Image.fromarray(np.round(gray).astype(np.uint8)).convert("RGB")
        if image.mode == "F":
            raise ValueError("it holds floating point values, whose range nothing tells")
        if image.has_transparency_data:
            image = image.convert("RGBA")
            return Image.alpha_composite(Image.new("RGBA", image.size, (0, 0, 0, 255)), image).convert("RGB")
        return image.convert("RGB")


def read_masks(
    paths: Sequence[Path], size: tuple[int, int], orientation: Orientation = AS_STORED
) -> Bool[np.ndarray, "h w"] | None:
    """True where every mask keeps the pixel, for a picture of `size` (width, height); None without masks."""
    masks = [_resized(orientation.fitted(read_mask(path), size), size) for path in paths]
    return np.asarray(np.all(masks, axis=0)) if masks else None


def read_mask(path: Path) -> Bool[np.ndarray, "h w"]:
    """True where a pixel may be used: where the mask is not 0 in every channel. Raises one of DECODE_ERRORS.

    A mask whose name begins with DYNAMIC_MASK is used where it is 0 in every channel. A JPEG has no exact 0 next to
    white and is cut in the middle.
    """
    with Image.open(path) as mask:
        darkest_kept = 128 if mask.format == "JPEG" else 1
        image = mask.convert("RGB") if mask.mode in ("P", "PA", "LA", "RGBA", "CMYK") else mask
        pixels = np.asarray(image) >= darkest_kept
    marked = pixels if pixels.ndim == 2 else np.asarray(pixels.any(axis=2))
    return ~marked if path.name.startswith(DYNAMIC_MASK) else marked


def _resized(mask: Bool[np.ndarray, "H W"], size: tuple[int, int]) -> Bool[np.ndarray, "h w"]:
    """A mask of another size: enlarged, pixels are repeated; reduced, one hidden pixel hides all it falls into."""
    if size == mask.shape[::-1]:
        return mask
    hidden = Image.fromarray((~mask).astype(np.float32)).resize(size, Image.Resampling.BOX)
    return np.asarray(hidden) <= 0


def area_mean(image: Image.Image, factor: int) -> UInt8[np.ndarray, "h w 3"]:
    """Every `factor` x `factor` pixels become their mean; what is left over at the right and below is cut off."""
    width, height = image.width // factor, image.height // factor
    cut = image.crop((0, 0, width * factor, height * factor))
    return np.asarray(cut.reduce(factor) if factor > 1 else cut)


def whole_blocks(mask: Bool[np.ndarray, "H W"], factor: int) -> Bool[np.ndarray, "h w"]:
    """True where all `factor` x `factor` pixels are."""
    height, width = mask.shape[0] // factor, mask.shape[1] // factor
    cut = mask[: height * factor, : width * factor]
    return np.asarray(cut.reshape(height, factor, width, factor).all(axis=(1, 3)))
