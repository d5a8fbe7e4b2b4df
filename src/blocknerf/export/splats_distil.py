"""Splats learn to look like a city: gradient descent through the rasteriser, more splats where errors are largest."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from blocknerf.export.distillation_views import TeacherView, pixel_m
from blocknerf.export.splat_init import SurfaceSamples, discs, first_splats
from blocknerf.export.splats import Splats
from blocknerf.kernels.sparse_adam.ops import sparse_adam_step
from blocknerf.rendering.splatting import Gaussians, in_sight, show_splats

_RATES = {"means": 0.03, "log_scales": 0.02, "quaternions": 0.02, "opacity_logits": 0.05, "flat": 0.02, "rest": 0.004}
"""What one step of Adam moves at most; places in units of their splat's first size."""
_LAST_RATE = 0.1  # of the first, where the rates have fallen to at the end
_FIRST_SHARE = 0.6  # share of the splats that exist from the start
_GROWTH = 0.7  # share of the steps after which no splat is added
_FAINT = 0.02  # opacity below which a splat is removed
_ADDED_OPACITY = 0.3
_ADDED_PIXELS = 0.7


@dataclass(frozen=True, slots=True)
class Distillation:
    """Maximum number of splats, their degree, the number of steps (one picture each) and of growth rounds."""

    splats: int = 150_000
    steps: int = 2000
    degree: int = 2
    rounds: int = 8


