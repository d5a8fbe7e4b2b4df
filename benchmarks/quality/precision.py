"""The worth of half precision: one block trained for the same steps in float32 and with mixed precision.

python -m benchmarks.quality.precision SCENE OUT [--backbones hash,narrow] [--steps 2000] [--config FILE]
    [section.key=value ...]

Rays per second and test PSNR (mean code) of both, for each backbone of `benchmarks.quality.backbones`.
"""

import argparse
from pathlib import Path

from benchmarks.measure import blocknerf, run
from benchmarks.quality.backbones import BACKBONES
from benchmarks.quality.capture import row
from benchmarks.report import report


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
            settings = [
                f"training.max_steps={arguments.steps}",
                "training.num_epochs=1000",
            ]
            settings += [f"training.use_mixed_precision={use}", *BACKBONES[backbone], *arguments.overrides]
            run(blocknerf("train", *place, *settings))
            run(blocknerf("evaluate", out, "--protocols", "plain"))
            rows[name] = row(out)
        one, other = rows["float32"], rows["half"]
        speeds = [each["rays_per_s"][0] for each in (one, other)]
        text = f"{speeds[1] / speeds[0]:.2f} times as fast ({speeds[0]:,} to {speeds[1]:,} rays/s), "
        text += f"PSNR {other['psnr'] - one['psnr']:+.2f} dB ({one['psnr']:.2f} to {other['psnr']:.2f})"
        name = f"half precision, `{backbone}`, {arguments.scene.name}, {arguments.steps:,} steps"
        cells = {"must": "PSNR within 0.1 dB", "measured": text}
        report("quality/precision", {name: cells}, details={name: rows})


if __name__ == "__main__":
    main()
