"""One block: a radiance field and appearance codes around a centre, with an interface in world coordinates."""

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import replace
from typing import TypeVar, cast

import torch
from jaxtyping import Float, Float64, Int
from torch import Tensor, nn

from blocknerf.core.config.backbone import BackboneConfig
from blocknerf.core.config.config import Config
from blocknerf.core.errors import UserError
from blocknerf.core.types import MEAN_APPEARANCE, Appearance, Exposures, FieldOutput, RayBatch, RenderOutput, on_device
from blocknerf.geometry import se3
from blocknerf.models.appearance import AppearanceEmbedding
from blocknerf.models.backbones.interface import Backbone, DeferredShading, ViewsBackbone
from blocknerf.models.block_file import BlockFile
from blocknerf.models.block_meta import ModelMeta
from blocknerf.models.exposure import ExposureEncoding
from blocknerf.models.poses import PoseGroups, PoseRefinementNetwork, moved_rays
from blocknerf.models.renderer import ColoursByCode
from blocknerf.models.visibility import BEFORE_SURFACE, VisibilityNetwork
from blocknerf.rendering.volume import CompositedRays, RaySamplingConfig
from blocknerf.runtime.devices import default_device
from blocknerf.runtime.threads import each_on_a_core

Result = TypeVar("Result")

LEAST_VISIBLE, LEAST_MET = 0.01, 1e-3
"""Added to how well a block knows a surface, so that all blocks show a surface that none of them knows."""


