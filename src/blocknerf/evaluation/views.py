"""One test image and what the city makes of it: with the mean code, and with codes fitted to its left half."""

from dataclasses import dataclass
from typing import Protocol, cast, runtime_checkable

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from blocknerf.city.city import City, composite
from blocknerf.core.seeds import generator
from blocknerf.core.types import RayBatch, RenderOutput
from blocknerf.evaluation.protocols import left_half
from blocknerf.models.block_nerf import BlockNeRF
from blocknerf.models.fit import fit_code
from blocknerf.scene.scene import ImageRecord

SEED = 0
CODE_STEPS = 100
Codes = dict[str, Float[Tensor, " code"] | None]


@runtime_checkable
class Photographs(Protocol):
    """What evaluation asks of the image store; everything by image id."""

    def rays(self, image_id: str) -> RayBatch: ...
    def size(self, image_id: str) -> tuple[int, int]: ...
    def rgb(self, image_id: str) -> np.ndarray: ...
    def valid(self, image_id: str) -> np.ndarray: ...
    def reached(self, image_id: str) -> np.ndarray: ...


@dataclass(frozen=True, slots=True)
class HeldOutImage:
    """What there is to render, and the truth: colours in [0, 1], pixels that mask and lens leave, or the lens alone."""

    record: ImageRecord
    rays: RayBatch
    center_world: Float[Tensor, "3"]
    truth: Float[Tensor, "h w 3"]
    valid: Bool[Tensor, "h w"]
    reached: Bool[Tensor, "h w"]

    @staticmethod
    def of(photographs: Photographs, image: ImageRecord) -> "HeldOutImage":
        return HeldOutImage(
            image,
            photographs.rays(image.id),
            torch.from_numpy(np.array(image.world_from_cam[:, 3], dtype=np.float64)),
            torch.from_numpy(np.array(photographs.rgb(image.id))).float() / 255,
            torch.from_numpy(np.array(photographs.valid(image.id), dtype=bool)),
            torch.from_numpy(np.array(photographs.reached(image.id), dtype=bool)),
        )


@dataclass(frozen=True, slots=True)
class Views:
    """A test image rendered with the mean code of its drive; pictures are [H, W]."""

    composited: RenderOutput
    nearest: RenderOutput
    nearest_id: str
    weights: dict[str, float]


def render_views(city: City, test: HeldOutImage) -> Views:
    """The nearest block is always one of the layers, so both pictures cost one rendering."""
    layers = city.layers(test.rays, test.center_world, codes=mean_codes(city, test))
    nearest_id = city.nearest(test.center_world)
    nearest = next(layer.picture for layer in layers if layer.block_id == nearest_id)
    return Views(
        composite(layers).reshape(*test.valid.shape),
        nearest.reshape(*test.valid.shape),
        nearest_id,
        {layer.block_id: layer.weight for layer in layers},
    )


def fitted_picture(city: City, test: HeldOutImage) -> Float[Tensor, "h w 3"]:
    """The whole composited picture after each of its blocks had its own code fitted to the left half."""
    layers = city.layers(test.rays, test.center_world, codes=fitted_codes(city, test))
    return composite(layers).reshape(*test.valid.shape).rgb


def mean_codes(city: City, test: HeldOutImage) -> Codes:
    """What the blocks around the camera are told of the image: the mean of its drive, and its own exposure.

    The exposure is what the camera wrote beside the picture; no pixel is looked at.
    """
    record = test.record
    return {
        block_id: city.model(block_id).code_for(None, record.drive, exposure=record.exposure)
        for block_id in city.weights(test.center_world)
    }


def fitted_codes(city: City, test: HeldOutImage) -> Codes:
    """`mean_codes` with the appearance of each fitted to the left half; None for blocks without codes.

    Which pixels are drawn depends on the image's name and the block alone, never on what the image shows.
    """
    seen = left_half(test.valid)
    rays, truth = test.rays[seen.flatten()], test.truth[seen]
    codes = {}
    for block_id, start in mean_codes(city, test).items():
        model, rng = city.model(block_id), generator(SEED, "fitted codes", test.record.name, block_id)
        codes[block_id] = (
            None if start is None else fit_code(cast(BlockNeRF, model), rays, truth, start, rng, CODE_STEPS)
        )
    return codes
