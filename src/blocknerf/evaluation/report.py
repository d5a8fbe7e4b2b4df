"""report/index.html: one self-contained page, made from metrics.json."""

from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

from blocknerf.core.files import write_bytes
from blocknerf.core.page import MISSING, number, page, picture, section, table, text
from blocknerf.rendering.colours import LARGEST_ERROR

VIEWS = {
    "truth": "photograph",
    "composited": "composited",
    "nearest": "nearest block alone",
    "error": f"error of composited, bright at {LARGEST_ERROR:g}",
    "distance": "distance, near is bright",
}

JUDGES = {
    "psnr": "PSNR",
    "ssim": "SSIM",
    "lpips_alex": "LPIPS (Alex)",
    "lpips_vgg": "LPIPS (VGG)",
    "st_lpips_alex": "ST-LPIPS (Alex)",
}
"""Metrics and their names in tables."""


def write_report(folder: Path, metrics: dict[str, Any], map_png: Path | None = None) -> Path:
    """Writes index.html beside the pictures, with a copy of the map if there is one; returns its path."""
    has_map = map_png is not None and map_png.is_file()
    if map_png is not None and has_map:
        write_bytes(folder / "map.png", map_png.read_bytes())
    path = folder / "index.html"
    write_bytes(path, report_page(metrics, has_map).encode())
    return path


def report_page(metrics: dict[str, Any], has_map: bool) -> str:
    """The page as text. The same metrics give the same page."""
    sections = [
        _heading(metrics),
        section("Map", picture("map.png", "Blocks, cameras and overlaps")) if has_map else "",
        section("Protocols", _protocol_table(metrics)),
        section("Blocks", _block_table(metrics["blocks"])),
        section("Images", _image_table(metrics["images"])),
        section("Side by side", "".join(_image_views(row, image) for row, image in enumerate(metrics["images"]))),
        section("Skipped", _skipped_table(metrics["skipped"])) if metrics["skipped"] else "",
        section("What the figures mean", _meanings(metrics)),
    ]
    return page("blocknerf: evaluation", sections)


def _heading(metrics: dict[str, Any]) -> str:
    composited, nearest = metrics["composited"], metrics["nearest"]
    rendered = [block for block in metrics["blocks"].values() if block["images"]]
    cards = [
        (f"{composited['psnr']:.2f} dB", "PSNR, composited"),
        (f"{composited['ssim']:.3f}", "SSIM, composited"),
        (f"{nearest['psnr']:.2f} dB", "PSNR, nearest block alone"),
        (f"{nearest['ssim']:.3f}", "SSIM, nearest block alone"),
        (_signed(composited["psnr"] - nearest["psnr"]) + " dB", "what compositing is worth"),
    ]
    boxes = "".join(f'<div class="card"><b>{figure}</b><span>{label}</span></div>' for figure, label in cards)
    return (
        "<h1>Evaluation of the city</h1>\n"
        f'<p class="faint">{_count(len(metrics["images"]), "test image")}, none of them trained on, nearest to '
        f"{len(rendered)} of {_count(len(metrics['blocks']), 'trained block')}. "
        f"Protocol {metrics['heading']}: mean code of the drive, pixels that masks keep.</p>\n"
        f'<div class="cards">{boxes}</div>\n'
    )


def _protocol_table(metrics: dict[str, Any]) -> str:
    """The composited picture under every protocol, side by side, and the metrics that are missing."""
    judges = measured_by(metrics)
    rows = []
    for name, entry in metrics["protocols"].items():
        marked = f"{name} v{entry['version']}" + (" (optimistic)" if entry["optimistic"] else "")
        figures = [
            number(entry[judge], ".2f" if judge == "psnr" else ".3f") if judge in entry else MISSING for judge in judges
        ]
        gain = _gain(entry["gain_db"]) if "gain_db" in entry else MISSING
        rows.append([text(marked), text(entry["sees"]), number(entry["images"], "d"), *figures, gain])
    heads = [JUDGES[judge] for judge in judges]
    lines = (*why_plain_differs(metrics), *metrics["without_order"], *not_measured(metrics))
    missing = "".join(f'<p class="faint">{escape(line)}</p>\n' for line in lines)
    return table(["!protocol", "!sees of a test image", "images", *heads, "gain by looking"], rows) + missing


def why_plain_differs(metrics: dict[str, Any]) -> list[str]:
    """A sentence if `plain` has another figure than the heading, although their pictures are the same."""
    plain = metrics["protocols"].get("plain", {})
    if plain.get("psnr") in (None, metrics["composited"]["psnr"]):
        return []
    return [f"plain counts pixels under masks too, which {metrics['heading']} and the figures above leave out."]


