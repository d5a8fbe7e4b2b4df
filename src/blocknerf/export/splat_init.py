"""Initial splats: discs on the surfaces that the city shows, as fine as its pictures and their number allow."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from blocknerf.export.distillation_views import TeacherView, pixel_m
from blocknerf.geometry.harmonics import BAND_0, num_harmonics
from blocknerf.geometry.so3 import to_quaternion
from blocknerf.rendering.splatting import Gaussians, distorted

_SAMPLES_PER_SPLAT = 8
_LEAST_OPACITY = 0.2
_TORN = 0.1  # a pixel whose distance differs by this share from the middle of its neighbours' lies between surfaces
_SPREAD = 0.6  # standard deviation of a disc, in distances between splats
_FLATNESS = 0.15
_FIRST_OPACITY = 0.7
_PRIMES = torch.tensor([73856093, 19349663, 83492791])
_ROUNDS = 12
_WITNESSES = 64
_WIDEST = 4.0  # tangent of the angle off the axis beyond which no lens is asked
_CLEARLY = 0.02  # of a distance
_OFTEN = 0.15


@dataclass(frozen=True, slots=True)
class SurfaceSamples:
    """Places on surfaces, which way these face, their colour, and how wide a pixel was there."""

    points: Float[Tensor, "n 3"]
    normals: Float[Tensor, "n 3"]
    rgb: Float[Tensor, "n 3"]
    pixel_m: Float[Tensor, " n"]

    def __getitem__(self, rows: Tensor) -> "SurfaceSamples":
        return SurfaceSamples(*(getattr(self, name)[rows] for name in SurfaceSamples.__slots__))


def surface_samples(view: TeacherView) -> SurfaceSamples:
    """Every pixel that shows a surface, except those at its torn edges, which would be in the air."""
    points = view.world_from_cam[:, 3] + view.distance_m[..., None] * view.directions
    along, across = _slopes(_smooth(points))
    normals = torch.nn.functional.normalize(torch.linalg.cross(across, along), dim=-1)
    facing = (normals * view.directions).sum(-1, keepdim=True)
    normals = torch.where(facing.abs() > 0.1, -facing.sign() * normals, -view.directions)
    padded = torch.nn.functional.pad(view.distance_m[None], (1, 1, 1, 1), mode="replicate")[0]
    middle = padded.unfold(0, 3, 1).unfold(1, 3, 1).flatten(2).median(-1).values
    whole = (view.distance_m - middle).abs() < _TORN * middle
    kept = whole & (view.opacity > _LEAST_OPACITY)
    return SurfaceSamples(points[kept], normals[kept], view.rgb[kept].float() / 255, pixel_m(view)[kept])


def first_splats(views: Sequence[TeacherView], most: int, degree: int, generator: torch.Generator) -> Gaussians:
    """At most `most` discs, as evenly spread over the pictures as possible: near surfaces get finer ones than far."""
    share = min(1.0, _SAMPLES_PER_SPLAT * most / sum(view.opacity.numel() for view in views))
    parts = []
    for view in views:
        found = surface_samples(view)
        parts.append(found[torch.rand(len(found.points), generator=generator) < share])
    samples = SurfaceSamples(*(torch.cat([getattr(p, name) for p in parts]) for name in SurfaceSamples.__slots__))
    samples = samples[~_in_the_air(samples.points, views)]
    rows, apart_m = thinned(samples.points, samples.pixel_m, most)
    return discs(samples[rows], _SPREAD * apart_m[rows], degree, _FIRST_OPACITY)


def _in_the_air(points: Float[Tensor, "n 3"], views: Sequence[TeacherView]) -> Bool[Tensor, " n"]:
    """Places through which pictures that look there often see: distances differ a little from picture to picture, and
    the nearest would hide all others."""
    through, observed = torch.zeros(len(points)), torch.zeros(len(points))
    chosen = torch.linspace(0, len(views) - 1, min(len(views), _WITNESSES)).round().long()
    for view in (views[row] for row in chosen.tolist()):
        x, y, z = ((points - view.world_from_cam[:, 3]) @ view.world_from_cam[:, :3]).unbind(-1)
        rows = (z > 0).nonzero()[:, 0]
        ratios = torch.stack([x[rows], y[rows]], -1) / z[rows, None]
        rows, ratios = rows[inside := (ratios.abs() < _WIDEST).all(-1)], ratios[inside]
        column, line = distorted(ratios, view.lens).floor().long().unbind(-1)
        is_inside = (column >= 0) & (column < view.lens.width) & (line >= 0) & (line < view.lens.height)
        rows, surface_m = rows[is_inside], view.distance_m[line[is_inside], column[is_inside]]
        away_m = (points[rows] - view.world_from_cam[:, 3]).norm(dim=-1)
        observed[rows] += (away_m < (1 + _CLEARLY) * surface_m).float()
        through[rows] += (away_m < (1 - _CLEARLY) * surface_m).float()
    return through > _OFTEN * observed


def thinned(
    points: Float[Tensor, "n 3"], wanted_m: Float[Tensor, " n"], most: int
) -> tuple[Int[Tensor, " kept"], Float[Tensor, " n"]]:
    """At most `most` rows, one in each cell of grids that are about as fine as m times `wanted_m`, finest first.

    m is as small as it may be, but not below 1. Returns the rows, and the widths of all rows' cells.
    """
    low, high = 0.0, 8.0  # log2 of m
    if len(kept := _one_a_cell(points, wanted_m)[0]) <= most:
        return kept, _one_a_cell(points, wanted_m)[1]
    for _ in range(_ROUNDS):
        middle = 0.5 * (low + high)
        fits = len(_one_a_cell(points, wanted_m * 2**middle)[0]) <= most
        low, high = (low, middle) if fits else (middle, high)
    return _one_a_cell(points, wanted_m * 2**high)


def _one_a_cell(
    points: Float[Tensor, "n 3"], wanted_m: Float[Tensor, " n"]
) -> tuple[Int[Tensor, " kept"], Float[Tensor, " n"]]:
    """Grids' widths are powers of two; a cell that holds a finer one which is taken stays empty."""
    level = torch.round(torch.log2(wanted_m.clamp(min=1e-9))).long()
    kept, taken = [], torch.zeros(0, 3, dtype=torch.int64)
    for one in range(int(level.min()), int(level.max()) + 1):
        rows = (level == one).nonzero()[:, 0]
        cells = torch.floor(points[rows].double() / 2.0**one).long()
        free = ~torch.isin(_key(cells), _key(taken))
        rows, cells = rows[free], cells[free]
        first = _first_of_each(_key(cells))
        kept.append(rows[first])
        taken = torch.unique(torch.cat([taken, cells[first]]) >> 1, dim=0)
    return torch.cat(kept), 2.0 ** level.to(points)


