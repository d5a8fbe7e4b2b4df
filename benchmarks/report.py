"""Prints the measurements of a benchmark as a Markdown table, and writes them to its results file."""

import re
import textwrap
from collections.abc import Iterable, Mapping, Sequence

from benchmarks.results import Cell, Figure, Machine, Row, rows_of, this_machine, this_run, write_rows

WIDTH = 120
Placed = tuple[Machine, Row]
"""A row, and the machine on which it was measured."""


def report(
    benchmark: str,
    cells: Mapping[str, Mapping[str, Cell]],
    table: str = "",
    details: Mapping[str, dict] | None = None,
    gpu: str = "",
) -> None:
    """Prints rows (by name; cells by column head) and writes them to the results file.

    A row replaces the row of the same name in this table. `details` of a row are written but not printed.
    """
    machine = this_machine(gpu)
    rows = rows_of(cells, this_run(benchmark), details)
    print(f"\n{markdown([(machine, row) for row in rows])}")
    print(f"\nwritten to {write_rows(benchmark, table, rows, machine)}", flush=True)


def markdown(rows: Sequence[Placed]) -> str:
    """A table, and below it what all rows share: command, commit, machine, number of runs.

    What differs between rows is a column.
    """
    origins = {
        "command": [f"`{row.run.command}`" if row.run.command else "" for _, row in rows],
        "commit": [row.run.commit for _, row in rows],
        "machine": [described(machine) for machine, _ in rows],
    }
    differing = {head: texts for head, texts in origins.items() if len(set(texts)) > 1}
    if "command" in differing:
        differing["command"] = [text.replace("`python -m ", "`") for text in differing["command"]]
    heads = list(dict.fromkeys(head for _, row in rows for head in row.cells))
    columns = {head: [row.cells.get(head, "") for _, row in rows] for head in heads}
    runs = {figure.runs for cells in columns.values() for figure in figures(cells)}
    in_words = any(figures(cells) and any(map(is_text, cells)) for cells in columns.values())
    texts = [[row.name for _, row in rows]]
    texts += [[formatted(cell, cells, runs) for cell in cells] for cells in columns.values()]
    texts += differing.values()
    rules = [":--", *("--:" if figures(cells) else ":--" for cells in columns.values()), *(":--" for _ in differing)]
    titles = ["", *(title(head, cells) for head, cells in columns.items()), *differing]
    body = [[cell.replace("|", r"\|") for cell in line] for line in zip(*texts, strict=True)]
    lines = [f"| {' | '.join(line)} |" for line in (titles, rules, *body)]
    same = {head: texts[0] for head, texts in origins.items() if head not in differing and texts[0]}
    below = caption(same, runs_of_all(runs, in_words), spreads(columns.values()))
    return "\n".join([*lines, *(["", below] if below else [])])


def figures(cells: Iterable[Cell]) -> list[Figure]:
    return [cell for cell in cells if isinstance(cell, Figure)]


def is_text(cell: Cell) -> bool:
    return isinstance(cell, str) and cell != ""


def title(head: str, cells: Sequence[Cell]) -> str:
    """The head of a column, with the unit of its figures."""
    unit = common_unit(cells)
    return head if not unit or head.endswith(f", {unit}") or head == unit else f"{head}, {unit}"


def common_unit(cells: Sequence[Cell]) -> str:
    """The unit of a column; empty if units differ or there is text."""
    units = {cell.unit if isinstance(cell, Figure) else None for cell in cells if cell != ""}
    return units.pop() or "" if len(units) == 1 else ""


def formatted(cell: Cell, column: Sequence[Cell], runs: set[int | None]) -> str:
    """The text of a cell: a figure, its unit if the head has none, its spread and its note."""
    if isinstance(cell, str):
        return cell
    unit = cell.unit if not common_unit(column) else ""
    ends = [number(end, cell.format) for end in (cell.low, cell.high) if end is not None]
    brackets = [" to ".join(ends)] if ends else []
    brackets += [runs_text(cell.runs)] if len(runs) > 1 else []
    brackets += [cell.note] if cell.note else []
    text = f"{number(cell.median, cell.format)}{' ' * bool(unit)}{unit}"
    return f"{text} ({'; '.join(brackets)})" if brackets else text


def number(value: float, format: str) -> str:
    """As "1.4e-7", where Python writes e-07."""
    return re.sub(r"e([+-])0(?=\d)", r"e\1", f"{value:{format}}")


def runs_text(runs: int | None) -> str:
    return "runs not counted" if runs is None else "one run" if runs == 1 else f"{runs} runs"


def spreads(columns: Iterable[Sequence[Cell]]) -> list[str]:
    return sorted({figure.spread for cells in columns for figure in figures(cells) if figure.low is not None})


def runs_of_all(runs: set[int | None], in_words: bool) -> str:
    """A sentence for the whole table about runs; cells in words may come from another number of runs."""
    if len(runs) != 1:
        return ""
    (number,) = runs
    each = "one run each" if number == 1 else f"medians of {runs_text(number)}"
    return f"{each} unless said otherwise" if in_words else each


def caption(same: Mapping[str, str], runs: str, spread: Sequence[str]) -> str:
    parts = [same["command"]] if "command" in same else []
    parts += [f"commit {same['commit']}"] if "commit" in same else []
    parts += [same["machine"]] if "machine" in same else []
    parts += [runs] if runs else []
    parts += [f"in brackets {' or '.join(spread)}"] if spread else []
    if not parts:
        return ""
    text = "; ".join(parts)
    return textwrap.fill(text[:1].upper() + text[1:] + ".", WIDTH, break_long_words=False, break_on_hyphens=False)


def described(machine: Machine) -> str:
    """As "AMD EPYC, 2 cores, 24 GB, AVX-512"."""
    cores = [] if machine.cores is None else [f"{machine.cores} core{'s' * (machine.cores > 1)}"]
    memory = [] if machine.memory_gb is None else [f"{machine.memory_gb:g} GB"]
    sets = [each.upper().replace("AVX512", "AVX-512") for each in machine.instruction_sets[:1]]
    name = "machine unknown" if machine.slug == "unknown" else machine.processor
    return ", ".join([name, *cores, *memory, *sets, *([machine.gpu] if machine.gpu else [])])
