"""A device that is not there: tensors on it hold values, and never meet those of the processor in one operation.

They call their device "meta", the only one that torch knows on every machine.
"""

from contextlib import ExitStack
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map

aten = torch.ops.aten
MAY_MIX = (aten._to_copy.default, aten.copy_.default, aten._copy_from.default)


class DeviceTensor(Tensor):
    """A tensor of the second device; `values` are its numbers."""

    values: Tensor

    @staticmethod
    def __new__(cls, values: Tensor) -> "DeviceTensor":
        return Tensor._make_wrapper_subclass(
            cls,
            values.shape,
            strides=values.stride(),
            storage_offset=values.storage_offset(),
            dtype=values.dtype,
            device="meta",
        )

    def __init__(self, values: Tensor):
        self.values = values

    @classmethod
    def __torch_dispatch__(cls, operation, types, arguments=(), named=None):
        return _run(operation, arguments, dict(named or {}))


class SecondDevice(ExitStack):
    """Inside it, "meta" holds values."""

    def __enter__(self) -> "SecondDevice":
        super().__enter__()
        self.enter_context(_Constants())
        self.enter_context(_Operations())
        self.enter_context(patch("torch.Generator", _Generator))
        return self


class _AnyGenerator(type):
    made = torch.Generator

    def __call__(cls, device="cpu"):
        return cls.made("cpu" if torch.device(device).type == "meta" else device)

    def __instancecheck__(cls, value):
        return isinstance(value, cls.made)


class _Generator(metaclass=_AnyGenerator):
    """Numbers of the second device are drawn by the processor."""


class _Constants(TorchFunctionMode):
    """Tensors of Python numbers are made without an operation that `_Operations` would see."""

    def __torch_function__(self, function, types, arguments=(), named=None):
        named = dict(named or {})
        if function is torch.tensor and torch.device(named.get("device") or "cpu").type == "meta":
            del named["device"]
            return DeviceTensor(torch.tensor(*arguments, **named))
        if function is Tensor.new_tensor and isinstance(arguments[0], DeviceTensor):
            return DeviceTensor(arguments[0].values.new_tensor(*arguments[1:], **named))
        if function is Tensor.tolist and isinstance(arguments[0], DeviceTensor):
            return arguments[0].cpu().tolist()
        return function(*arguments, **named)


class _Operations(TorchDispatchMode):
    def __torch_dispatch__(self, operation, types, arguments=(), named=None):
        return _run(operation, arguments, dict(named or {}))


def _run(operation: Any, arguments: tuple, named: dict[str, Any]) -> Any:
    flat = [each for each in tree_flatten((arguments, named))[0] if isinstance(each, Tensor)]
    on_device = [each for each in flat if isinstance(each, DeviceTensor)]
    on_cpu = [each for each in flat if not isinstance(each, DeviceTensor) and each.dim() > 0]
    if on_device and on_cpu and operation not in MAY_MIX:
        raise RuntimeError(f"{operation} of tensors that are not on the same device")
    goes_there = bool(on_device)
    if named.get("device") is not None:
        goes_there = torch.device(named["device"]).type == "meta"
        named["device"] = torch.device("cpu")
    if operation in MAY_MIX[1:]:
        goes_there = isinstance(arguments[0], DeviceTensor)
    arguments, named = tree_map(
        lambda each: each.values if isinstance(each, DeviceTensor) else each, (arguments, named)
    )
    owners = {id(each.values): each for each in on_device}
    result = operation(*arguments, **named)
    return tree_map(lambda each: _owned(each, owners) if goes_there else each, result)


def _owned(value: Any, owners: dict[int, DeviceTensor]) -> Any:
    """In-place operations give back what they were given."""
    if not isinstance(value, Tensor):
        return value
    return owners.get(id(value)) if id(value) in owners else DeviceTensor(value)
