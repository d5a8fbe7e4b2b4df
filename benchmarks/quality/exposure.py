"""The worth of exposure as an input of colour: captures that vary by up to one stop, no appearance codes, off and on.

Then the same test views with `--exposure` from -1 to +1 stops: they must brighten with every step.

python -m benchmarks.quality.exposure OUT [--preset tiny] [--epochs 6] [--seed 0] [section.key=value ...]
"""

import json
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.measure import blocknerf, run
from benchmarks.quality.variants import arguments, compare
from benchmarks.report import report
from benchmarks.results import measured

ROW = "exposure, jitter of one stop, no codes"
JITTER_STOPS = 1.0
SWEEP_STOPS = [-1.0, -0.75, -0.5, -0.25, 0.0, 0.25, 0.5, 0.75, 1.0]


def main() -> None:
    options = arguments(__doc__, preset="tiny")
    shared = ["training.use_appearance_embedding=false", *options.overrides]
    variants = {"off": ["training.use_exposure_encoding=false", *shared], "on": shared}
    figures = compare(options, ["--exposure-jitter", str(JITTER_STOPS)], variants, whole_images)
    sweep = [brightness(options.out / "on", stops) for stops in SWEEP_STOPS]
    off, on = (figures[name]["psnr"] for name in variants)
    brightening = int((np.diff(sweep) > 0).sum())
    note = f"{off:.2f} to {on:.2f}; `--exposure` -1 to +1 brightens at {brightening} of {len(sweep) - 1} steps, "
    note += f"{sweep[0]:.3f} to {sweep[-1]:.3f}"
    cells = {"must": "+1 dB", "measured": measured(on - off, "dB", "+.2f", note)}
    details = figures | {"sweep_stops": SWEEP_STOPS, "mean_brightness": [round(value, 4) for value in sweep]}
    report("quality/exposure", {ROW: cells}, details={ROW: details})


def whole_images(out: Path) -> dict[str, float]:
    metrics = json.loads((out / "report" / "metrics.json").read_text())
    return {name: round(metrics["composited"][name], 3) for name in ("psnr", "ssim")}


def brightness(city: Path, stops: float) -> float:
    """Mean colour in [0, 1] of the test views rendered that many stops brighter."""
    frames = city / "renders" / f"sweep_{stops:+.2f}"
    run(blocknerf("render", city, "--path", "test", "--exposure", str(stops), "--out", f"{frames}.mp4"))
    return float(np.mean([np.asarray(Image.open(path)).mean() for path in sorted(frames.glob("*.png"))])) / 255


if __name__ == "__main__":
    main()
