"""From a request to a picture: the city's rendering in parts, so that it can be cancelled between them."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from blocknerf.blocks.map import block_colours
from blocknerf.city.city import City, Layer, composite
from blocknerf.city.manifest import Manifest
from blocknerf.city.pictures import to_bytes
from blocknerf.core.errors import UserError
from blocknerf.core.types import RayBatch, RenderOutput
from blocknerf.rendering.colours import distance_colours, error_colours, share_colours
from blocknerf.scene.rays import camera_rays
from blocknerf.viewer.photographs import Photographs
from blocknerf.viewer.render_request import Blending, Kind, RenderRequest, Viewpoint

RAYS_AT_ONCE = 16_384
"""Rays between checks for cancellation: about 50 ms on two cores."""
BESIDE_PHOTOGRAPH = 0.15
"""Gray outside of a photograph."""

KeepGoing = Callable[[], bool]


@dataclass(frozen=True, slots=True)
class Drawn:
    """A picture, the weights of its blocks, and its depth along the optical axis.

    `depth_z_m` is None if the picture is not one view: two pictures side by side.
    """

    rgb: UInt8[np.ndarray, "h w 3"]
    weights: dict[str, float]
    depth_z_m: Float[np.ndarray, "h w"] | None


def draw(
    city: City, photographs: Photographs | None, wish: RenderRequest, width: int, keep_going: KeepGoing
) -> Drawn | None:
    """The picture of `wish`, `width` pixels wide; None as soon as `keep_going()` is false.

    Raises UserError if all blocks are excluded, a block cannot show what is requested, or a photograph is missing.
    """
    city = city.with_blending(_rules(city.manifest, wish.blending), set(city.ids) - wish.left_out)
    comparison = wish.comparison
    if comparison is None:
        return _draw(city, wish, wish.viewpoint, width, keep_going)
    if photographs is None:
        raise UserError("The photographs are not there, so there is nothing to compare with.")
    beside = comparison.manner == "side by side"
    viewpoint, width = (wish.viewpoint.half(), (width + 1) // 2) if beside else (wish.viewpoint, width)
    drawn = _draw(city, wish, viewpoint, width, keep_going)
    if drawn is None:
        return None
    photograph, reached = photographs.seen_from(comparison.photograph, viewpoint, width)
    rgb = torch.from_numpy(drawn.rgb).float() / 255
    if beside:
        photograph = torch.where(reached[..., None], photograph, torch.tensor(BESIDE_PHOTOGRAPH))
        return Drawn(to_bytes(torch.cat([rgb, photograph], dim=1)), drawn.weights, None)
    if comparison.manner == "difference":
        return replace(drawn, rgb=to_bytes(error_colours(rgb, photograph, reached)))
    blended = rgb.lerp(photograph, comparison.share)
    return replace(drawn, rgb=to_bytes(torch.where(reached[..., None], blended, rgb)))


def _draw(city: City, wish: RenderRequest, viewpoint: Viewpoint, width: int, keep_going: KeepGoing) -> Drawn | None:
    camera = viewpoint.camera(width)
    rays = camera_rays(camera, viewpoint.world_from_cam, camera.width, camera.height)
    center = torch.from_numpy(np.array(viewpoint.world_from_cam[:, 3], dtype=np.float64))
    weights = city.block_weights(rays, center)
    codes = city.codes_for(weights, wish.appearance.resolved(city.main_drive))
    parts = []
    for rows in _parts(len(rays)):
        if not keep_going():
            return None
        layers = sorted(city.layers(rays[rows], center, codes=codes, weights=weights), key=lambda layer: layer.block_id)
        visibility = _visibility(city, layers, rays[rows]) if wish.kind == "visibility" else None
        parts.append((layers, visibility))
    layers = [_joined(list(pieces)) for pieces in zip(*(layers for layers, _ in parts), strict=True)]
    composited = composite(layers).reshape(camera.height, camera.width)
    if wish.kind == "visibility":
        rgb = share_colours(
            torch.cat([seen for _, seen in parts if seen is not None]).reshape(composited.opacity.shape)
        )
    else:
        rgb = _coloured(city, wish.kind, layers, composited)
    forward = torch.from_numpy(np.array(viewpoint.world_from_cam[:, 2], dtype=np.float32))
    depth_z_m = composited.distance_m * (rays.directions @ forward).reshape(composited.distance_m.shape)
    return Drawn(to_bytes(rgb), {layer.block_id: layer.weight for layer in layers}, depth_z_m.numpy())


def _parts(count: int) -> Iterator[slice]:
    return (slice(start, start + RAYS_AT_ONCE) for start in range(0, count, RAYS_AT_ONCE))


def _joined(pieces: list[Layer]) -> Layer:
    """One block's layers of all parts of a picture."""
    pictures = RenderOutput.concatenate([piece.picture for piece in pieces])
    return Layer(pieces[0].block_id, torch.cat([piece.weights for piece in pieces]), pictures)


def _coloured(city: City, kind: Kind, layers: list[Layer], composited: RenderOutput) -> Float[Tensor, "h w 3"]:
    if kind == "depth":
        return distance_colours(composited)
    if kind == "weights":
        return _block_tints(city, layers, composited)
    if kind == "seams":
        return _seams(layers, composited)
    return composited.rgb


def _visibility(city: City, layers: list[Layer], rays: RayBatch) -> Float[Tensor, " rays"]:
    """How well the blocks have seen what they show: the mean over blocks, weighted by their shares."""
    seen = torch.zeros(len(rays))
    for layer in layers:
        model = city.model(layer.block_id)
        seen += layer.weights * model.visibility_along(rays, layer.picture.distance_m)
    return seen


def _block_tints(city: City, layers: list[Layer], composited: RenderOutput) -> Float[Tensor, "h w 3"]:
    """The blocks' colours on the map, mixed by their shares, with the brightness of the picture."""
    ids = [block.id for block in city.manifest.blocks]
    colours = torch.from_numpy(block_colours(len(ids))).float()
    layer_colours = torch.stack([colours[ids.index(layer.block_id)] for layer in layers])
    tints = torch.einsum("bp,bc->pc", torch.stack([layer.weights for layer in layers]), layer_colours)
    brightness = composited.rgb.clamp(0, 1).mean(-1, keepdim=True)
    return tints.reshape(composited.rgb.shape) * (0.3 + brightness)


def _seams(layers: list[Layer], composited: RenderOutput) -> Float[Tensor, "h w 3"]:
    """The difference of the two blocks with the largest shares of a pixel, weighted by how visible both are."""
    if len(layers) == 1:
        return torch.zeros_like(composited.rgb)
    weights, which = torch.stack([layer.weights for layer in layers]).topk(2, dim=0)
    pixels = torch.arange(weights.shape[1])
    one, other = torch.stack([layer.picture.rgb for layer in layers])[which, pixels].clamp(0, 1)
    both = 2 * weights[1] / weights.sum(0)
    moved = (one + both[:, None] * (other - one)).reshape(composited.rgb.shape)
    return error_colours(
        moved, one.reshape(composited.rgb.shape), torch.ones_like(composited.opacity, dtype=torch.bool)
    )


def _rules(rules: Manifest, blending: Blending | None) -> Manifest:
    if blending is None:
        return rules
    if blending == "surface":
        return replace(rules, divide_by="surface")
    return replace(rules, divide_by="camera", blending=blending)
