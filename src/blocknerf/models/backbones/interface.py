"""What a block asks of its radiance field. `core.config.backbone.BackboneConfig` is what the program asks before."""

from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from blocknerf.core.config.distributed import FieldPart
from blocknerf.core.types import RayBatch
from blocknerf.rendering.volume import CompositedRays, RaySamplingConfig


@runtime_checkable
class RowTable(Protocol):
    """Parameters of which a step changes a few rows; `gradient` collects what the sparse optimiser consumes."""

    gradient: Tensor | None
    rate_ratio: float
    """Its learning rate, as a multiple of the networks'."""
    loss: str
    """The term of the loss that it learns by."""

    @property
    def rows(self) -> Float[Tensor, "levels rows features"]:
        """The parameters, not a copy."""
        ...

    def set_trainable(self, learns: bool) -> None:
        """Whether they get gradients."""
        ...


@runtime_checkable
class Field(Protocol):
    """What every radiance field answers. Block units; ray directions have unit length."""

    rays_at_once: int
    """How many rays to ask about in one call when no gradient is wanted."""
    recomputes: bool
    """Whether activations of samples are computed again in backward instead of kept."""
    stands_with_encoder: bool
    """Whether rays and codes go to the device that the encoder is put on (distributed.device_map)."""

    def query(
        self,
        points: Float[Tensor, "points 3"],
        directions: Float[Tensor, "points 3"],
        codes: Float[Tensor, "points code"] | None,
    ) -> tuple[Float[Tensor, " points"], Float[Tensor, "points 3"]]:
        """Density (per block radius) and colour at points without extent. Differentiable."""
        ...

    def density_at(self, points: Float[Tensor, "points 3"]) -> Float[Tensor, " points"]:
        """Density (per block radius) alone. Differentiable."""
        ...

    def set_encoding_progress(self, share: float) -> None:
        """Lets the coarsest levels of the encoding of positions count, and this share of the others; all from 1 on."""
        ...

    def move(self, part: FieldPart, device: torch.device) -> None:
        """Computes a part of the field on `device` from now on, its parameters with it; rays stay where they are."""
        ...

    def sparse_tables(self) -> dict[str, RowTable]:
        """Parameters for the sparse optimiser, by name."""
        ...

    def code_layer(self) -> nn.Linear | None:
        """The layer whose last inputs are the code of an image; None where colour is told no code."""
        ...

    def networks(self) -> list[nn.Parameter]:
        """All other parameters."""
        ...


@runtime_checkable
class Backbone(Field, Protocol):
    """Samples along rays and the networks that answer there: it renders any rays."""

    spacing: RaySamplingConfig
    """Where samples lie along a ray, and how many."""

    def composite(
        self,
        origins: Float[Tensor, "rays 3"],
        directions: Float[Tensor, "rays 3"],
        radii: Float[Tensor, " rays"],
        codes: Float[Tensor, "rays code"] | None,
        rng: torch.Generator | None,
    ) -> tuple[Float[Tensor, "rays 3"], CompositedRays]:
        """Colour of every ray, and what it was made of. Differentiable; `rng` perturbs the samples."""
        ...

    def query_intervals(
        self,
        origins: Float[Tensor, "rays 3"],
        directions: Float[Tensor, "rays 3"],
        radii: Float[Tensor, " rays"],
        codes: Float[Tensor, "rays code"] | None,
        edges: Float[Tensor, "rays edges"],
    ) -> tuple[Float[Tensor, "rays bins"], Float[Tensor, "rays bins 3"]]:
        """Density (per block radius) that `composite` finds between edges, and the colour of each interval."""
        ...


@runtime_checkable
class ViewsBackbone(Field, Protocol):
    """Something that is projected into a camera, as splats are: it renders pixels of a camera's picture."""

    def rasterize(
        self, rays: RayBatch, code: Float[Tensor, " code"] | None
    ) -> tuple[Float[Tensor, "rays 3"], Float[Tensor, " rays"], Float[Tensor, " rays"]]:
        """Colour, opacity and distance along its ray (block radii) of every pixel of `rays.view`. Differentiable.

        Rays and view are in block units; all pixels have one code.
        """
        ...
