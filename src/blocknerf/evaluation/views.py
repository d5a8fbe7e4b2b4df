"""One test image and its render by the city: with the mean code, and under a protocol."""

from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from blocknerf.city.city import City, Layer, composite
from blocknerf.core.seeds import generator
from blocknerf.core.types import Appearance, RayBatch, RenderOutput, TrajectoryPoint
from blocknerf.evaluation.protocols import EvaluationProtocol, left_half
from blocknerf.models.fit import fit_code, fit_pose
from blocknerf.models.poses import moved_rays
from blocknerf.scene.scene import ImageRecord
from blocknerf.scene.trajectories import NO_TRAJECTORIES, Trajectories

SEED = 0
CODE_STEPS = 100
POSE_STEPS = 100
Picture = Float[Tensor, "h w 3"]


@runtime_checkable
class Photographs(Protocol):
    """The required part of the image store; everything by image id."""

    def rays(self, image_id: str) -> RayBatch: ...
    def size(self, image_id: str) -> tuple[int, int]: ...
    def rgb(self, image_id: str) -> np.ndarray: ...
    def valid(self, image_id: str) -> np.ndarray: ...
    def reached(self, image_id: str) -> np.ndarray: ...


@dataclass(frozen=True, slots=True)
class HeldOutImage:
    """The view to render, and the truth: colours in [0, 1], pixels that mask and lens leave, or only the lens."""

    record: ImageRecord
    rays: RayBatch
    center_world: Float[Tensor, "3"]
    truth: Float[Tensor, "h w 3"]
    valid: Bool[Tensor, "h w"]
    reached: Bool[Tensor, "h w"]
    trajectory_point: TrajectoryPoint | None = None

    @staticmethod
    def of(
        photographs: Photographs, image: ImageRecord, trajectories: Trajectories = NO_TRAJECTORIES
    ) -> "HeldOutImage":
        return HeldOutImage(
            image,
            photographs.rays(image.id),
            torch.from_numpy(np.array(image.world_from_cam[:, 3], dtype=np.float64)),
            torch.from_numpy(np.array(photographs.rgb(image.id))).float() / 255,
            torch.from_numpy(np.array(photographs.valid(image.id), dtype=bool)),
            torch.from_numpy(np.array(photographs.reached(image.id), dtype=bool)),
            trajectories.point_of(image),
        )


@dataclass(frozen=True, slots=True)
class Views:
    """A test image rendered with the mean code of its drive from where it was captured; pictures are [H, W]."""

    layers: list[Layer]
    composited: RenderOutput
    nearest: RenderOutput
    nearest_id: str


def render_views(city: City, test: HeldOutImage) -> Views:
    """The nearest block is nearly always among the composited ones, so both pictures cost one rendering."""
    codes = {block_id: mean_code(city, block_id, test) for block_id in city.weights(test.center_world)}
    layers = city.layers(test.rays, test.center_world, codes=codes)
    nearest_id = city.nearest(test.center_world)
    nearest = next((layer.picture for layer in layers if layer.block_id == nearest_id), None)
    if nearest is None:  # it sees too little from this camera to be composited
        (alone,) = city.layers(test.rays, test.center_world, only=nearest_id, codes=codes)
        nearest = alone.picture
    return Views(
        layers,
        composite(layers).reshape(*test.valid.shape),
        nearest.reshape(*test.valid.shape),
        nearest_id,
    )


def picture_under(protocol: EvaluationProtocol, city: City, test: HeldOutImage, views: Views) -> Picture:
    """The whole composited picture, each block with the protocol's pose and code.

    Weights of the blocks are those of the mean code and the given pose.
    """
    is_mean = protocol.codes == "mean" or test.trajectory_point is None
    if is_mean and protocol.poses == "given" and not protocol.fits_codes:
        return views.composited.rgb
    layers = [replace(layer, picture=_block_picture(protocol, city, layer.block_id, test)) for layer in views.layers]
    return composite(layers).reshape(*test.valid.shape).rgb


def mean_code(city: City, block_id: str, test: HeldOutImage) -> Float[Tensor, " code"] | None:
    """A block's code for the image: the mean of its drive, and the image's exposure.

    The camera recorded the exposure; no pixel is used.
    """
    return city.code_for(block_id, Appearance(drive=test.record.drive, exposure=test.record.exposure))


def code_under(
    protocol: EvaluationProtocol, city: City, block_id: str, test: HeldOutImage
) -> Float[Tensor, " code"] | None:
    """A block's code under the protocol, before any fit: `mean_code`, or that between the image's neighbours."""
    if protocol.codes == "mean":
        return mean_code(city, block_id, test)
    record = test.record
    appearance = Appearance(drive=record.drive, exposure=record.exposure, trajectory_point=test.trajectory_point)
    return city.code_for(block_id, appearance)


def _block_picture(protocol: EvaluationProtocol, city: City, block_id: str, test: HeldOutImage) -> RenderOutput:
    """For one block. The pixels drawn for a fit depend on the image's name and the block, not on its pixels."""
    model, seen = city.model(block_id), left_half(test.valid)
    code, rays, truth = code_under(protocol, city, block_id, test), test.rays, test.truth[seen]
    if protocol.poses == "learned":
        rays = model.refined_rays(rays, drive=test.record.drive, segment=test.record.segment)
    elif protocol.poses == "refined":
        rng = generator(SEED, "fitted pose", test.record.name, block_id)
        motion = fit_pose(model, rays[seen.flatten()], truth, code, rng, POSE_STEPS)
        rays = moved_rays(rays, motion)
    if protocol.fits_codes and code is not None:
        rng = generator(SEED, "fitted codes", test.record.name, block_id)
        code = fit_code(model, rays[seen.flatten()], truth, code, rng, CODE_STEPS)
    return model.render(rays, code)
