"""What wrappers around triton kernels share: the sizes of tiles, and the launch on a device."""

from typing import Any

import torch
from torch import Tensor

ELEMENTS = 1024
"""Elements of a tile: eight for each of the 128 threads of a triton program."""


def padded(count: int, least: int = 1) -> int:
    """The smallest power of two of at least `count`: triton has no other tile sizes."""
    return max(least, 1 << max(count - 1, 0).bit_length())


def blocks(count: int, size: int) -> int:
    """Number of tiles of `size` that hold `count`."""
    return -(-count // size)


def ray_tiles(rays: int, columns: int) -> tuple[tuple[int], dict[str, int]]:
    """A grid of tiles, each of ROWS whole rays, and the size arguments of kernels."""
    width = padded(columns)
    rows = max(1, ELEMENTS // width)
    return (blocks(rays, rows),), {"ROWS": rows, "COLUMNS": width}


def launch(kernel: Any, grid: tuple[int, ...], first: Tensor, *arguments: Any, **sizes: int) -> None:
    """Starts `kernel` on the device of its first tensor, without waiting. Does nothing if there are no rays."""
    if 0 in grid:
        return
    with torch.cuda.device_of(first):
        kernel[grid](first, *arguments, **sizes)
