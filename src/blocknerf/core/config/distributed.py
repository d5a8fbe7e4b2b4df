"""Several processes and several devices."""

from typing import Annotated, Any, Literal

from pydantic import field_validator

from blocknerf.core.config.section import CHANGEABLE, Count, Section

FieldPart = Literal["encoder", "nerf_mlp", "decoder"]


class DistributedConfig(Section):
    """Several processes, several devices, and blocks that are trained together."""

    backend: Literal["nccl", "gloo"] = "nccl"
    """How the processes of `--distributed` communicate. Without a CUDA device, gloo replaces nccl."""
    find_unused_parameters: bool = True
    """Parameters that no ray of a process used count as zero in that process. If false, they are an error."""
    device_map: Annotated[dict[FieldPart, str], CHANGEABLE] = {}
    """Devices for parts of a block's field, as in {decoder: "cuda:1"}; a number N means cuda:N. Parts: `encoder`
    (positions), `nerf_mlp` (density), `decoder` (colour). Parts that are not named stay on the CPU with the rays. With
    `hash` the whole block, with its rays and codes, follows its encoder: {encoder: 0} trains it on cuda:0."""
    exchange_every: Count = 50
    """Number of steps for which a block uses the same rays shared with its neighbours. Then new ones are rendered."""

    @field_validator("device_map", mode="before")
    @classmethod
    def _numbers_are_cuda_devices(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        return {part: f"cuda:{device}" if type(device) is int else device for part, device in value.items()}
