"""Random pixels and patches of many images, with no Python loop over images or pixels.

A pass visits every pixel once, in an order that a keyed bijection of the pixel numbers gives: position i of pass e is
pixel P_e(i). So the order needs no memory, and the sampler's position is two numbers. Together with the store it is the
documents' BlockNeRFDataset.
"""

from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor

from blocknerf.core.errors import UserError
from blocknerf.core.seeds import derive_seed
from blocknerf.core.types import RayBatch
from blocknerf.scene.levels import Level
from blocknerf.scene.observed_points import ObservedPoints
from blocknerf.scene.resident import ResidentPixels, Spans
from blocknerf.scene.sampler_numba import CONTEXT_EVERY, draw, draw_by_image, draw_patches, gather_pixels
from blocknerf.scene.store import ImageStore

Tiles = dict[str, Bool[np.ndarray, "t t"]]
"""By image id: which of t x t even parts of the image are wanted."""
_ROUNDS = 6


@dataclass(frozen=True, slots=True)
class PointSights:
    """Sparse points in which rays end, by ray; 0 where none is known (see `ObservedPoints`)."""

    distance_m: Float[Tensor, " rays"]
    deviation_m: Float[Tensor, " rays"]

    @property
    def known(self) -> Bool[Tensor, " rays"]:
        return self.distance_m > 0

    def __getitem__(self, rows: slice | Tensor) -> "PointSights":
        return PointSights(self.distance_m[rows], self.deviation_m[rows])


