"""The cost of one training step of the hash backbone, part by part, against the best possible on this machine.

python -m benchmarks.kernels.step [--rays 1024] [--samples 12] [--log2-rows 17] [--repeats 21]

First, the machine's ceilings on all cores: reading memory in order, reading lines of a table at random, multiplying
matrices. Then every part, with the bytes, lines and operations that it needs at least; their time at the ceilings is
its floor. Last, the encoding at the published size: 16 levels of 2 features, 2^19 rows, 2^17 random points.
"""

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from numba import njit, prange
from torch import Tensor

from benchmarks.report import report
from benchmarks.results import Cell, measured
from blocknerf.core.seeds import generator
from blocknerf.kernels.compositing.ops import accumulate, render_weights
from blocknerf.kernels.hash_grid.ops import FEATURES, hash_encode, level_resolutions
from blocknerf.kernels.hash_grid.reference import corner_rows
from blocknerf.kernels.histograms.ops import distortion_loss, interlevel_loss, resample
from blocknerf.kernels.marching.ops import s_to_t, unit_cube_points
from blocknerf.kernels.mlp.ops import fused_mlp
from blocknerf.kernels.proposal.ops import proposal_density
from blocknerf.kernels.row_gradient import nonzero_rows
from blocknerf.kernels.sparse_adam.ops import sparse_adam_step
from blocknerf.models.backbones.hash_grid.config import HashConfig
from blocknerf.runtime.cores import available_cores
from blocknerf.runtime.threads import use_threads

LINE_BYTES = 64
PUBLISHED_POINTS = 2**17


@dataclass(frozen=True)
class Ceilings:
    """Of all cores together."""

    memory_gb_per_s: float
    cache_gb_per_s: float
    lines_per_us: dict[int, float]
    """By the table's size in MB."""
    float32_gflops: float
    bfloat16_gflops: float

    def lines_at(self, table_bytes: int) -> float:
        """Lines per second at random from the smallest measured table that is as large."""
        sizes = sorted(self.lines_per_us)
        fits = next((mb for mb in sizes if mb * 2**20 >= table_bytes), sizes[-1])
        return self.lines_per_us[fits] * 1e6


