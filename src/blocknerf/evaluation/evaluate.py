"""Every test image rendered from the city and from its nearest block alone, measured, and written down."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Bool, Float
from rich.progress import track
from torch import Tensor

from blocknerf.blocks.output import load_output, open_scene
from blocknerf.city.city import City, composite
from blocknerf.city.pictures import to_bytes, write_png
from blocknerf.core.errors import UserError
from blocknerf.core.files import write_json
from blocknerf.core.logging import console
from blocknerf.core.types import RayBatch, RenderOutput
from blocknerf.evaluation.colours import distance_colours, error_colours
from blocknerf.evaluation.metrics import psnr, ssim
from blocknerf.evaluation.report import write_report
from blocknerf.scene.scene import ImageRecord
from blocknerf.scene.splits import split_images
from blocknerf.scene.store import ImageStore

METRICS_VERSION = 1
PROTOCOL = {
    "appearance": "drive-mean",
    "appearance_meaning": "mean code of the training images of the test image's drive; no test pixel is looked at",
    "psnr": "mean of per-image PSNR in dB; clamped to [0, 1], not rounded to bytes, valid pixels only",
    "ssim": "11x11 Gaussian, sigma 1.5, k1 0.01, k2 0.03, data range 1, reflected border, mean over valid pixels",
    "poses": "as captured",
}


@runtime_checkable
class Photographs(Protocol):
    """What evaluation asks of the image store; everything by image id."""

    def rays(self, image_id: str) -> RayBatch: ...
    def size(self, image_id: str) -> tuple[int, int]: ...
    def rgb(self, image_id: str) -> np.ndarray: ...
    def valid(self, image_id: str) -> np.ndarray: ...


def evaluate(out: Path, data_root: Path | None = None) -> dict[str, Any]:
    """Evaluates the city in `out` on the test images of its scene (at `data_root`, when it has moved).

    Writes OUT/report/metrics.json, index.html and pictures; returns what metrics.json holds. Raises UserError when
    there is no trained block or no test image.
    """
    config, _ = load_output(out)
    city = City.open(out)
    scene = open_scene(out, config, data_root)
    store = ImageStore.open(scene, config.dataset.image_downsample, out / "store")
    _, test_images = split_images(scene, config.dataset.test_every)
    images = [image for image in test_images if image.id in store.records]
    if not images and scene.test_names is not None:
        raise UserError(
            f"There is no test image to evaluate on: the scene in {scene.root} has a test list of its own, and no "
            "image on it can be used. Add images to that list or mend them, and plan and train again."
        )
    return evaluate_city(
        city,
        store,
        images,
        out / "report",
        skipped=scene.skipped + store.skipped,
        details={"image_downsample": config.dataset.image_downsample},
        map_png=out / "map.png",
    )


def evaluate_city(
    city: City,
    photographs: Photographs,
    images: Sequence[ImageRecord],
    folder: Path,
    skipped: Sequence[tuple[str, str]] = (),
    details: dict[str, Any] | None = None,
    map_png: Path | None = None,
) -> dict[str, Any]:
    """`evaluate` with its parts in hand: renders and measures `images`, and writes the report into `folder`.

    `skipped` are (name, reason) of images left out before; `details` are added to the protocol.
    """
    if not images:
        raise UserError(
            "There is no test image to evaluate on. Keep some out of training: set dataset.test_every to 8 (0 keeps "
            "none), or give the scene a test list of its own, and plan and train again."
        )
    measured, left_out = [], list(skipped)
    for number, image in enumerate(track(images, "Evaluating", console=console, transient=True)):
        valid = torch.from_numpy(np.array(photographs.valid(image.id), dtype=bool))
        if not valid.any():
            left_out.append((image.name, "its mask leaves no pixel to measure"))
            continue
        stem = f"{number:04d}_{re.sub(r'[^A-Za-z0-9]+', '_', image.name)}"
        measured.append(_evaluate_image(city, photographs, image, valid, folder / "images", stem))
    if not measured:
        raise UserError("No test image has a pixel to measure: the masks hide all of them. Look at the mask files.")
    metrics = {
        "version": METRICS_VERSION,
        "composited": _mean(measured, "composited"),
        "nearest": _mean(measured, "nearest"),
        "blocks": _by_block(measured, city.ids),
        "images": measured,
        "skipped": [{"name": name, "reason": reason} for name, reason in left_out],
        "protocol": PROTOCOL | (details or {}),
    }
    write_json(folder / "metrics.json", metrics)
    _remove_old_pictures(folder / "images", measured)
    write_report(folder, metrics, map_png)
    return metrics


@dataclass(frozen=True, slots=True)
class _Views:
    """One test image, rendered; pictures are [H, W]."""

    composited: RenderOutput
    nearest: RenderOutput
    nearest_id: str
    weights: dict[str, float]


def _evaluate_image(
    city: City, photographs: Photographs, image: ImageRecord, valid: Bool[Tensor, "h w"], folder: Path, stem: str
) -> dict[str, Any]:
    truth = torch.from_numpy(np.array(photographs.rgb(image.id))).float() / 255
    views = _render(city, photographs, image)
    return {
        "name": image.name,
        "id": image.id,
        "drive": image.drive,
        "composited": _measure(views.composited.rgb, truth, valid),
        "nearest": _measure(views.nearest.rgb, truth, valid),
        "nearest_block": views.nearest_id,
        "blocks": list(views.weights),
        "weights": list(views.weights.values()),
        "valid_share": float(valid.double().mean()),
        "pictures": _write_pictures(views, truth, valid, folder, stem),
    }


def _render(city: City, photographs: Photographs, image: ImageRecord) -> _Views:
    """The nearest block is always one of the layers, so both pictures cost one rendering."""
    height, width = photographs.size(image.id)
    center = torch.from_numpy(np.array(image.world_from_cam[:, 3], dtype=np.float64))
    layers = city.layers(photographs.rays(image.id), center, drive=image.drive)
    nearest_id = city.nearest(center)
    nearest = next(layer.picture for layer in layers if layer.block_id == nearest_id)
    return _Views(
        composite(layers).reshape(height, width),
        nearest.reshape(height, width),
        nearest_id,
        {layer.block_id: layer.weight for layer in layers},
    )


def _measure(
    render: Float[Tensor, "h w 3"], truth: Float[Tensor, "h w 3"], valid: Bool[Tensor, "h w"]
) -> dict[str, float]:
    return {"psnr": psnr(render, truth, valid), "ssim": ssim(render, truth, valid)}


def _write_pictures(
    views: _Views, truth: Float[Tensor, "h w 3"], valid: Bool[Tensor, "h w"], folder: Path, stem: str
) -> dict[str, str]:
    """Writes the PNG files of one image; returns their names by kind."""
    pictures = {
        "truth": torch.where(valid[..., None], truth, 0.5 * truth),
        "composited": views.composited.rgb,
        "nearest": views.nearest.rgb,
        "error": error_colours(views.composited.rgb, truth, valid),
        "distance": distance_colours(views.composited),
    }
    names = {kind: f"{stem}_{kind}.png" for kind in pictures}
    for kind, picture in pictures.items():
        write_png(folder / names[kind], to_bytes(picture))
    return names


def _mean(measured: Sequence[dict[str, Any]], kind: str) -> dict[str, float]:
    return {name: sum(image[kind][name] for image in measured) / len(measured) for name in ("psnr", "ssim")}


def _by_block(measured: Sequence[dict[str, Any]], block_ids: Sequence[str]) -> dict[str, Any]:
    """Figures of the test images that are nearest to each block; blocks that are nearest to none have no figures."""
    blocks: dict[str, Any] = {}
    for block_id in block_ids:
        own = [image for image in measured if image["nearest_block"] == block_id]
        figures = {kind: _mean(own, kind) for kind in ("composited", "nearest")} if own else {}
        blocks[block_id] = {"images": len(own), **figures}
    return blocks


def _remove_old_pictures(folder: Path, measured: Sequence[dict[str, Any]]) -> None:
    wanted = {name for image in measured for name in image["pictures"].values()}
    for path in folder.glob("*.png"):
        if path.name not in wanted:
            path.unlink()