def _key(cells: Int[Tensor, "n 3"]) -> Int[Tensor, " n"]:
    return (cells * _PRIMES).sum(-1)


def _first_of_each(keys: Int[Tensor, " n"]) -> Int[Tensor, " different"]:
    order = keys.argsort(stable=True)
    ordered = keys[order]
    begins: Bool[Tensor, " n"] = torch.ones(len(keys), dtype=torch.bool)
    begins[1:] = ordered[1:] != ordered[:-1]
    return order[begins]


def discs(
    samples: SurfaceSamples, sizes_m: Float[Tensor, " n"], degree: int, opacity: float, flatness: float = _FLATNESS
) -> Gaussians:
    """Flat splats on surfaces, of one colour all around."""
    count = len(samples.points)
    harmonics = torch.zeros(count, num_harmonics(degree), 3)
    harmonics[:, 0] = (samples.rgb - 0.5) / BAND_0
    log_scales = sizes_m.log()[:, None] + torch.tensor([0.0, 0.0, math.log(flatness)])
    logits = torch.full((count,), math.log(opacity / (1 - opacity)))
    return Gaussians(samples.points, log_scales, _facing(samples.normals), logits, harmonics)


def _facing(normals: Float[Tensor, "n 3"]) -> Float[Tensor, "n 4"]:
    """Quaternions that turn the z axis to the normals."""
    helper = torch.nn.functional.one_hot(normals.abs().argmin(-1), 3).to(normals)
    x = torch.nn.functional.normalize(torch.linalg.cross(helper, normals), dim=-1)
    return to_quaternion(torch.stack([x, torch.linalg.cross(normals, x), normals], -1))


def _smooth(points: Float[Tensor, "h w 3"]) -> Float[Tensor, "h w 3"]:
    """Means over 5 x 5 pixels: distances of single pixels are too noisy for the orientation of a surface."""
    planes = torch.nn.functional.pad(points.permute(2, 0, 1), (2, 2, 2, 2), mode="replicate")
    return torch.nn.functional.avg_pool2d(planes[None], 5, stride=1)[0].permute(1, 2, 0)


def _slopes(points: Float[Tensor, "h w 3"]) -> tuple[Float[Tensor, "h w 3"], Float[Tensor, "h w 3"]]:
    """Differences between neighbours, down and across."""
    padded = torch.nn.functional.pad(points.permute(2, 0, 1), (1, 1, 1, 1), mode="replicate").permute(1, 2, 0)
    return padded[2:, 1:-1] - padded[:-2, 1:-1], padded[1:-1, 2:] - padded[1:-1, :-2]
