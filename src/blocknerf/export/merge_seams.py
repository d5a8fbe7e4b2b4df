"""The seams of merged splats: density and colour on either side of each border."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from blocknerf.core.files import write_bytes, write_json
from blocknerf.core.page import MISSING, number, page, section, table, text
from blocknerf.export.splats import Splats
from blocknerf.export.voronoi_cells import VoronoiCells

SEAMS_VERSION = 1
_FEWEST = 10
"""Number of splats on a side below which its colour is meaningless."""


@dataclass(frozen=True, slots=True)
class Side:
    """A block's splats in the strip along the border to `beyond`; mean colour by opacity times area of the disc."""

    block_id: str
    beyond: str
    strip_m: float
    splats: int
    rgb: tuple[float, float, float]


def side_of(voronoi_cells: VoronoiCells, number: int, kept: Splats) -> list[Side]:
    """The strips of one block, half as wide as the overlap of cells, at least a tenth of a cell; a cell of a street."""
    layout = voronoi_cells.layout
    least_share = 1.0 if layout.cell_shape == "street" else 0.1
    strip_m = max(0.5 * (layout.cell_reach_m - layout.cell_half_edge_m), least_share * layout.cell_half_edge_m)
    beyond, to_border_m = voronoi_cells.beside(kept.means, number)
    sides = []
    for other in np.unique(beyond[to_border_m <= strip_m]).tolist():
        strip = kept[(beyond == other) & (to_border_m <= strip_m)]
        two_largest = np.sort(strip.log_scales, axis=1)[:, 1:].astype(np.float64)
        footprints = strip.opacities * np.exp(np.minimum(two_largest.sum(axis=1), 50.0))
        red, green, blue = np.average(strip.mean_rgb.clip(0, 1), axis=0, weights=footprints + 1e-30).tolist()
        sides.append(Side(voronoi_cells.ids[number], voronoi_cells.ids[other], strip_m, len(strip), (red, green, blue)))
    return sides


def seam_report(blocks: dict[str, dict[str, int]], sides: list[Side]) -> dict[str, Any]:
    """Per block what was dropped; per seam both sides and the jump between them.

    `density_ratio` is the denser side over the other; `colour_jump` the largest difference of a mean colour channel,
    None if a side has fewer than 10 splats.
    """
    by_pair = {(side.block_id, side.beyond): side for side in sides}
    seams = []
    for one, other in sorted({tuple(sorted(pair)) for pair in by_pair}):
        pair = [by_pair.get((one, other)), by_pair.get((other, one))]
        counts = [0 if side is None else side.splats for side in pair]
        colours = [None if side is None or side.splats < _FEWEST else side.rgb for side in pair]
        jump = None if None in colours else float(np.abs(np.subtract(*map(np.array, colours))).max())
        seams.append(
            {
                "blocks": [one, other],
                "strip_m": max(side.strip_m for side in pair if side is not None),
                "splats": counts,
                "density_ratio": max(counts) / min(counts) if min(counts) else None,
                "rgb": [None if colour is None else list(colour) for colour in colours],
                "colour_jump": jump,
            }
        )
    return {"version": SEAMS_VERSION, "blocks": blocks, "seams": seams}


def write_seams(path: Path, report: dict[str, Any]) -> Path:
    """The report as JSON, and as a page beside it, whose path is returned."""
    write_json(path, report)
    html = path.with_suffix(".html")
    write_bytes(html, _page(report).encode())
    return html


def _page(report: dict[str, Any]) -> str:
    blocks = [
        [text(block_id), *(number(entry[name], "d") for name in ("splats", "kept", "dropped", "not_finite"))]
        for block_id, entry in report["blocks"].items()
    ]
    seams = [
        [
            text(" | ".join(seam["blocks"])),
            number(seam["strip_m"], ".2f"),
            text(" | ".join(map(str, seam["splats"]))),
            _cell(seam["density_ratio"]),
            _cell(seam["colour_jump"]),
        ]
        for seam in report["seams"]
    ]
    of_blocks = ("!block", "splats", "kept", "dropped as a neighbour's", "not finite")
    of_seams = ("!seam", "strip on each side, m", "!splats", "density ratio", "colour jump")
    sections = [section("Blocks", table(of_blocks, blocks)), section("Seams", table(of_seams, seams))]
    return page("Seams of merged splats", ["<h1>Seams of merged splats</h1>\n", *sections])


def _cell(value: float | None) -> str:
    return MISSING if value is None else number(value, ".3g")
