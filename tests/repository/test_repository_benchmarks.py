"""Benchmarks: one way of storing results, tables that are what the results say, commands that are the modules'."""

import ast
import importlib
import importlib.util
import json
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks import report, results, tables
from benchmarks.results import RESULTS_VARIABLE, Figure, Machine, Row, Run, measured
from blocknerf.core.errors import UserError

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "benchmarks"
SOURCES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts): path.read_text(encoding="utf-8")
    for path in sorted(FOLDER.rglob("*.py"))
}
COMMANDS = [module for module, text in SOURCES.items() if "\ndef main(" in text]
STORED = sorted((FOLDER / "results").rglob("*.json"))
ONE = Machine("one-2-cores", "One", 2, 24.0, ("avx2",))
OTHER = replace(ONE, slug="other-2-cores", processor="Other")
FIRST, SECOND = Run("python -m x", "aaaaaaa", "2026-01-01"), Run("python -m x", "bbbbbbb+changes", "2026-01-02")


@pytest.fixture(autouse=True)
def _folder(tmp_path, monkeypatch):
    """Nothing that a test writes stands with what was measured."""
    monkeypatch.setenv(RESULTS_VARIABLE, str(tmp_path / "results"))


def rows(run: Run, **figures: float) -> list[Row]:
    return results.rows_of({name: {"PSNR": measured(value, "dB")} for name, value in figures.items()}, run)


# --- the record -----------------------------------------------------------------------------------------------------


def test_what_is_written_is_what_is_read():
    cells = {
        "one run": measured(3.25, "dB", note="beside other work"),
        "three runs": measured([1.0, 2.0, 4.0], "s", "+,.1f"),
        "not counted": Figure(1.0, runs=None),
        "words": "nothing, or worse",
        "nothing": "",
    }
    written = Row("a", cells, Run("python -m x OUT", "1234567", "2026-01-01", {"torch": "2"}), {"blocks": [1, 2.5]})
    path = results.write_rows("quality/x", "fox", [written], ONE)
    assert path == results.path_of("quality/x", ONE.slug)
    assert results.read_results(path) == results.Results("quality/x", ONE, {"fox": (written,)})


def test_figures_of_several_runs_are_their_median_and_their_ends():
    assert measured([5.0, 1.0, 2.0]) == Figure(2.0, runs=3, low=1.0, high=5.0)
    assert measured([5.0]) == measured(5.0) == Figure(5.0)


def test_a_row_takes_the_place_of_its_name_and_the_others_keep_their_commit():
    results.write_rows("x", "", rows(FIRST, a=1, b=2, c=3), ONE)
    path = results.write_rows("x", "", rows(SECOND, b=4, d=5), ONE)
    found = [(row.name, row.run.commit[:1]) for row in results.read_results(path).tables[""]]
    assert found == [("a", "a"), ("b", "b"), ("c", "a"), ("d", "b")]


@pytest.mark.parametrize(
    ("place", "value", "named"),
    [
        (("benchmark",), "../x", "benchmark"),
        (("machine", "slug"), "a/b", "slug"),
        (("tables", "", 0, "run", "commit"), "", "commit"),
        (("tables", "", 0, "cells", "PSNR", "median"), "21", "median"),
        (("tables", "", 0, "cells", "PSNR", "format"), "{0}", "format"),
        (("tables", "", 0, "cells", "PSNR", "runs"), 0, "runs"),
    ],
)
def test_a_damaged_result_is_a_sentence(place, value, named):
    path = results.write_rows("x", "", rows(FIRST, a=1), ONE)
    tree = json.loads(path.read_text())
    inner = tree
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = value
    path.write_text(json.dumps(tree))
    with pytest.raises(UserError, match=rf"(?s)x\.json is damaged .*{named}"):
        results.read_results(path)


def test_what_could_not_be_read_is_not_written():
    path = results.write_rows("x", "", rows(FIRST, a=1), ONE)
    before = path.read_bytes()
    with pytest.raises(UserError, match="damaged"):
        results.write_rows("x", "", rows(FIRST, a=float("nan")), ONE)
    assert path.read_bytes() == before


def test_a_machine_has_the_same_name_however_it_spells_its_processor():
    plain = results.slug("AMD EPYC", ("avx512", "avx2"), 2)
    assert plain == "amd-epyc-avx512-2-cores"
    assert results.slug("AMD EPYC(TM) Processor", ("avx512", "avx2"), 2) == plain
    assert results.slug("Intel(R) Xeon(R) CPU @ 2.20GHz", (), 1) == "intel-xeon-1-core"
    assert results.this_machine() == results.this_machine()


