"""One test image and its render by the city: with the mean code, and under a protocol."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from blocknerf.city.city import City, Layer, composite
from blocknerf.core.seeds import generator
from blocknerf.core.types import Appearance, RayBatch, RenderOutput, TrajectoryPoint
from blocknerf.evaluation.protocols import Codes, EvaluationProtocol, left_half
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
    """A test image rendered from where it was captured; pictures are [H, W].

    `layers`, `composited` and `nearest` have the mean code of its drive; `pictures` are the composited ones by the
    choice of codes.
    """

    layers: list[Layer]
    pictures: dict[Codes, RenderOutput]
    nearest: RenderOutput
    nearest_id: str

    @property
    def composited(self) -> RenderOutput:
        return self.pictures["mean"]


def render_views(city: City, test: HeldOutImage, codes: Collection[Codes] = ("mean", "neighbours")) -> Views:
    """The mean code's pictures, and those of the other `codes`, as far as these differ for this image.

    Each block renders once, for all codes; the weights of blocks are those of the mean code. The nearest block is
    nearly always among the composited ones.
    """
    others: list[Codes] = [choice for choice in codes if choice != "mean" and test.trajectory_point is not None]
    choices: list[Codes] = ["mean", *others]
    nearest_id, weights = city.nearest(test.center_world), city.block_weights(test.rays, test.center_world)
    block_ids = dict.fromkeys([*weights, nearest_id])  # the nearest may see too little to be composited
    of_block = {block_id: _under_codes(city, block_id, test, choices) for block_id in block_ids}
    layers = city.blended(test.rays, weights, [of_block[block_id]["mean"] for block_id in weights])
    shape = test.valid.shape

    def composited(choice: Codes) -> RenderOutput:
        recoloured = [replace(layer, picture=of_block[layer.block_id][choice]) for layer in layers]
        return composite(recoloured).reshape(*shape)

    mean = composited("mean")
    pictures: dict[Codes, RenderOutput] = {"mean": mean}
    pictures |= {choice: composited(choice) if choice in others else mean for choice in codes}
    return Views(layers, pictures, of_block[nearest_id]["mean"].reshape(*shape), nearest_id)


def _under_codes(city: City, block_id: str, test: HeldOutImage, choices: Sequence[Codes]) -> dict[Codes, RenderOutput]:
    codes = [code_of(choice, city, block_id, test) for choice in choices]
    return dict(zip(choices, city.model(block_id).render_each(test.rays, codes), strict=True))


def picture_under(protocol: EvaluationProtocol, city: City, test: HeldOutImage, views: Views) -> Picture:
    """The whole composited picture, each block with the protocol's pose and code.

    Weights of the blocks are those of the mean code and the given pose.
    """
    if protocol.poses == "given" and not protocol.fits_codes:
        return views.pictures[protocol.codes].rgb
    layers = [replace(layer, picture=_block_picture(protocol, city, layer.block_id, test)) for layer in views.layers]
    return composite(layers).reshape(*test.valid.shape).rgb


def code_of(choice: Codes, city: City, block_id: str, test: HeldOutImage) -> Float[Tensor, " code"] | None:
    """A block's code for the image: the mean of its drive, or that between its neighbours; and the image's exposure.

    The camera recorded the exposure; no pixel is used.
    """
    point = test.trajectory_point if choice == "neighbours" else None
    record = test.record
    appearance = Appearance(drive=record.drive, exposure=record.exposure, trajectory_point=point)
    return city.code_for(block_id, appearance)


def _block_picture(protocol: EvaluationProtocol, city: City, block_id: str, test: HeldOutImage) -> RenderOutput:
    """For one block. The pixels drawn for a fit depend on the image's name and the block, not on its pixels."""
    model, seen = city.model(block_id), left_half(test.valid)
    code, rays, truth = code_of(protocol.codes, city, block_id, test), test.rays, test.truth[seen]
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
