"""Writes the tables of the documents from the results of benchmarks; with --check, says which differ.

python -m benchmarks.tables [--check]

A table stands between two lines of a document:

    <!-- table: quality/capture fox; interop/against fox -->
    <!-- end -->

The first names a benchmark and one of its tables, or several, whose rows become one table. Rows of all machines are
used. If their commits, commands or machines differ, the table has a column for them.
"""

import argparse
import re
import sys
from pathlib import Path

from benchmarks.report import Placed, markdown
from benchmarks.results import ROOT, all_results, results_folder
from blocknerf.core.errors import UserError
from blocknerf.core.files import write_bytes
from blocknerf.core.reading import read_text

GENERATED = re.compile(r"^<!-- table: ([^>]+?) -->\n(.*?)^<!-- end -->$", re.DOTALL | re.MULTILINE)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="change nothing; code 1 where a document would change")
    arguments = parser.parse_args()
    try:
        differing = update(documents(), arguments.check)
    except UserError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
    if differing and arguments.check:
        sys.exit(f"Not what the results say: {', '.join(differing)}. `python -m benchmarks.tables` writes them anew.")
    print("\n".join(f"written: {place}" for place in differing) or "All tables are what the results say.")


def documents() -> list[Path]:
    return [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def update(paths: list[Path], check: bool = False) -> list[str]:
    """The tables that were not what the results say, as "results.md, quality/capture fox"; they are now, or stay."""
    differing = []
    for path in paths:
        text = read_text(path, "document")
        for sources, content in GENERATED.findall(text):
            if content != generated(sources):
                differing.append(f"{path.name}, {' '.join(sources.split())}")
        if not check:
            new = GENERATED.sub(lambda found: f"<!-- table: {found[1]} -->\n{generated(found[1])}<!-- end -->", text)
            if new != text:
                write_bytes(path, new.encode())
    return differing


def generated(sources: str) -> str:
    rows = [row for source in sources.split(";") for row in rows_of_source(source)]
    return f"\n{markdown(rows)}\n\n"


def rows_of_source(source: str) -> list[Placed]:
    """Raises UserError where no machine has the table."""
    benchmark, _, table = " ".join(source.split()).partition(" ")
    rows = [(results.machine, row) for results in all_results(benchmark) for row in results.tables.get(table, ())]
    if not rows:
        raise UserError(
            f"No file {results_folder().name}/*/{benchmark}.json has a table {table!r}, which a document asks for. "
            f"Run the benchmark, or correct the line `<!-- table: {benchmark} {table} -->`."
        )
    return rows


if __name__ == "__main__":
    main()