@pytest.mark.skipif(shutil.which("git") is None, reason="there is no git")
def test_a_commit_says_where_files_differ_from_it(tmp_path, monkeypatch):
    def git(*words: str) -> None:
        named = ["-c", "user.name=a", "-c", "user.email=a@b"]
        subprocess.run(["git", *named, *words], cwd=tmp_path, check=True, capture_output=True)

    monkeypatch.setattr(results, "ROOT", tmp_path)
    assert results.commit() == "unknown"
    for name in ("src/model.py", "docs/page.md", "benchmarks/results/x.json"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("1")
    git("init")
    git("add", ".")
    git("commit", "-m", "first")
    clean = results.commit()
    assert re.fullmatch(r"[0-9a-f]{7,}", clean)
    for name in ("docs/page.md", "docs/new.md", "benchmarks/results/x.json"):
        (tmp_path / name).write_text("2")
    assert results.commit() == clean
    (tmp_path / "src" / "new.py").write_text("2")
    assert results.commit() == f"{clean}+changes"
    (tmp_path / "src" / "new.py").unlink()
    (tmp_path / "src" / "model.py").write_text("2")
    assert results.commit() == f"{clean}+changes"


def test_a_command_names_no_folder_of_the_machine(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["x.py", "/data/fox", "OUT", "--config", "configs/object.yaml", "a b"])
    run = results.this_run("quality/x")
    assert run.command == "python -m benchmarks.quality.x fox OUT --config configs/object.yaml 'a b'"


def test_a_report_is_printed_and_written(capsys):
    report.report("quality/x", {"a": {"PSNR": measured(21.5, "dB")}}, "fox", {"a": {"blocks": 4}})
    (found,) = results.all_results("quality/x")
    (row,) = found.tables["fox"]
    assert (row.cells["PSNR"], row.details) == (measured(21.5, "dB"), {"blocks": 4})
    assert found.machine == results.this_machine()
    assert "| a | 21.50 |" in capsys.readouterr().out


# --- tables ---------------------------------------------------------------------------------------------------------


def table_of(*placed: report.Placed) -> tuple[list[str], str]:
    """The heads of the columns, and what stands below the table."""
    table, _, below = report.markdown(placed).partition("\n\n")
    return [head.strip() for head in table.splitlines()[0].strip("|").split("|")], below


def test_a_table_of_one_commit_has_it_below():
    first, second = rows(FIRST, a=1, b=2)
    heads, below = table_of((ONE, first), (ONE, second))
    assert heads == ["", "PSNR, dB"]
    assert below == "`python -m x`; commit aaaaaaa; One, 2 cores, 24 GB, AVX2; one run each."


@pytest.mark.parametrize(
    ("placed", "column"),
    [
        ((ONE, rows(SECOND, b=2)[0]), "commit"),
        ((OTHER, rows(FIRST, b=2)[0]), "machine"),
        ((ONE, rows(replace(FIRST, command="python -m y"), b=2)[0]), "command"),
    ],
)
def test_a_table_of_two_has_a_column_for_it(placed, column):
    heads, below = table_of((ONE, rows(FIRST, a=1)[0]), placed)
    assert heads == ["", "PSNR, dB", column]
    known = {"commit": "aaaaaaa", "machine": "One", "command": "python -m x"}
    assert [head for head, text in known.items() if text not in below] == [column]


def test_figures_show_their_spread_their_runs_and_their_unit():
    several = Row("a", {"x": measured([1.0, 2.0, 4.0], "s"), "y": measured(0.5, format=".0%")}, FIRST)
    single = Row("b", {"x": measured(3.0, "ms", note="slow"), "y": "none"}, FIRST)
    lines = report.markdown([(ONE, several), (ONE, single)]).splitlines()
    assert lines[0] == "|  | x | y |"
    assert lines[2] == "| a | 2.00 s (1.00 to 4.00; 3 runs) | 50% (one run) |"
    assert lines[3] == "| b | 3.00 ms (one run; slow) | none |"
    assert report.markdown([(ONE, replace(several, cells={"x": several.cells["x"]}))]).endswith(
        "medians of 3 runs; in brackets lowest to highest."
    )


def test_words_do_not_break_a_table():
    (line,) = report.markdown([(ONE, Row("a|b", {"x": "c|d"}, FIRST))]).splitlines()[2:3]
    assert line == r"| a\|b | c\|d |"


def document(tmp_path: Path, sources: str) -> Path:
    path = tmp_path / "page.md"
    path.write_text(f"before\n\n<!-- table: {sources} -->\n<!-- end -->\n\nafter | here\n")
    return path


def test_a_document_gets_its_tables_and_an_edited_one_is_found(tmp_path):
    results.write_rows("quality/x", "fox", rows(FIRST, a=1), ONE)
    results.write_rows("scale/y", "", rows(SECOND, b=2), OTHER)
    path = document(tmp_path, "quality/x fox;\n     scale/y")
    assert tables.update([path], check=True) == ["page.md, quality/x fox; scale/y"]
    assert "| a |" not in path.read_text()
    tables.update([path])
    text = path.read_text()
    assert "| a | 1.00 | aaaaaaa | One" in text
    assert "| b | 2.00 | bbbbbbb+changes | Other" in text
    assert text.startswith("before\n\n<!-- table: quality/x fox;\n     scale/y -->\n\n|")
    assert text.endswith("<!-- end -->\n\nafter | here\n")
    assert tables.update([path], check=True) == []
    path.write_text(text.replace("1.00", "1.01"))
    assert tables.update([path], check=True) == ["page.md, quality/x fox; scale/y"]


def test_the_check_ends_with_a_sentence(tmp_path, monkeypatch, capsys):
    results.write_rows("x", "", rows(FIRST, a=1), ONE)
    monkeypatch.setattr(tables, "documents", lambda: [document(tmp_path, "x")])
    monkeypatch.setattr(sys, "argv", ["tables", "--check"])
    with pytest.raises(SystemExit) as ended:
        tables.main()
    assert ended.value.code == "Not what the results say: page.md, x. `python -m benchmarks.tables` writes them anew."
    monkeypatch.setattr(tables, "documents", lambda: [document(tmp_path, "z fox")])
    with pytest.raises(SystemExit) as ended:
        tables.main()
    assert ended.value.code == 2
    assert "has a table 'fox'" in capsys.readouterr().err


# --- this repository ------------------------------------------------------------------------------------------------


def test_the_documents_tables_are_what_the_results_say(monkeypatch):
    monkeypatch.delenv(RESULTS_VARIABLE)
    assert tables.update(tables.documents(), check=True) == []


@pytest.mark.parametrize("name", ["results", "performance"])
def test_no_table_of_figures_is_made_by_hand(name):
    text = (ROOT / "docs" / f"{name}.md").read_text(encoding="utf-8")
    assert tables.GENERATED.search(text)
    assert [line for line in tables.GENERATED.sub("", text).splitlines() if line.startswith("|")] == []


@pytest.mark.parametrize("path", STORED, ids=lambda path: str(path.relative_to(FOLDER / "results")))
def test_a_stored_result_is_of_its_benchmark_and_its_machine(path):
    found = results.read_results(path)
    assert path == FOLDER / "results" / found.machine.slug / f"{found.benchmark}.json"
    module = f"benchmarks.{found.benchmark.replace('/', '.')}"
    assert module in COMMANDS or found.benchmark.startswith("commands/")
    for table in found.tables.values():
        names = [row.name for row in table]
        assert len(set(names)) == len(names)


@pytest.mark.parametrize("module", COMMANDS)
def test_a_benchmark_names_its_own_command(module):
    text = ast.get_docstring(ast.parse(SOURCES[module])) or ""
    commands = re.findall(r"^(?: {4})?python -m ([\w.]+)", text, re.MULTILINE)
    assert commands == [module]


@pytest.mark.parametrize("module", COMMANDS)
def test_a_benchmark_reports_under_its_own_name(module):
    reported = set(re.findall(r'\breport\(\s*"([^"]+)"', SOURCES[module]))
    assert reported <= {module.removeprefix("benchmarks.").replace(".", "/")}
    assert reported or module in ("benchmarks.all", "benchmarks.tables")


@pytest.mark.parametrize("module", COMMANDS)
def test_a_benchmark_can_be_asked_for_help(module, monkeypatch, capsys):
    if module == "benchmarks.scale.ray_nodes":
        pytest.importorskip("ray")
    monkeypatch.setattr(sys, "argv", [module, "--help"])
    with pytest.raises(SystemExit) as ended:
        importlib.import_module(module).main()
    assert ended.value.code == 0
    assert f"python -m {module}" in capsys.readouterr().out


def is_known(name: str) -> bool:
    """Whether a dotted name is a module of the benchmarks, a room of them, or something in a module."""
    folder = ROOT.joinpath(*name.split("."))
    return folder.is_dir() or name in SOURCES or name.rpartition(".")[0] in SOURCES


def test_every_benchmark_that_is_named_exists():
    """But in the changelog, which is of its time."""
    files = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "Makefile"]
    files += [path for folder in ("docs", "src", "tests", "benchmarks") for path in (ROOT / folder).rglob("*")]
    texts = {
        path: path.read_text(encoding="utf-8")
        for path in files
        if path.suffix in (".md", ".py", ".json", "") and path.is_file() and path != Path(__file__)
    }
    missing = []
    for path, text in texts.items():
        for module in set(re.findall(r"python -m\s(benchmarks(?:\.\w+)+)", text)):
            missing += [(path.name, module)] * (module not in COMMANDS)
        for name in set(re.findall(r"`(benchmarks(?:\.\w+)+)", text)):
            missing += [(path.name, name)] * (not is_known(name))
        for file in set(re.findall(r"\bbenchmarks/[\w/]+\.py\b", text)):
            missing += [(path.name, file)] * (not (ROOT / file).is_file())
    assert missing == []
