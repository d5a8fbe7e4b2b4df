"""What a city and all that stands on it ask of a block. `BlockNeRF` is one; so is whatever else gives these answers."""

from collections.abc import Iterator
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, Float64
from torch import Tensor, nn

from blocknerf.core.types import Appearance, RayBatch, RenderOutput
from blocknerf.rendering.volume import CompositedRays


@runtime_checkable
class BlockRenderer(Protocol):
    """A block that can be rendered. World metres; `code` is always one of `code_for`."""

    radius_m: float

    @property
    def appearance_width(self) -> int:
        """How many entries of its codes are appearance, which come first; 0 where it has one look alone."""
        ...

    @property
    def refines_poses(self) -> bool:
        """Whether it has learned poses of cameras."""
        ...

    @property
    def has_visibility(self) -> bool:
        """Whether it has learned what it has seen."""
        ...

    def code_for(self, appearance: Appearance) -> Float[Tensor, " code"] | None:
        """What `render` takes to show that look; None where the block has one look alone."""
        ...

    def render(self, rays: RayBatch, code: Float[Tensor, " code"] | None = None) -> RenderOutput:
        """Pixels of all rays under one code (none: the mean); without gradients, the same for the same rays."""
        ...

    def colours(self, rays: RayBatch, code: Float[Tensor, " code"] | None) -> Float[Tensor, "rays 3"]:
        """Colours of a few rays, differentiable in the rays and in the code."""
        ...

    def composite(
        self, rays: RayBatch, codes: Float[Tensor, "rays code"] | None, rng: torch.Generator | None
    ) -> tuple[Float[Tensor, "rays 3"], CompositedRays]:
        """Colours of a few rays and where along them they come from; `rng` perturbs the samples."""
        ...

    def mean_visibility(self, rays: RayBatch) -> float | None:
        """How well the block has seen what it shows along `rays`, in [0, 1]; None where it cannot say."""
        ...

    def view_confidence(self, rays: RayBatch, distances_m: Float[Tensor, " rays"]) -> Float[Tensor, " rays"] | None:
        """How well the block knows the surfaces at those distances, seen from there: above 0, alike in all blocks.

        None where it cannot say.
        """
        ...

    def visibility_along(self, rays: RayBatch, distances_m: Float[Tensor, " rays"]) -> Float[Tensor, " rays"]:
        """How much light of surfaces at those distances arrives at the rays' origins, in [0, 1].

        Raises UserError where it cannot say (`has_visibility`).
        """
        ...

    def pose_motion(
        self, image_id: str | None = None, drive: str | None = None, segment: str | None = None
    ) -> Float64[Tensor, "3 4"] | None:
        """refined_from_captured of an image, else of its drive or segment; None where the block learned none."""
        ...

    def refined_rays(
        self, rays: RayBatch, image_id: str | None = None, drive: str | None = None, segment: str | None = None
    ) -> RayBatch:
        """Rays of one camera after its `pose_motion`."""
        ...

    def parameters(self) -> Iterator[nn.Parameter]:
        """All that it has learned."""
        ...
