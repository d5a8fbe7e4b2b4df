"""A plot of all learning rates over a run."""

from itertools import accumulate
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from blocknerf.core.config.training import TrainingConfig
from blocknerf.core.plots import save_figure
from blocknerf.training.block.schedule import BlockNeRFScheduler

POINTS = 2001


def draw_rates(path: Path, config: TrainingConfig) -> None:
    """Writes a PNG: rates by component over the run, its milestones and its stages. Same input, same bytes."""
    figure = Figure(figsize=(9, 4.5), layout="constrained", dpi=120)
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    places, curves = rate_curves(config)
    for name, rates in curves.items():
        axes.plot(places, rates, label=name)
    axes.set_yscale("log")
    axes.set_xlim(0, run_length(config))
    axes.set_xlabel(axis_label(config))
    axes.set_ylabel("learning rate")
    _mark_milestones(axes, config)
    if config.stage_training.enable:
        _mark_stages(axes, config)
    axes.legend()
    save_figure(figure, path)


def rate_curves(config: TrainingConfig) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Positions [n] along the run's axis (see `run_length`), and by component the rate at each [n].

    Only components that are switched on; nan where a rate is 0 or a stage freezes the component.
    """
    shares = np.linspace(0, 1, POINTS)
    scheduler = BlockNeRFScheduler(config if config.max_steps else config.model_copy(update={"lr_warmup_steps": 0}))
    rates = [scheduler.rates(int(share * (config.max_steps or 1)), share) for share in shares.tolist()]
    curves = {name: np.array([at[name] or np.nan for at in rates]) for name in config.components}
    if config.stage_training.enable:
        stages = config.stage_training.stages
        ends = list(accumulate(stage.epochs for stage in stages))
        numbers = np.minimum(np.searchsorted(ends, shares * config.num_epochs, side="right"), len(stages) - 1)
        for name, curve in curves.items():
            curve[[name not in stages[number].components for number in numbers]] = np.nan
    return shares * run_length(config), curves


def run_length(config: TrainingConfig) -> float:
    """In steps if `max_steps` is given, otherwise in epochs, because only a scene gives the steps of an epoch."""
    return float(config.max_steps or config.num_epochs)


def axis_label(config: TrainingConfig) -> str:
    """The unit of the axis, and what the plot simplifies."""
    if config.max_steps:
        as_if = ", as if an epoch took as many in every stage" * config.stage_training.enable
        return f"steps, up to max_steps{as_if}"
    rise = f", without the rise over the first {config.lr_warmup_steps:,} steps" * (config.lr_warmup_steps > 0)
    return f"epochs{rise}"


def _mark_milestones(axes: Axes, config: TrainingConfig) -> None:
    label = "lr_decay_steps"
    for epoch in config.lr_decay_steps:
        place = epoch / config.num_epochs * run_length(config)
        axes.axvline(place, color="black", linewidth=0.9, linestyle=":", label=label)
        label = "_"  # one entry in the legend is enough


def _mark_stages(axes: Axes, config: TrainingConfig) -> None:
    stages, a_epoch = config.stage_training.stages, run_length(config) / config.num_epochs
    for stage, end in zip(stages, accumulate(stage.epochs for stage in stages), strict=True):
        axes.axvline(end * a_epoch, color="grey", linewidth=0.8)
        middle = ((end - stage.epochs / 2) * a_epoch, 1.01)
        axes.annotate(stage.name, middle, xycoords=("data", "axes fraction"), ha="center", va="bottom")
