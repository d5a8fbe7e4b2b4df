"""Sampling from a block that is larger than memory: a changing part of its pixels is in memory.

All pixels of a block, image after image, are cut into pieces of about a megabyte. A window of them is in memory. Every
pass shuffles the pieces. A stage draws pixels from all resident pieces in random order; then the oldest piece is
replaced by the next one, which a thread has read meanwhile. So a batch mixes hundreds of pieces from all over the
block, and disks read only large spans.

While it is resident, a piece gives one in PASSES_PER_EPOCH of its pixels, evenly over its stay, and other pixels the
next time. After PASSES_PER_EPOCH rounds every pixel has been drawn exactly once, as without a window. More passes cost
reading but bring a run through all images sooner: a ray costs PASSES_PER_EPOCH x 3 bytes, 20 MB/s at 26,000 rays/s, and
the window is replaced after (its pixels / PASSES_PER_EPOCH) rays. What is drawn depends only on the seed, the stage and
the position in it.
"""

import os
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from blocknerf.core.errors import UserError
from blocknerf.core.seeds import derive_seed
from blocknerf.scene.levels import LevelFiles
from blocknerf.scene.resident_numba import draw_resident, shares_begin
from blocknerf.scene.sampler_numba import num_bits, permute

PASSES_PER_EPOCH = 256
_PIECE_PIXELS = 1 << 18
_FEWEST_PIECES = 64
"""Minimum number of resident pieces; with a small budget, pieces are smaller."""
_AHEAD = 4
"""Number of pieces that are read ahead."""


@dataclass(frozen=True, slots=True)
class Spans:
    """Where the pixels to draw from are: row i has pixels begin[i] ... of all, rgb_begin[i] ... of the files."""

    begin: np.ndarray  # [rows + 1] int64
    rgb_begin: np.ndarray  # [rows] int64

    def files(self, first: int, end: int) -> list[tuple[int, int]]:
        """(first pixel in the files, pixels) of pixels first ... end - 1, spans that touch in one."""
        spans: list[tuple[int, int]] = []
        row = int(np.searchsorted(self.begin, first, side="right")) - 1
        while first < end:
            count = min(end, int(self.begin[row + 1])) - first
            at = int(self.rgb_begin[row]) + first - int(self.begin[row])
            if spans and sum(spans[-1]) == at:
                spans[-1] = (spans[-1][0], spans[-1][1] + count)
            elif count:
                spans.append((at, count))
            first, row = first + count, row + 1
        return spans


