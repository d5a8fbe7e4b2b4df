"""The interface of a block that a city and everything built on it use. `BlockNeRF` implements it; others may."""

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, Float64, Int
from torch import Tensor, nn

from blocknerf.core.types import Appearance, RayBatch, RenderOutput
from blocknerf.rendering.volume import CompositedRays

ColoursByCode = Callable[[Float[Tensor, " code"], Int[Tensor, " chosen"]], Float[Tensor, "chosen 3"]]
"""Colours of the rays with these numbers under a code; differentiable in the code."""


@runtime_checkable
class BlockRenderer(Protocol):
    """A block that can be rendered. Lengths are world metres; `code` is always one of `code_for`."""

    radius_m: float

    @property
    def appearance_width(self) -> int:
        """Number of appearance entries in its codes, which come first; 0 if it has only one appearance."""
        ...

    @property
    def refines_poses(self) -> bool:
        """Whether it has learned camera poses."""
        ...

    @property
    def has_visibility(self) -> bool:
        """Whether it has learned what it has seen."""
        ...

    def code_for(self, appearance: Appearance) -> Float[Tensor, " code"] | None:
        """The code with which `render` shows an appearance; None if the block has only one."""
        ...

    def render(self, rays: RayBatch, code: Float[Tensor, " code"] | None = None) -> RenderOutput:
        """Pixels of all rays under one code (default: the mean), without gradients and without randomness."""
        ...

    def render_each(self, rays: RayBatch, codes: Sequence[Float[Tensor, " code"] | None]) -> list[RenderOutput]:
        """`render` under each of the codes; what does not depend on them is computed once, if possible."""
        ...

    def colours(self, rays: RayBatch, code: Float[Tensor, " code"] | None) -> Float[Tensor, "rays 3"]:
        """Colours of a few rays, differentiable in the rays and in the code."""
        ...

    def colours_by_code(self, rays: RayBatch) -> ColoursByCode:
        """`colours` of some of these rays as a function of the code; what does not depend on it is computed once, if
        possible."""
        ...

    def composite(
        self, rays: RayBatch, codes: Float[Tensor, "rays code"] | None, rng: torch.Generator | None
    ) -> tuple[Float[Tensor, "rays 3"], CompositedRays]:
        """Colours of a few rays, and the composited samples along them; `rng` perturbs the samples."""
        ...

    def mean_visibility(self, rays: RayBatch) -> float | None:
        """How well the block has seen what it shows along `rays`, in [0, 1]; None if unknown."""
        ...

    def view_confidence(self, rays: RayBatch, distances_m: Float[Tensor, " rays"]) -> Float[Tensor, " rays"] | None:
        """How well the block knows surfaces at these distances, seen from the rays' origins: above 0, comparable
        between blocks. None if unknown.
        """
        ...

    def visibility_along(self, rays: RayBatch, distances_m: Float[Tensor, " rays"]) -> Float[Tensor, " rays"]:
        """Share of the light from surfaces at these distances that reaches the rays' origins, in [0, 1].

        Raises UserError if unknown (see `has_visibility`).
        """
        ...

    def pose_motion(
        self, image_id: str | None = None, drive: str | None = None, segment: str | None = None
    ) -> Float64[Tensor, "3 4"] | None:
        """refined_from_captured of an image, or of its drive or segment; None if the block learned none."""
        ...

    def refined_rays(
        self, rays: RayBatch, image_id: str | None = None, drive: str | None = None, segment: str | None = None
    ) -> RayBatch:
        """Rays of one camera, moved by its `pose_motion`."""
        ...

    def parameters(self) -> Iterator[nn.Parameter]:
        """All learned parameters."""
        ...
