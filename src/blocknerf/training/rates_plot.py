"""All learning rates over a run, as a picture."""

from itertools import accumulate
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from blocknerf.core.config import TrainingConfig
from blocknerf.core.files import write_atomically
from blocknerf.training.schedule import BlockNeRFScheduler

DRAWN_STEPS = 10_000
"""Steps of the run that is drawn where `max_steps` does not say: without a scene nobody knows."""


def draw_rates(path: Path, config: TrainingConfig) -> None:
    """Writes a PNG: rates by component over epochs, interrupted where a stage freezes them. Same input, same bytes."""
    figure = Figure(figsize=(9, 4.5), layout="constrained", dpi=120)
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    epochs, curves = rate_curves(config)
    for name, rates in curves.items():
        axes.plot(epochs, rates, label=name)
    axes.set_yscale("log")
    axes.set_xlim(0, config.num_epochs)
    steps = config.max_steps or DRAWN_STEPS
    axes.set_xlabel(f"epochs (lr_warmup_steps as in a run of {steps:,} steps)")
    axes.set_ylabel("learning rate")
    if config.stage_training.enable:
        stages = config.stage_training.stages
        for stage, end in zip(stages, accumulate(stage.epochs for stage in stages), strict=True):
            axes.axvline(end, color="grey", linewidth=0.8)
            axes.annotate(
                stage.name, (end - stage.epochs / 2, 1.01), xycoords=("data", "axes fraction"), ha="center", va="bottom"
            )
    axes.legend()
    save = {"format": "png", "metadata": {"Software": None}}
    write_atomically(path, lambda temporary: figure.savefig(temporary, **save))


def rate_curves(config: TrainingConfig) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Epochs [n], and by component its rate at each [n]; nan where it is 0 or its stage freezes it."""
    steps = config.max_steps or DRAWN_STEPS
    shares = np.linspace(0, 1, 1001)
    scheduler = BlockNeRFScheduler(config)
    rates = [scheduler.rates(int(share * steps), share) for share in shares.tolist()]
    epochs = shares * config.num_epochs
    curves = {name: np.array([at[name] or np.nan for at in rates]) for name in rates[0]}
    if config.stage_training.enable:
        stages = config.stage_training.stages
        ends = list(accumulate(stage.epochs for stage in stages))
        numbers = np.minimum(np.searchsorted(ends, epochs, side="right"), len(stages) - 1)
        for name, curve in curves.items():
            curve[[name not in stages[number].components for number in numbers]] = np.nan
    return epochs, curves
