"""Results of benchmarks: a JSON file for each machine and benchmark, whose rows have their commit and command.

They are in benchmarks/results, or in the folder BLOCKNERF_BENCHMARK_RESULTS, for trials whose figures should not be in
the documents. `benchmarks.report` prints and writes them; `benchmarks.tables` writes them into the documents.
"""

import importlib.metadata
import os
import platform
import re
import shlex
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import date
from pathlib import Path
from typing import Annotated

from pydantic import Field, JsonValue

from blocknerf.core.files import write_json
from blocknerf.core.reading import read_json
from blocknerf.core.stored import Number, Text, fitted

ROOT = Path(__file__).parents[1]
RESULTS_VARIABLE = "BLOCKNERF_BENCHMARK_RESULTS"
UNKNOWN = "unknown"
REMEDY = "Restore it from the repository, or remove it and run the benchmark again."

Named = Annotated[str, Field(strict=True, min_length=1, max_length=4096)]
Count = Annotated[int, Field(strict=True, ge=1)]


@dataclass(frozen=True)
class Figure:
    """A measured number: the median of its runs, and their lowest and highest values."""

    median: Number
    unit: Text = ""
    format: Annotated[str, Field(strict=True, pattern=r"^\+?,?(\.\d{1,2})?[efg%]$")] = ".2f"
    """How Python writes the number, as in ",.0f"."""
    runs: Count | None = 1
    """Number of runs; None if unknown."""
    low: Number | None = None
    high: Number | None = None
    spread: Text = "lowest to highest"
    """What `low` and `high` are."""
    note: Text = ""
    """A note on this figure."""


Cell = Figure | Text


@dataclass(frozen=True)
class Run:
    """The origin of a row. Versions are those of torch and numba."""

    command: Text
    commit: Named
    """Short hash, with "+changes" if files differed from it; or a description in words."""
    date: Named
    versions: dict[Text, Text] = field(default_factory=dict)


@dataclass(frozen=True)
class Row:
    name: Named
    cells: dict[Named, Cell]
    """Cells by column head."""
    run: Run
    details: dict[Text, JsonValue] = field(default_factory=dict)
    """Other measurements, which tables do not show."""


