"""What half precision is worth: one block trained for the same steps in float32 and with mixed precision.

python -m benchmarks.quality.precision SCENE OUT [--backbones hash,narrow] [--steps 2000] [--config FILE]
    [section.key=value ...]

Prints rays per second and test PSNR (mean code) of both, for each backbone of `benchmarks.quality.backbones`.
"""

import argparse
import json
from pathlib import Path

from benchmarks.measure import blocknerf, run, where
from benchmarks.quality.backbones import BACKBONES
from benchmarks.quality.capture import row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scene", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--config", type=Path, default=Path("configs/object.yaml"))
    parser.add_argument("--backbones", default="hash,narrow")
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("overrides", nargs="*")
    arguments = parser.parse_intermixed_args()

    for backbone in arguments.backbones.split(","):
        rows = {}
        for name, use in (("float32", "false"), ("half", "true")):
            out = arguments.out / f"{backbone}_{name}"
            place = ["--config", arguments.config, "--data-root", arguments.scene, "--output-dir", out]
            told = [f"training.max_steps={arguments.steps}", "training.num_epochs=1000", "training.max_minutes=null"]
            told += [f"training.use_mixed_precision={use}", *BACKBONES[backbone], *arguments.overrides]
            run(blocknerf("train", *place, *told))
            run(blocknerf("evaluate", out, "--protocols", "plain"))
            rows[name] = row(out)
        one, other = rows["float32"], rows["half"]
        gain = {
            "times_as_fast": round(other["rays_per_s"][0] / one["rays_per_s"][0], 2),
            "psnr_lost": round(one["psnr"] - other["psnr"], 2),
        }
        print(
            json.dumps({"scene": arguments.scene.name, "backbone": backbone, **gain, **rows, "where": where()}),
            flush=True,
        )


if __name__ == "__main__":
    main()
