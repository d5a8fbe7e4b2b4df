"""Photographs from files: headers, exposure, pixels as 8-bit RGB, masks, and their reduction by area."""

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Bool, UInt8
from PIL import ExifTags, Image

from blocknerf.core.errors import UserError
from blocknerf.core.reading import read_bytes
from blocknerf.scene.orientation import AS_STORED, Orientation, exif_of

_HIGH_BYTE = np.round(np.arange(65536) / 257).astype(np.uint8)
DECODE_ERRORS = (OSError, ValueError, SyntaxError, Image.DecompressionBombError)

MOST_PIXELS = 1 << 29
"""Maximum pixels of a decoded picture: 537 megapixels, 2.1 GB in Pillow's RGB. Telephones have 200, aerial cameras 450.
"""
Image.MAX_IMAGE_PIXELS = 2 * MOST_PIXELS  # Pillow's own limit, which names no remedy

_TOO_LARGE = f"At most {MOST_PIXELS} are decoded: make it smaller, or cut it into tiles"
Alpha = Literal["opaque", "unchosen", "white", "black", "mask"]
"""See ImageRecord.alpha."""

DYNAMIC_MASK = "dynamic_mask_"
"""Prefix of instant-ngp's masks, which are beside photographs and hide where they are not 0."""


def exposure_of(image: Image.Image) -> float | None:
    """Shutter time in seconds x ISO / 100 / f-number^2 from EXIF, None if any of the three is missing or absurd."""
    try:
        tags = exif_of(image).get_ifd(ExifTags.IFD.Exif)
        shutter_s, iso, f_number = (
            float(np.ravel(tags[tag])[0])
            for tag in (ExifTags.Base.ExposureTime, ExifTags.Base.ISOSpeedRatings, ExifTags.Base.FNumber)
        )
    except (*DECODE_ERRORS, KeyError, TypeError, IndexError, ZeroDivisionError, OverflowError):
        return None
    plausible = 1e-6 <= shutter_s <= 3600 and 1 <= iso <= 1e7 and 0.3 <= f_number <= 256
    return shutter_s * iso / 100 / f_number**2 if plausible else None


def opened_picture(source: Path | BytesIO) -> Image.Image:
    """Its header. Raises one of DECODE_ERRORS, also for more than MOST_PIXELS, before any is decoded."""
    try:
        content = BytesIO(read_bytes(source, "picture")) if isinstance(source, Path) else source
    except UserError as error:
        raise ValueError(str(error)) from error
    try:
        image = Image.open(content)  # from memory: lengths that its chunks announce allocate nothing
    except Image.DecompressionBombError as error:
        raise ValueError(f"it has more than {4 * MOST_PIXELS} pixels. {_TOO_LARGE}") from error
    if image.width * image.height > MOST_PIXELS:
        image.close()
        raise ValueError(f"it has {image.width} x {image.height} pixels. {_TOO_LARGE}")
    return image


def dynamic_mask(photograph: Path) -> Path:
    """Path of instant-ngp's mask of a photograph, whether it exists or not."""
    return photograph.with_name(f"{DYNAMIC_MASK}{photograph.stem}.png")


def read_rgb(path: Path, orientation: Orientation = AS_STORED, alpha: Alpha = "black") -> Image.Image:
    """The first of `read_picture`."""
    return read_picture(path, orientation, alpha)[0]


def read_picture(
    path: Path, orientation: Orientation, alpha: Alpha
) -> tuple[Image.Image, Bool[np.ndarray, "h w"] | None]:
    """The pixels that the camera belongs to, as 8-bit RGB, as they are stored or turned upright, and which are opaque.

    16-bit gray keeps its high byte. Transparent pixels are put on white or black. With `mask` they keep their colours,
    and the second result marks the opaque ones (None: all are opaque). Raises one of DECODE_ERRORS, and UserError for
    transparent pixels if nothing is chosen.
    """
    image, opaque = _stored(path, alpha)
    if not orientation.is_turned:
        return image, opaque
    turned = Image.fromarray(orientation.picture(np.asarray(image)))
    return turned, None if opaque is None else orientation.picture(opaque)


