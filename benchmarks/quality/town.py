"""What benchmarks that know the truth of a trained synthetic city share: their command line, and the town to trace."""

import argparse
from pathlib import Path

import numpy as np

from benchmarks.measure import blocknerf, run
from blocknerf.core.reading import read_json
from blocknerf.core.seeds import derive_seed
from blocknerf.synth.presets import PRESETS, Preset
from blocknerf.synth.town import build_town
from blocknerf.synth.tracer import Tracer


def parser(description: str | None) -> argparse.ArgumentParser:
    """SCENE OUT, and what `train` wants; benchmarks add their own."""
    options = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("scene", type=Path)
    options.add_argument("out", type=Path)
    options.add_argument("--config", type=Path)
    options.add_argument("--skip-training", action="store_true")
    options.add_argument("overrides", nargs="*")
    return options


def train(options: argparse.Namespace) -> None:
    """Trains the city through the command line, unless it is to be taken as it is."""
    if not options.skip_training:
        config = ["--config", options.config] if options.config else []
        place = ["--data-root", options.scene, "--output-dir", options.out]
        run(blocknerf("train", *config, *place, *options.overrides))


def trace_town(scene: Path) -> tuple[Preset, Tracer]:
    """The preset of a scene that `blocknerf synth` wrote, and its town without what moves in it."""
    mark = read_json(scene / "synth.json", "mark of a synthetic city")
    preset = PRESETS[mark["preset"]]
    town = build_town(preset.plan, np.random.default_rng(derive_seed(mark["seed"], "town")))
    return preset, Tracer(town, len(town.triangles))
