"""Minutes of measuring after a change: this machine's ceilings, the kernels, a small training; as ratios to before.

python -m benchmarks.short [OUT] [--store]

Compares with benchmarks/stored.json, which holds one result for each type of machine; --store puts this one there. Of
ceilings and rates a ratio above 1 is better, whatever the unit. Where the ceilings themselves moved, it is the machine.
"""

import argparse
import json
import os
import platform
import tempfile
from pathlib import Path

from benchmarks.kernels.step import encoding_parts, measure_ceilings, step_parts, timed
from benchmarks.measure import blocknerf, markdown, processor, run, where
from benchmarks.quality.capture import row
from blocknerf.core.files import write_json
from blocknerf.core.reading import read_json
from blocknerf.runtime.threads import available_cores, use_threads

STORED = Path(__file__).with_name("stored.json")
RAYS, POINTS, REPEATS = 1024, 2**17, 15
TRAINED = ["block_manager.max_blocks=1", "training.max_minutes=0.5", "training.num_epochs=1000"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, nargs="?")
    parser.add_argument("--store", action="store_true")
    arguments = parser.parse_args()
    out = arguments.out or Path(tempfile.mkdtemp(prefix="blocknerf_short_"))
    figures = machine() | kernels() | training(out)
    stored = read_json(STORED, "stored result of benchmarks") if STORED.is_file() else {}
    before = stored.get(this_type(), {})
    cells = [[name, f"{value:,.2f}", *compared(value, before.get(name))] for name, value in figures.items()]
    print(f"\n{markdown(['', 'now', 'stored', 'ratio'], cells)}\n\n{where()}")
    if not before:
        print(f"Nothing is stored for {this_type()}; --store keeps this result.")
    if arguments.store:
        write_json(STORED, stored | {this_type(): {name: round(value, 3) for name, value in figures.items()}})
    print(json.dumps(figures))


def compared(value: float, stored: float | None) -> list[str]:
    return ["", ""] if stored is None else [f"{stored:,.2f}", f"{value / stored:.2f}"]


def this_type() -> str:
    return f"{processor()}, {os.cpu_count()} cores, {platform.system()}"


def machine() -> dict[str, float]:
    ceilings = measure_ceilings(REPEATS)
    return {
        "memory, GB/s": ceilings.memory_gb_per_s,
        "lines at random in 4 MB, million/s": ceilings.lines_per_us[4],
        "float32, GFLOP/s": ceilings.float32_gflops,
        "bfloat16, GFLOP/s": ceilings.bfloat16_gflops,
    }


def kernels() -> dict[str, float]:
    use_threads(available_cores(), "numba")
    step = {part.name: RAYS / 1e3 / median_s(part.run) for part in step_parts(RAYS, 12, 17)}
    encoding = {
        part.name: POINTS / 1e6 / median_s(part.run)
        for part in encoding_parts(points=POINTS, levels=16, features=2, log2_rows=19)
    }
    return {f"{name}, thousand rays/s": rate for name, rate in step.items()} | {
        f"published {name}, million points/s": rate for name, rate in encoding.items()
    }


def median_s(run_once) -> float:
    return timed(run_once, REPEATS)[REPEATS // 2]


def training(out: Path) -> dict[str, float]:
    """On the smallest synthetic city, half a minute."""
    scene, city = out / "tiny", out / "city"
    if not scene.exists():
        run(blocknerf("synth", scene, "--preset", "tiny"))
    run(blocknerf("train", "--data-root", scene, "--output-dir", city, "--overwrite", *TRAINED))
    run(blocknerf("evaluate", city))
    trained = row(city)
    return {"training, rays/s": trained["rays_per_s"][0], "PSNR after half a minute, dB": trained["psnr"]}


if __name__ == "__main__":
    main()
