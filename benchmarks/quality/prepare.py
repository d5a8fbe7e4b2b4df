"""From photographs alone to a scene: how many are placed, in what time, and how accurate are its metres?

python -m benchmarks.quality.prepare OUT SOURCE [SOURCE ...] [--minutes 2]
    [--config FILE] [--overrides section.key=value ...]

A SOURCE is a folder of photographs; poses in it are not read. With --minutes above 0, the scene is trained for this
long, one block at a time, and measured on its test images.
"""

import argparse
from pathlib import Path

from benchmarks.measure import blocknerf, run
from benchmarks.quality.capture import row
from benchmarks.report import report
from blocknerf.core.reading import read_json

MUST = {
    "lund_street": "26 registered; metres within 5 %; trains and renders; 10 min",
    "caliterra_aerial": "75 of 75",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("sources", type=Path, nargs="+")
    parser.add_argument("--minutes", type=float, default=0.0)
    parser.add_argument("--config", type=Path, default=Path("configs/street.yaml"))
    parser.add_argument("--overrides", nargs="*", default=[], metavar="section.key=value")
    arguments = parser.parse_args()
    for source in arguments.sources:
        scene = arguments.out / source.name
        figures = prepared(source, scene)
        if arguments.minutes > 0:
            minutes = (f"training.max_minutes={arguments.minutes:g}", "training.num_epochs=1000")
            city = arguments.out / f"{source.name}_city"
            figures |= trained(scene, city, arguments.config, minutes, arguments.overrides)
        name = f"`prepare` on {source.name}"
        cells = {"must": MUST.get(source.name, ""), "measured": in_words(figures)}
        report("quality/prepare", {name: cells}, details={name: figures})


def prepared(source: Path, scene: Path) -> dict:
    """Begins anew and measures the whole way."""
    measured = run(blocknerf("prepare", source, scene, "--overwrite"))
    quality = read_json(scene / "quality" / "quality.json", "quality of the scene")
    reference = quality["georeference"]
    return {
        "source": source.name,
        "pictures": quality["pictures"],
        "placed": quality["registered"],
        "seconds": round(measured.seconds),
        "peak_gb": round(measured.peak_gb, 2),
        "mapping": quality["mapping"],
        "reprojection_px": quality["reprojection_px"],
        "metres_per_gps_metre": reference.get("metres_per_gps_metre"),
        "typically_off_gps_m": reference.get("typical_residual_m"),
    }


def in_words(figures: dict) -> str:
    parts = [
        f"{figures['placed']} of {figures['pictures']}",
        f"reprojection {figures['reprojection_px']:.2f} pixels",
        f"{figures['seconds']} s",
    ]
    if figures["metres_per_gps_metre"] is not None:
        parts.append(
            f"{figures['metres_per_gps_metre']:.3f} metres a metre of GPS "
            f"(typical residual {figures['typically_off_gps_m']:.1f} m)"
        )
    if "psnr" in figures:
        parts.append(f"trained, {figures['psnr']:.2f} dB on its {figures['test_images']} test images")
    return ", ".join(parts)


def trained(scene: Path, city: Path, config: Path, minutes: tuple[str, str], overrides: list[str]) -> dict:
    place = ["--config", config, "--data-root", scene, "--output-dir", city, "--overwrite"]
    run(blocknerf("train", *place, *minutes, *overrides))
    run(blocknerf("evaluate", city))
    figures = row(city)
    return {key: figures[key] for key in ("blocks", "test_images", "train_s_per_block", "psnr", "ssim")}


if __name__ == "__main__":
    main()
