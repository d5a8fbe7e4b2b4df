"""Many blocks, one picture. Blocks are loaded when a camera needs them, within a memory budget."""

from collections import Counter, OrderedDict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from blocknerf.city.alignment.file import Alignment, read_alignment
from blocknerf.city.manifest import CityBlock, Manifest, read_manifest
from blocknerf.city.selection import (
    block_weights,
    distances_to,
    surface_weights,
    visibility_weights,
    visible_block_weights,
)
from blocknerf.city.states import LATEST, StateFile, state_files
from blocknerf.core.errors import UserError
from blocknerf.core.logging import log
from blocknerf.core.types import MEAN_APPEARANCE, Appearance, RayBatch, RenderOutput
from blocknerf.models.block_file import BlockFile, read_block, read_block_meta
from blocknerf.models.block_meta import StoredMeta
from blocknerf.models.block_nerf import load_block
from blocknerf.models.renderer import BlockRenderer
from blocknerf.runtime.devices import CPU, devices_of

COARSE_RAYS = 256
"""Number of rays of a picture with which a block's visibility is estimated."""
GOLDEN = 0.6180339887498949

Load = Callable[[BlockFile], BlockRenderer]


class City:
    """The trained blocks of an output folder, rendered as one scene."""

    def __init__(
        self,
        manifest: Manifest,
        blocks: list["AvailableBlock"],
        cache: "_BlockCache",
        alignment: Alignment,
    ):
        self.manifest = manifest
        self.blocks = blocks
        self.alignment = alignment
        self.drives = Counter(drive for block in blocks for drive in block.meta.drives)
        """Training images by drive, over all blocks."""
        self.anchors = torch.tensor([block.anchor_world for block in blocks], dtype=torch.float64)
        self._by_id = {block.id: block for block in blocks}
        self._cache = cache

    @staticmethod
    def open(out: Path, load: Load | None = None, state: str = LATEST, device: str = CPU) -> "City":
        """Opens the city in `out`. Blocks that are not trained yet are skipped, and named in the log.

        `state` says which state of each block is used (see `state_files`). Blocks are rendered on the first device of
        `devices_of(device)`. `load` replaces the function that loads them.

        Logs if the blocks take more memory than city.json allows, because they are then loaded and dropped as a camera
        moves. Raises UserError if there is no city.json, no trained block, or a block of another scene.
        """
        load = load or partial(load_block, device=devices_of(device)[0])
        manifest = read_manifest(out)
        files = state_files(out, manifest.blocks, state)
        missing = [block.id for block in manifest.blocks if block.id not in files]
        blocks = [AvailableBlock.open(block, files[block.id]) for block in manifest.blocks if block.id in files]
        if not blocks:
            raise UserError(f"No block of {out} has been trained yet. Run `blocknerf train ... --output-dir {out}`.")
        if missing:
            log.warning(
                "%d of %d blocks are not trained yet and are skipped: %s.",
                len(missing),
                len(manifest.blocks),
                ", ".join(missing),
            )
        for block in blocks:
            block.require_scene((manifest.scene_hash, *manifest.earlier_scene_hashes))
        total_gb = sum(block.meta.weights.bytes for block in blocks) / 1e9
        if total_gb > manifest.memory_budget_gb:
            log.info(
                "The %d blocks take %.3g GB; at most %.3g GB of them are loaded at a time (memory_budget_gb in %s).",
                len(blocks),
                total_gb,
                manifest.memory_budget_gb,
                out / "city.json",
            )
        cache = _BlockCache(int(manifest.memory_budget_gb * 1e9), load)
        return City(manifest, blocks, cache, _still_fitting(read_alignment(out), blocks, state))

    def with_blending(self, rules: Manifest, block_ids: Collection[str]) -> "City":
        """The same city with the same loaded blocks, but other blending rules, and only the blocks `block_ids`.

        Raises UserError if it has none of them.
        """
        blocks = [block for block in self.blocks if block.id in block_ids]
        if not blocks:
            raise UserError(f"All blocks are excluded. Keep at least one of {', '.join(self.ids)}.")
        return City(rules, blocks, self._cache, self.alignment)

    @property
    def ids(self) -> list[str]:
        return [block.id for block in self.blocks]

    @property
    def main_drive(self) -> str | None:
        """The drive with the most training images. Novel views use its appearance. None if no block has a drive."""
        return max(sorted(self.drives), key=self.drives.__getitem__, default=None)

    @property
    def worker(self) -> Literal["numba", "torch"]:
        """See `BackboneConfig.worker`."""
        return self.blocks[0].meta.model.config.block_nerf.worker

    def require_drive(self, drive: str) -> None:
        """Raises UserError if no training image belongs to `drive`."""
        if drive not in self.drives:
            known = ", ".join(sorted(self.drives)) or "none"
            raise UserError(f"The city was not trained on a drive {drive!r}. Its drives: {known}.")

    def nearest(self, camera_center: Float[Tensor, "3"]) -> str:
        """Id of the block whose anchor is nearest to the camera."""
        return self.ids[int(distances_to(camera_center, self.anchors).argmin())]

    def weights(self, camera_center: Float[Tensor, "3"]) -> dict[str, float]:
        """The blocks that may contribute to a picture from there, largest weight first; weights sum to 1.

        If surfaces decide the blending, weights only say which blocks take part. If visibility decides, they are one of
        two factors. In both cases, shares are computed for each pixel.
        """
        rules = self.manifest
        if rules.blending == "nearest" and rules.divide_by == "camera":
            return {self.nearest(camera_center): 1.0}
        power = rules.blend_power if rules.divide_by == "camera" else 0.0
        weights = block_weights(
            camera_center, self.anchors, rules.distance_threshold_m, rules.max_composited, power
        ).tolist()
        chosen = [(block_id, weight) for block_id, weight in zip(self.ids, weights, strict=True) if weight > 0]
        return dict(sorted(chosen, key=lambda pair: -pair[1]))

    def layers(
        self,
        rays: RayBatch,
        camera_center: Float[Tensor, "3"],
        appearance: Appearance = MEAN_APPEARANCE,
        only: str | None = None,
        codes: Mapping[str, Float[Tensor, " dim"] | None] | None = None,
        weights: Mapping[str, float] | None = None,
    ) -> list["Layer"]:
        """The pictures that `render` blends, largest weight first; same arguments.

        `codes` by block id override `appearance`; blocks without an entry use that.
        If `rays` are a part of a picture, pass the `block_weights` of the whole picture as `weights`.
        """
        appearance, given = appearance.resolved(self.main_drive), codes or {}
        if weights is None:
            weights = self.block_weights(rays, camera_center) if only is None else {only: 1.0}
        pictures = []
        for block_id in weights:
            model = self.model(block_id)
            code = given[block_id] if block_id in given else self.code_for(block_id, appearance)
            pictures.append(model.render(rays, code))
        return self.blended(rays, weights, pictures)

    def blended(self, rays: RayBatch, weights: Mapping[str, float], pictures: Sequence[RenderOutput]) -> list["Layer"]:
        """`layers` of blocks whose `pictures` of the rays are known, one for each of `weights`."""
        pixel_weights = torch.tensor(list(weights.values()), dtype=torch.float32)[:, None].expand(-1, len(rays))
        if self.manifest.divide_by == "surface" and len(pictures) > 1:
            away = self._to_cells(list(weights), rays, pictures)
            pixel_weights = surface_weights(away, pixel_weights[:, 0], self.manifest.blend_power)
        elif self.manifest.blending == "visibility" and len(pictures) > 1:
            pixel_weights = self._visibility_weights(list(weights), pixel_weights, rays, pictures)
        layers = [Layer(*parts) for parts in zip(weights, pixel_weights, pictures, strict=True)]
        return sorted(layers, key=lambda layer: -layer.weight)

    def _to_cells(
        self, block_ids: list[str], rays: RayBatch, pictures: Sequence[RenderOutput]
    ) -> Float[Tensor, "blocks pixels"]:
        """Distance on the ground plane from each block's cells to the surface that the block sees in each pixel."""
        layout = self.manifest.layout
        if layout is None:
            raise UserError("The city has no ground plane for its blocks. Delete plan.json and plan again.")
        frame, distances = layout.frame(), []
        for block_id, picture in zip(block_ids, pictures, strict=True):
            places = rays.origins + picture.distance_m[:, None] * rays.directions
            xy = frame.to_ground(places.double().numpy())[:, :2]
            distances.append(torch.from_numpy(layout.cells(self._block(block_id).cells_xy).nearest(xy)[1]).float())
        return torch.stack(distances)

    def _visibility_weights(
        self,
        block_ids: list[str],
        weights: Float[Tensor, "blocks pixels"],
        rays: RayBatch,
        pictures: Sequence[RenderOutput],
    ) -> Float[Tensor, "blocks pixels"]:
        """`weights` by what blocks know; unchanged if a block was trained without a visibility network."""
        sights = []
        for block_id, picture in zip(block_ids, pictures, strict=True):
            sight = self.model(block_id).view_confidence(rays, picture.distance_m)
            if sight is None:
                return weights
            sights.append(sight)
        return visibility_weights(torch.stack(sights), weights[:, 0])

    def model(self, block_id: str) -> BlockRenderer:
        """The loaded block. Raises UserError for a block that the city does not have."""
        return self._cache.get(self._block(block_id))

    def read(self, block_id: str) -> BlockFile:
        """The file of that block, for callers that need more than pictures."""
        return self._block(block_id).read()

    def block_weights(self, rays: RayBatch, camera_center: Float[Tensor, "3"]) -> dict[str, float]:
        """`weights` without the blocks that have seen too little of the picture (Block-NeRF, section 4.3.1)."""
        weights = self.weights(camera_center)
        if len(weights) == 1 or self.manifest.visibility_threshold == 0:
            return weights
        coarse = rays[coarse_rows(len(rays))]
        seen = [self.model(block_id).mean_visibility(coarse) for block_id in weights]
        visibilities = torch.tensor([1.0 if value is None else value for value in seen], dtype=torch.float64)
        plain = torch.tensor(list(weights.values()), dtype=torch.float64)
        left = visible_block_weights(plain, visibilities, self.manifest.visibility_threshold).tolist()
        chosen = [(block_id, weight) for block_id, weight in zip(weights, left, strict=True) if weight > 0]
        return dict(sorted(chosen, key=lambda pair: -pair[1]))

    def code_for(self, block_id: str, appearance: Appearance) -> Float[Tensor, " dim"] | None:
        """`BlockRenderer.code_for` of that block, aligned with its neighbours if `blocknerf align` has been run.

        The shift of each drive, times the drive's share, is added to the appearance entries, which come first.
        """
        code = self.model(block_id).code_for(appearance)
        entry = self.alignment.blocks.get(block_id)
        if code is None or entry is None:
            return code
        code = code.clone()
        for drive, share in appearance.drive_shares():
            shift = entry.shift(drive)
            if shift is not None and share > 0:
                code[: len(shift)] += share * shift.to(code)
        return code

    def codes_for(self, block_ids: Iterable[str], appearance: Appearance) -> dict[str, Float[Tensor, " dim"] | None]:
        """`code_for` of each of these blocks, for `layers`."""
        return {block_id: self.code_for(block_id, appearance) for block_id in block_ids}

    def render(
        self,
        rays: RayBatch,
        camera_center: Float[Tensor, "3"],
        appearance: Appearance = MEAN_APPEARANCE,
        only: str | None = None,
    ) -> RenderOutput:
        """Pixels of `rays`, composited from the blocks around `camera_center`, or from the single block `only`.

        An appearance without a drive uses `main_drive`. Raises UserError for a block that the city does not have.
        """
        return composite(self.layers(rays, camera_center, appearance, only))

    def meta(self, block_id: str) -> StoredMeta:
        """The JSON of that block's file."""
        return self._block(block_id).meta

    def is_finished(self, block_id: str) -> bool:
        """Whether that block exists, and is trained to the end of its budget."""
        return block_id in self._by_id and self.meta(block_id).finished

    def anchor(self, block_id: str) -> tuple[float, float, float]:
        """The point from which distances to that block are measured, in metres."""
        return self._block(block_id).anchor_world

    def _block(self, block_id: str) -> "AvailableBlock":
        if block_id not in self._by_id:
            raise UserError(f"The city has no trained block {block_id!r}. It has: {', '.join(self.ids)}.")
        return self._by_id[block_id]


