"""What a budget of time is spent on: size of the images, table, rays of a step, and time of a block.

The rule: numbers in, numbers out. `training/run/budget.py` measures the machine and asks it.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

FEWEST_PASSES = 0.5
"""Of a block's pixels at the chosen size: with fewer, half the size shows more. A field needs no whole pass, because
neighbouring pixels say nearly the same."""
SATURATING_PASSES = 16.0
"""A pixel that was drawn as often says nothing new."""
RAYS_PER_ROW = 300.0
"""Of a table. Fewer, and its finest cells are learned from chance; far more, and a larger table shows more detail."""
FEWEST_LOG2_ROWS, MOST_LOG2_ROWS = 14, 19
USUAL_BATCH, LARGEST_BATCH, SMALLEST_BATCH = 1024, 4096, 256
STEPS_OF_LARGE_BATCHES = 5_000
"""A batch is larger than usual, and so its rays are faster, as long as this many steps remain."""
STEPS_OF_SMALL_BATCHES = 500
"""A batch is smaller than usual if not even this many steps would remain."""
SMALLEST_SIDE_PX = 32
LARGEST_DOWNSAMPLE = 64
SAMPLES_OF_OBJECTS = 20
"""Of the field along a ray, if it may be chosen: rays that pass an object take none."""
RENDERING = 4.0
"""A ray of a picture takes this many times less than a ray of training."""
MOST_FOR_VALIDATION = 0.5
"""Share of a block's time that validation is foreseen to take at most."""

Images = tuple[tuple[int, int, int], ...]
"""The training images of a block: (number, height, width in pixels) of each camera."""


@dataclass(frozen=True, slots=True)
class Machine:
    """Rays of training per second and core, and how many cores train; or CUDA devices, each as a core."""

    rays_per_s_per_core: float
    cores: int
    kind: Literal["core", "device"] = "core"

    @property
    def rays_per_s(self) -> float:
        return self.rays_per_s_per_core * self.cores


@dataclass(frozen=True, slots=True)
class Todo:
    """What is left to be trained: for each wave (training/run/waves.py) the seconds that its blocks have behind them.

    `at_once` blocks share the machine. Each takes `overhead_s` beyond its training: to begin, and to be saved.
    """

    waves: tuple[tuple[float, ...], ...]
    at_once: int
    overhead_s: float

    def places(self, wave: Sequence[float]) -> int:
        """How many blocks of a wave share the machine."""
        return max(1, min(self.at_once, len(wave)))

    def seconds(self, machine_s: float) -> float:
        """Until the last block ends, if each is given `machine_s` of the whole machine, or its part for longer."""
        return sum(self._seconds_of_wave(wave, machine_s) for wave in self.waves)

    def _seconds_of_wave(self, wave: Sequence[float], machine_s: float) -> float:
        busy_s = [0.0] * self.places(wave)
        for behind_s in wave:
            idlest = busy_s.index(min(busy_s))
            busy_s[idlest] += max(0.0, machine_s * len(busy_s) - behind_s) + self.overhead_s
        return max(busy_s)


@dataclass(frozen=True, slots=True)
class Given:
    """What the rule must take as it is (None: it chooses), and what it needs to know of the configuration."""

    image_downsample: int | None = None
    batch_size: int | None = None
    log2_table_rows: int | None = None
    fewest_rays: int = 1
    """That a step can have."""
    by_surface: bool = False
    """Whether a block is a cell of ground, of which all its images show the same: half the table is enough for it."""
    num_samples_fine: int | None = None
    """Of the field along a ray. The rule has a choice for bounded blocks only."""
    validation_images: int = 0
    validation_epochs: float = 1.0
    """Test images that are rendered after every so many passes, and at the end."""


@dataclass(frozen=True, slots=True)
class Choice:
    """What was chosen. `machine_s` is a block's time if it had the whole machine: with N at a time, N times as long."""

    image_downsample: int
    batch_size: int
    log2_table_rows: int
    num_samples_fine: int
    machine_s: float
    rays: float
    """That a block draws."""
    passes: float
    """Over the pixels of the block that has most."""

    @property
    def steps(self) -> float:
        return self.rays / self.batch_size


