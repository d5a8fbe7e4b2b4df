"""Which devices a command uses, and where new tensors are made."""

import contextlib
from contextlib import AbstractContextManager
from typing import Any

import torch

from blocknerf.core.errors import UserError

AUTO, CPU = "auto", "cpu"


def devices_of(name: str) -> tuple[str, ...]:
    """The devices that `name` stands for, by torch's names; several only if all of them may be used.

    "auto": every CUDA device of the machine or, without any, the processor; "cpu"; "cuda": every CUDA device; "cuda:N"
    that one. Raises UserError for a device that is not there.
    """
    found = tuple(f"cuda:{number}" for number in range(torch.cuda.device_count())) if torch.cuda.is_available() else ()
    if name == AUTO:
        return found or (CPU,)
    if name == CPU or name in found:
        return (name,)
    if name == "cuda" and found:
        return found
    raise UserError(f"--device {name}: this machine has {', '.join((CPU, *found))}. Give one of these, auto or cuda.")


def default_device(device: torch.device) -> AbstractContextManager[Any]:
    """Inside the `with` block, constants and random numbers are made on `device`."""
    return contextlib.nullcontext() if device.type == "cpu" else device