def coarse_rows(count: int) -> Int[Tensor, " rows"]:
    """Up to COARSE_RAYS of `count` rows, spread evenly, but not aligned with the rows of a picture."""
    if count <= COARSE_RAYS:
        return torch.arange(count)
    return (torch.arange(COARSE_RAYS, dtype=torch.float64) * GOLDEN % 1 * count).long()


@dataclass(frozen=True, slots=True)
class Layer:
    """One block's render of some rays, and its share of every composited pixel."""

    block_id: str
    weights: Float[Tensor, " pixels"]
    picture: RenderOutput

    @property
    def weight(self) -> float:
        """The block's share of the whole picture."""
        return float(self.weights.mean())


def composite(layers: list[Layer]) -> RenderOutput:
    """Blends pictures of the same rays in floats.

    Colour and opacity are weighted means. Distance is weighted by weight times opacity, because a block that sees
    nothing along a ray has no distance for it.
    """
    pictures = [layer.picture for layer in layers]
    weights = torch.stack([layer.weights for layer in layers])
    rgb = torch.einsum("bp,bpc->pc", weights, torch.stack([picture.rgb for picture in pictures]))
    opacities = torch.stack([picture.opacity for picture in pictures])
    seen = weights * (opacities + 1e-6)
    distance = (seen * torch.stack([picture.distance_m for picture in pictures])).sum(0) / seen.sum(0)
    return RenderOutput(rgb, (weights * opacities).sum(0), distance)


