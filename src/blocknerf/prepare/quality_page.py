"""quality/index.html: the result for each picture, on one page."""

from html import escape
from typing import Any

from blocknerf.core.page import MISSING, number, page, picture, section, table, text


def quality_page(figures: dict[str, Any]) -> str:
    """The page as text. The same figures give the same page."""
    sections = [
        _heading(figures),
        section("From above", picture("map.png", "Cameras, their GPS positions, and points, seen from above")),
        section("Where pictures have points", picture("coverage.png", "Points by their place in the picture")),
        section("Pictures", _images(figures["images"])),
        section("Skipped", _left_out(figures["left_out"])) if figures["left_out"] else "",
        section("Components", _components(figures["components"])) if len(figures["components"]) > 1 else "",
        section("Lenses", _cameras(figures["cameras"])),
        section("What the figures mean", _meanings(figures)),
    ]
    return page("blocknerf: quality of a prepared scene", sections)


def _heading(figures: dict[str, Any]) -> str:
    reference = figures["georeference"]
    cards = [
        (f"{figures['registered']} of {figures['pictures']}", "pictures placed"),
        (f"{figures['reprojection_px']:.2f} px", "reprojection error"),
        (f"{figures['coverage']:.0%}", "of a picture has points"),
        (f"{figures['points']:,}", f"points, each in {figures['track_length']:.1f} pictures"),
    ]
    if reference["is_metric"]:
        cards.append((f"{reference['typical_residual_m']:.1f} m", "from its GPS position, typically"))
    boxes = "".join(f'<div class="card"><b>{figure}</b><span>{label}</span></div>' for figure, label in cards)
    frame = (
        "East, north and up in metres, by GPS."
        if reference["is_metric"]
        else f"Level, but without metres: {reference['why']}."
    )
    drives = ", ".join(f"{drive} ({count})" for drive, count in figures["drives"].items())
    return (
        f'<h1>Quality of the scene</h1>\n<p class="faint">{escape(frame)} Drives: {escape(drives)}. '
        f"{figures['with_exposure']} of {figures['registered']} pictures tell their exposure. "
        f"Pairs: {escape(figures['matching'])}. Mapping: {escape(figures['mapping'])}.</p>\n"
        f'<div class="cards">{boxes}</div>\n'
    )


def _images(images: dict[str, Any]) -> str:
    columns = ["!picture", "points", "reprojection, px", "covered, %", "matches with", "off GPS, m"]
    rows = [
        [
            text(name),
            number(image["points"], "d"),
            MISSING if image["reprojection_px"] is None else number(image["reprojection_px"], ".2f"),
            number(100 * image["coverage"], ".0f"),
            number(image["partners"], "d"),
            MISSING if image["gps_residual_m"] is None else number(image["gps_residual_m"], ".1f"),
        ]
        for name, image in images.items()
    ]
    return table(columns, rows)


def _left_out(reasons: dict[str, str]) -> str:
    return table(["!picture", "!why"], [[text(name), text(why)] for name, why in reasons.items()])


def _components(components: list[dict[str, Any]]) -> str:
    rows = [
        [number(row, "d"), number(one["images"], "d"), number(one["points"], "d"), text("kept" if row == 1 else "out")]
        for row, one in enumerate(components, 1)
    ]
    return table(["component", "pictures", "points", "!"], rows)


def _cameras(cameras: dict[str, Any]) -> str:
    rows = [
        [
            text(camera["model"]),
            number(camera["width"], "d"),
            number(camera["height"], "d"),
            text(", ".join(f"{value:.5g}" for value in camera["params"])),
        ]
        for camera in cameras.values()
    ]
    return table(["!model", "width", "height", "!parameters, in COLMAP's order"], rows)


def _meanings(figures: dict[str, Any]) -> str:
    reference = figures["georeference"]
    sentences = [
        "Reprojection error: mean distance between where a point is seen and where its place says it should be. Half a "
        "pixel is good; above two, poses will blur what is learned.",
        "Covered: the share of 16 by 12 cells of a picture that hold at least one point. Sky and bare walls have none.",
        "Matches with: pictures that show the same things by one geometry. Those with few are the weak links.",
    ]
    if reference["is_metric"]:
        ratio = reference["metres_per_gps_metre"]
        sentences.append(
            "Off GPS: horizontal distance between a camera and what its receiver said; the receiver is usually the one "
            "that errs. "
            + (f"Distances between cameras are {ratio:.3f} of those by GPS. " if ratio else "")
            + f"Positions in random order would be {reference['residual_by_chance_m']:.1f} m off."
        )
    return "".join(f"<p>{sentence}</p>\n" for sentence in sentences)
