"""Fits to colours after training, with all weights frozen: a code, or a camera pose with its code."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Float, Float64, Int
from torch import Tensor

from blocknerf.core.types import RayBatch
from blocknerf.geometry import so3
from blocknerf.models.poses import moved_rays
from blocknerf.models.renderer import BlockRenderer

CODE_RATE = 0.05
POSE_RATE = 3e-3  # radians, and shares of the viewing distance
ROUNDING = 1e-6  # gradients below this come from rounding; Adam would give them full steps
RAYS_PER_STEP = 256
AREAS_PER_STEP = 12
STAY_WEIGHT = 1e-4
"""Weight of a code's squared change, against squared differences of colours in [0, 1]."""


def fit_code(
    model: BlockRenderer,
    rays: RayBatch,
    truth: Float[Tensor, "rays 3"],
    start: Float[Tensor, " code"],
    rng: torch.Generator,
    steps: int,
) -> Float[Tensor, " code"]:
    """The code under which `rays` look most like `truth` in the mean square; the model does not change.

    Adam from `start`, for exactly `steps` steps of up to RAYS_PER_STEP rays drawn with `rng`, at a rate that falls to
    zero along a cosine. Only the appearance entries, which come first, change; an exposure after them stays. Without
    appearance entries or rays, the code is returned unchanged.
    """
    movable = model.appearance_width
    if movable == 0 or len(rays) == 0:
        return start
    drawn = torch.stack([_draw_rows(len(rays), rng) for _ in range(steps)])
    needed, places = torch.unique(drawn, return_inverse=True)
    colours, truth = model.colours_by_code(rays[needed]), truth[needed]
    appearance = start[:movable].detach().clone().requires_grad_()
    for step, _ in enumerate(_descent(model, [{"params": [appearance], "lr": CODE_RATE}], steps)):
        rgb = colours(torch.cat([appearance, start[movable:]]), places[step])
        (rgb - truth[places[step]]).square().mean().backward()
    return torch.cat([appearance.detach(), start[movable:]])


def fit_code_to_areas(
    model: BlockRenderer,
    areas: Sequence[RayBatch],
    truth: Float[Tensor, "areas 3"],
    start: Float[Tensor, " code"],
    rng: torch.Generator,
    steps: int,
) -> Float[Tensor, " code"]:
    """As `fit_code`, but areas are compared by their mean colours `truth`, and a code near `start` is preferred.

    For a truth that is not aligned to the pixel: comparing single pixels would then favour a picture without contrast;
    comparing areas does not.
    """
    movable = model.appearance_width
    if movable == 0 or not areas:
        return start
    colours, sizes = model.colours_by_code(RayBatch.concatenate(areas)), [len(area) for area in areas]
    rows = torch.arange(sum(sizes)).split(sizes)
    appearance = start[:movable].detach().clone().requires_grad_()
    for _ in _descent(model, [{"params": [appearance], "lr": CODE_RATE}], steps):
        picked = torch.randint(len(areas), (AREAS_PER_STEP,), generator=rng).tolist()
        rgb = colours(torch.cat([appearance, start[movable:]]), torch.cat([rows[i] for i in picked]))
        means = torch.stack([area_rgb.mean(0) for area_rgb in rgb.split([sizes[i] for i in picked])])
        gone = (appearance - start[:movable]).square().sum()
        ((means - truth[picked]).square().mean() + STAY_WEIGHT * gone).backward()
    return torch.cat([appearance.detach(), start[movable:]])


def fit_pose(
    model: BlockRenderer,
    rays: RayBatch,
    truth: Float[Tensor, "rays 3"],
    start: Float[Tensor, " code"] | None,
    rng: torch.Generator,
    steps: int,
) -> Float64[Tensor, "3 4"]:
    """refined_from_given: the rigid motion of one camera after which its `rays` look most like `truth`.

    As `fit_code`, whose code is fitted along and discarded. A motion is a turn about the camera's centre and a shift in
    shares of the median distance of what `model` shows, so that both move a picture alike.
    """
    if len(rays) == 0:
        return torch.eye(4, dtype=torch.float64)[:3]
    center = rays.origins.double().mean(0)
    depth_m = model.render(rays, start).distance_m.median()
    turn, shift = (torch.zeros(3, dtype=torch.float64, requires_grad=True) for _ in range(2))

    def motion() -> Float64[Tensor, "3 4"]:
        rotation = so3.exp(turn)
        return torch.cat([rotation, (center + depth_m * shift - rotation @ center)[:, None]], -1)

    movable = 0 if start is None else model.appearance_width
    appearance = torch.zeros(0) if start is None else start[:movable].detach().clone()
    groups = [{"params": [turn, shift], "lr": POSE_RATE}, {"params": [appearance.requires_grad_()], "lr": CODE_RATE}]
    for _ in _descent(model, groups, steps):
        batch, colours = draw(rays, truth, rng)
        code = None if start is None else torch.cat([appearance, start[movable:]])
        rgb = model.colours(moved_rays(batch, motion()), code)
        (rgb - colours).square().mean().backward()
    return motion().detach()


def _descent(model: BlockRenderer, groups: list[dict[str, Any]], steps: int) -> Iterator[None]:
    """Takes a step of Adam each time the caller has computed gradients and asks for the next iteration; `model` is
    frozen."""
    optimizer = torch.optim.Adam(groups, eps=ROUNDING)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    with frozen(model):
        for _ in range(steps):
            optimizer.zero_grad()
            yield
            optimizer.step()
            schedule.step()


def draw(
    rays: RayBatch, truth: Float[Tensor, "rays 3"], rng: torch.Generator
) -> tuple[RayBatch, Float[Tensor, "batch 3"]]:
    """Rays of `_draw_rows`, and their colours; few are not copied."""
    if len(rays) <= RAYS_PER_STEP:
        return rays, truth
    rows = _draw_rows(len(rays), rng)
    return rays[rows], truth[rows]


def _draw_rows(count: int, rng: torch.Generator) -> Int[Tensor, " batch"]:
    """All rows in order if they are few, else RAYS_PER_STEP of them with replacement."""
    if count <= RAYS_PER_STEP:
        return torch.arange(count)
    return torch.randint(count, (RAYS_PER_STEP,), generator=rng)


@contextmanager
def frozen(model: BlockRenderer) -> Iterator[None]:
    """No parameter of `model` takes a gradient inside; afterwards all are as they were."""
    learning = [parameter for parameter in model.parameters() if parameter.requires_grad]
    for parameter in learning:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in learning:
            parameter.requires_grad_(True)
