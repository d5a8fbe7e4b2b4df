"""One synthetic city, trained and evaluated under several configurations that differ in one thing."""

import argparse
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.measure import blocknerf, run

COMMON = ["block_manager.max_blocks=1", "validation.num_val_images=0"]


def arguments(description: str | None, preset: str) -> argparse.Namespace:
    """The options that such benchmarks share."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--preset", default=preset)
    parser.add_argument("--epochs", type=float, default=6)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("overrides", nargs="*")
    return parser.parse_intermixed_args()


def compare(
    options: argparse.Namespace,
    synth: Sequence[str],
    variants: Mapping[str, Sequence[str]],
    figures: Callable[[Path], dict[str, Any]],
) -> dict[str, dict[str, Any]]:
    """Trains every variant (its overrides) on the same city; what `figures` says of each, by name.

    All take the same number of steps, whatever else the machine does. One block holds the whole street: what is
    compared is the model, not how blocks are cut.
    """
    scene = options.out / "scene"
    if not scene.is_dir():
        run(blocknerf("synth", scene, "--preset", options.preset, "--seed", str(options.seed), *synth))
    results = {}
    for name, overrides in variants.items():
        out = options.out / name.replace(" ", "_")
        place = ["--data-root", scene, "--output-dir", out, "--overwrite"]
        run(blocknerf("train", *place, *COMMON, f"training.num_epochs={options.epochs}", *overrides))
        run(blocknerf("evaluate", out, "--protocols", "masked,half_image"))
        results[name] = figures(out)
    return results
