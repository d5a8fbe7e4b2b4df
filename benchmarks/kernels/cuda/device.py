"""Are the kernels correct and fast on a CUDA device? Also trains and renders a city on it.

python -m benchmarks.kernels.cuda.device [--points 2097152] [--repeats 30] [--batch-size 32768] [--out OUT]

First, each kernel is compared with its torch reference (`checks.py`), then its speed with its floor; the speed of a
training step follows (`speeds.py`). With --out, a small synthetic city is trained on the device, with both backbones,
and its test images are rendered and evaluated by the device and by the processor: both `psnr` must agree to a hundredth
of a dB. Every row is printed as JSON when it is measured; then they are reported as tables.

If a kernel or a city is wrong, the exit code is 1 after all rows, and a message names it. Without a CUDA device, it is
2.
"""

import argparse
import json
import sys
from collections.abc import Iterable
from pathlib import Path

import torch

from benchmarks.kernels.cuda.checks import checked, checks
from benchmarks.kernels.cuda.speeds import speeds
from benchmarks.measure import blocknerf, run
from benchmarks.report import described, report
from benchmarks.results import Cell, commit, measured, this_machine

RAYS = 301  # of a check: each kernel needs more than one program for them, and its last tile is not full
CITY_STEPS = {"hash": 2000, "mlp": 500}
PSNR_APART_DB = 0.01


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--points", type=int, default=2**21)
    parser.add_argument("--repeats", type=int, default=30)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--batch-size", type=int, default=2**15, help="rays of a training step")
    arguments = parser.parse_args()
    if not torch.cuda.is_available():
        print("There is no CUDA device on this machine: nothing was measured.")
        sys.exit(2)
    device = torch.device("cuda")
    gpu = torch.cuda.get_device_name()
    printed([{"machine": described(this_machine(gpu)), "commit": commit(), "torch": torch.__version__}])
    parts = {
        "correctness": printed(checked(check, "triton") for check in checks(device, RAYS)),
        "speed": printed(speeds(device, arguments.points, arguments.batch_size, arguments.repeats)),
    }
    if arguments.out is not None:
        parts["city"] = printed(city(arguments.out, backbone, steps, "cuda") for backbone, steps in CITY_STEPS.items())
    for part, rows in parts.items():
        runs = arguments.repeats if part == "speed" else 1
        report("kernels/cuda/device", {name_of(row): cells_of(row, runs) for row in rows}, part, gpu=gpu)
    end(parts)


def printed(rows: Iterable[dict]) -> list[dict]:
    """The rows, each printed as soon as it is there."""
    kept = []
    for row in rows:
        print(json.dumps(row), flush=True)
        kept.append(row)
    return kept


def city(out: Path, backbone: str, steps: int, device: str) -> dict:
    """PSNR of a city that was trained on `device`, as `device` renders it and as the processor does."""
    scene, trained = out / "scene", out / backbone
    if not scene.is_dir():
        run(blocknerf("synth", scene, "--preset", "tiny"))
    overrides = [f"block_nerf.backbone={backbone}", f"training.max_steps={steps}", "training.num_epochs=1000"]
    training = run(
        blocknerf("train", "--data-root", scene, "--output-dir", trained, "--overwrite", "--device", device, *overrides)
    )
    psnr = {}
    for each in (device, "cpu"):
        run(blocknerf("evaluate", trained, "--protocols", "plain", "--device", each))
        psnr[each] = json.loads((trained / "report" / "metrics.json").read_text())["protocols"]["plain"]["psnr"]
    apart = abs(psnr[device] - psnr["cpu"])
    row = {"city": backbone, "steps": steps, "seconds": round(training.seconds, 1)}
    return row | {f"psnr_{each}": value for each, value in psnr.items()} | {"ok": apart <= PSNR_APART_DB}


def name_of(row: dict) -> str:
    return row["kernel"] if "kernel" in row else f"the city of {row['city']}"


def cells_of(row: dict, runs: int) -> dict[str, Cell]:
    """A column for every key that a row has."""
    values = {key.replace("_", " "): value for key, value in row.items() if key not in ("kernel", "city")}
    return {head: cell(value, runs) for head, value in values.items() if value is not None}


def cell(value: object, runs: int) -> Cell:
    if isinstance(value, bool):
        return "yes" if value else "**no**"
    if isinstance(value, int):
        return measured(value, format=",.0f", runs=runs)
    if isinstance(value, float):
        return measured(value, format=".4g", runs=runs)
    return str(value)


def end(parts: dict[str, list[dict]]) -> None:
    """Ends with code 1 and a sentence where a row is not `ok`."""
    wrong = [row for rows in parts.values() for row in rows if not row.get("ok", True)]
    names = [name_of(row) for row in wrong]
    if names:
        sys.exit(f"Wrong on this device, by more than rounding explains: {'; '.join(names)}.")


if __name__ == "__main__":
    main()
