"""Depth of a city along a camera path as files: EXR for compositing programs, NPY for everything else."""

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float32

from blocknerf.city.city import City, composite
from blocknerf.core.extras import Extra
from blocknerf.core.files import write_array, write_by_library
from blocknerf.core.names import owned
from blocknerf.core.types import Appearance
from blocknerf.export.paths import View, view_rays
from blocknerf.export.surfaces import LEAST_OPACITY

exr = Extra("OpenEXR", "export", "EXR")
Kind = Literal["depth_z_m", "distance_m"]
Format = Literal["exr", "npy"]


def depth_maps(
    city: City, views: Sequence[View], kind: Kind
) -> Iterator[tuple[Float32[np.ndarray, "h w"], Float32[np.ndarray, "h w"]]]:
    """Depth in metres and opacity of each view in turn, blended from its blocks.

    `depth_z_m` runs along the optical axis, `distance_m` along the pixel's ray; 0 where rays hit nothing.
    """
    for view in views:
        rays = view_rays(view)
        center = torch.from_numpy(np.array(view.world_from_cam[:, 3], dtype=np.float64))
        picture = composite(city.layers(rays, center, Appearance(drive=view.drive)))
        depth = picture.distance_m
        if kind == "depth_z_m":
            depth = depth * (rays.directions @ torch.from_numpy(view.world_from_cam[:, 2].astype(np.float32)))
        known, shape = torch.where(picture.opacity >= LEAST_OPACITY, depth, 0.0), (view.height, view.width)
        yield known.float().reshape(shape).numpy(), picture.opacity.float().reshape(shape).numpy()


def depth_paths(folder: Path, names: Sequence[str], kind: Kind, form: Format) -> list[Path]:
    """The file of each picture; what the numbers are stands in its name.

    It takes the place of the picture's ending, where no other picture has the same name up to that. Raises UserError
    where a link leads out of `folder`.
    """
    stems = [os.path.splitext(name)[0] for name in names]
    count = Counter(stem.casefold() for stem in stems)
    kept = (stem if count[stem.casefold()] == 1 else name for stem, name in zip(stems, names, strict=True))
    return [owned(folder, f"{stem}.{kind}.{form}") for stem in kept]


def check_format(form: Format) -> None:
    """Raises UserError when what writes it is missing."""
    if form == "exr":
        exr.require()


def write_depth(
    path: Path, depth: Float32[np.ndarray, "h w"], opacity: Float32[np.ndarray, "h w"], kind: Kind, form: Format
) -> None:
    """NPY: depth alone, float32. EXR: 32-bit channels Z (EXR's name for depth along the axis) or distance_m, and A."""
    if form == "npy":
        write_array(path, depth)
        return
    channels = {"Z" if kind == "depth_z_m" else kind: np.ascontiguousarray(depth), "A": np.ascontiguousarray(opacity)}
    header = {
        "compression": exr.ZIP_COMPRESSION,
        "type": exr.scanlineimage,
        "comments": f"{kind} in metres, 0 where nothing is hit",
    }

    def write(temporary: Path) -> None:
        with exr.File(header, channels) as file:
            file.write(str(temporary))

    write_by_library(path, write)
