"""Activations that are recomputed instead of stored (Chen et al. 2016)."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint


def recomputed(
    function: Callable[..., tuple[Tensor, ...]], rows_at_once: int, *rows: Tensor | None
) -> tuple[Tensor, ...]:
    """`function` of tensors that share their first axis, chunk by chunk; backward runs it again for each chunk.

    Only inputs, outputs and the activations of one chunk at a time are stored. `function` must not be random.
    """
    count = next(len(tensor) for tensor in rows if tensor is not None)
    parts = []
    for begin in range(0, count, rows_at_once):
        chunk = [None if tensor is None else tensor[begin : begin + rows_at_once] for tensor in rows]
        parts.append(checkpoint(function, *chunk, use_reentrant=False, preserve_rng_state=False))
    return tuple(torch.cat(column) for column in zip(*parts, strict=True))