def choose(machine: Machine, left_s: float, todo: Todo, blocks: Sequence[Images], given: Given) -> Choice:
    """Spends `left_s` on the blocks of `todo`, whose images are `blocks`.

    The largest images of which rays visit FEWEST_PASSES in every block; tables that grow with what is seen; larger
    steps when there are many. More time or more cores never make images or tables smaller. `machine_s` is 0 if nothing
    can be trained in `left_s`.
    """
    downsample = given.image_downsample or 1
    most = given.image_downsample or _coarsest(blocks)
    machine_s, passes = _visits(machine, left_s, todo, blocks, downsample, given)
    while passes < FEWEST_PASSES and downsample < most:
        downsample += 1
        machine_s, passes = _visits(machine, left_s, todo, blocks, downsample, given)
    rays = machine_s * machine.rays_per_s
    batch_size = given.batch_size or _batch_size(rays, given.fewest_rays)
    seen = rays * SATURATING_PASSES / max(passes, SATURATING_PASSES)
    log2_rows = given.log2_table_rows or _log2_rows(seen, given.by_surface)
    samples = given.num_samples_fine or SAMPLES_OF_OBJECTS
    return Choice(downsample, batch_size, log2_rows, samples, machine_s, rays, passes)


def _visits(
    machine: Machine, left_s: float, todo: Todo, blocks: Sequence[Images], downsample: int, given: Given
) -> tuple[float, float]:
    """Seconds of the whole machine for a block, and passes over the pixels of the block that has most."""
    machine_s = time_of_block(left_s, todo, machine, blocks, downsample, given)
    pixels = max(1, max(pixels_of(images, downsample) for images in blocks))
    return machine_s, machine_s * machine.rays_per_s / pixels


def time_of_block(
    left_s: float, todo: Todo, machine: Machine, blocks: Sequence[Images], downsample: int, given: Given
) -> float:
    """Seconds of the whole machine for each block with which all of `todo`, with validation, ends after `left_s`; 0 if
    there are none."""
    slower, share = _with_validation(todo, machine, blocks, downsample, given)
    low_s, high_s = 0.0, max(left_s, 0.0) + max((max(wave) for wave in slower.waves), default=0.0)
    if slower.seconds(low_s) > left_s:
        return 0.0
    for _ in range(60):
        middle_s = (low_s + high_s) / 2
        low_s, high_s = (middle_s, high_s) if slower.seconds(middle_s) <= left_s else (low_s, middle_s)
    return low_s / (1 + share)


def least_seconds(machine: Machine, todo: Todo, blocks: Sequence[Images], choice: Choice, given: Given) -> float:
    """Until every block of `todo` has taken one step more, with the images and the batch of `choice`."""
    slower, share = _with_validation(todo, machine, blocks, choice.image_downsample, given)
    fresh = replace(slower, waves=tuple(tuple(0.0 for _ in wave) for wave in todo.waves))
    return fresh.seconds((1 + share) * choice.batch_size / machine.rays_per_s)


def _with_validation(
    todo: Todo, machine: Machine, blocks: Sequence[Images], downsample: int, given: Given
) -> tuple[Todo, float]:
    """`todo` where each block also renders test images at its end, and the share of its training that such images take
    before."""
    cameras = [max(1, sum(number for number, _, _ in images)) for images in blocks]
    picture = max(pixels_of(images, downsample) / count for images, count in zip(blocks, cameras, strict=True))
    of_epoch = given.validation_images / min(cameras) / RENDERING / given.validation_epochs
    share = min(MOST_FOR_VALIDATION, of_epoch)
    rays_per_s = RENDERING * machine.rays_per_s / max(map(todo.places, todo.waves), default=1)
    waves = tuple(tuple((1 + share) * behind_s for behind_s in wave) for wave in todo.waves)
    overhead_s = todo.overhead_s + given.validation_images * picture / rays_per_s
    return replace(todo, waves=waves, overhead_s=overhead_s), share


def pixels_of(images: Images, downsample: int) -> int:
    return sum(number * (height // downsample) * (width // downsample) for number, height, width in images)


def _coarsest(blocks: Sequence[Images]) -> int:
    shortest_px = min(min(height, width) for images in blocks for _, height, width in images)
    return max(1, min(LARGEST_DOWNSAMPLE, shortest_px // SMALLEST_SIDE_PX))


def _batch_size(rays: float, fewest_rays: int) -> int:
    size = USUAL_BATCH
    while size < LARGEST_BATCH and rays / (2 * size) >= STEPS_OF_LARGE_BATCHES:
        size *= 2
    while size > SMALLEST_BATCH and rays / size < STEPS_OF_SMALL_BATCHES:
        size //= 2
    return max(size, fewest_rays)


def _log2_rows(seen: float, by_surface: bool) -> int:
    rows = round(math.log2(max(seen, 1.0) / RAYS_PER_ROW)) - by_surface
    return max(FEWEST_LOG2_ROWS, min(rows, MOST_LOG2_ROWS))
