"""Appearance matching (Block-NeRF, section 4.3.3): neighbours render one place, and one's code moves until it fits.

Weights are frozen. Blocks were trained separately and saw different hours of the day; a block that never saw a drive
does not know its appearance. So the appearance of each drive spreads from the block that saw most of it over the graph
of neighbours, breadth first: there is one shift per block and drive, added to all codes of the drive in that block. One
shift for all drives would spoil the appearances that a block knows to improve one that it does not.
"""

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from blocknerf.city.alignment.file import Alignment, BlockShifts
from blocknerf.city.alignment.overlaps import Links, Overlap, Overlaps, find_overlaps
from blocknerf.city.city import City
from blocknerf.core.errors import UserError
from blocknerf.core.seeds import generator
from blocknerf.core.types import Appearance, RayBatch
from blocknerf.models.fit import fit_code_to_areas
from blocknerf.scene.scene import Scene

STEPS = 100


@dataclass(frozen=True, slots=True)
class PairDifference:
    """Difference of two neighbours under one appearance, in their overlap: mean |difference| of colours in [0, 1].

    `before` and `after` compare pixels; `mean_before` and `mean_after` compare the mean colours of the overlap.
    """

    blocks: tuple[str, str]
    drive: str
    before: float
    after: float
    mean_before: float
    mean_after: float


def align_city(
    city: City, links: Links, scene: Scene, seed: int, root: str | None = None
) -> tuple[Alignment, list[PairDifference]]:
    """Spreads the appearance of every drive over the city. Earlier alignments are discarded.

    `links` are the plan's neighbours. Of the scene, only cameras are used, not pixels. An appearance starts at `root`
    if that block saw it, otherwise at the block with the most images of the drive. Raises UserError if there is nothing
    to align.
    """
    ids = blocks_with_codes(city)
    if root is not None and root not in ids:
        raise UserError(f"--root {root}: the city has no such trained block. It has: {', '.join(ids)}.")
    overlaps = find_overlaps(city, links, scene, ids)
    city.alignment, shifts = Alignment(), {block_id: {} for block_id in ids}
    for drive in sorted(city.drives):
        counts = {block_id: _images_of(city, block_id, drive) for block_id in ids}
        counts |= {root: len(scene.images) + 1} if root is not None and counts[root] else {}
        done: set[str] = set()
        for block_id in _breadth_first(ids, overlaps, counts):
            sources = [other for other in _beside(block_id, overlaps) if other in done]
            done |= {block_id} if sources or counts[block_id] else set()
            if sources:
                shifts[block_id][drive] = _fit(city, overlaps, block_id, sources, drive, seed)
                city.alignment = _with_shifts(city, shifts)
    return city.alignment, measure(city, overlaps, city.alignment)


def align_blocks(
    city: City, links: Links, scene: Scene, seed: int, targets: Sequence[str]
) -> tuple[Alignment, list[PairDifference]]:
    """Aligns `targets` again, one after the other, to all their present neighbours; all other entries stay.

    The appearance of a neighbour counts if it saw the drive or was aligned to it.
    """
    ids = blocks_with_codes(city)
    kept = {block_id: dict(entry.by_drive) for block_id, entry in city.alignment.blocks.items()}
    shifts = {block_id: {} if block_id in targets else kept.get(block_id, {}) for block_id in ids}
    near = {block_id: links.get(block_id, ()) for block_id in targets}
    overlaps = find_overlaps(city, near, scene, ids)
    settled = [block_id for block_id in ids if block_id not in targets]
    for block_id in targets:
        for drive in sorted(city.drives):
            sources = [
                other
                for other in _beside(block_id, overlaps)
                if other in settled and (drive in shifts[other] or _images_of(city, other, drive))
            ]
            if sources:
                shifts[block_id][drive] = _fit(city, overlaps, block_id, sources, drive, seed)
        settled.append(block_id)
        city.alignment = _with_shifts(city, shifts)
    return city.alignment, measure(city, overlaps, city.alignment)


