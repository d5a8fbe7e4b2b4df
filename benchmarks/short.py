"""A benchmark of a few minutes after a change: this machine's ceilings, the kernels, a small training; with ratios.

python -m benchmarks.short [OUT] [--store]

Compares with the results stored for this type of machine in benchmarks/results; --store replaces them. For ceilings and
rates, a ratio above 1 is better, whatever the unit. If the ceilings have changed, the cause is the machine.
"""

import argparse
import tempfile
from dataclasses import replace
from pathlib import Path

from benchmarks.kernels.step import encoding_parts, measure_ceilings, step_parts, timed
from benchmarks.measure import blocknerf, run
from benchmarks.quality.capture import row
from benchmarks.report import report
from benchmarks.results import Cell, Figure, measured, path_of, read_results, this_machine
from blocknerf.runtime.cores import available_cores
from blocknerf.runtime.threads import use_threads

RAYS, POINTS, REPEATS = 1024, 2**17, 15
TRAINED = ["block_manager.max_blocks=1", "training.max_minutes=0.5", "training.num_epochs=1000"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, nargs="?")
    parser.add_argument("--store", action="store_true")
    arguments = parser.parse_args()
    out = arguments.out or Path(tempfile.mkdtemp(prefix="blocknerf_short_"))
    figures = ceilings() | kernels() | training(out)
    before = stored()
    cells = {name: {"now": figure, **compared(figure, before.get(name))} for name, figure in figures.items()}
    report("short", cells, "latest")
    if arguments.store:
        report("short", {name: {"stored": figure} for name, figure in figures.items()}, "stored")
    elif not before:
        print(f"Nothing is stored for {this_machine().slug}; --store keeps this result.")


def compared(figure: Figure, before: Figure | None) -> dict[str, Cell]:
    if before is None:
        return {}
    ratio = measured(figure.median / before.median, runs=figure.runs or 1)
    return {"stored": replace(before, low=None, high=None), "ratio": ratio}


def stored() -> dict[str, Figure]:
    """Earlier measurements on this type of machine."""
    path = path_of("short", this_machine().slug)
    rows = read_results(path).tables.get("stored", ()) if path.is_file() else ()
    return {row.name: cell for row in rows for cell in row.cells.values() if isinstance(cell, Figure)}


def ceilings() -> dict[str, Figure]:
    found = measure_ceilings(REPEATS)
    return {
        "memory": measured(found.memory_gb_per_s, "GB/s", runs=REPEATS),
        "lines at random in 4 MB": measured(found.lines_per_us[4], "million/s", ",.2f", runs=REPEATS),
        "float32": measured(found.float32_gflops, "GFLOP/s", runs=REPEATS),
        "bfloat16": measured(found.bfloat16_gflops, "GFLOP/s", runs=REPEATS),
    }


def kernels() -> dict[str, Figure]:
    use_threads(available_cores(), "numba")
    step = {
        part.name: measured([RAYS / 1e3 / seconds for seconds in timed(part.run, REPEATS)], "thousand rays/s", ",.2f")
        for part in step_parts(RAYS, 12, 17)
    }
    published = {
        f"published {part.name}": measured(
            [POINTS / 1e6 / seconds for seconds in timed(part.run, REPEATS)], "million points/s"
        )
        for part in encoding_parts(points=POINTS, levels=16, features=2, log2_rows=19)
    }
    return step | published


def training(out: Path) -> dict[str, Figure]:
    """On the smallest synthetic city, half a minute."""
    scene, city = out / "tiny", out / "city"
    if not scene.exists():
        run(blocknerf("synth", scene, "--preset", "tiny"))
    run(blocknerf("train", "--data-root", scene, "--output-dir", city, "--overwrite", *TRAINED))
    run(blocknerf("evaluate", city))
    trained = row(city)
    return {
        "training": measured(trained["rays_per_s"][0], "rays/s", ",.0f"),
        "PSNR after half a minute": measured(trained["psnr"], "dB"),
    }


if __name__ == "__main__":
    main()