@dataclass(frozen=True)
class Part:
    """`run` once, and what it needs at least: bytes in order from the cache, lines at random, float32 operations."""

    name: str
    run: Callable[[], object]
    cache_bytes: float = 0
    lines: float = 0
    table_bytes: int = 0
    operations: float = 0

    def floor_s(self, ceilings: Ceilings) -> float:
        return max(
            self.cache_bytes / (ceilings.cache_gb_per_s * 1e9),
            self.lines / ceilings.lines_at(self.table_bytes),
            self.operations / (ceilings.float32_gflops * 1e9),
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rays", type=int, default=1024)
    parser.add_argument("--samples", type=int, default=12)
    parser.add_argument("--log2-rows", type=int, default=17)
    parser.add_argument("--repeats", type=int, default=21)
    arguments = parser.parse_args()
    ceilings = measure_ceilings(arguments.repeats)
    use_threads(available_cores(), "numba")
    step = step_parts(arguments.rays, arguments.samples, arguments.log2_rows)
    published = encoding_parts(points=PUBLISHED_POINTS, levels=16, features=2, log2_rows=19)
    report("kernels/step", ceiling_cells(ceilings, arguments.repeats), "ceilings")
    times = {part.name: timed(part.run, arguments.repeats) for part in step}
    cells = {part.name: part_cells(part, times[part.name], ceilings) for part in step}
    all_ms = 1e3 * sum(median(seconds) for seconds in times.values())
    floor_ms = 1e3 * sum(part.floor_s(ceilings) for part in step)
    cells["all"] = {
        "time": measured(all_ms, "ms", ".1f", runs=arguments.repeats),
        "floor": measured(floor_ms, "ms", ".1f", runs=arguments.repeats),
        "of the floor": measured(floor_ms / all_ms, format=".0%", runs=arguments.repeats),
    }
    report("kernels/step", cells, "one step")
    report("kernels/step", published_cells(published, ceilings, arguments.repeats), "published encoding")


def ceiling_cells(ceilings: Ceilings, repeats: int) -> dict[str, dict[str, Cell]]:
    figures = {
        "memory, in order": measured(ceilings.memory_gb_per_s, "GB/s", ".0f"),
        "cache, in order": measured(ceilings.cache_gb_per_s, "GB/s", ".0f"),
        "matrix product in float32": measured(ceilings.float32_gflops, "GFLOP/s", ".0f"),
        "matrix product in bfloat16": measured(ceilings.bfloat16_gflops, "GFLOP/s", ".0f"),
    }
    for megabytes, lines in ceilings.lines_per_us.items():
        figures[f"lines at random in {megabytes} MB"] = measured(lines, "million/s", ",.0f")
    return {name: {"at best": replace(figure, runs=repeats)} for name, figure in figures.items()}


def part_cells(part: Part, seconds: list[float], ceilings: Ceilings) -> dict[str, Cell]:
    """Of sorted seconds, of which the spread leaves out a tenth at either end: the slowest are the machine's doing."""
    low, high = (1e3 * seconds[round(share * (len(seconds) - 1))] for share in (0.1, 0.9))
    time_ms = measured([1e3 * each for each in seconds], "ms")
    return {
        "time": replace(time_ms, low=low, high=high, spread="10 % to 90 %"),
        "floor": measured(1e3 * part.floor_s(ceilings), "ms", runs=len(seconds)),
        "of the floor": measured(part.floor_s(ceilings) / median(seconds), format=".0%", runs=len(seconds)),
    }


def published_cells(parts: list[Part], ceilings: Ceilings, repeats: int) -> dict[str, dict[str, Cell]]:
    asked = {"encoding": "10", "encoding, backward": "7"}
    cells: dict[str, dict[str, Cell]] = {}
    for part in parts:
        rates = [PUBLISHED_POINTS / 1e6 / seconds for seconds in timed(part.run, repeats)]
        at_best = PUBLISHED_POINTS / 1e6 / part.floor_s(ceilings)
        cells[part.name] = {
            "asked, million points/s": asked[part.name],
            "measured": measured(rates, "million points/s", ".1f"),
            "the floor would allow": measured(at_best, format=".0f", runs=repeats),
        }
    return cells


def median(ordered: list[float]) -> float:
    return ordered[len(ordered) // 2]


def timed(run: Callable[[], object], repeats: int) -> list[float]:
    """Seconds, sorted; the first two calls compile and warm."""
    for _ in range(2):
        run()
    seconds = []
    for _ in range(repeats):
        begin = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - begin)
    return sorted(seconds)


# --- ceilings -------------------------------------------------------------------------------------------------------


@njit(parallel=True, fastmath=True, cache=True)
def _read(values, out):
    for part in prange(values.shape[0]):
        total = np.float32(0)
        for i in range(values.shape[1]):
            total += values[part, i]
        out[part] = total


@njit(parallel=True, fastmath=True, cache=True)
def _read_lines(table, lines, out):
    for part in prange(lines.shape[0]):
        total = np.float32(0)
        for i in range(lines.shape[1]):
            total += table[lines[part, i], 0]
        out[part] = total


def measure_ceilings(repeats: int) -> Ceilings:
    cores = available_cores()
    use_threads(cores, "numba")
    rng = np.random.default_rng(0)
    out = np.empty(cores, np.float32)

    def read_gb_per_s(megabytes: int) -> float:
        values = np.ones((cores, megabytes * 2**18 // cores), np.float32)
        return values.nbytes / timed(lambda: _read(values, out), repeats)[repeats // 2] / 1e9

    def lines_per_us(megabytes: int) -> float:
        table = np.ones((megabytes * 2**20 // LINE_BYTES, LINE_BYTES // 4), np.float32)
        lines = rng.integers(0, len(table), (cores, 2**17)).astype(np.uint32)
        return lines.size / timed(lambda: _read_lines(table, lines, out), repeats)[repeats // 2] / 1e6

    def gflops(dtype: torch.dtype) -> float:
        one = torch.randn(1024, 1024, generator=generator(0, "kernels")).to(dtype)
        return 2 * 1024**3 / timed(lambda: one @ one, repeats)[repeats // 2] / 1e9

    gathers = {megabytes: lines_per_us(megabytes) for megabytes in (1, 2, 4, 8, 16, 64)}
    memory, cache = read_gb_per_s(256), read_gb_per_s(8)
    use_threads(cores, "torch")
    return Ceilings(memory, cache, gathers, gflops(torch.float32), gflops(torch.bfloat16))


# --- the parts of a step --------------------------------------------------------------------------------------------


def backward_of(rng: torch.Generator, *outputs: Tensor) -> Callable[[], object]:
    """Rows of tables get theirs in a tensor of their own, and values lie as the kernels leave them, as in training."""
    cotangents = [torch.empty_like(output).normal_(generator=rng) for output in outputs]
    return lambda: torch.autograd.backward(outputs, cotangents, retain_graph=True)


def lines_of(points: Tensor, resolutions: Tensor, rows: int, features: int) -> int:
    """Different cache lines that a point asks for, summed over points and levels."""
    total = 0
    for resolution in resolutions.tolist():
        low = (points * resolution).floor().clamp(max=resolution - 1).long()
        corners = torch.stack([torch.tensor([c & 1, c >> 1 & 1, c >> 2 & 1]) for c in range(8)])
        found = torch.stack([corner_rows(low + corner, resolution, rows) for corner in corners], -1)
        lines = (found * features * 4 // LINE_BYTES).sort(-1).values
        total += lines.shape[0] + int((lines.diff(dim=-1) != 0).sum())
    return total


def encoding_parts(points: int, levels: int, features: int, log2_rows: int) -> list[Part]:
    return _encoding(torch.rand(3, points, generator=generator(0, "points")).t(), levels, features, log2_rows)


def _encoding(points: Tensor, levels: int, features: int, log2_rows: int) -> list[Part]:
    rng, rows = generator(0, "kernels"), 2**log2_rows
    table = torch.rand(levels, rows, features, generator=rng).requires_grad_()
    resolutions = level_resolutions(levels, 16, 2048)
    gradient = torch.zeros_like(table)
    lines, level_bytes = lines_of(points, resolutions, rows, features), rows * features * 4
    moved = len(points) * levels * features * 4
    encoded = hash_encode(points, table, resolutions, gradient)
    return [
        Part("encoding", lambda: hash_encode(points, table, resolutions), moved, lines, level_bytes),
        Part("encoding, backward", backward_of(rng, encoded), moved, 2 * lines, level_bytes),
    ]


def step_parts(rays: int, samples: int, log2_rows: int) -> list[Part]:
    """At the sizes of the default field, on rays from around a block into it."""
    field, rng = HashConfig(), generator(0, "kernels")
    bins, levels, side = field.num_samples_coarse, field.hash_grid.num_levels, field.proposal_resolution + 1
    origins = torch.rand(rays, 3, generator=rng) * 2 - 1
    directions = torch.nn.functional.normalize(torch.randn(rays, 3, generator=rng), dim=-1)
    grid = torch.randn(side, side, side, generator=rng).requires_grad_()
    edges_s = torch.linspace(0, 1, bins + 1).expand(rays, -1).contiguous()
    ends = torch.tensor([0.01, 100.0]).repeat(rays, 1)
    edges = s_to_t(origins, directions, edges_s, ends)
    coarse = proposal_density(origins, directions, edges, grid, torch.zeros(1, grid.numel(), 1))
    coarse_weights = render_weights(coarse, edges)
    fine_s = resample(edges_s, coarse_weights, samples, None)
    fine = s_to_t(origins, directions, fine_s, ends)
    points = unit_cube_points(origins, directions, fine).reshape(-1, 3)
    count, width, outputs, inputs = len(points), field.hidden_dim, 16, levels * FEATURES
    encoded = torch.randn(inputs, count, generator=rng).t().requires_grad_()
    layers = [torch.randn(*shape, generator=rng).requires_grad_() for shape in ((width, inputs), (width,))]
    layers += [torch.randn(*shape, generator=rng).requires_grad_() for shape in ((outputs, width), (outputs,))]
    raw = fused_mlp(encoded, *layers)
    density = torch.rand(rays, samples, generator=rng).requires_grad_()
    weights = render_weights(density, fine)
    features = torch.randn(outputs - 1, rays, samples, generator=rng).permute(1, 2, 0).requires_grad_()
    shaded = accumulate(weights, features)
    proposal_lines = 4.5 * rays * bins
    products = 2 * count * (inputs * width + width * outputs)
    per_bin, per_sample = 4 * rays * bins, 4 * rays * samples
    encoding, encoding_backward = _encoding(points, levels, FEATURES, log2_rows)

    def losses() -> None:
        interlevel_loss(edges_s, coarse_weights, fine_s, weights.detach())
        distortion_loss(fine_s, weights)

    return [
        Part("places", lambda: s_to_t(origins, directions, edges_s, ends), 2 * per_bin),
        Part(
            "proposal",
            lambda: proposal_density(origins, directions, edges, grid),
            2 * per_bin,
            proposal_lines,
            grid.numel() * 4,
        ),
        Part("proposal, weights", lambda: render_weights(coarse.detach(), edges), 3 * per_bin),
        Part("resampling", lambda: resample(edges_s, coarse_weights, samples, None), 2 * per_bin),
        Part("points", lambda: unit_cube_points(origins, directions, fine), 4 * per_sample),
        encoding,
        Part("network", lambda: fused_mlp(encoded, *layers), 4 * count * (inputs + outputs), operations=products),
        Part("compositing", lambda: accumulate(render_weights(density, fine), features), 20 * per_sample),
        Part("interlevel and distortion", losses, 4 * per_bin),
        Part("compositing, backward", backward_of(rng, shaded), 40 * per_sample),
        Part(
            "network, backward",
            backward_of(rng, *raw),
            8 * count * (inputs + outputs),
            operations=products * 2 + 2 * count * inputs * width,
        ),
        encoding_backward,
        Part(
            "proposal and its weights, backward",
            backward_of(rng, coarse_weights),
            6 * per_bin,
            2 * proposal_lines,
            grid.numel() * 4,
        ),
        adam_part(points, levels, log2_rows),
    ]


def adam_part(points: Tensor, levels: int, log2_rows: int) -> Part:
    """On the rows that `points` touch; giving them their gradient again is counted in."""
    table = torch.zeros(levels, 2**log2_rows, FEATURES)
    gradient, first, second = (torch.zeros_like(table) for _ in range(3))
    encoded = hash_encode(points, table.requires_grad_(), level_resolutions(levels, 16, 2048), gradient)
    encoded.sum().backward()
    arrived = gradient.clone()

    def run() -> None:
        gradient.copy_(arrived)
        sparse_adam_step(table, gradient, first, second, step=1, learning_rate=1e-2)

    touched = int(nonzero_rows(arrived).sum())
    return Part("Adam of the table", run, 8 * touched * FEATURES * 4)


if __name__ == "__main__":
    main()
