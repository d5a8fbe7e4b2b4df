"""Writes a batch whose loss was not finite, for inspection."""

import json
from collections.abc import Mapping
from pathlib import Path

import safetensors.torch
from torch import Tensor

from blocknerf.core.files import write_bytes
from blocknerf.scene.sampler import PixelBatch


def is_finite(batch: PixelBatch) -> bool:
    """Whether all pixels and poses are finite. If so, a loss that is not finite has another cause."""
    read = [batch.rays.origins, batch.rays.directions, batch.rgb]
    read += [] if batch.distance_m is None else [batch.distance_m]
    return all(bool(tensor.isfinite().all()) for tensor in read)


def write_broken_batch(path: Path, batch: PixelBatch, image_ids: tuple[str, ...], terms: Mapping[str, Tensor]) -> None:
    """Writes rays and pixels as tensors, with `terms` and `image_ids` (by slot) as JSON in the safetensors header.

    Raises UserError if it cannot be written.
    """
    tensors = {name: getattr(batch.rays, name) for name in ("origins", "directions", "image_slots", "radii")}
    tensors |= {"rgb": batch.rgb, "pixels_xy": batch.pixels_xy, "valid": batch.valid}
    if batch.distance_m is not None:
        tensors["distance_m"] = batch.distance_m
    if batch.sights is not None:
        tensors |= {"point_distance_m": batch.sights.distance_m, "point_deviation_m": batch.sights.deviation_m}
    metadata = {
        "image_ids": json.dumps(image_ids),
        "terms": json.dumps({name: str(float(term)) for name, term in terms.items()}),
        "patches": json.dumps([batch.num_patches, batch.patch_size, batch.patch_size]),
    }
    contiguous = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    write_bytes(path, safetensors.torch.save(contiguous, metadata))
