"""One block: a radiance field and appearance codes around a centre, asked in world coordinates."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from blocknerf.core.config import Config
from blocknerf.core.types import FieldOutput, RayBatch, RenderOutput
from blocknerf.models.appearance import AppearanceEmbedding
from blocknerf.models.backbone import Backbone
from blocknerf.models.hash_field import HashField
from blocknerf.rendering.volume import CompositedRays, Spacing


class BlockNeRF(nn.Module):
    """The radiance field of one block (Block-NeRF, section 4). All public methods speak world metres."""

    center_world: Tensor

    def __init__(
        self,
        config: Config,
        center_world: tuple[float, float, float],
        radius_m: float,
        image_ids: tuple[str, ...],
        drives: tuple[str, ...],
        rng: torch.Generator | None = None,
    ):
        """`image_ids` and `drives` (one per image) are the training images. Without a generator parameters are zero."""
        super().__init__()
        self.config = config
        self.radius_m = radius_m
        self.register_buffer("center_world", torch.tensor(center_world, dtype=torch.float32), persistent=False)
        self.appearance = None
        if config.training.use_appearance_embedding:
            self.appearance = AppearanceEmbedding(config.appearance_embedding.embedding_dim, image_ids, drives)
        code_dim = config.appearance_embedding.embedding_dim if self.appearance is not None else 0
        self.field: Backbone = HashField(config.block_nerf, code_dim, _spacing(config, radius_m), rng)

    def composite(
        self, rays: RayBatch, codes: Float[Tensor, "rays code"] | None, rng: torch.Generator | None
    ) -> tuple[Float[Tensor, "rays 3"], CompositedRays]:
        """Colour of every ray and what it was made of. Differentiable; `rng` perturbs the samples."""
        origins = (rays.origins - self.center_world) / self.radius_m
        rgb, composited = self.field.composite(origins, rays.directions, rays.radii, codes, rng)
        if self.config.dataset.white_background:
            opacity = composited.opacity[:, None]
            rgb = rgb * opacity + (1 - opacity)
        return rgb, composited

    def forward(
        self, rays: RayBatch, rng: torch.Generator | None = None
    ) -> tuple[Float[Tensor, "rays 3"], CompositedRays]:
        """`composite` with the codes of the rays' images."""
        codes = self.appearance(rays.image_slots) if self.appearance is not None else None
        return self.composite(rays, codes, rng)

    @torch.no_grad()
    def render(self, rays: RayBatch, code: Float[Tensor, " code"] | None = None) -> RenderOutput:
        """Pixels of any number of rays, in chunks, without randomness. `code`: see `code_for`; none: the mean."""
        code = self.code_for(None, None) if code is None else code
        parts = []
        for start in range(0, len(rays), self.field.rays_at_once):
            chunk = rays[start : start + self.field.rays_at_once]
            codes = None if code is None else code.expand(len(chunk), -1)
            rgb, composited = self.composite(chunk, codes, None)
            parts.append(RenderOutput(rgb, composited.opacity, composited.distance * self.radius_m))
        return RenderOutput.concatenate(parts)

    def code_for(self, image_id: str | None, drive: str | None) -> Float[Tensor, " code"] | None:
        """See `AppearanceEmbedding.code_for`; None where the block has no codes."""
        return None if self.appearance is None else self.appearance.code_for(image_id, drive)

    @torch.no_grad()
    def query_points(
        self,
        points_world: Float[Tensor, "points 3"],
        directions: Float[Tensor, "points 3"],
        code: Float[Tensor, " code"] | None = None,
    ) -> FieldOutput:
        """Density (per metre) and colour at points seen along unit directions. `code` as in `render`."""
        code = self.code_for(None, None) if code is None else code
        codes = None if code is None else code.expand(points_world.shape[0], -1)
        density, rgb = self.field.query((points_world - self.center_world) / self.radius_m, directions, codes)
        return FieldOutput(density[:, None] / self.radius_m, rgb[:, None])

    def description(self) -> dict[str, Any]:
        """What `from_state` needs beside the tensors; JSON types only."""
        appearance = self.appearance
        return {
            "config": self.config.model_dump(mode="json"),
            "center_world": self.center_world.double().tolist(),
            "radius_m": self.radius_m,
            "image_ids": list(appearance.image_ids) if appearance is not None else [],
            "drives": list(appearance.drives) if appearance is not None else [],
        }

    @classmethod
    def from_state(cls, description: dict[str, Any], tensors: dict[str, Tensor]) -> "BlockNeRF":
        """The inverse of (`description`, `state_dict`); strict: every tensor must be there and fit."""
        x, y, z = description["center_world"]
        model = cls(
            Config.model_validate(description["config"]),
            (x, y, z),
            description["radius_m"],
            tuple(description["image_ids"]),
            tuple(description["drives"]),
        )
        model.load_state_dict(tensors, strict=True)
        return model.eval()


def _spacing(config: Config, radius_m: float) -> Spacing:
    field = config.block_nerf
    near = 0.01 if field.near_m is None else field.near_m / radius_m
    far = 100.0 if field.far_m is None else field.far_m / radius_m
    return Spacing(near, far, field.num_samples_coarse, field.num_samples_fine)
