"""Several processes and several devices."""

from typing import Annotated, Any, Literal

from pydantic import field_validator

from blocknerf.core.config.section import CHANGEABLE, Count, Section

FieldPart = Literal["encoder", "nerf_mlp", "decoder"]


class DistributedConfig(Section):
    """Several processes, several devices, and blocks that learn side by side."""

    backend: Literal["nccl", "gloo"] = "nccl"
    """How processes that train one block together (`--distributed`) talk; gloo stands in for nccl where there is no
    CUDA device."""
    find_unused_parameters: bool = True
    """Parameters that no ray of a process reached count as zero there; false: they are an error."""
    device_map: Annotated[dict[FieldPart, str], CHANGEABLE] = {}
    """On which devices parts of a block's field learn, as in {decoder: "cuda:1"}; a number N is cuda:N. Parts that are
    not named stay with the rays, on the processor: `encoder` of positions, `nerf_mlp` for density, `decoder` for
    colour. With `hash` the whole block, rays and codes included, goes where its encoder goes: {encoder: 0} trains it on
    cuda:0."""
    exchange_every: Count = 50
    """Steps for which a block keeps the renders of rays that it shares with its neighbours; then there are new ones."""

    @field_validator("device_map", mode="before")
    @classmethod
    def _numbers_are_cuda_devices(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        return {part: f"cuda:{device}" if type(device) is int else device for part, device in value.items()}