def read_silhouette(path: Path, orientation: Orientation, longest_side_px: int) -> Bool[np.ndarray, "h w"]:
    """The picture that the camera belongs to, reduced to at most that size: true if a pixel of the area is not
    transparent. Raises one of DECODE_ERRORS."""
    with opened_picture(path) as image:
        image.load()
        opacity = image.convert("RGBA").getchannel("A")
    factor = -(-max(opacity.size) // longest_side_px)
    return orientation.picture(np.asarray(opacity.convert("F").reduce(factor)) > 0)


def _stored(path: Path, alpha: Alpha) -> tuple[Image.Image, Bool[np.ndarray, "h w"] | None]:
    with opened_picture(path) as image:
        image.load()
        if not image.has_transparency_data:
            return _stored_rgb(image), None
        rgba = image.convert("RGBA")
    opacity = rgba.getchannel("A")
    if opacity.getextrema()[0] == 255:
        return rgba.convert("RGB"), None
    if alpha == "mask":
        return rgba.convert("RGB"), np.asarray(opacity) >= 128
    if alpha in ("white", "black"):
        ground = Image.new("RGBA", rgba.size, alpha)
        return Image.alpha_composite(ground, rgba).convert("RGB"), None
    raise UserError(
        f"{path} has transparent pixels, and nothing says what they become. Set dataset.alpha=white (put them on "
        "white, and rays end in white, as published figures of NeRF's synthetic scenes are measured), "
        "dataset.alpha=black (on black), or dataset.alpha=mask (ignore them)."
    )


def _stored_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):
        gray = np.clip(np.asarray(image), 0, 65535).astype(np.uint16)
        return Image.fromarray(_HIGH_BYTE[gray]).convert("RGB")
    if image.mode == "F":
        raise ValueError("it holds floating point values, whose range nothing tells")
    return image.convert("RGB")


def read_masks(
    paths: Sequence[Path], size: tuple[int, int], orientation: Orientation = AS_STORED
) -> Bool[np.ndarray, "h w"] | None:
    """True if every mask keeps the pixel, for a picture of `size` (width, height); None without masks."""
    masks = [_resized(orientation.fitted(read_mask(path), size), size) for path in paths]
    return np.asarray(np.all(masks, axis=0)) if masks else None


def read_mask(path: Path) -> Bool[np.ndarray, "h w"]:
    """True where a pixel may be used: where the mask is not 0 in every channel. Raises one of DECODE_ERRORS.

    A mask whose name begins with DYNAMIC_MASK is used where it is 0 in every channel. A JPEG has no exact 0 next to
    white and is cut in the middle.
    """
    with opened_picture(path) as mask:
        darkest_kept = 128 if mask.format == "JPEG" else 1
        image = mask.convert("RGB") if mask.mode in ("P", "PA", "LA", "RGBA", "CMYK") else mask
        pixels = np.asarray(image) >= darkest_kept
    marked = pixels if pixels.ndim == 2 else np.asarray(pixels.any(axis=2))
    return ~marked if path.name.startswith(DYNAMIC_MASK) else marked


def _resized(mask: Bool[np.ndarray, "H W"], size: tuple[int, int]) -> Bool[np.ndarray, "h w"]:
    """Resizes a mask: enlarging repeats pixels; reducing hides every pixel into which a hidden one falls."""
    if size == mask.shape[::-1]:
        return mask
    hidden = Image.fromarray((~mask).astype(np.float32)).resize(size, Image.Resampling.BOX)
    return np.asarray(hidden) <= 0


def area_mean(image: Image.Image, factor: int) -> UInt8[np.ndarray, "h w 3"]:
    """Every `factor` x `factor` pixels become their mean; a remainder at the right and below is cut off."""
    width, height = image.width // factor, image.height // factor
    return np.asarray(image.reduce(factor, (0, 0, width * factor, height * factor)) if factor > 1 else image)


def whole_blocks(mask: Bool[np.ndarray, "H W"], factor: int) -> Bool[np.ndarray, "h w"]:
    """True if all `factor` x `factor` pixels are."""
    height, width = mask.shape[0] // factor, mask.shape[1] // factor
    cut = mask[: height * factor, : width * factor]
    return np.asarray(cut.reshape(height, factor, width, factor).all(axis=(1, 3)))


def dilated(mask: Bool[np.ndarray, "h w"], radius: int) -> Bool[np.ndarray, "h w"]:
    """True if a pixel at most `radius` rows and `radius` columns away is true."""
    for _ in range(2):  # rows, then columns: a square is both in turn
        before = np.cumsum(np.pad(mask, [(radius + 1, radius), (0, 0)]), axis=0)
        mask = (before[2 * radius + 1 :] > before[: -2 * radius - 1]).T
    return mask