@dataclass(frozen=True, slots=True)
class PixelBatch:
    """Pixels with their rays: single ones, then patches, flattened from [patches, size, size].

    `rays.image_slots` are positions in the sampler's `image_ids`. `distance_m` is None if the scene was read without
    depth.
    """

    rays: RayBatch
    rgb: Float[Tensor, "rays 3"]  # [0, 1] as captured
    pixels_xy: Float[Tensor, "rays 2"]  # centres, in pixels of the level drawn from
    valid: Bool[Tensor, " rays"]  # false only in patches, where a mask hides a pixel
    distance_m: Float[Tensor, " rays"] | None  # along the ray, 0 where unknown
    sights: PointSights | None = None  # None: no ray is known to end in a sparse point
    num_patches: int = 0
    patch_size: int = 0
    share: float = 1.0
    """Share of the whole batch, by valid pixels: means of parts times their shares add up to the batch's mean."""
    patch_weight: float = 1.0
    """Weight of a mean over these patches in the mean over this part, so that means of patches add up as well."""
    sight_weight: float = 1.0
    """Likewise of a mean over rays that end in sparse points."""

    def patches(self, values: Shaped[Tensor, "rays *channels"]) -> Shaped[Tensor, "patches size size *channels"]:
        """The part of `values` for the pixels of patches."""
        size = self.patch_size
        first = len(values) - self.num_patches * size**2
        return values[first:].reshape(self.num_patches, size, size, *values.shape[1:])

    def part(self, index: int, count: int) -> "PixelBatch":
        """Part `index` of `count` parts as even as possible; patches stay whole."""
        if count == 1:
            return self
        area = self.patch_size**2
        singles = len(self.rays) - self.num_patches * area
        first, last = self.num_patches * index // count, self.num_patches * (index + 1) // count
        rows = torch.cat(
            [
                torch.arange(singles * index // count, singles * (index + 1) // count),
                torch.arange(singles + first * area, singles + last * area),
            ]
        )
        distance_m = None if self.distance_m is None else self.distance_m[rows]
        sights = None if self.sights is None else self.sights[rows]
        share = int(self.valid[rows].sum()) / max(int(self.valid.sum()), 1)
        return PixelBatch(
            self.rays[rows],
            self.rgb[rows],
            self.pixels_xy[rows],
            self.valid[rows],
            distance_m,
            sights,
            num_patches=last - first,
            patch_size=self.patch_size,
            share=self.share * share,
            patch_weight=self.patch_weight * (last - first) / max(self.num_patches, 1) / max(share, 1e-9),
            sight_weight=self.sight_weight * _share_known(sights, self.sights) / max(share, 1e-9),
        )

    def parts(self, largest: int) -> "list[PixelBatch]":
        """The batch in parts of at most `largest` rays, unless a whole patch is larger."""
        count = -(-len(self.rays) // largest)
        return [self.part(index, count) for index in range(count)]


class PixelSampler:
    """Draws pixels of the given images without replacement, pass after pass; masked pixels are never drawn.

    `image_ids` that the store skipped (they could not be decoded) are not drawn but keep their slots. `tiles`, by image
    id, cut each image evenly in t x t parts: pixels of parts that are false come only once in CONTEXT_EVERY passes.
    `rays_per_image`: a batch has this many pixels of each of a few newly chosen images (default: pixels of all images).
    With a `patch_size`, `patch_share` of every batch, at least one patch, is drawn as patches of that size. With
    `budget_bytes` and more pixels than that, single pixels are drawn from a changing part of them that is held in
    memory (see ResidentPixels). With `points`, `point_share` of every batch are pixels in which an image saw a sparse
    point, drawn with replacement. Everything drawn depends on `seed` and the position alone: `state()` and `restore()`
    are exact.
    """

    def __init__(
        self,
        store: ImageStore,
        image_ids: tuple[str, ...],
        batch_size: int,
        seed: int,
        level: int = 0,
        tiles: Tiles | None = None,
        patch_size: int = 0,
        patch_share: float = 0.25,
        rays_per_image: int | None = None,
        budget_bytes: int | None = None,
        points: ObservedPoints | None = None,
        point_share: float = 0.0,
    ) -> None:
        self.batch_size = batch_size
        self.patch_size, self.patch_share = patch_size, patch_share
        self.rays_per_image = rays_per_image
        self._seed = seed
        self._pixels = store.level(level)
        self._table = _table(store, image_ids, level)
        self.num_pixels = _count_valid(self._table, self._pixels.valid)
        """Pixels in one pass, masked ones not counted."""
        if self.num_pixels == 0:
            raise UserError(
                f"None of the {len(image_ids)} images to draw from has a pixel that can be used. "
                "Check the masks (0 means: leave this pixel out) or set dataset.use_masks=false."
            )
        self._tiles = np.zeros((0, 0, 0), np.bool_)
        if tiles is not None:
            self._tiles = np.stack([tiles[image_ids[slot]] for slot in self._table.slot])
        self.pixels_per_pass = self.num_pixels * _share_drawn(self._table, self._tiles)
        """Number drawn in one pass, up to rounding and the place of the masks."""
        self._chunks = None
        if rays_per_image is not None:
            chunks = np.maximum(np.diff(self._table.begin) // rays_per_image, 1)
            self._chunks = np.concatenate([[0], np.cumsum(chunks)]).astype(np.int64)
        self._resident: ResidentPixels | None = None
        files, pixels = store.files(level), int(self._table.begin[-1])
        if budget_bytes is not None and not ResidentPixels.fits(files, pixels, budget_bytes):
            spans = Spans(self._table.begin, self._table.rgb_begin)
            self._resident = ResidentPixels(files, spans, budget_bytes, seed)
        self._points = None if points is None or point_share == 0 else _point_pixels(points, self._table, self._pixels)
        self._num_points = 0 if self._points is None else round(point_share * batch_size)
        self._epoch, self._counter, self._patches, self._sights = 0, 0, 0, 0
        self._keys = self._keys_of(0)

    @property
    def passes(self) -> float:
        """Passes over the pixels so far; 1.5 is the middle of the second."""
        if self._resident is not None:
            return self._epoch / self._resident.stages_per_pass
        positions = self._table.begin if self._chunks is None else self._chunks
        return self._epoch + self._counter / int(positions[-1])

    def state(self) -> dict[str, int]:
        return {
            "epoch": self._epoch,
            "counter": self._counter,
            "patches": self._patches,
            "sights": self._sights,
            "num_pixels": self.num_pixels,
        }

    def restore(self, state: dict[str, int]) -> None:
        """Restores a position from `state()`. Raises UserError if it belongs to other pixels."""
        if state["num_pixels"] != self.num_pixels:
            raise UserError(
                f"The saved position is one among {state['num_pixels']} pixels, but now there are {self.num_pixels}: "
                "images, masks, dataset.image_downsample or the sizes that stages train at have changed. Train this "
                "block anew."
            )
        self._epoch, self._counter, self._patches = state["epoch"], state["counter"], state["patches"]
        self._sights = state.get("sights", 0)
        self._keys = self._keys_of(self._epoch)

    def next(self, central: float = 1.0) -> PixelBatch:
        """The next batch: single pixels (see `next_pixels`), sights of points, then patches, if there are any."""
        singles, parts = self.batch_size - self._num_points, []
        if self.patch_size > 0:
            area = self.patch_size**2
            count = max(1, int(self.patch_share * self.batch_size) // area)
            singles -= count * area
            parts.append(self.next_patches(count, self.patch_size))
        if self._num_points > 0:
            parts.insert(0, self.next_sights(self._num_points))
        return _joined(self.next_pixels(max(0, singles), central), *parts)

    def next_sights(self, count: int) -> PixelBatch:
        """`count` pixels in which an image saw a sparse point, drawn with replacement."""
        points = self._points
        assert points is not None
        rng = np.random.Generator(np.random.Philox(key=derive_seed(self._seed, "sights"), counter=self._sights))
        self._sights += count
        chosen = rng.integers(len(points.slots), size=count)
        drawn = replace(_Drawn.empty(0, None), slots=points.slots[chosen], flat=points.flat[chosen])
        known = (torch.from_numpy(values[chosen]) for values in (points.distance_m, points.deviation_m))
        return replace(self._gather(drawn, None), sights=PointSights(*known))

    @property
    def resident_share(self) -> float:
        """Share of all pixels that is in memory at a time."""
        return 1.0 if self._resident is None else self._resident.window / self._resident.num_pieces

    def next_pixels(self, count: int, central: float = 1.0) -> PixelBatch:
        """The next `count` valid pixels; they may reach over into the next pass.

        If `central` is below 1, only pixels in that middle part of their image's width and height are drawn; this pass
        skips the others. Raises UserError if none may be drawn.
        """
        drawn = _Drawn.empty(count, None if self._resident is None else self._pixels.depth_z_m is not None)
        filled, barren = 0, 0
        most_barren = CONTEXT_EVERY * (1 if self._resident is None else self._resident.stages_per_pass)
        while True:
            before = filled
            filled, self._counter = self._draw(drawn, filled, central)
            if filled == count:
                return self._gather(drawn, None)
            barren = barren + 1 if filled == before else 0
            if barren > most_barren:
                raise UserError(
                    f"Masks hide the middle {central:g} of the width and height of every image. Set "
                    "dataset.precrop_frac higher, or dataset.precrop_iters=0."
                )
            self._epoch, self._counter = self._epoch + 1, 0
            self._keys = self._keys_of(self._epoch)

    def _draw(self, drawn: "_Drawn", filled: int, central: float) -> tuple[int, int]:
        """Continues filling to the end of this pass (of this stage, with resident pixels)."""
        table = self._table
        if self._resident is not None:
            self._resident.at_stage(self._epoch)
            arguments = (table.begin, table.rgb_begin, table.width, table.height, self._tiles, central)
            return self._resident.draw(
                self._counter, filled, arguments, (drawn.slots, drawn.flat, drawn.rgb, drawn.depth_z_m)
            )
        arguments = (
            *(self._counter, self._keys, self._epoch, filled, table.begin, table.rgb_begin, table.width, table.height),
            *(_optional(self._pixels.valid), self._tiles, central, drawn.slots, drawn.flat),
        )
        if self._chunks is None:
            return draw(*arguments)
        return draw_by_image(*arguments, self._chunks, self.rays_per_image)

    def next_patches(self, count: int, size: int) -> PixelBatch:
        """`count` squares of `size` x `size` pixels, flattened from [count, size, size], each inside one image.

        With masks, at least half of a patch is valid if such a patch is found in 64 tries; `valid` marks the pixels.
        Raises UserError if no image is as large as a patch.
        """
        table = self._table
        corners = _num_corners(table, size)
        if corners[-1] == 0:
            raise UserError(f"No image has room for a patch of {size} x {size} pixels; use smaller patches.")
        drawn = _Drawn.empty(count * size * size, None)
        valid = np.empty(count * size * size, np.bool_)
        key = np.uint64(derive_seed(self._seed, "patches"))
        draw_patches(
            key,
            self._patches,
            size,
            corners,
            table.rgb_begin,
            table.width,
            _optional(self._pixels.valid),
            drawn.slots,
            drawn.flat,
            valid,
        )
        self._patches += count
        return replace(self._gather(drawn, valid), num_patches=count, patch_size=size)

    def _keys_of(self, epoch: int) -> np.ndarray:
        seeds = [derive_seed(self._seed, "pixels", epoch, index) for index in range(_ROUNDS)]
        return np.array(seeds, np.uint64)

    def _gather(self, drawn: "_Drawn", valid: np.ndarray | None) -> PixelBatch:
        table, slots, count = self._table, drawn.slots, len(drawn.slots)
        origins, directions, rgb = (np.empty((count, 3), np.float32) for _ in range(3))
        pixels_xy, radii = np.empty((count, 2), np.float32), np.empty(count, np.float32)
        distance_m = np.empty(0 if self._pixels.depth_z_m is None else count, np.float32)
        source = self._pixels.rgb, _optional(self._pixels.depth_z_m, np.float32), drawn.flat
        if drawn.rgb is not None:
            source = drawn.rgb, drawn.depth_z_m, np.arange(count)
        all_rgb, all_depth_z_m, places = source
        gather_pixels(
            slots,
            drawn.flat,
            places,
            table.directions_begin,
            table.width,
            table.height,
            table.world_from_cam,
            all_rgb,
            self._pixels.directions,
            _no_offsets(self._pixels.offsets_m),
            all_depth_z_m,
            table.rgb_begin,
            origins,
            directions,
            radii,
            rgb,
            pixels_xy,
            distance_m,
        )
        rays = RayBatch(
            origins=torch.from_numpy(origins),
            directions=torch.from_numpy(directions),
            image_slots=torch.from_numpy(table.slot[slots]),
            radii=torch.from_numpy(radii),
        )
        good = torch.ones(count, dtype=torch.bool) if valid is None else torch.from_numpy(valid)
        distances = None if self._pixels.depth_z_m is None else torch.from_numpy(distance_m)
        return PixelBatch(rays, torch.from_numpy(rgb), torch.from_numpy(pixels_xy), good, distances)


@dataclass(frozen=True, slots=True)
class _Drawn:
    """Chosen pixels; with colours and depths if they were resident, else these are None and empty."""

    slots: np.ndarray  # [n] int64: rows of the table
    flat: np.ndarray  # [n] int64: rows of the level's files
    rgb: np.ndarray | None  # [n, 3] uint8
    depth_z_m: np.ndarray  # [n] float32

    @staticmethod
    def empty(count: int, resident_with_depth: bool | None) -> "_Drawn":
        """`resident_with_depth`: whether resident pixels have depths; None where they are not resident."""
        return _Drawn(
            slots=np.empty(count, np.int64),
            flat=np.empty(count, np.int64),
            rgb=None if resident_with_depth is None else np.empty((count, 3), np.uint8),
            depth_z_m=np.empty(count if resident_with_depth else 0, np.float32),
        )


@dataclass(frozen=True, slots=True)
class _Table:
    """A row per image that is drawn from."""

    begin: np.ndarray  # [n + 1] int64: where the image's pixels begin among all pixels drawn from
    rgb_begin: np.ndarray  # [n] int64: where they begin in the level's files
    directions_begin: np.ndarray  # [n] int64
    width: np.ndarray  # [n] int64
    height: np.ndarray  # [n] int64
    scale: np.ndarray  # [n, 2] float64: pixels of the level per pixel of the photograph
    world_from_cam: np.ndarray  # [n, 3, 4] float32
    slot: np.ndarray  # [n] int64: position in the sampler's image_ids


@dataclass(frozen=True, slots=True)
class _PointPixels:
    """The pixels of one level in which images saw points."""

    slots: np.ndarray  # [n] int64: rows of the table
    flat: np.ndarray  # [n] int64: rows of the level's files
    distance_m: np.ndarray  # [n] float32
    deviation_m: np.ndarray  # [n] float32


def _point_pixels(points: ObservedPoints, table: _Table, pixels: Level) -> _PointPixels | None:
    """None if masks hide all of them. Not those in the remainder of a photograph that the level leaves out."""
    rows = np.searchsorted(table.slot, points.slots).clip(max=len(table.slot) - 1)
    columns, lines = (points.xy_px * table.scale[rows]).astype(np.int64).T
    kept = (table.slot[rows] == points.slots) & (columns < table.width[rows]) & (lines < table.height[rows])
    flat = table.rgb_begin[rows] + lines * table.width[rows] + columns
    if pixels.valid is not None:
        kept[kept] = pixels.valid[flat[kept]] != 0
    if not kept.any():
        return None
    return _PointPixels(rows[kept], flat[kept], points.distance_m[kept], points.deviation_m[kept])


def _table(store: ImageStore, image_ids: tuple[str, ...], level: int) -> _Table:
    decoded = [(slot, image_id) for slot, image_id in enumerate(image_ids) if image_id in store.records]
    if not decoded:
        raise UserError(f"None of the {len(image_ids)} images to draw from can be decoded. Plan again.")
    sizes = np.array([store.size(image_id, level) for _, image_id in decoded], np.int64)
    firsts = np.array([store.first_pixels(image_id, level) for _, image_id in decoded], np.int64)
    poses = np.stack([store.records[image_id].world_from_cam for _, image_id in decoded])
    return _Table(
        begin=np.concatenate([[0], np.cumsum(sizes[:, 0] * sizes[:, 1])]).astype(np.int64),
        rgb_begin=np.ascontiguousarray(firsts[:, 0]),
        directions_begin=np.ascontiguousarray(firsts[:, 1]),
        width=np.ascontiguousarray(sizes[:, 1]),
        height=np.ascontiguousarray(sizes[:, 0]),
        scale=np.array([store.scale(image_id, level) for _, image_id in decoded]),
        world_from_cam=np.ascontiguousarray(poses, dtype=np.float32),
        slot=np.array([slot for slot, _ in decoded], np.int64),
    )


def _optional(pixels: np.ndarray | None, dtype: type = np.uint8) -> np.ndarray:
    """Kernels take an empty array for "all are valid" and for "no depth is known"."""
    return np.zeros(0, dtype) if pixels is None else pixels


def _no_offsets(offsets_m: np.ndarray | None) -> np.ndarray:
    """Kernels take an empty table for "all rays begin in their camera's centre"."""
    return np.zeros((0, 3), np.float32) if offsets_m is None else offsets_m


def _joined(first: PixelBatch, *others: PixelBatch) -> PixelBatch:
    """One batch after the other; only the last may have patches."""
    batches = (first, *others)
    if not others:
        return first

    def all_of(name: str) -> Tensor:
        return torch.cat([getattr(batch, name) for batch in batches])

    return replace(
        batches[-1],
        rays=RayBatch.concatenate([batch.rays for batch in batches]),
        distance_m=None if first.distance_m is None else all_of("distance_m"),
        sights=_joined_sights(batches),
        **{name: all_of(name) for name in ("rgb", "pixels_xy", "valid")},
    )


def _share_known(sights: PointSights | None, of_all: PointSights | None) -> float:
    if sights is None or of_all is None:
        return 0.0
    return int(sights.known.sum()) / max(int(of_all.known.sum()), 1)


def _joined_sights(batches: tuple[PixelBatch, ...]) -> PointSights | None:
    if all(batch.sights is None for batch in batches):
        return None
    none = [PointSights(torch.zeros(len(batch.rays)), torch.zeros(len(batch.rays))) for batch in batches]
    sights = [batch.sights or empty for batch, empty in zip(batches, none, strict=True)]
    return PointSights(
        torch.cat([of_batch.distance_m for of_batch in sights]),
        torch.cat([of_batch.deviation_m for of_batch in sights]),
    )


def _count_valid(table: _Table, valid: np.ndarray | None) -> int:
    num_pixels = np.diff(table.begin)
    if valid is None:
        return int(num_pixels.sum())
    spans = zip(table.rgb_begin, table.rgb_begin + num_pixels, strict=True)
    return sum(int(np.count_nonzero(valid[begin:end])) for begin, end in spans)


def _share_drawn(table: _Table, tiles: np.ndarray) -> float:
    """The share of all pixels that one pass draws."""
    if not len(tiles):
        return 1.0
    size, wanted = tiles.shape[1], 0
    for row in range(len(tiles)):
        columns = np.bincount(np.arange(table.width[row]) * size // table.width[row], minlength=size)
        rows = np.bincount(np.arange(table.height[row]) * size // table.height[row], minlength=size)
        wanted += int(rows @ tiles[row] @ columns)
    share = wanted / int(table.begin[-1])
    return share + (1 - share) / CONTEXT_EVERY


def _num_corners(table: _Table, size: int) -> np.ndarray:
    """[n + 1] running count of the places where a patch's upper left corner can stand."""
    places = np.maximum(table.width - size + 1, 0) * np.maximum(table.height - size + 1, 0)
    return np.concatenate([[0], np.cumsum(places)]).astype(np.int64)