class ResidentPixels:
    """The window. `at_stage` brings it to a stage, `draw` draws there."""

    def __init__(self, files: LevelFiles, spans: Spans, budget_bytes: int, seed: int) -> None:
        """`budget_bytes` must be less than the pixels take: see `fits`."""
        self._files, self._spans, self._seed = files, spans, seed
        pixels, budget_pixels = int(spans.begin[-1]), budget_bytes // files.bytes_per_pixel
        piece_pixels = max(1, min(_PIECE_PIXELS, budget_pixels // (_FEWEST_PIECES + _AHEAD)))
        self.num_pieces = -(-pixels // piece_pixels)
        self._begin = np.arange(self.num_pieces + 1) * pixels // self.num_pieces
        self.window = max(1, min(budget_pixels // piece_pixels - _AHEAD, self.num_pieces))
        slots, size = self.window + _AHEAD, int(np.diff(self._begin).max())
        self._rgb = np.empty((slots, size, 3), np.uint8)
        self._valid = np.empty((slots, size if files.valid is not None else 0), np.uint8)
        self._depth_z_m = np.empty((slots, size if files.depth_z_m is not None else 0), np.float32)
        self._reader: ThreadPoolExecutor | None = None
        self._coming: dict[int, Future[None]] = {}
        self._stage: int | None = None
        self._orders: dict[int, np.ndarray] = {}
        self._drawing: tuple = ()

    @staticmethod
    def fits(files: LevelFiles, pixels: int, budget_bytes: int) -> bool:
        return pixels * files.bytes_per_pixel <= budget_bytes

    @property
    def held_bytes(self) -> int:
        """Memory of the pixels, whether they have been read yet or not."""
        return self._rgb.nbytes + self._valid.nbytes + self._depth_z_m.nbytes

    @property
    def stages_per_pass(self) -> int:
        return self.num_pieces * PASSES_PER_EPOCH

    def at_stage(self, stage: int) -> None:
        """Waits until the pieces of that stage are in memory, and starts reading those of the next ones."""
        if stage == self._stage:
            return
        if self._stage is None or stage != self._stage + 1:
            self._wait()
            self._coming = {}
            self._read(range(stage, stage + self.window))
        self._stage = stage
        self._read(range(max(stage + self.window, max(self._coming, default=-1) + 1), stage + self.window + _AHEAD))
        for number in [number for number in self._coming if number < stage + self.window]:
            self._coming[number].result()
            del self._coming[number]
        self._drawing = self._prepared(stage)

    def draw(self, counter: int, filled: int, arguments: tuple, drawn: tuple) -> tuple[int, int]:
        """See `draw_resident`; `arguments` are those of the table, `drawn` the arrays to fill."""
        stage_keys, *pieces = self._drawing
        held = self._rgb, self._valid, self._depth_z_m
        everything = (*pieces, self._begin, PASSES_PER_EPOCH, self.window, *arguments, *held, *drawn)
        return draw_resident(counter, stage_keys, filled, *everything)

    def _prepared(self, stage: int) -> tuple:
        """The kernel's arguments for a stage: the resident pieces, how often and how long they have been resident."""
        numbers = np.arange(stage, stage + self.window)
        visits = numbers // self.num_pieces
        first = stage // self.num_pieces * self.num_pieces
        order = np.concatenate([self._order(first // self.num_pieces), self._order(first // self.num_pieces + 1)])
        pieces = order[numbers - first]
        rounds, epochs = visits % PASSES_PER_EPOCH, visits // PASSES_PER_EPOCH
        ages = stage + self.window - 1 - numbers
        given = shares_begin(pieces, rounds, ages, self._begin, PASSES_PER_EPOCH, self.window)
        even = int(epochs[0]) + int(epochs[0]) % 2  # of the two passes that the window may reach into
        odd = int(epochs[0]) + 1 - int(epochs[0]) % 2
        keys = np.stack([self._keys("pixels", epoch) for epoch in (even, odd)])
        slots = numbers % len(self._rgb)
        return self._keys("stage", stage), given, pieces, rounds, ages, epochs, slots, keys

    def _keys(self, *names: Any) -> np.ndarray:
        return np.array([derive_seed(self._seed, "resident", *names, index) for index in range(6)], np.uint64)

    def _order(self, visit: int) -> np.ndarray:
        """Every pass over the pieces has a different order."""
        if visit not in self._orders:
            self._orders = {known: order for known, order in self._orders.items() if known >= visit - 1}
            keys, bits = self._keys("order", visit), num_bits(self.num_pieces)
            order = [permute(place, keys, self.num_pieces, bits) for place in range(self.num_pieces)]
            self._orders[visit] = np.array(order, np.int64)
        return self._orders[visit]

    def _read(self, numbers: range) -> None:
        if self._reader is None:
            self._reader = ThreadPoolExecutor(1, "readahead")
        for number in numbers:
            visit, position = divmod(number, self.num_pieces)
            piece = int(self._order(visit)[position])
            self._coming[number] = self._reader.submit(self._load, piece, number % len(self._rgb))

    def _load(self, piece: int, slot: int) -> None:
        spans = self._spans.files(int(self._begin[piece]), int(self._begin[piece + 1]))
        for path, held in (
            (self._files.rgb, self._rgb[slot]),
            (self._files.valid, self._valid[slot]),
            (self._files.depth_z_m, self._depth_z_m[slot]),
        ):
            if path is not None:
                _read_spans(path, spans, held)

    def _wait(self) -> None:
        for coming in self._coming.values():
            coming.result()


def _read_spans(path: Path, spans: list[tuple[int, int]], held: np.ndarray) -> None:
    """Copies pixels of a file to the beginning of `held`, and drops them from the system's cache."""
    bytes_per_pixel, content = held[:1].nbytes, held.data.cast("B")
    handle = os.open(path, os.O_RDONLY)
    try:
        filled = 0
        for first, count in spans:
            at, end = first * bytes_per_pixel, filled + count * bytes_per_pixel
            while filled < end:
                read = os.preadv(handle, [content[filled:end]], at)
                if read == 0:
                    raise UserError(f"The image store's file {path} ends too soon. Delete its folder and run again.")
                filled, at = filled + read, at + read
            os.posix_fadvise(handle, first * bytes_per_pixel, count * bytes_per_pixel, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(handle)
