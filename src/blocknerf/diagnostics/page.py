"""inspect/index.html: findings and pictures on one page."""

from html import escape

from blocknerf.core.page import MISSING, number, page, picture, section, table, text
from blocknerf.diagnostics.findings import worst_first
from blocknerf.diagnostics.gradients import TOO_LARGE, TOO_SMALL
from blocknerf.diagnostics.result import Inspection

MEBIBYTE = 2**20
MOST_MOTIONS = 500
TONES = {"error": "down", "warning": "down", "note": "faint"}


def inspection_page(inspection: Inspection) -> str:
    """The page as text. The same inspection gives the same page."""
    sections = [
        _heading(inspection),
        section("Findings", _findings(inspection)),
        section(
            "One ray", picture(inspection.ray_png, "Density, colours, weights and samples of one ray") + _ray_notes()
        ),
        section("Gradients", _gradients(inspection)),
        section("Memory of one step", _memory(inspection)),
        section("Poses", _poses(inspection)) if inspection.poses_by is not None else "",
        section("Seam", _seam(inspection)) if inspection.seam is not None else "",
        section("Coverage", picture(inspection.coverage_png, "Where cameras look")),
    ]
    return page(f"blocknerf: inspection of block {inspection.block_id}", sections)


def _heading(inspection: Inspection) -> str:
    counts = {
        severity: sum(finding.severity == severity for finding in inspection.findings)
        for severity in ("error", "warning", "note")
    }
    trace = inspection.trace
    cards = [
        *((str(count), f"{severity}s" if count != 1 else severity) for severity, count in counts.items()),
        (f"{trace.opacity:.3f}", "opacity of the ray"),
        (f"{trace.distance_m:.3g} m", "its expected distance"),
    ]
    boxes = "".join(f'<div class="card"><b>{figure}</b><span>{label}</span></div>' for figure, label in cards)
    x, y = inspection.pixel_xy
    return (
        f"<h1>Inspection of block {escape(inspection.block_id)}</h1>\n"
        f'<p class="faint">{escape(inspection.state)}. The ray is that of pixel ({x}, {y}) of '
        f'{escape(inspection.image)}.</p>\n<div class="cards">{boxes}</div>\n'
    )


def _findings(inspection: Inspection) -> str:
    if not inspection.findings:
        return "<p>Nothing stands out.</p>\n"
    return table(
        ["!severity", "!what"],
        [
            [f'<td class="text {TONES[finding.severity]}">{finding.severity}</td>', text(finding.sentence)]
            for finding in worst_first(inspection.findings)
        ],
    )


def _ray_notes() -> str:
    return (
        '<p class="faint">Weights and light are the renderer&rsquo;s own; density and colour are what the field says '
        "in the same intervals. The <em>hash</em> backbone shades a ray once, after compositing: the colour of an "
        "interval is what the ray would show if it met nothing else.</p>\n"
    )


def _gradients(inspection: Inspection) -> str:
    rows = [
        [
            text(gradient.component),
            f'<td data-value="{gradient.norm:.9g}">{gradient.norm:.3g}</td>',
            f'<td data-value="{gradient.largest:.9g}">{gradient.largest:.3g}</td>',
            number(100 * gradient.share_moved, ".1f"),
            f'<td data-value="{gradient.weight:.9g}">{gradient.weight:g}</td>',
        ]
        for gradient in inspection.gradients
    ]
    columns = ["!component", "norm", "largest entry", "% of entries reached", "weight of its term"]
    return table(columns, rows) + (
        '<p class="faint">After one backward of the whole loss on one batch. A norm over the weight of its term is '
        f"usual between {TOO_SMALL:g} and {TOO_LARGE:g}.</p>\n"
    )


def _memory(inspection: Inspection) -> str:
    rows = [
        [
            text(phase.phase),
            MISSING if phase.resident_peak is None else number(phase.resident_peak / MEBIBYTE, ",.0f"),
            number(phase.torch_peak / MEBIBYTE, ",.1f"),
        ]
        for phase in inspection.memory
    ]
    return table(["!phase", "peak resident, MiB", "peak of torch since the step began, MiB"], rows)


def _poses(inspection: Inspection) -> str:
    if not any(motion.has_moved for motion in inspection.pose_motions):
        return f"<p>Poses are refined by {inspection.poses_by}; all are where they were captured.</p>\n"
    rows = [
        [
            text(motion.name),
            number(motion.images, "d"),
            number(motion.shift_m, ".4f"),
            number(motion.turn_deg, ".3f"),
        ]
        for motion in inspection.pose_motions[:MOST_MOTIONS]
    ]
    columns = [f"!{inspection.poses_by}", "images", "shift, m", "turn, degrees"]
    left = len(inspection.pose_motions) - len(rows)
    return table(columns, rows) + (
        '<p class="faint">How far refinement has moved the centroid of the cameras, and turned them about it, from '
        "where they were captured; what all images move alike is taken off."
        f"{f' {left:,} that moved less are in inspect.json.' if left else ''}</p>\n"
    )


def _seam(inspection: Inspection) -> str:
    assert inspection.seam is not None
    assert inspection.seam_png is not None
    figures = inspection.seam.figures()
    rows = [
        [text(name.replace("_", " ")), MISSING if value is None else number(value, ".4f")]
        for name, value in figures.items()
    ]
    return picture(inspection.seam_png, "One view from two blocks") + table(["!mean over the view", "value"], rows)