def blocks_with_codes(city: City) -> list[str]:
    """Ids of trained blocks. Raises UserError if there are fewer than two, or if one has no appearance codes."""
    if len(city.ids) < 2:
        raise UserError(f"The city has one trained block ({city.ids[0]}). Alignment needs at least two.")
    without = [name for name in city.ids if not city.meta(name).model.config.training.use_appearance_embedding]
    if without:
        raise UserError(
            f"Block {', '.join(without)} was trained without appearance codes, which alignment needs. Train with "
            "training.use_appearance_embedding=true."
        )
    return city.ids


def measure(city: City, overlaps: Overlaps, alignment: Alignment) -> list[PairDifference]:
    """Differences of neighbours under every appearance that one of them saw, unaligned and under `alignment`."""
    differences = []
    for pair, overlap in overlaps.items():
        drives = [drive for drive in sorted(city.drives) if any(_images_of(city, block_id, drive) for block_id in pair)]
        pictures = []
        for block_id in pair:
            codes = []
            for under in (Alignment(), alignment):
                city.alignment = under
                codes += [city.code_for(block_id, Appearance(drive=drive)) for drive in drives]
            pictures.append(city.model(block_id).render_each(overlap.measured, codes))
        apart = [one.rgb - other.rgb for one, other in zip(*pictures, strict=True)]
        pixels = [float(gap.abs().mean()) for gap in apart]
        means = [float(gap.mean(0).abs().mean()) for gap in apart]
        for before, drive in enumerate(drives):
            after = before + len(drives)
            differences.append(PairDifference(pair, drive, pixels[before], pixels[after], means[before], means[after]))
    return differences


def _fit(
    city: City, overlaps: Overlaps, target: str, sources: Sequence[str], drive: str, seed: int
) -> tuple[float, ...]:
    """The shift with which `target` matches its `sources` under the drive's appearance."""
    model = city.model(target)
    start = model.code_for(Appearance(drive=drive))
    assert start is not None, "blocks_with_codes"
    areas, truth = [], []
    for source in sources:
        parts = _overlap(overlaps, target, source).fitted
        rgb = _show(city, source, RayBatch.concatenate(parts), drive)
        areas += parts
        truth += [part_rgb.mean(0) for part_rgb in rgb.split([len(part) for part in parts])]
    rng = generator(seed, "align", drive, target)
    code = fit_code_to_areas(model, areas, torch.stack(truth), start, rng, STEPS)
    return tuple((code - start)[: model.appearance_width].tolist())


def _breadth_first(ids: Sequence[str], overlaps: Overlaps, counts: Mapping[str, int]) -> list[str]:
    """Order from the block with the most images; each separate part of the city begins at its own such block."""
    order: list[str] = []
    for start in sorted(ids, key=lambda block_id: -counts[block_id]):
        waiting = deque([start])
        while waiting:
            block_id = waiting.popleft()
            if block_id not in order:
                order.append(block_id)
                waiting.extend(_beside(block_id, overlaps))
    return order


def _beside(block_id: str, overlaps: Overlaps) -> list[str]:
    return sorted({other for pair in overlaps if block_id in pair for other in pair} - {block_id})


def _overlap(overlaps: Overlaps, one: str, other: str) -> Overlap:
    return overlaps[min(one, other), max(one, other)]


def _with_shifts(city: City, shifts: Mapping[str, Mapping[str, tuple[float, ...]]]) -> Alignment:
    entries = {
        block_id: BlockShifts(city.meta(block_id).weights.sha256, dict(by_drive))
        for block_id, by_drive in shifts.items()
        if by_drive
    }
    return Alignment(entries)


def _show(city: City, block_id: str, rays: RayBatch, drive: str) -> Float[Tensor, "rays 3"]:
    return city.model(block_id).render(rays, city.code_for(block_id, Appearance(drive=drive))).rgb


def _images_of(city: City, block_id: str, drive: str) -> int:
    return city.meta(block_id).drives.count(drive)