class BlockNeRF(nn.Module):
    """The radiance field of one block (Block-NeRF, section 4). All public methods use metres in world coordinates."""

    center_world: Tensor

    def __init__(
        self,
        config: Config,
        center_world: tuple[float, float, float],
        radius_m: float,
        image_ids: tuple[str, ...],
        drives: tuple[str, ...],
        rng: torch.Generator | None = None,
        exposures: Exposures | None = None,
        pose_groups: PoseGroups | None = None,
        bounded: bool = False,
    ):
        """`image_ids` and `drives` (one per image) are the training images.

        Without a generator, parameters are zero. Without `exposures`, colour does not depend on exposure. `pose_groups`
        say which images share an offset. Default: see `models.poses.default_groups`. Rays of a `bounded` block have
        samples only inside the ball of `radius_m` around its centre.
        """
        super().__init__()
        self.config = config
        self.radius_m, self.bounded = radius_m, bounded
        self.register_buffer("center_world", torch.tensor(center_world, dtype=torch.float32), persistent=False)
        self.image_ids, self.drives = image_ids, drives
        self.appearance = None
        if config.training.use_appearance_embedding:
            settings, seed = config.appearance_embedding, config.training.seed
            self.appearance = AppearanceEmbedding(settings, image_ids, drives, seed)
        self.exposure = None
        if config.training.use_exposure_encoding and exposures is not None:
            self.exposure = ExposureEncoding(config.exposure_encoding.num_levels, exposures, image_ids)
        self.field = self._new_field(rng)
        self.poses = None
        if config.training.use_pose_refinement:
            self.poses = PoseRefinementNetwork(config.pose_refinement, image_ids, drives, rng, pose_groups)
        self.visibility = None
        if config.training.use_visibility_network:
            self.visibility = VisibilityNetwork(config.visibility_network, rng)
        self.progress = 1.0
        self.half: torch.dtype | None = None

    def set_progress(self, progress: float, since_restart: float | None = None) -> None:
        """Sets the progress of the run, in [0, 1]. Poses are learned from coarse levels first.

        `since_restart` is the progress since the field's last restart, if it was restarted.
        """
        self.progress = progress
        if self.poses is not None:
            share = self.config.pose_refinement.coarse_to_fine_share if self.learns_poses else 0.0
            passed = progress if since_restart is None else since_restart
            self.field.set_encoding_progress(passed / share if share > 0 else 1.0)

    @torch.no_grad()
    def restart_field(self, rng: torch.Generator) -> None:
        """Resets the field to that of a new block. Poses, codes and the counts for visibility stay."""
        field = self._new_field(rng)
        for parameter, new in zip(self.field.networks(), field.networks(), strict=True):
            parameter.copy_(new)
        for name, table in field.sparse_tables().items():
            self.field.sparse_tables()[name].rows.copy_(table.rows)

    def _new_field(self, rng: torch.Generator | None) -> Backbone | ViewsBackbone:
        code_dim = 0 if self.appearance is None else self.appearance.dim
        code_dim += 0 if self.exposure is None else self.exposure.width
        config = self.config
        spacing = self._spacing(config.block_nerf)
        field = config.block_nerf.field(code_dim, spacing, config.white_background, rng)
        declared = ViewsBackbone if config.block_nerf.renders == "views" else Backbone
        if not isinstance(field, declared):
            raise TypeError(
                f"A backbone that renders {config.block_nerf.renders} needs a field that is a {declared.__name__}."
            )
        return field

    @property
    def learns_poses(self) -> bool:
        """Whether any pose can change from its captured value."""
        settings = self.config.training
        return self.poses is not None and self.poses.pose_groups.are_free and "pose" in settings.learned_components

    @property
    def appearance_width(self) -> int:
        """Number of appearance entries in its codes, which come first; 0 if it has none."""
        return 0 if self.appearance is None else self.appearance.dim

    @property
    def refines_poses(self) -> bool:
        """Whether it has pose offsets, learned or not."""
        return self.poses is not None

    @property
    def has_visibility(self) -> bool:
        """Whether it was trained with a visibility network."""
        return self.visibility is not None

    @property
    def device(self) -> torch.device:
        """The device on which its rays are computed. Parts of its field may be on other devices."""
        return self.center_world.device

    @property
    def device_type(self) -> str:
        """The device type on which its networks multiply: "cuda" if any of them is on one."""
        kinds = {parameter.device.type for parameter in self.field.networks()}
        return "cuda" if "cuda" in kinds else "cpu"

    def enable_gradient_checkpointing(self) -> None:
        """Uses less memory and more time in training: see `models/recompute.py`."""
        self.field.recomputes = True

    def components(self) -> dict[str, list[nn.Parameter]]:
        """Parameters by component, for the components that the block has; without the field's tables."""
        parts = {"nerf": self.field.networks()}
        if self.appearance is not None and self.appearance.residuals is not None:
            parts["appearance"] = [self.appearance.residuals]
        if self.poses is not None:
            parts["pose"] = list(self.poses.parameters())
        if self.visibility is not None:
            parts["visibility"] = self.visibility.parameters_to_learn()
        return parts

    def set_trainable(self, components: Collection[str]) -> None:
        """Sets which components get gradients. All others are frozen; for the field, this includes its tables."""
        for name, parameters in self.components().items():
            for parameter in parameters:
                parameter.requires_grad_(name in components)
        for table in self.field.sparse_tables().values():
            table.set_trainable("nerf" in components)

    def set_num_samples(self, count: int | None) -> None:
        """Sets the number of field samples per ray. Default: that of the configuration."""
        config = self.config.block_nerf
        self.field_of_rays().spacing = self._spacing(config if count is None else config.with_samples(count))

    def _spacing(self, config: BackboneConfig) -> RaySamplingConfig:
        near = 0.01 if config.near_m is None else config.near_m / self.radius_m
        far = 100.0 if config.far_m is None else config.far_m / self.radius_m
        return RaySamplingConfig(near, far, config.num_samples_coarse, config.num_samples_fine, self.bounded)

    def to_block(self, points_world: Float[Tensor, "points 3"]) -> Float[Tensor, "points 3"]:
        """Converts world metres to block units."""
        return (points_world - self.center_world) / self.radius_m

    def to_world(self, points: Float[Tensor, "points 3"]) -> Float[Tensor, "points 3"]:
        """The inverse of `to_block`."""
        return points * self.radius_m + self.center_world

    def composite(
        self, rays: RayBatch, codes: Float[Tensor, "rays code"] | None, rng: torch.Generator | None
    ) -> tuple[Float[Tensor, "rays 3"], CompositedRays]:
        """Colour of every ray, and its composited samples, on the device of the rays. Differentiable.

        `rng` perturbs the samples if block_nerf.perturb_samples is set.
        """
        if rays.origins.device != self.device:
            codes = None if codes is None else codes.to(self.device)
            with default_device(self.device):
                rgb, composited = self.composite(on_device(rays, self.device), codes, rng)
            return rgb.to(rays.origins.device), on_device(composited, rays.origins.device)
        rng = rng if self.config.block_nerf.perturb_samples else None
        return self.field_of_rays().composite(self.to_block(rays.origins), rays.directions, rays.radii, codes, rng)

    def field_of_rays(self) -> Backbone:
        """Its field, for queries along single rays. Raises UserError if the backbone only renders views."""
        if self.config.block_nerf.renders == "views":
            raise UserError(
                f"The backbone {self.config.block_nerf.backbone!r} renders the views of cameras. It has no samples "
                "along single rays, which training, surfaces and inspections need."
            )
        return cast(Backbone, self.field)

    def _field_of_views(self) -> ViewsBackbone | None:
        """Its field if the backbone renders views; None if it renders rays."""
        renders_views = self.config.block_nerf.renders == "views"
        return cast(ViewsBackbone, self.field) if renders_views else None

    def colours(self, rays: RayBatch, code: Float[Tensor, " code"] | None) -> Float[Tensor, "rays 3"]:
        """Colours under one code of `code_for`; differentiable, all rays at once."""
        views = self._field_of_views()
        if views is not None:
            return self._rasterize(views, rays, code).rgb
        return self.composite(rays, None if code is None else code.expand(len(rays), -1), None)[0]

    def colours_by_code(self, rays: RayBatch) -> ColoursByCode:
        """See `BlockRenderer`. With deferred shading, rays are composited here, and later only shaded."""
        field = self.field
        if not isinstance(field, DeferredShading):
            return lambda code, chosen: self.colours(rays[chosen], code)
        placed, mean = on_device(rays, self.device), self.code_for()
        codes = None if mean is None else mean.expand(len(rays), -1)

        def composite(rows: slice) -> CompositedRays:
            return self.composite(placed[rows], None if codes is None else codes[rows], None)[1]

        composited = CompositedRays.concatenate(self._each_chunk(composite, len(rays), self.field.rays_at_once))

        def shaded(code: Float[Tensor, " code"], chosen: Int[Tensor, " chosen"]) -> Float[Tensor, "chosen 3"]:
            codes = code.to(self.device).expand(len(chosen), -1)
            rgb = field.shade_composited(composited[chosen], placed.directions[chosen], codes)
            return rgb.to(rays.origins.device)

        return shaded

    def forward(
        self, rays: RayBatch, rng: torch.Generator | None = None
    ) -> tuple[Float[Tensor, "rays 3"], CompositedRays]:
        """`composite` with the codes of the rays' images, from their refined poses.

        Its networks on `device_type` multiply in the precision `half`, if it is set; nothing else changes.
        """
        if self.poses is not None:
            rays = self.poses.refine(rays)
        codes = self.codes_of(rays.image_slots)
        if self.half is None:
            return self.composite(rays, codes, rng)
        with torch.autocast(self.device_type, self.half):
            return self.composite(rays, codes, rng)

    def codes_of(self, image_slots: Int[Tensor, " rays"]) -> Float[Tensor, "rays code"] | None:
        """The code of each ray's image: appearance code, then exposure encoding; None if the block has neither."""
        parts = [part(image_slots) for part in (self.appearance, self.exposure) if part is not None]
        return torch.cat(parts, -1) if parts else None

    def render(
        self, rays: RayBatch, code: Float[Tensor, " code"] | None = None, rays_at_once: int | None = None
    ) -> RenderOutput:
        """Pixels of any number of rays, in chunks, without randomness. `code` is one of `code_for`; default: the mean.

        Rays may be on any device; pixels are on the same. Raises UserError for rays without a view if the backbone
        renders views.
        """
        return self.render_each(rays, [code], rays_at_once)[0]

    @torch.no_grad()
    def render_each(
        self, rays: RayBatch, codes: Sequence[Float[Tensor, " code"] | None], rays_at_once: int | None = None
    ) -> list[RenderOutput]:
        """`render` under each of the codes; with deferred shading they share all samples."""
        codes = [self.code_for() if code is None else code for code in codes]
        views = self._field_of_views()
        if views is not None:
            return [self._rasterize(views, rays, code) for code in codes]
        rays_at_once = rays_at_once or self.field.rays_at_once

        def show(rows: slice) -> list[RenderOutput]:
            with default_device(self.device):
                pixels = self._pixels(on_device(rays[rows], self.device), codes)
                return [on_device(under_code, rays.origins.device) for under_code in pixels]

        parts = self._each_chunk(show, len(rays), rays_at_once)
        return [RenderOutput.concatenate(list(chunks)) for chunks in zip(*parts, strict=True)]

    def _each_chunk(self, call: Callable[[slice], Result], count: int, at_once: int) -> list[Result]:
        """`call` of the rows of every chunk, without gradients; each on a core, if the block is on a processor."""

        def without_gradients(rows: slice) -> Result:
            with torch.no_grad():  # it is a setting of a thread
                return call(rows)

        chunks = [slice(start, start + at_once) for start in range(0, count, at_once)]
        if self.device.type == "cpu":
            return each_on_a_core(without_gradients, chunks)
        return [without_gradients(rows) for rows in chunks]

    def _pixels(self, rays: RayBatch, codes: Sequence[Float[Tensor, " code"] | None]) -> Iterator[RenderOutput]:
        """Of rays on its device, under each of the codes."""
        composited = None
        for code in codes:
            of_rays = None if code is None else code.to(self.device).expand(len(rays), -1)
            if composited is not None and isinstance(self.field, DeferredShading):
                rgb = self.field.shade_composited(composited, rays.directions, of_rays)
            else:
                rgb, composited = self.composite(rays, of_rays, None)
            yield RenderOutput(rgb, composited.opacity, composited.distance * self.radius_m)

    @torch.no_grad()
    def code_for(self, appearance: Appearance = MEAN_APPEARANCE) -> Float[Tensor, " code"] | None:
        """The code for `render`: appearance code, then exposure encoding. None if the block has neither."""
        parts = []
        if self.appearance is not None:
            parts.append(_appearance_code(self.appearance, appearance))
        if self.exposure is not None:
            parts.append(self.exposure.encode(self.center_world.new_tensor(_stops(self.exposure, appearance))))
        return torch.cat(parts) if parts else None

    def _rasterize(self, field: ViewsBackbone, rays: RayBatch, code: Float[Tensor, " code"] | None) -> RenderOutput:
        """All pixels at once, on the device of the rays. Differentiable."""
        if rays.view is None:
            raise UserError(
                f"The backbone {self.config.block_nerf.backbone!r} renders the views of cameras, but these rays belong "
                "to none: those of an orthophoto are parallel, and some photographs have their rays in a file."
            )
        placed, pose = on_device(rays, self.device), rays.view.world_from_cam.to(self.device)
        center = self.to_block(pose[None, :, 3])[0]
        view = replace(rays.view, world_from_cam=torch.cat([pose[:, :3], center[:, None]], 1))
        code = None if code is None else code.to(self.device)
        with default_device(self.device):
            in_block = replace(placed, origins=self.to_block(placed.origins), view=view)
            rgb, opacity, distance = field.rasterize(in_block, code)
        return on_device(RenderOutput(rgb, opacity, distance * self.radius_m), rays.origins.device)

    def grow(
        self,
        image_ids: tuple[str, ...],
        drives: tuple[str, ...],
        exposures: tuple[float | None, ...],
        centers_world: Float64[Tensor, "images 3"] | None = None,
        segments: tuple[str, ...] | None = None,
    ) -> None:
        """Adds slots, codes, captured `exposures` and offsets for new images.

        See `AppearanceEmbedding.grow` and `PoseRefinementNetwork.grow`.
        """
        if self.appearance is not None:
            self.appearance.grow(image_ids, drives)
        if self.exposure is not None:
            self.exposure.grow(image_ids, exposures)
        if self.poses is not None:
            self.poses.grow(image_ids, drives, centers_world, segments)
        self.image_ids, self.drives = self.image_ids + image_ids, self.drives + drives

    def pose_motion(
        self, image_id: str | None = None, drive: str | None = None, segment: str | None = None
    ) -> Float64[Tensor, "3 4"] | None:
        """See `PoseRefinementNetwork.motion`; None if poses are not refined."""
        return None if self.poses is None else self.poses.motion(image_id, drive, segment)

    def refined_pose(
        self,
        world_from_cam: Float64[Tensor, "3 4"],
        image_id: str | None = None,
        drive: str | None = None,
        segment: str | None = None,
    ) -> Float64[Tensor, "3 4"]:
        """The pose as this block learned it for the image, or for its drive or segment; unchanged if it learned
        none."""
        motion = self.pose_motion(image_id, drive, segment)
        return world_from_cam if motion is None else se3.compose(motion.to(world_from_cam.device), world_from_cam)

    def refined_rays(
        self, rays: RayBatch, image_id: str | None = None, drive: str | None = None, segment: str | None = None
    ) -> RayBatch:
        """`rays` of one camera from its `refined_pose`."""
        motion = self.pose_motion(image_id, drive, segment)
        return rays if motion is None else moved_rays(rays, motion.to(rays.origins.device))

    @torch.no_grad()
    def query_points(
        self,
        points_world: Float[Tensor, "points 3"],
        directions: Float[Tensor, "points 3"],
        code: Float[Tensor, " code"] | None = None,
    ) -> FieldOutput:
        """Density (per metre) and colour at points, seen along unit directions. `code` as in `render`.

        The documents name it; the package itself calls the field.
        """
        code = self.code_for() if code is None else code
        codes = None if code is None else code.to(self.device).expand(points_world.shape[0], -1)
        with default_device(self.device):
            points, directions = self.to_block(points_world.to(self.device)), directions.to(self.device)
            density, rgb = self.field.query(points, directions, codes)
        output = FieldOutput(density[:, None] / self.radius_m, rgb[:, None])
        return on_device(output, points_world.device)

    def visibility_network(self) -> VisibilityNetwork:
        """Raises UserError if the block was trained without one."""
        if self.visibility is None:
            raise UserError(
                "This block was trained without a visibility network. Train it again with "
                "training.use_visibility_network=true."
            )
        return self.visibility

    @torch.no_grad()
    def visibility_at(
        self,
        points_world: Float[Tensor, "points 3"],
        directions: Float[Tensor, "points 3"],
        distances_m: Float[Tensor, " points"] | None = None,
    ) -> Float[Tensor, " points"]:
        """f_v: share of the light from the points that reaches a camera looking along unit directions, in [0, 1].

        `distances_m` are those from the camera to the points. Default: half a block radius. The result is low where no
        training camera has looked. Raises UserError if the block was trained without a visibility network.
        """
        distances = None if distances_m is None else (distances_m / self.radius_m).to(self.device)
        with default_device(self.device):
            points, directions = self.to_block(points_world.to(self.device)), directions.to(self.device)
            return self.visibility_network()(points, directions, distances).to(points_world.device)

    @torch.no_grad()
    def mean_visibility(self, rays: RayBatch) -> float | None:
        """How well the block has seen what it shows along `rays`, in [0, 1]: mean visibility of its surfaces.

        Rays are weighted by their opacity. A few hundred rays, spread over a picture, are enough. None if the block
        was trained without a visibility network.
        """
        if self.visibility is None:
            return None
        rendered = self.render(rays)
        visible = self.visibility_along(rays, rendered.distance_m)
        stopped = rendered.opacity + 1e-3
        return float((visible * stopped).sum() / stopped.sum())

    @torch.no_grad()
    def view_confidence(self, rays: RayBatch, distances_m: Float[Tensor, " rays"]) -> Float[Tensor, " rays"] | None:
        """How well the block knows surfaces at `distances_m` along `rays`: above 0, comparable between blocks.

        The square root of their visibility, times the fourth root of the light of training rays absorbed there. None
        if the block was trained without a visibility network.
        """
        if self.visibility is None:
            return None
        sights = self.visibility.sights

        def confidence(rows: slice) -> Float[Tensor, " chunk"]:
            chunk, chunk_m = rays[rows], distances_m[rows]
            points_world = (chunk.origins + chunk_m[:, None] * chunk.directions).to(self.device)
            hits = sights.hit_count(self.to_block(points_world)).to(chunk_m.device)
            return (self.visibility_along(chunk, chunk_m) + LEAST_VISIBLE).sqrt() * (hits + LEAST_MET) ** 0.25

        return torch.cat(self._each_chunk(confidence, len(rays), self.field.rays_at_once))

    def visibility_along(self, rays: RayBatch, distances_m: Float[Tensor, " rays"]) -> Float[Tensor, " rays"]:
        """`visibility_at` surfaces at these distances along the rays, seen from the rays' origins."""
        before_m = BEFORE_SURFACE * distances_m
        return self.visibility_at(rays.origins + before_m[:, None] * rays.directions, rays.directions, before_m)

    def description(self) -> ModelMeta:
        """What `from_state` needs in addition to the tensors."""
        x, y, z = self.center_world.double().tolist()
        return ModelMeta(
            config=self.config,
            center_world=(x, y, z),
            radius_m=self.radius_m,
            image_ids=self.image_ids,
            drives=self.drives,
            exposures=None if self.exposure is None else self.exposure.exposures,
            pose_groups=None if self.poses is None else self.poses.pose_groups,
            bounded=self.bounded,
        )

    @classmethod
    def from_state(cls, description: ModelMeta, tensors: dict[str, Tensor]) -> "BlockNeRF":
        """The inverse of (`description`, `state_dict`). Strict: all tensors must be present and fit."""
        model = cls(
            description.config,
            description.center_world,
            description.radius_m,
            description.image_ids,
            description.drives,
            exposures=description.exposures,
            pose_groups=description.known_pose_groups,
            bounded=description.bounded,
        )
        model.load_state_dict(tensors, strict=True)
        return model.eval()


