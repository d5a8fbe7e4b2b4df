"""The worth of appearance codes: one street at four hours, trained without and with them, on halves of test images.

Codes are fitted to the left half of each test image, everything else frozen, and the right half is measured (protocol
half_image); without codes there is nothing to fit, and the right half is measured as it is.

python -m benchmarks.quality.appearance OUT [--preset hours] [--epochs 6] [--seed 0] [section.key=value ...]
"""

import json
from pathlib import Path

from benchmarks.quality.variants import arguments, compare
from benchmarks.report import report
from benchmarks.results import measured

VARIANTS = {
    "off": ["training.use_appearance_embedding=false"],
    "without global codes": ["appearance_embedding.use_global_appearance=false"],
    "on": [],
}
ROW = "appearance codes, four hours, half image"


def main() -> None:
    options = arguments(__doc__, preset="hours")
    shared = ["training.use_exposure_encoding=false", *options.overrides]
    figures = compare(options, [], {name: [*overrides, *shared] for name, overrides in VARIANTS.items()}, right_half)
    off, learned, on = (figures[name]["half_image"] for name in VARIANTS)
    note = f"{off:.2f} to {on:.2f}; learned codes without the drawn ones of drives {learned:.2f}"
    cells = {"must": "+3 dB", "measured": measured(on - off, "dB", "+.2f", note)}
    report("quality/appearance", {ROW: cells}, details={ROW: figures})


def right_half(out: Path) -> dict[str, float]:
    """PSNR in dB: of right halves under fitted codes and under the mean code, and of whole images under the latter."""
    metrics = json.loads((out / "report" / "metrics.json").read_text())
    half = metrics["protocols"]["half_image"]
    mean_code = half["psnr"] - half["gain_db"]
    return {
        "half_image": round(half["psnr"], 2),
        "right_half_mean_code": round(mean_code, 2),
        "whole_mean_code": round(metrics["composited"]["psnr"], 2),
    }


if __name__ == "__main__":
    main()
