"""Finds things that move with a semantic segmentation network of transformers, SegFormer (Xie et al. 2021).

The network expects pictures about as high as those of its training, Cityscapes' 1024 pixels. A photograph is scaled to
that and cut into overlapping tiles.
"""

import difflib
import logging
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Float32, UInt8
from PIL import Image
from safetensors import SafetensorError
from torch import Tensor
from torch.nn import functional

from blocknerf.core.errors import UserError
from blocknerf.core.extras import Extra

transformers = Extra("transformers", "masks", "Making masks")
CITYSCAPES_MODEL = "nvidia/segformer-b0-finetuned-cityscapes-1024-1024"
_TILE, _OVERLAP = 1024, 128
_STEP = 32  # a tile's corner and size are multiples of the network's coarsest stride
_STRIDE = 4  # of the network's answer
_MAX_ENLARGEMENT = 4
_MEAN, _SPREAD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet, which every SegFormer is given

_LOAD_ERRORS = (OSError, ValueError, RuntimeError, TypeError, KeyError, SafetensorError)

Predict = Callable[[Float[Tensor, "3 h w"]], Float[Tensor, "h/4 w/4"]]


class SegFormer:
    """Callable: from a photograph to the probability that each pixel shows one of `classes`."""

    def __init__(self, model: str, classes: tuple[str, ...]) -> None:
        """`model` is a local folder or a name on the hub; `classes` are labels of that network.

        Raises UserError if transformers is not installed, the network cannot be loaded, or it lacks a class.
        """
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self._network = _load(model).to(self._device).eval()
        self._rows = _rows(self._network.config.id2label, classes, model)

    @torch.inference_mode()
    def __call__(self, rgb: UInt8[np.ndarray, "h w 3"]) -> Float32[np.ndarray, "h w"]:
        height, width = rgb.shape[:2]
        scaled = Image.fromarray(rgb).resize(working_size(width, height), Image.Resampling.BICUBIC)
        picture = torch.from_numpy(np.array(scaled)).permute(2, 0, 1).float() / 255
        picture = (picture - torch.tensor(_MEAN)[:, None, None]) / torch.tensor(_SPREAD)[:, None, None]
        found = in_tiles(picture, self._predict)
        return functional.interpolate(found[None, None], (height, width), mode="bilinear")[0, 0].numpy()

    def _predict(self, tile: Float[Tensor, "3 h w"]) -> Float[Tensor, "h/4 w/4"]:
        logits = self._network(pixel_values=tile[None].to(self._device)).logits
        return logits[0].float().softmax(0)[self._rows].sum(0).cpu()


def working_size(width: int, height: int) -> tuple[int, int]:
    """(width, height) at which the network sees a picture: the shorter side is a tile, but enlarged at most 4 times."""
    scale = min(_TILE / min(width, height), _MAX_ENLARGEMENT)
    return _whole_steps(width * scale), _whole_steps(height * scale)


def in_tiles(picture: Float[Tensor, "3 h w"], predict: Predict) -> Float[Tensor, "h/4 w/4"]:
    """`predict` of overlapping tiles, joined; in an overlap each is weighted by the distance to its border."""
    height, width = picture.shape[1:]
    total, weights = torch.zeros(2, height // _STRIDE, width // _STRIDE)
    for top in _corners(height):
        for left in _corners(width):
            tile = picture[:, top : top + _TILE, left : left + _TILE]
            rows, columns = tile.shape[1] // _STRIDE, tile.shape[2] // _STRIDE
            place = (
                slice(top // _STRIDE, top // _STRIDE + rows),
                slice(left // _STRIDE, left // _STRIDE + columns),
            )
            weight = torch.outer(_tent(rows), _tent(columns))
            total[place] += weight * predict(tile)
            weights[place] += weight
    return total / weights


def _corners(length: int) -> list[int]:
    """Where tiles begin along a side: as few as possible with an overlap of at least _OVERLAP, evenly spaced."""
    if length <= _TILE:
        return [0]
    count = -(-(length - _OVERLAP) // (_TILE - _OVERLAP - _STEP))  # rounding to steps may take one step of overlap
    return [_STEP * round(place / _STEP) for place in np.linspace(0, length - _TILE, count)]


def _tent(length: int) -> Float[Tensor, " length"]:
    places = torch.arange(1, length + 1, dtype=torch.float32)
    return torch.minimum(places, length + 1 - places)


def _whole_steps(length: float | int) -> int:
    return max(1, round(length / _STEP)) * _STEP


def _load(model: str) -> Any:
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)  # its retries; what comes of them is said below
    try:
        network, report = transformers.SegformerForSemanticSegmentation.from_pretrained(model, output_loading_info=True)
    except _LOAD_ERRORS as error:
        first_line = next(iter(str(error).splitlines()), type(error).__name__)
        raise UserError(
            f"The segmentation network {model} cannot be loaded ({first_line}). Give --model a folder that holds a "
            "SegFormer's config.json and model.safetensors, or a name on the Hugging Face hub when it can be reached."
        ) from error
    if report["missing_keys"]:
        raise UserError(
            f"{model} lacks weights of a segmentation network, as {sorted(report['missing_keys'])[0]}. Give --model a "
            f"SegFormer that has learned to segment, as {CITYSCAPES_MODEL}."
        )
    return network


def _rows(label_of_row: dict[int, str], classes: tuple[str, ...], model: str) -> list[int]:
    row_of = {label.lower(): int(row) for row, label in label_of_row.items()}
    for name in classes:
        if name.lower() not in row_of:
            near = difflib.get_close_matches(name.lower(), row_of, 1)
            hint = f"Did you mean {near[0]!r}? " if near else ""
            raise UserError(f"{model} knows no class {name!r}. {hint}Its classes are {', '.join(row_of)}.")
    return [row_of[name.lower()] for name in classes]
