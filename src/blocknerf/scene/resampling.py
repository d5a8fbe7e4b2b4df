"""Pictures, masks, depth maps and rays at any smaller size, for training stages.

A new pixel covers H / height x W / width old ones, the outer ones in part. The covered area is counted in whole units
of 1 / (height x width) of an old pixel, so that nothing is rounded before the end.
"""

import numpy as np
from jaxtyping import Bool, Float32, Int64, UInt8


def resampled_rgb(rgb: UInt8[np.ndarray, "H W 3"], height: int, width: int) -> UInt8[np.ndarray, "h w 3"]:
    """The mean colour over each new pixel's area, rounded."""
    area = rgb.shape[0] * rgb.shape[1]
    return ((_area_sums(rgb, height, width) + area // 2) // area).astype(np.uint8)


def resampled_valid(valid: Bool[np.ndarray, "H W"], height: int, width: int) -> Bool[np.ndarray, "h w"]:
    """True if a new pixel covers only valid ones."""
    return _area_sums((~valid).view(np.uint8)[..., None], height, width)[..., 0] == 0


def resampled_depth(depth_z_m: Float32[np.ndarray, "H W"], height: int, width: int) -> Float32[np.ndarray, "h w"]:
    """The middle depth over each new pixel's area, 0 if it covers an unknown one (see `reduced_depth`)."""
    rows, row_shares = _covered(depth_z_m.shape[0], height)
    columns, column_shares = _covered(depth_z_m.shape[1], width)
    resampled = np.empty((height, width), np.float32)
    for row in range(height):
        depths = depth_z_m[rows[row, :, None, None], columns].swapaxes(0, 1).reshape(width, -1)
        shares = (row_shares[row, :, None, None] * column_shares).swapaxes(0, 1).reshape(width, -1)
        unknown = ((depths <= 0) & (shares > 0)).any(1)
        order = np.argsort(depths, axis=1, kind="stable")
        nearer = np.cumsum(np.take_along_axis(shares, order, 1), axis=1)
        middle = np.argmax(2 * nearer > depth_z_m.size, axis=1)
        at_middle = np.take_along_axis(depths, np.take_along_axis(order, middle[:, None], 1), 1)[:, 0]
        resampled[row] = np.where(unknown, np.float32(0), at_middle)
    return resampled


def resampled_rays(
    rays: Float32[np.ndarray, "H W channels"], height: int, width: int
) -> Float32[np.ndarray, "h w channels"]:
    """Values at the centres of new pixels, interpolated linearly between the centres of old ones."""
    above, below, down = _neighbours(rays.shape[0], height)
    left, right, across = _neighbours(rays.shape[1], width)
    down, across = down[:, None, None], across[None, :, None]
    upper = (1 - across) * rays[above][:, left] + across * rays[above][:, right]
    lower = (1 - across) * rays[below][:, left] + across * rays[below][:, right]
    return ((1 - down) * upper + down * lower).astype(np.float32)


def _area_sums(values: UInt8[np.ndarray, "H W channels"], height: int, width: int) -> Int64[np.ndarray, "h w channels"]:
    """Sums of values by covered area, in the unit above: the area of a new pixel is H x W of it."""
    rows, row_shares = _covered(values.shape[0], height)
    columns, column_shares = _covered(values.shape[1], width)
    tall = np.zeros((height, *values.shape[1:]), np.int32)
    for row, share in zip(rows.T, row_shares.T.astype(np.int32), strict=True):
        tall += share[:, None, None] * values[row]
    sums = np.zeros((height, width, values.shape[2]), np.int64)
    for column, share in zip(columns.T, column_shares.T, strict=True):
        sums += share[:, None] * np.take(tall, column, axis=1)
    return sums


def _covered(count: int, pieces: int) -> tuple[Int64[np.ndarray, "pieces k"], Int64[np.ndarray, "pieces k"]]:
    """Which of `count` pixels each of the equal pieces may reach into, and by how many `pieces`-ths of a pixel."""
    begins = np.arange(pieces)[:, None] * count
    most = int((-(-(begins + count) // pieces) - begins // pieces).max())
    pixels = begins // pieces + np.arange(most)
    overlap = np.minimum(begins + count, (pixels + 1) * pieces) - np.maximum(begins, pixels * pieces)
    return np.minimum(pixels, count - 1), np.maximum(overlap, 0)


def _neighbours(count: int, pieces: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """For the middle of each piece: the pixels with the middles around, and how far it lies from the first."""
    middles = (np.arange(pieces) + 0.5) * count / pieces - 0.5
    first = np.floor(middles).astype(np.int64)
    return first, np.minimum(first + 1, count - 1), middles - first
