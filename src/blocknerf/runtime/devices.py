"""Where new tensors are made."""

import contextlib
from contextlib import AbstractContextManager
from typing import Any

import torch


def made_on(device: torch.device) -> AbstractContextManager[Any]:
    """Constants and random numbers are made on `device` inside the `with` block; on the processor they are anyway."""
    return contextlib.nullcontext() if device.type == "cpu" else device
