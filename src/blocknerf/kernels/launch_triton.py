"""What wrappers around triton kernels share: how large tiles are, and where a kernel runs."""

from typing import Any

import torch
from torch import Tensor

ELEMENTS = 1024
"""Of a tile: eight for each of the 128 threads that triton gives a program."""


def padded(count: int, least: int = 1) -> int:
    """The power of two that holds `count`: triton knows no other sizes of tiles."""
    return max(least, 1 << max(count - 1, 0).bit_length())


def blocks(count: int, size: int) -> int:
    """How many tiles of `size` hold `count`."""
    return -(-count // size)


def ray_tiles(rays: int, columns: int) -> tuple[tuple[int], dict[str, int]]:
    """A grid of tiles, each of ROWS whole rays, and the sizes that kernels take."""
    width = padded(columns)
    rows = max(1, ELEMENTS // width)
    return (blocks(rays, rows),), {"ROWS": rows, "COLUMNS": width}


def launch(kernel: Any, grid: tuple[int, ...], first: Tensor, *arguments: Any, **sizes: int) -> None:
    """Starts `kernel` on the device of its first tensor, and does not wait for it. No rays: nothing to start."""
    if 0 in grid:
        return
    with torch.cuda.device_of(first):
        kernel[grid](first, *arguments, **sizes)
