"""The interface of a block's radiance field; that of its configuration is `core.config.backbone.BackboneConfig`."""

from typing import Literal, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from blocknerf.core.config.distributed import FieldPart
from blocknerf.core.types import RayBatch
from blocknerf.rendering.volume import CompositedRays, RaySamplingConfig

TableLoss = Literal["rgb", "interlevel"]


@runtime_checkable
class RowTable(Protocol):
    """Parameters of which a step changes a few rows: an nn.Module with one parameter, for the sparse optimiser."""

    gradient: Tensor | None
    """Where the backward pass adds the table's gradient, of the shape of `rows`; None before there is an optimiser.

    The field sees to it: a kernel adds to it, or the table is used through `kernels.row_gradient.redirect_grad`. The
    parameter's `.grad` is never read, and the optimiser refuses one.
    """
    rate_ratio: float
    """Its learning rate, as a multiple of the networks'."""
    loss: TableLoss
    """The loss term from which it learns."""

    @property
    def rows(self) -> Float[Tensor, "levels rows features"]:
        """The parameters, not a copy. Read once, when training begins."""
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
    """Whether activations of samples are recomputed in backward instead of stored."""
    stands_with_encoder: bool
    """Whether rays and codes follow the encoder to its device (distributed.device_map)."""

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
        """Switches on the coarsest levels of the position encoding and this share of the others; all from 1 on."""
        ...

    def move(self, part: FieldPart, device: torch.device) -> None:
        """Moves a part of the field with its parameters to `device`; rays stay where they are."""
        ...

    def sparse_tables(self) -> dict[str, RowTable]:
        """Parameters for the sparse optimiser, by name."""
        ...

    def code_layer(self) -> nn.Linear | None:
        """The layer whose last inputs are the code of an image; None without codes."""
        ...

    def networks(self) -> list[nn.Parameter]:
        """All other parameters: they learn by Adam, with weight decay."""
        ...


@runtime_checkable
class StartsAsFog(Protocol):
    """A field with a proposal that starts as fog, which a ray must reach through."""

    def start_fog(self, per_radius: float) -> None:
        """Makes the proposal fog of this density (per block radius) everywhere, before training."""
        ...


@runtime_checkable
class Backbone(Field, Protocol):
    """Samples along rays and the networks that answer there: it renders any rays."""

    spacing: RaySamplingConfig
    """Placement and number of samples along a ray."""

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
