"""Compares each operation that has a triton kernel with its torch reference: values and gradients.

Two tensors agree if no number differs by more than `allowed` times the largest of the reference. Numbers of rays and
points are not multiples of a kernel's tiles, so that the last tile is never full.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor
from torch.nn.functional import linear, normalize, pad

from blocknerf.kernels.compositing.ops import accumulate, render_weights
from blocknerf.kernels.hash_grid.ops import hash_encode
from blocknerf.kernels.histograms.ops import distortion_loss, interlevel_loss, resample
from blocknerf.kernels.marching.ops import s_to_t, unit_cube_points
from blocknerf.kernels.mlp.ops import fused_mlp
from blocknerf.kernels.proposal.ops import proposal_density
from blocknerf.kernels.registry import Backend, use_backend
from blocknerf.kernels.sparse_adam.ops import sparse_adam_step

RESOLUTIONS, ROWS = (3, 8, 40), 1024  # the first two levels fit into the rows, the last is hashed
FACES = ((0.0, 0.5, 1.0), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0), (-0.3, 0.4, 1.7), (0.5, -2.0, 0.25))
"""Points on the border of the unit cube and outside."""
KINK = 1e-4
"""Points with a hidden unit nearer to zero are left out: rounding may switch it on or off."""


@dataclass(frozen=True, slots=True)
class Check:
    """An operation of `blocknerf.kernels.<module>`, and the tensors by which its values are differentiated."""

    module: str
    name: str
    operation: Callable[[], Tensor | Sequence[Tensor]]
    learned: Sequence[Tensor]
    allowed: float

    def results(self, backend: Backend) -> tuple[Sequence[Tensor], Sequence[Tensor]]:
        """Values, and gradients of their sum with random weights."""
        with use_backend(backend):
            values = self.operation()
            values = [values] if isinstance(values, Tensor) else values
            if not self.learned:
                return values, ()
            weights = [random(*value.shape, seed=9 + place).to(value) for place, value in enumerate(values)]
            return values, torch.autograd.grad(values, self.learned, weights)


def checked(check: Check, backend: Backend) -> dict:
    """The row of one check: the largest relative error of its values, and of its gradients."""
    value, gradient = (
        max(map(relative_error, expected, found), default=0.0)
        for expected, found in zip(check.results("torch"), check.results(backend), strict=True)
    )
    return {
        "kernel": f"{check.module}: {check.name}",
        "value_error": value,
        "gradient_error": gradient if check.learned else None,
        "allowed": check.allowed,
        "ok": max(value, gradient) <= check.allowed,
    }


def relative_error(expected: Tensor, found: Tensor) -> float:
    """The largest difference, as a share of the largest expected number; infinite if it cannot be computed."""
    if (expected.shape, expected.dtype) != (found.shape, found.dtype):
        return math.inf
    if expected.numel() == 0:
        return 0.0
    error, largest = (float(values.detach().abs().max()) for values in (expected - found, expected))
    if error == 0:
        return 0.0
    return error / largest if math.isfinite(error) and largest > 0 else math.inf


def random(*shape: int, seed: int = 0) -> Tensor:
    """Normal numbers, the same on every device."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def random_rays(rays: int, samples: int = 12) -> tuple[Tensor, Tensor, Tensor]:
    """Origins, directions, and edges of intervals that are half a block radius long on average."""
    edges = torch.rand(rays, samples + 1, generator=torch.Generator().manual_seed(2)).cumsum(-1)
    return random(rays, 3), normalize(random(rays, 3, seed=1), dim=-1), edges


