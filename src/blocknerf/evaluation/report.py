"""report/index.html: one page without foreign hosts, made from what metrics.json holds."""

from collections.abc import Iterable, Sequence
from html import escape
from importlib.resources import files
from pathlib import Path
from typing import Any

from blocknerf.core.files import write_bytes
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
"""What pictures are measured by, as it is called in tables."""
MISSING = '<td data-value="-1">&ndash;</td>'


def write_report(folder: Path, metrics: dict[str, Any], map_png: Path | None = None) -> Path:
    """Writes index.html beside the pictures, with a copy of the map where there is one; returns its path."""
    has_map = map_png is not None and map_png.is_file()
    if map_png is not None and has_map:
        write_bytes(folder / "map.png", map_png.read_bytes())
    page = folder / "index.html"
    write_bytes(page, report_page(metrics, has_map).encode())
    return page


def report_page(metrics: dict[str, Any], has_map: bool) -> str:
    """The page as text. The same metrics give the same page."""
    style, script = (files("blocknerf.evaluation").joinpath(f"report.{kind}").read_text() for kind in ("css", "js"))
    sections = [
        _heading(metrics),
        _section("Map", '<p class="map"><img src="map.png" alt="Blocks, cameras and overlaps"></p>') if has_map else "",
        _section("Protocols", _protocol_table(metrics)),
        _section("Blocks", _block_table(metrics["blocks"])),
        _section("Images", _image_table(metrics["images"])),
        _section("Side by side", "".join(_image_views(row, image) for row, image in enumerate(metrics["images"]))),
        _section("Left out", _skipped_table(metrics["skipped"])) if metrics["skipped"] else "",
        _section("What the figures mean", _meanings(metrics)),
    ]
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n<title>blocknerf: evaluation</title>\n'
        f"<style>\n{style}</style>\n</head>\n<body>\n{''.join(sections)}<script>\n{script}</script>\n</body>\n</html>\n"
    )


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
        f"{len(rendered)} of {_count(len(metrics['blocks']), 'trained block')}.</p>\n"
        f'<div class="cards">{boxes}</div>\n'
    )


def _protocol_table(metrics: dict[str, Any]) -> str:
    """The composited picture under every protocol, side by side, and the metrics that are missing."""
    judges = measured_by(metrics)
    rows = []
    for name, entry in metrics["protocols"].items():
        marked = f"{name} v{entry['version']}" + (" (optimistic)" if entry["optimistic"] else "")
        figures = [
            _number(entry[judge], ".2f" if judge == "psnr" else ".3f") if judge in entry else MISSING
            for judge in judges
        ]
        gain = _gain(entry["gain_db"]) if "gain_db" in entry else MISSING
        rows.append([_text(marked), _text(entry["sees"]), _number(entry["images"], "d"), *figures, gain])
    heads = [JUDGES[judge] for judge in judges]
    missing = "".join(
        f'<p class="faint">{escape(JUDGES[judge])} is not measured: {escape(why)}.</p>\n'
        for judge, why in metrics["not_measured"].items()
    )
    return _table(["!protocol", "!sees of a test image", "images", *heads, "gain by looking"], rows) + missing


def measured_by(metrics: dict[str, Any]) -> list[str]:
    """Names of the metrics that any protocol has a figure of, in the order of JUDGES."""
    return [judge for judge in JUDGES if any(judge in entry for entry in metrics["protocols"].values())]


def _block_table(blocks: dict[str, Any]) -> str:
    columns = ["!block", "images nearest to it", "PSNR", "SSIM", "PSNR nearest", "SSIM nearest", "gain"]
    rows = [[_text(name), _number(block["images"], "d"), *_figures(block)] for name, block in blocks.items()]
    return _table(columns, rows)


def _image_table(images: Sequence[dict[str, Any]]) -> str:
    columns = ["!image", "!drive", "!blocks", "PSNR", "SSIM", "PSNR nearest", "SSIM nearest", "gain"]
    rows = [
        [
            f'<td class="text name"><a href="#image-{row}">{escape(image["name"])}</a></td>',
            _text(image["drive"]),
            _text(_shares(image)),
            *_figures(image),
        ]
        for row, image in enumerate(images)
    ]
    return _table(columns, rows)


def _figures(entry: dict[str, Any]) -> list[str]:
    """The five cells of figures that blocks and images share; empty ones where nothing was measured."""
    if "composited" not in entry:
        return [MISSING] * 5
    composited, nearest = entry["composited"], entry["nearest"]
    return [
        _number(composited["psnr"], ".2f"),
        _number(composited["ssim"], ".3f"),
        _number(nearest["psnr"], ".2f"),
        _number(nearest["ssim"], ".3f"),
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
    return _table(["!image", "!why"], [[_text(entry["name"]), _text(entry["reason"])] for entry in skipped])


def _meanings(metrics: dict[str, Any]) -> str:
    meanings = metrics["protocol"] | {name: entry["meaning"] for name, entry in metrics["protocols"].items()}
    entries = "".join(
        f"<dt>{escape(name.replace('_', ' '))}</dt><dd>{escape(str(value))}</dd>" for name, value in meanings.items()
    )
    return f"<dl>{entries}</dl>"


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A sortable table; a column whose name begins with ! holds text."""
    heads = "".join(
        f'<th scope="col"{" class=text" if name[0] == "!" else ""}><button>{escape(name.lstrip("!"))}</button></th>'
        for name in columns
    )
    body = "\n".join(f"<tr>{''.join(row)}</tr>" for row in rows)
    return (
        f'<div class="scroll"><table class="sortable"><thead><tr>{heads}</tr></thead>\n'
        f"<tbody>{body}</tbody></table></div>\n"
    )


def _section(title: str, content: str) -> str:
    return f"<section><h2>{escape(title)}</h2>\n{content}</section>\n"


def _text(value: str) -> str:
    return f'<td class="text name">{escape(value)}</td>'


def _number(value: float | int, form: str) -> str:
    return f'<td data-value="{value:.6f}">{value:{form}}</td>'


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
