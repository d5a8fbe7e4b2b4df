"""The speed of each triton kernel on a CUDA device, relative to its floor, and of a step of the default field.

The floor of a kernel is the time for its bytes at the rate of a copy, or for its operations at the rate of a matrix
product, both measured here; `share_of_floor` is 1 if it cannot be faster. A table row that is read or added to counts
as the 32 bytes that memory moves at least; tables that fit in the second-level cache may be faster.
"""

import statistics
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch

from blocknerf.core.config.load import load_config
from blocknerf.core.seeds import generator
from blocknerf.core.types import RayBatch
from blocknerf.kernels.hash_grid.ops import level_resolutions
from blocknerf.kernels.mlp.ops import PROGRAMS
from blocknerf.kernels.registry import kernels_for
from blocknerf.models.block_nerf import BlockNeRF
from blocknerf.runtime.devices import default_device
from blocknerf.scene.sampler import PixelBatch
from blocknerf.training.block.losses.block_nerf_loss import BlockNeRFLoss
from blocknerf.training.block.optimizer import BlockOptimizer

SAMPLES, COARSE, CHANNELS, INPUTS, WIDTH, OUTPUTS = 32, 64, 15, 32, 64, 16
SECTOR = 32  # bytes
GRIDS = {"16x2": (16, 2, 19), "8x4": (8, 4, 19)}
"""Levels, features and log2 of rows."""
COPIED = 2**28  # numbers


@dataclass(frozen=True, slots=True)
class Case:
    """A kernel that can be called again and again, the bytes that it moves at least, and its operations."""

    name: str
    run: Callable[[], None]
    bytes: int
    operations: int = 0


def speeds(device: torch.device, points: int, batch_size: int, repeats: int) -> Iterator[dict]:
    """A row for the ceilings of the device, one for each kernel, one for a training step of `batch_size` rays."""
    copied, multiplied = copy_rate(device, repeats), product_rate(device, repeats)
    yield {"kernel": "ceilings", "bytes_per_s": copied, "operations_per_s": multiplied}
    for case in cases(device, points):
        seconds = median_s(case.run, repeats)
        floor = max(case.bytes / copied, case.operations / multiplied)
        yield {
            "kernel": case.name,
            "seconds": seconds,
            "bytes": case.bytes,
            "operations": case.operations,
            "share_of_floor": round(floor / seconds, 3),
        }
    seconds = median_s(training_step(device, batch_size), repeats)
    yield {"kernel": "training step", "seconds": seconds, "rays_per_s": round(batch_size / seconds)}


def median_s(run: Callable[[], object], repeats: int) -> float:
    """After three calls, the first of which compiles."""
    for _ in range(3):
        run()
    spans = []
    for _ in range(repeats):
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        run()
        end.record()
        end.synchronize()
        spans.append(begin.elapsed_time(end) / 1000)
    return statistics.median(spans)


def copy_rate(device: torch.device, repeats: int) -> float:
    """Bytes read and written a second by a copy that no cache holds."""
    source = torch.ones(COPIED, device=device)
    target = torch.empty_like(source)
    return 2 * source.nbytes / median_s(lambda: target.copy_(source), repeats)


def product_rate(device: torch.device, repeats: int, side: int = 8192) -> float:
    """Operations a second of a large matrix product in tf32."""
    left = torch.ones(side, side, device=device)
    out = torch.empty_like(left)
    precision, torch.backends.cuda.matmul.allow_tf32 = torch.backends.cuda.matmul.allow_tf32, True
    seconds = median_s(lambda: torch.mm(left, left, out=out), repeats)
    torch.backends.cuda.matmul.allow_tf32 = precision  # a training step is measured as it is trained
    return 2 * side**3 / seconds


