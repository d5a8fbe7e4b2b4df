"""Does anything pop? Pairs of neighbouring cameras in random cities whose blocks see more or less of a picture.

A city has 1 to 5 blocks at random places in a square of 100 m, random rules, and pixels that each block knows more or
less well. The share of a picture that a block sees is a random constant from 0 to 1, or waves of 5 to 50 m. The cameras
of a pair are a micrometre to a metre apart. For every second pair, the blocks of the picture change between them, if
there is such a place within 20 m; it is narrowed down to two neighbouring doubles. Measured: the largest change of a
share per metre, of pictures and of pixels, and the largest jump between neighbouring doubles.

python -m benchmarks.quality.continuity [--pairs 100000] [--seed 0]
"""

import argparse
from math import nextafter

import torch

from benchmarks.report import report
from benchmarks.results import Cell, measured
from blocknerf.city.selection import block_weights, visibility_weights, visible_block_weights

EDGE_M = 100.0
PIXELS = 16
LONG_M = 20.0
PAIRS_OF_A_CITY = 50
LEAST_SIGHT = 0.02
"""Of a pixel, in a block that knows nothing of it: see `BlockRenderer.view_confidence`."""


class RandomCity:
    """Blocks that are formulas, under random rules."""

    def __init__(self, rng: torch.Generator):
        def draw(*shape: int) -> torch.Tensor:
            return torch.rand(shape, generator=rng, dtype=torch.float64)

        count = 1 + int(5 * draw())
        self.anchors = EDGE_M * draw(count, 3) * torch.tensor([1.0, 1.0, 0.05])
        self.reach_m = EDGE_M * (0.2 + float(draw()))
        self.most = 1 + int(4 * draw())
        self.power = (1.0, 2.0, 4.0)[int(3 * draw())]
        self.threshold = 0.05 + 0.5 * float(draw())
        self.seen = draw(count) * (draw(count) > 0.2)
        self.swing = draw(count) * (draw(count) > 0.5)
        self.waves = 2 * torch.pi / (5 + 45 * draw(count)), 2 * torch.pi * draw(count)
        self.sights = LEAST_SIGHT + draw(count, PIXELS) ** 4

    def shares(self, camera: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Of the blocks in the picture, and in every pixel of it."""
        weights = block_weights(camera, self.anchors, self.reach_m, self.most, self.power)
        per_m, phase = self.waves
        visibilities = (self.seen + self.swing * torch.sin(camera.sum() * per_m + phase)).clamp(0, 1)
        taking_part = weights > 0
        weights[taking_part] = visible_block_weights(weights[taking_part], visibilities[taking_part], self.threshold)
        return weights, visibility_weights(self.sights, weights)

    def members(self, camera: torch.Tensor) -> tuple[int, ...]:
        return tuple(self.shares(camera)[0].nonzero().ravel().tolist())

    def change(self, first: torch.Tensor, second: torch.Tensor) -> tuple[float, float]:
        pairs = zip(self.shares(first), self.shares(second), strict=True)
        picture, pixels = (float((a - b).abs().max()) for a, b in pairs)
        return picture, pixels


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--pairs", type=int, default=100_000)
    options.add_argument("--seed", type=int, default=0)
    arguments = options.parse_args()
    rng = torch.Generator().manual_seed(arguments.seed)
    per_m, jump, entrances = (0.0, 0.0), (0.0, 0.0), 0
    for number in range(arguments.pairs):
        if number % PAIRS_OF_A_CITY == 0:
            city = RandomCity(rng)
        apart_m = 10 ** (-6 * float(torch.rand((), generator=rng)))
        begin, direction = way(rng)
        if number % 2 == 1 and city.members(begin) != city.members(begin + LONG_M * direction):
            low_m, high_m = border(city, begin, direction)
            jump = larger(jump, city.change(begin + low_m * direction, begin + high_m * direction))
            entrances += 1
            begin = begin + (low_m - 0.5 * apart_m) * direction
        changes = city.change(begin, begin + apart_m * direction)
        per_m = larger(per_m, (changes[0] / apart_m, changes[1] / apart_m))
    cells: dict[str, dict[str, Cell]] = {
        name: {
            "largest change per metre": measured(per_m[place], format=".3g"),
            "largest jump between neighbouring doubles": measured(jump[place], format=".1e"),
        }
        for place, name in enumerate(("share of a block in a picture", "in a pixel"))
    }
    counts = {"pairs": arguments.pairs, "places_where_blocks_change": entrances, "seed": arguments.seed}
    report("quality/continuity", cells, details=dict.fromkeys(cells, counts))


def way(rng: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """A place, and a direction of unit length."""
    begin = EDGE_M * torch.rand(3, generator=rng, dtype=torch.float64) * torch.tensor([1.0, 1.0, 0.05])
    return begin, torch.nn.functional.normalize(torch.randn(3, generator=rng, dtype=torch.float64), dim=0)


def border(city: RandomCity, begin: torch.Tensor, direction: torch.Tensor) -> tuple[float, float]:
    """Two neighbouring doubles, metres on the way, between which the blocks of the picture change."""
    low_m, high_m = 0.0, LONG_M
    first = city.members(begin)
    while nextafter(low_m, high_m) < high_m:
        middle_m = 0.5 * (low_m + high_m)
        if city.members(begin + middle_m * direction) == first:
            low_m = middle_m
        else:
            high_m = middle_m
    return low_m, high_m


def larger(first: tuple[float, float], second: tuple[float, float]) -> tuple[float, float]:
    return max(first[0], second[0]), max(first[1], second[1])


if __name__ == "__main__":
    main()