def _appearance_code(embedding: AppearanceEmbedding, appearance: Appearance) -> Float[Tensor, " appearance"]:
    code = embedding.code_for(appearance.image_id, appearance.drive, appearance.trajectory_point)
    other = appearance.blend_towards
    return code.lerp(_appearance_code(embedding, other), appearance.share) if other and appearance.share else code


def _stops(encoding: ExposureEncoding, appearance: Appearance) -> float:
    stops = encoding.stops_for(appearance.image_id, appearance.drive, appearance.exposure, appearance.trajectory_point)
    other = appearance.blend_towards
    if other and appearance.share:
        stops = (1 - appearance.share) * stops + appearance.share * _stops(encoding, other)
    return stops + appearance.exposure_stops


def load_block(block: BlockFile, device: str | torch.device = "cpu") -> BlockNeRF:
    """The model of a block file, on `device`. Raises UserError if its tensors do not fit."""
    block_id = block.meta.block_id
    try:
        model = BlockNeRF.from_state(block.meta.model, block.tensors)
        if broken := block.not_finite():
            raise ValueError(f"{broken[0]} holds a value that is not finite")
        return model.to(device)
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise UserError(
            f"The model in the file of block {block_id} does not fit this program ({error}). "
            f"Train that block again: `blocknerf train ... --blocks {block_id} --overwrite`."
        ) from error
