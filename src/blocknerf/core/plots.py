"""Figures as PNG files, in the style of the plan's map."""

import io
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from blocknerf.core.files import write_bytes


def new_figure(width_inches: float, height_inches: float) -> Figure:
    figure = Figure(figsize=(width_inches, height_inches), layout="constrained", dpi=120)
    FigureCanvasAgg(figure)
    return figure


def save_figure(figure: Figure, path: Path, **options: Any) -> Path:
    """`options` are matplotlib's of savefig. Raises UserError when the file cannot be written."""
    content = io.BytesIO()
    figure.savefig(content, format="png", metadata={"Software": None}, **options)
    write_bytes(path, content.getvalue())
    return path


def quiet(axes: Axes) -> None:
    """Pale frame and ticks, so that the content stands out."""
    axes.tick_params(labelsize=8, color="0.6", labelcolor="0.35")
    axes.spines[:].set_color("0.8")


def picture(axes: Axes, title: str) -> None:
    """No axes around a picture, its title above."""
    axes.set_title(title, fontsize=9, loc="left")
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_visible(False)