@dataclass(frozen=True, slots=True)
class AvailableBlock:
    """A block with a file on disk, not necessarily in memory."""

    id: str
    anchor_world: tuple[float, float, float]
    cells_xy: tuple[tuple[float, float], ...]
    folder: Path
    file: str
    meta: StoredMeta

    @staticmethod
    def open(block: CityBlock, state: StateFile) -> "AvailableBlock":
        meta = read_block_meta(state.folder, state.name)
        return AvailableBlock(block.id, block.anchor_world, block.cells_xy, state.folder, state.name, meta)

    def read(self) -> BlockFile:
        """Reads its file. Raises UserError if it is damaged."""
        return read_block(self.folder, self.file).to_render()

    def require_scene(self, scene_hashes: tuple[str, ...]) -> None:
        if self.meta.scene_hash not in scene_hashes:
            raise UserError(
                f"The block file {self.folder / self.file}.json belongs to another scene than its city. Train that "
                f"block again: `blocknerf train ... --blocks {self.id} --overwrite`."
            )


class _BlockCache:
    """Loaded blocks, least recently used first. The one in use is never dropped."""

    def __init__(self, budget_bytes: int, load: Load):
        self._budget = budget_bytes
        self._load = load
        self._loaded: OrderedDict[str, tuple[BlockRenderer, int]] = OrderedDict()
        self._held_bytes = 0

    def get(self, block: AvailableBlock) -> BlockRenderer:
        if block.id not in self._loaded:
            needed = block.meta.weights.bytes
            self._make_room(needed)
            self._loaded[block.id] = (self._load(block.read()), needed)
            self._held_bytes += needed
        self._loaded.move_to_end(block.id)
        return self._loaded[block.id][0]

    def _make_room(self, needed: int) -> None:
        while self._loaded and needed + self._held_bytes > self._budget:
            self._held_bytes -= self._loaded.popitem(last=False)[1][1]


def _still_fitting(alignment: Alignment, blocks: "list[AvailableBlock]", state: str) -> Alignment:
    """The entries of blocks whose weights have not changed since they were aligned; logs the others."""
    weights = {block.id: block.meta.weights.sha256 for block in blocks}
    kept = {name: entry for name, entry in alignment.blocks.items() if weights.get(name) == entry.weights_sha256}
    stale = sorted((alignment.blocks.keys() & weights.keys()) - kept.keys())
    if stale and state != LATEST:
        log.warning("Not aligned, because the alignment is for another state: block %s.", ", ".join(stale))
    elif stale:
        log.warning("Trained again since the last alignment: block %s. Run `blocknerf align`.", ", ".join(stale))
    return Alignment(kept)
