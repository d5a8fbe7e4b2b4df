"""Self-contained HTML pages: one style for every report, with sortable tables."""

from collections.abc import Iterable, Sequence
from html import escape
from importlib.resources import files

MISSING = '<td data-value="-1">&ndash;</td>'


def page(title: str, sections: Sequence[str]) -> str:
    """The whole document, with its style and script inside; `sections` are HTML, `title` is text."""
    style, script = (files("blocknerf.core").joinpath(f"page.{kind}").read_text() for kind in ("css", "js"))
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n<title>{escape(title)}</title>\n'
        f"<style>\n{style}</style>\n</head>\n<body>\n{''.join(sections)}<script>\n{script}</script>\n</body>\n</html>\n"
    )


def section(title: str, content: str) -> str:
    return f"<section><h2>{escape(title)}</h2>\n{content}</section>\n"


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A sortable table of cells; a column whose name begins with ! holds text."""
    heads = "".join(
        f'<th scope="col"{" class=text" if name[0] == "!" else ""}><button>{escape(name.lstrip("!"))}</button></th>'
        for name in columns
    )
    body = "\n".join(f"<tr>{''.join(row)}</tr>" for row in rows)
    return (
        f'<div class="scroll"><table class="sortable"><thead><tr>{heads}</tr></thead>\n'
        f"<tbody>{body}</tbody></table></div>\n"
    )


def picture(name: str, label: str) -> str:
    """A picture beside the page that leads to its file."""
    return f'<p class="map"><a href="{escape(name)}"><img src="{escape(name)}" alt="{escape(label)}"></a></p>\n'


def text(value: str) -> str:
    return f'<td class="text name">{escape(value)}</td>'


def number(value: float | int, form: str) -> str:
    return f'<td data-value="{value:.6f}">{value:{form}}</td>'