def cases(device: torch.device, points: int) -> Iterator[Case]:
    for name, (levels, features, log2_rows) in GRIDS.items():
        yield from encoding(device, points, name, levels, features, 2**log2_rows)
    yield from along_rays(device, points // SAMPLES)
    yield from network(device, points)


def encoding(device: torch.device, points: int, name: str, levels: int, features: int, rows: int) -> Iterator[Case]:
    """Of random points, which share nothing."""
    places, table = torch.rand(3, points, device=device), torch.rand(levels, rows, features, device=device)
    resolutions = level_resolutions(levels, 16, 2048).to(device)
    encoded = torch.rand(levels * features, points, device=device)
    gradient = torch.zeros_like(table)
    first, second, grad_points = torch.zeros_like(table), torch.zeros_like(table), torch.empty_like(places)
    kernels, adam = (kernels_for(operation, table) for operation in ("hash_grid", "sparse_adam"))
    gathered = 8 * levels * points * max(SECTOR, 4 * features)
    ends = places.nbytes + encoded.nbytes

    def update() -> None:
        gradient.fill_(1)  # every row, which is the most that it can be asked
        adam.step(table, gradient, first, second, 1e-2, 0.9, 0.99, 1e-15)

    yield Case(f"encode {name}", lambda: kernels.encode(places, table, resolutions, encoded), gathered + ends)
    yield Case(
        f"encode to table {name}",
        lambda: kernels.encode_backward_table(places, resolutions, encoded, gradient),
        2 * gathered + ends,
    )
    yield Case(
        f"encode to points {name}",
        lambda: kernels.encode_backward_points(places, table, resolutions, encoded, grad_points),
        gathered + ends + grad_points.nbytes,
    )
    yield Case(f"sparse adam {name}", update, 9 * table.nbytes)


def along_rays(device: torch.device, rays: int) -> Iterator[Case]:
    def random(*shape: int) -> torch.Tensor:
        return torch.rand(*shape, device=device)

    origins, ways = random(rays, 3), torch.nn.functional.normalize(random(rays, 3), dim=-1)
    coarse_s = torch.linspace(0, 1, COARSE + 1, device=device).repeat(rays, 1)
    edges, coarse = random(rays, SAMPLES + 1).cumsum(-1), random(rays, COARSE + 1).cumsum(-1)
    density, weights, grad = random(rays, SAMPLES), random(rays, SAMPLES), random(rays, SAMPLES)
    points, features, total = random(3, rays, SAMPLES), random(CHANNELS, rays, SAMPLES), random(rays, CHANNELS)
    grid, histogram, losses = random(129, 129, 129), random(rays, COARSE), random(rays)
    grad_grid = torch.zeros(grid.numel(), device=device)
    names = ("marching", "compositing", "histograms", "proposal")
    marching, compositing, histograms, proposal = (kernels_for(name, grid) for name in names)
    ends = torch.tensor([0.01, 100.0], device=device).repeat(rays, 1)
    bundle, looked_up = origins.nbytes + ways.nbytes, 4 * rays * COARSE * SECTOR
    of_ray = (origins, ways, edges)
    yield Case(
        "distances",
        lambda: marching.s_to_t(origins, ways, coarse_s, ends, 1e-3, coarse),
        bundle + ends.nbytes + coarse_s.nbytes + coarse.nbytes,
    )
    yield Case("points", lambda: marching.unit_cube_points(*of_ray, points), bundle + edges.nbytes + points.nbytes)
    yield Case(
        "points to rays",
        lambda: marching.unit_cube_points_backward(*of_ray, points, torch.empty_like(origins), torch.empty_like(ways)),
        2 * bundle + edges.nbytes + points.nbytes,
    )
    yield Case(
        "proposal",
        lambda: proposal.density(origins, ways, coarse, grid, histogram),
        bundle + coarse.nbytes + looked_up + histogram.nbytes,
    )
    yield Case(
        "proposal to grid",
        lambda: proposal.density_backward(origins, ways, coarse, histogram, histogram, 129, grad_grid),
        bundle + coarse.nbytes + 2 * looked_up + 2 * histogram.nbytes,
    )
    yield Case(
        "resample",
        lambda: histograms.resample(coarse_s, histogram, losses, 0.01, edges),
        coarse_s.nbytes + histogram.nbytes + losses.nbytes + edges.nbytes,
    )
    yield Case(
        "interlevel",
        lambda: histograms.interlevel(coarse_s, histogram, edges, weights, 1e-7, losses, torch.empty_like(histogram)),
        coarse_s.nbytes + 2 * histogram.nbytes + edges.nbytes + weights.nbytes + losses.nbytes,
    )
    yield Case(
        "distortion",
        lambda: histograms.distortion(edges, weights, losses, grad),
        edges.nbytes + 2 * weights.nbytes + losses.nbytes,
    )
    yield Case("weights", lambda: compositing.weights(density, edges, weights), 2 * density.nbytes + edges.nbytes)
    yield Case(
        "weights backward",
        lambda: compositing.weights_backward(density, edges, weights, grad, torch.empty_like(density)),
        4 * density.nbytes + edges.nbytes,
    )
    yield Case(
        "accumulate",
        lambda: compositing.accumulate(weights, features, total),
        weights.nbytes + features.nbytes + total.nbytes,
    )
    yield Case(
        "accumulate backward",
        lambda: compositing.accumulate_backward(weights, features, total, grad, torch.empty_like(features)),
        2 * weights.nbytes + 2 * features.nbytes + total.nbytes,
    )


def network(device: torch.device, points: int) -> Iterator[Case]:
    shapes = [(WIDTH, INPUTS), (WIDTH,), (OUTPUTS, WIDTH), (OUTPUTS,)]
    parameters = [torch.rand(shape, device=device) for shape in shapes]
    slabs = [torch.zeros(PROGRAMS, *shape, device=device) for shape in shapes]
    values, out = torch.rand(INPUTS, points, device=device), torch.rand(OUTPUTS, points, device=device)
    grad = torch.empty_like(values)
    kernels = kernels_for("mlp", values)
    products = 2 * points * WIDTH * (INPUTS + OUTPUTS)
    yield Case("network", lambda: kernels.forward(values, *parameters, out), values.nbytes + out.nbytes, products)
    yield Case(
        "network backward",
        lambda: kernels.backward(values, *parameters[:3], out[:1], out[1:], grad, *slabs),
        2 * values.nbytes + out.nbytes,
        2 * products + 2 * points * WIDTH * INPUTS,
    )


def training_step(device: torch.device, rays: int) -> Callable[[], None]:
    """A step of the default field on the same random rays: loss, backward and both optimisers."""
    config = load_config(None, [f"dataset.batch_size={rays}"])
    model = BlockNeRF(config, (0.0, 0.0, 0.0), 1.0, ("a",), ("0",), generator(0, "bench")).to(device)
    optimizer, loss = BlockOptimizer(model, config.training), BlockNeRFLoss(config.training)
    rates = dict.fromkeys(model.components(), 1e-3)
    directions = torch.nn.functional.normalize(torch.randn(rays, 3, device=device), dim=-1)
    slots = torch.zeros(rays, dtype=torch.int64, device=device)
    origins, radii = 0.3 * torch.randn(rays, 3, device=device), torch.full((rays,), 1e-3, device=device)
    bundle = RayBatch(origins, directions, slots, radii)
    truth, pixels = torch.rand(rays, 3, device=device), torch.zeros(rays, 2, device=device)
    batch = PixelBatch(bundle, truth, pixels, torch.ones_like(slots, dtype=torch.bool), None)
    rng = torch.Generator(device).manual_seed(0)

    def step() -> None:
        with default_device(device):
            total, _ = loss(model, batch, rng)
        total.backward()
        optimizer.step(rates)

    return step
