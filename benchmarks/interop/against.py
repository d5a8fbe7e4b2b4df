"""Trains the same scene with blocknerf and with another program in one run, and prints the ratio of rays a second.

The other program is any command that prints lines with a JSON object holding `rays_per_s` and `psnr`; the last such
line counts. Its time stands in `train_s`.

python -m benchmarks.interop.against SCENE OUT --config FILE --peer "COMMAND SCENE --downscale 8 --marks 60,240"
"""

import argparse
import json
import shlex
import subprocess
import sys
from pathlib import Path

from benchmarks.measure import blocknerf, run
from benchmarks.quality.capture import learned, row
from benchmarks.report import report
from benchmarks.results import measured


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scene", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--peer", required=True)
    arguments = parser.parse_args()

    place = ["--config", arguments.config, "--data-root", arguments.scene, "--output-dir", arguments.out]
    run(blocknerf("train", *place))
    run(blocknerf("evaluate", arguments.out))
    peer = last_figures(arguments.peer)
    blocknerf_row = row(arguments.out)
    peer_cells = {
        "PSNR": measured(peer["psnr"], "dB"),
        "rays/s": measured(peer["rays_per_s"], format=",.0f"),
        "training": f"{peer['train_s']:.0f} s" if "train_s" in peer else "",
    }
    cells = {
        "blocknerf, beside the peer": learned(blocknerf_row),
        "the peer": peer_cells,
        "ratio of rays/s": {"rays/s": measured(blocknerf_row["rays_per_s"][0] / peer["rays_per_s"], format=".1f")},
    }
    details = {"blocknerf, beside the peer": blocknerf_row, "the peer": peer}
    report("interop/against", cells, arguments.scene.name, details)


def last_figures(command: str) -> dict:
    """Runs the peer and returns the last JSON object it prints; stops where it fails or prints none."""
    print("$", command, flush=True)
    output = subprocess.run(shlex.split(command), stdout=subprocess.PIPE, text=True, check=False)
    if output.returncode != 0:
        sys.exit(f"the peer ended with code {output.returncode}")
    lines = [line[line.index("{") :] for line in output.stdout.splitlines() if "rays_per_s" in line and "{" in line]
    if not lines:
        sys.exit("the peer printed no figures")
    return json.loads(lines[-1])


if __name__ == "__main__":
    main()