def not_measured(metrics: dict[str, Any]) -> list[str]:
    """A sentence for each reason why metrics are missing."""
    judges_of: dict[str, list[str]] = {}
    for judge, why in metrics["not_measured"].items():
        judges_of.setdefault(why, []).append(JUDGES[judge])
    return [
        f"{', '.join(judges)} {'is' if len(judges) == 1 else 'are'} not measured: {why}."
        for why, judges in judges_of.items()
    ]


def measured_by(metrics: dict[str, Any]) -> list[str]:
    """Names of the metrics for which any protocol has a figure, in the order of JUDGES."""
    return [judge for judge in JUDGES if any(judge in entry for entry in metrics["protocols"].values())]


def _block_table(blocks: dict[str, Any]) -> str:
    columns = ["!block", "images nearest to it", "PSNR", "SSIM", "PSNR nearest", "SSIM nearest", "gain"]
    rows = [[text(name), number(block["images"], "d"), *_figures(block)] for name, block in blocks.items()]
    return table(columns, rows)


def _image_table(images: Sequence[dict[str, Any]]) -> str:
    columns = ["!image", "!drive", "!blocks", "PSNR", "SSIM", "PSNR nearest", "SSIM nearest", "gain"]
    rows = [
        [
            f'<td class="text name"><a href="#image-{row}">{escape(image["name"])}</a></td>',
            text(image["drive"]),
            text(_shares(image)),
            *_figures(image),
        ]
        for row, image in enumerate(images)
    ]
    return table(columns, rows)


def _figures(entry: dict[str, Any]) -> list[str]:
    """The five cells of figures for blocks and images; empty if nothing was measured."""
    if "composited" not in entry:
        return [MISSING] * 5
    composited, nearest = entry["composited"], entry["nearest"]
    return [
        number(composited["psnr"], ".2f"),
        number(composited["ssim"], ".3f"),
        number(nearest["psnr"], ".2f"),
        number(nearest["ssim"], ".3f"),
        _gain(composited["psnr"] - nearest["psnr"]),
    ]


def _image_views(row: int, image: dict[str, Any]) -> str:
    views = "".join(
        f'<figure><a href="images/{escape(image["pictures"][kind])}">'
        f'<img loading="lazy" src="images/{escape(image["pictures"][kind])}" alt="{escape(label)}"></a>'
        f"<figcaption>{escape(label)}</figcaption></figure>"
        for kind, label in VIEWS.items()
    )
    figures = (
        f"{image['composited']['psnr']:.2f} dB, SSIM {image['composited']['ssim']:.3f} from blocks {_shares(image)}; "
        f"nearest alone {image['nearest']['psnr']:.2f} dB, SSIM {image['nearest']['ssim']:.3f}; drive {image['drive']}"
    )
    if image["valid_share"] < 1:
        figures += f"; {100 * image['valid_share']:.0f} % of the pixels count, the others are dark in the photograph"
    return (
        f'<article id="image-{row}"><h3>{escape(image["name"])}</h3><div class="faint">{escape(figures)}</div>'
        f'<div class="views">{views}</div></article>\n'
    )


def _skipped_table(skipped: Sequence[dict[str, str]]) -> str:
    return table(["!image", "!why"], [[text(entry["name"]), text(entry["reason"])] for entry in skipped])


def _meanings(metrics: dict[str, Any]) -> str:
    meanings = metrics["protocol"] | {name: entry["meaning"] for name, entry in metrics["protocols"].items()}
    entries = "".join(
        f"<dt>{escape(name.replace('_', ' '))}</dt><dd>{escape(str(value))}</dd>" for name, value in meanings.items()
    )
    return f"<dl>{entries}</dl>"


def _gain(gain_db: float) -> str:
    tone = "up" if gain_db >= 0.005 else "down" if gain_db <= -0.005 else "faint"
    return f'<td class="{tone}" data-value="{gain_db:.6f}">{_signed(gain_db)}</td>'


def _shares(image: dict[str, Any]) -> str:
    pairs = zip(image["blocks"], image["weights"], strict=True)
    return ", ".join(f"{block_id} {'<1' if weight < 0.005 else f'{100 * weight:.0f}'} %" for block_id, weight in pairs)


def _signed(value: float) -> str:
    return f"{value:+.2f}".replace("-", "\N{MINUS SIGN}")


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
