"""What is fitted to colours when training is over, every weight frozen: the appearance code of a block."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from jaxtyping import Float
from torch import Tensor, nn

from blocknerf.core.types import RayBatch
from blocknerf.models.block_nerf import BlockNeRF

CODE_RATE = 0.05
RAYS_PER_STEP = 256


def fit_code(
    model: BlockNeRF,
    rays: RayBatch,
    truth: Float[Tensor, "rays 3"],
    start: Float[Tensor, " code"],
    rng: torch.Generator,
    steps: int,
) -> Float[Tensor, " code"]:
    """The code under which `rays` look most like `truth` in the mean square; nothing of the model moves.

    Adam from `start`, for exactly `steps` steps of up to RAYS_PER_STEP rays drawn with `rng`, at a rate that falls to
    zero along a cosine. Only the appearance entries move, which come first; an exposure behind them stays. Without
    appearance entries or rays the code comes back as it was.
    """
    movable = appearance_width(model)
    if movable == 0 or len(rays) == 0:
        return start
    appearance = start[:movable].detach().clone().requires_grad_()
    optimizer = torch.optim.Adam([appearance], lr=CODE_RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    with frozen(model):
        for _ in range(steps):
            batch, colours = draw(rays, truth, rng)
            code = torch.cat([appearance, start[movable:]])
            rgb, _ = model.composite(batch, code.expand(len(batch), -1), None)
            optimizer.zero_grad()
            (rgb - colours).square().mean().backward()
            optimizer.step()
            schedule.step()
    return torch.cat([appearance.detach(), start[movable:]])


def appearance_width(model: BlockNeRF) -> int:
    """How many entries of the model's codes are appearance; 0 where it has none."""
    return 0 if model.appearance is None else model.appearance.dim


def draw(
    rays: RayBatch, truth: Float[Tensor, "rays 3"], rng: torch.Generator
) -> tuple[RayBatch, Float[Tensor, "batch 3"]]:
    """All rays in their order where they are few, else RAYS_PER_STEP of them with replacement."""
    if len(rays) <= RAYS_PER_STEP:
        return rays, truth
    rows = torch.randint(len(rays), (RAYS_PER_STEP,), generator=rng)
    return rays[rows], truth[rows]


@contextmanager
def frozen(model: nn.Module) -> Iterator[None]:
    """No parameter of `model` takes a gradient inside; afterwards all are as they were."""
    learning = [parameter for parameter in model.parameters() if parameter.requires_grad]
    for parameter in learning:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in learning:
            parameter.requires_grad_(True)