def random_histograms(rays: int, bins: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Edges from 0 to 1, and weights whose sum is about a half."""
    rng = torch.Generator().manual_seed(seed)
    edges = pad(pad(torch.rand(rays, bins - 1, generator=rng).sort(-1).values, (1, 0)), (0, 1), value=1.0)
    return edges, torch.rand(rays, bins, generator=rng) / bins


def random_points(count: int) -> Tensor:
    """Inside the unit cube, on its border and outside."""
    inside = torch.rand(count, 3, generator=torch.Generator().manual_seed(1))
    return torch.cat([torch.tensor(FACES), inside])


def checks(device: torch.device, rays: int) -> Iterator[Check]:
    """All of them, on inputs for about so many rays."""
    yield from encoding(device, 12 * rays)
    yield from places(device, rays)
    yield from proposal(device, rays)
    yield from compositing(device, rays)
    yield from histograms(device, rays)
    yield from networks(device, rays)
    yield from adam(device)


def encoding(device: torch.device, count: int) -> Iterator[Check]:
    points = random_points(count).to(device).requires_grad_()
    resolutions = torch.tensor(RESOLUTIONS, device=device)
    for features in (2, 4):
        table = random(len(RESOLUTIONS), ROWS, features).to(device).requires_grad_()
        encode = partial(hash_encode, points, table, resolutions)
        yield Check("hash_grid", f"encode, {features} features", encode, (points, table), 2e-5)


def places(device: torch.device, rays: int) -> Iterator[Check]:
    origins, directions, edges = (tensor.to(device) for tensor in random_rays(rays))
    edges_s = torch.linspace(0, 1, 33, device=device).expand(rays, -1)

    ends = torch.tensor([0.02, 50.0], device=device).expand(rays, 2)

    def log_distances(scale: float) -> Tensor:
        """Whose errors are those of a part in a thousand, and 1e-4 near the camera."""
        return (s_to_t(scale * origins, directions, edges_s, ends) + 0.1).log()

    for scale in (0.0, 0.3, 1.0, 4.0):
        along = partial(log_distances, scale)
        yield Check("marching", f"distances, origins at {scale:g}", along, (), 1e-3 / math.log(50.1))
    learned = (0.1 * origins).requires_grad_(), directions.requires_grad_()
    for far in (0.05, 1.0, 100.0):  # inside the cube, across its border, far outside
        middles = partial(unit_cube_points, *learned, far * edges)
        yield Check("marching", f"points, intervals of {far:g}", middles, learned, 1e-4)


def proposal(device: torch.device, rays: int) -> Iterator[Check]:
    origins, directions, edges = (tensor.to(device) for tensor in random_rays(rays))
    grid = (3 * random(9, 9, 9)).to(device).requires_grad_()
    log_density = lambda: proposal_density(origins, directions, edges, grid).log1p()  # noqa: E731
    yield Check("proposal", "density", log_density, (grid,), 1e-4)


def compositing(device: torch.device, rays: int) -> Iterator[Check]:
    for samples in (1, 17, 64):
        edges = random_rays(rays, samples)[2].to(device)
        density = (2 * random(rays, samples).abs()).to(device).requires_grad_()
        yield Check("compositing", f"weights of {samples}", partial(render_weights, density, edges), (density,), 1e-5)
        weights = random(rays, samples, seed=1).abs().to(device).requires_grad_()
        for channels in (1, 5):
            values = random(rays, samples, channels, seed=3).to(device).requires_grad_()
            total, learned = partial(accumulate, weights, values), (weights, values)
            yield Check("compositing", f"sum of {samples} x {channels}", total, learned, 1e-5)


def histograms(device: torch.device, rays: int) -> Iterator[Check]:
    jitter = torch.rand(rays, generator=torch.Generator().manual_seed(1)).to(device)
    for bins, count in ((1, 1), (16, 24), (33, 7)):
        edges, weights = (tensor.to(device) for tensor in random_histograms(rays, bins))
        resampled = partial(resample, edges, weights, count, jitter)
        yield Check("histograms", f"resample {bins} to {count}", resampled, (), 2e-5)
    for bins, count in ((5, 11), (16, 40), (64, 3)):
        edges, weights = (tensor.to(device) for tensor in random_histograms(rays, bins))
        fine_edges, fine_weights = (tensor.to(device) for tensor in random_histograms(rays, count, seed=1))
        bound = partial(interlevel_loss, edges, weights.requires_grad_(), fine_edges, fine_weights)
        yield Check("histograms", f"interlevel loss, {bins} and {count}", bound, (weights,), 1e-4)
        spread = partial(distortion_loss, fine_edges, fine_weights.requires_grad_())
        yield Check("histograms", f"distortion loss, {count}", spread, (fine_weights,), 1e-4)


def networks(device: torch.device, rays: int) -> Iterator[Check]:
    for points, inputs, width, outputs in (
        *((0, 4, 8, 3), (1, 4, 8, 3), (3 * rays, 32, 64, 16)),
        *((40 * rays, 20, 37, 5), (28 * rays, 33, 130, 17)),
    ):
        shapes = [(points, inputs), (width, inputs), (width,), (outputs, width), (outputs,)]
        values, *parameters = (random(*shape, seed=seed) for seed, shape in enumerate(shapes))
        hidden = linear(values, *parameters[:2])
        smooth = values[(hidden.abs() > KINK).all(-1)]
        learned = [tensor.to(device).requires_grad_() for tensor in (smooth, *parameters)]
        name = f"{points} points, {inputs} to {width} to {outputs}"
        yield Check("mlp", name, partial(fused_mlp, *learned), learned, 2e-6)


def adam(device: torch.device) -> Iterator[Check]:
    """Of few rows; 343 rows of one number are a proposal grid."""
    for shape in ((2, 512, 4), (1, 343, 1)):
        yield Check("sparse_adam", f"{shape[1]} rows of {shape[2]}", partial(three_steps, device, shape), (), 1e-6)


def three_steps(device: torch.device, shape: tuple[int, int, int]) -> Sequence[Tensor]:
    """A table and its two moments, after steps on four of its rows."""
    table, first, second = (tensor.to(device) for tensor in (random(*shape), *torch.zeros(2, *shape)))
    rows = [0, 3, 200, shape[1] - 1]
    for number in (1, 2, 3):
        gradient = torch.zeros(shape)
        gradient[-1, rows] = random(*shape, seed=number)[-1, rows]
        sparse_adam_step(table, gradient.to(device), first, second, number, 0.1)
    return table, first, second