@dataclass(frozen=True)
class Machine:
    slug: Annotated[str, Field(strict=True, pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$")]
    """The name of its folder: the processor, its widest instruction set, the number of cores."""
    processor: Named
    cores: Count | None
    memory_gb: Number | None
    instruction_sets: tuple[Text, ...]
    gpu: Text = ""


@dataclass(frozen=True)
class Results:
    """All tables of one benchmark on one machine, by name; a benchmark with a single table calls it ""."""

    benchmark: Annotated[str, Field(strict=True, pattern=r"^[a-z0-9_]+(/[a-z0-9_]+)*$")]
    machine: Machine
    tables: dict[Text, tuple[Row, ...]]


def measured(
    values: float | Sequence[float], unit: str = "", format: str = ".2f", note: str = "", runs: int = 1
) -> Figure:
    """The figure of one run, or of several: their median, the lowest and the highest.

    `runs` is the number of runs behind a single number, such as a ratio of medians.
    """
    if isinstance(values, int | float):
        return Figure(float(values), unit, format, runs, note=note)
    low, high = float(min(values)), float(max(values))
    spread = (None, None) if len(values) == 1 else (low, high)
    return Figure(float(statistics.median(values)), unit, format, len(values), *spread, note=note)


def results_folder() -> Path:
    return Path(os.environ.get(RESULTS_VARIABLE) or ROOT / "benchmarks" / "results")


def path_of(benchmark: str, machine: str) -> Path:
    return results_folder() / machine / f"{benchmark}.json"


def read_results(path: Path) -> Results:
    """Raises UserError that names the first value that does not fit."""
    tree = read_json(path, "result of a benchmark", remedy=REMEDY)
    return fitted(Results, tree, "result of a benchmark", path, REMEDY)


def all_results(benchmark: str) -> list[Results]:
    """Results of all machines, in the order of their folders."""
    return [read_results(path) for path in sorted(results_folder().glob(f"*/{benchmark}.json"))]


def write_rows(benchmark: str, table: str, rows: Sequence[Row], machine: Machine) -> Path:
    """Writes rows to a table. Each replaces the row of the same name; the others keep their commit."""
    path = path_of(benchmark, machine.slug)
    tables = dict(read_results(path).tables) if path.is_file() else {}
    kept = {row.name: row for row in tables.get(table, ())} | {row.name: row for row in rows}
    results = Results(benchmark, machine, tables | {table: tuple(kept.values())})
    tree = without_defaults(asdict(results))
    fitted(Results, tree, "result of a benchmark", path, REMEDY)
    write_json(path, tree)
    return path


def without_defaults(tree: dict) -> dict:
    """A figure of one run has no spread and usually no note; empty values are not written."""
    for rows in tree["tables"].values():
        for row in rows:
            row["cells"] = {head: _shortened(cell) for head, cell in row["cells"].items()}
            if not row["details"]:
                del row["details"]
    if not tree["machine"]["gpu"]:
        del tree["machine"]["gpu"]
    return tree


def _shortened(cell: dict | str) -> dict | str:
    if isinstance(cell, str):
        return cell
    unsaid = {"unit", "note"} if cell["low"] is not None else {"unit", "note", "low", "high", "spread"}
    return {key: value for key, value in cell.items() if key not in unsaid or value and key in ("unit", "note")}


def rows_of(cells: Mapping[str, Mapping[str, Cell]], run: Run, details: Mapping[str, dict] | None = None) -> list[Row]:
    return [Row(name, dict(row), run, (details or {}).get(name, {})) for name, row in cells.items()]


def this_run(benchmark: str) -> Run:
    """The command of this process, without the folders of this machine; its commit; today."""
    words = [_without_folder(word) for word in sys.argv[1:]]
    command = f"python -m benchmarks.{benchmark.replace('/', '.')}"
    versions = {name: importlib.metadata.version(name) for name in ("torch", "numba")}
    return Run(" ".join([command, *map(shlex.quote, words)]), commit(), date.today().isoformat(), versions)


def _without_folder(word: str) -> str:
    return Path(word).name if word.startswith("/") else word


DECISIVE = ("src", "benchmarks", "tests/support", "configs", "pyproject.toml", ":!benchmarks/results")
"""Git paths of the files on which figures depend."""


def commit() -> str:
    """Short hash, with "+changes" if files differ on which figures depend; documents, for example, do not count."""
    head = _git("rev-parse", "--short", "HEAD")
    if not head:
        return UNKNOWN
    changes = _git("status", "--porcelain", "--", *DECISIVE)
    return head + "+changes" * bool(changes)


def _git(*words: str) -> str:
    try:
        done = subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return ""
    return done.stdout.strip()


# --- this machine ---------------------------------------------------------------------------------------------------

WIDEST = {"amx": "amx_tile", "avx512": "avx512f", "avx2": "avx2", "sve": "sve", "neon": "asimd"}
"""Instruction sets, the widest first, and their flags in Linux."""


def this_machine(gpu: str = "") -> Machine:
    name, flags = processor()
    sets = tuple(each for each, flag in WIDEST.items() if flag in flags)
    cores, memory_gb = os.cpu_count() or 1, _memory_gb()
    machine = Machine(slug(name, sets, cores), name, cores, memory_gb, sets, gpu)
    return replace(machine, slug=f"{machine.slug}-{_plain(gpu)}") if gpu else machine


def slug(processor_name: str, sets: Sequence[str], cores: int) -> str:
    """As "amd-epyc-avx512-2-cores"; without trade marks and clock rates, which differ between equal machines."""
    name = re.sub(r"\((R|TM)\)|\b(CPU|Processor)\b|@.*$", " ", processor_name, flags=re.IGNORECASE)
    words = [_plain(name), *sets[:1], f"{cores}-core{'s' * (cores > 1)}"]
    return "-".join(word for word in words if word)


def _plain(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


def processor() -> tuple[str, frozenset[str]]:
    """Its name, and the flags of its instruction sets."""
    path = Path("/proc/cpuinfo")
    pairs = [line.split(":", 1) for line in path.read_text().splitlines() if ":" in line] if path.is_file() else []
    found = {key.strip(): value.strip() for key, value in reversed(pairs)}
    name = found.get("model name") or platform.processor() or platform.machine() or UNKNOWN
    return name, frozenset((found.get("flags") or found.get("Features", "")).split())


def _memory_gb() -> float:
    return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9)