def distil(
    views: Sequence[TeacherView],
    plan: Distillation,
    near_m: float,
    generator: torch.Generator,
    report: Callable[[int, float], None] = lambda step, error: None,
) -> Gaussians:
    """Splats that show each view's picture from where it was taken; `report` hears each step and its squared error.

    Splats nearer to a camera than `near_m` are not shown to it.
    """
    begun = first_splats(views, max(1, round(_FIRST_SHARE * plan.splats)), plan.degree, generator)
    learner = _Learner(begun, plan.degree)
    grow_until, errors = round(_GROWTH * plan.steps), _Errors(plan, generator)
    order = _order(len(views), plan.steps, generator)
    for step, row in enumerate(order.tolist()):
        view = views[row]
        difference = learner.step(view, near_m, _LAST_RATE ** (step / plan.steps))
        report(step, float(difference.square().mean()))
        if step < grow_until:
            errors.note(view, difference)
            if (step + 1) % max(1, grow_until // plan.rounds) == 0:
                learner.keep(torch.sigmoid(learner.splats().opacity_logits) > _FAINT)
                learner.add(errors.new_splats(plan.splats - len(learner)))
    splats = learner.splats()
    return splats[(torch.sigmoid(splats.opacity_logits) > _FAINT).nonzero()[:, 0]]


class _Learner:
    """A table with a row for each splat, in units of its rates, so that one Adam moves all columns at their own.

    Only splats in the picture of a step are touched (`sparse_adam_step`).
    """

    def __init__(self, splats: Gaussians, degree: int):
        self.degree = degree
        widths = (3, 3, 4, 1, 3, 3 * (splats.harmonics.shape[1] - 1))
        self.rates = torch.cat([torch.full((w,), rate) for w, rate in zip(widths, _RATES.values(), strict=True)])
        self.base, self.sizes, self.table = self._rows(splats)
        self.moments = torch.zeros_like(self.table), torch.zeros_like(self.table)
        self.gradient = torch.zeros_like(self.table)[None]
        self.count = 0

    def __len__(self) -> int:
        return len(self.base)

    def splats(self) -> Gaussians:
        return self._splats(self.table, torch.arange(len(self)))

    def step(self, view: TeacherView, near_m: float, rate: float) -> Float[Tensor, "h w 3"]:
        """Trains on one picture; returns its squared error."""
        self.count += 1
        means = self.base + self.sizes[:, None] * (self.table[:, :3] * self.rates[:3])
        log_scales = self.table[:, 3:6] * self.rates[3:6]
        rows = in_sight(means, log_scales.amax(-1).exp(), view.lens, view.world_from_cam, near_m)
        leaf = self.table[rows].requires_grad_()
        picture = show_splats(self._splats(leaf, rows), view.lens, view.world_from_cam)
        difference = picture[:3].permute(1, 2, 0) - view.rgb.float() / 255
        difference.square().mean().backward()
        if leaf.grad is not None:
            self.gradient[0, rows] = leaf.grad
            first, second = self.moments
            sparse_adam_step(self.table[None], self.gradient, first[None], second[None], self.count, rate)
        return difference.detach()

    def keep(self, wanted: Tensor) -> None:
        rows = wanted.nonzero()[:, 0]
        self.base, self.sizes, self.table = self.base[rows], self.sizes[rows], self.table[rows]
        self.moments = self.moments[0][rows], self.moments[1][rows]
        self.gradient = torch.zeros_like(self.table)[None]

    def add(self, splats: Gaussians) -> None:
        base, sizes, table = self._rows(splats)
        self.base, self.sizes = torch.cat([self.base, base]), torch.cat([self.sizes, sizes])
        self.table = torch.cat([self.table, table])
        self.moments = torch.cat([self.moments[0], 0 * table]), torch.cat([self.moments[1], 0 * table])
        self.gradient = torch.zeros_like(self.table)[None]

    def _rows(self, splats: Gaussians) -> tuple[Tensor, Tensor, Tensor]:
        parts = [
            torch.zeros_like(splats.means),
            splats.log_scales,
            splats.quaternions,
            splats.opacity_logits[:, None],
            splats.harmonics.flatten(1),
        ]
        return splats.means, splats.log_scales.amax(-1).exp(), torch.cat(parts, 1) / self.rates

    def _splats(self, table: Float[Tensor, "n columns"], rows: Int[Tensor, " n"]) -> Gaussians:
        shift, log_scales, quaternions, logits, harmonics = (table * self.rates).split(
            [3, 3, 4, 1, self.rates.numel() - 11], 1
        )
        means = self.base[rows] + self.sizes[rows, None] * shift
        return Gaussians(means, log_scales, quaternions, logits[:, 0], harmonics.unflatten(1, (-1, 3)))


class _Errors:
    """Pixels at which splats erred, drawn by squared error: there new ones are laid."""

    def __init__(self, plan: Distillation, generator: torch.Generator):
        self.plan, self.generator = plan, generator
        steps = max(1, round(_GROWTH * plan.steps) // plan.rounds)
        self.draws = math.ceil((1 - _FIRST_SHARE) * plan.splats / plan.rounds / steps * 1.5)
        self.noted: list[SurfaceSamples] = []

    def note(self, view: TeacherView, difference: Float[Tensor, "h w 3"]) -> None:
        chances = difference.square().sum(-1).reshape(-1) + 1e-12
        drawn = torch.multinomial(chances, min(self.draws, len(chances)), generator=self.generator)
        directions, distances = view.directions.reshape(-1, 3)[drawn], view.distance_m.reshape(-1)[drawn]
        points = view.world_from_cam[:, 3] + distances[:, None] * directions
        rgb = view.rgb.reshape(-1, 3)[drawn].float() / 255
        self.noted.append(SurfaceSamples(points, -directions, rgb, pixel_m(view).reshape(-1)[drawn]))

    def new_splats(self, most: int) -> Gaussians:
        """At most this many, and not more than a round's share; clears the record."""
        samples = SurfaceSamples(*(torch.cat([getattr(p, n) for p in self.noted]) for n in SurfaceSamples.__slots__))
        self.noted = []
        share = math.ceil((1 - _FIRST_SHARE) * self.plan.splats / self.plan.rounds * 1.5)
        rows = torch.randperm(len(samples.points), generator=self.generator)[: max(0, min(most, share))]
        samples = samples[rows]
        return discs(samples, _ADDED_PIXELS * samples.pixel_m, self.plan.degree, _ADDED_OPACITY, flatness=0.5)


def _order(count: int, steps: int, generator: torch.Generator) -> Int[Tensor, " steps"]:
    """Rows of views: every one once before any comes again."""
    rounds = [torch.randperm(count, generator=generator) for _ in range(math.ceil(steps / count))]
    return torch.cat(rounds)[:steps]


def to_splats(gaussians: Gaussians) -> Splats:
    """For files: arrays of the same numbers."""
    return Splats(*(getattr(gaussians, name).detach().numpy() for name in Splats.__slots__))


def to_gaussians(splats: Splats) -> Gaussians:
    """From files."""
    return Gaussians(*(torch.from_numpy(getattr(splats, name)) for name in Gaussians.__slots__))
