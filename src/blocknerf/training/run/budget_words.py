"""What a budget has chosen, in words."""

from collections.abc import Collection, Sequence

from blocknerf.blocks.budget import Choice, Images, Machine, Todo
from blocknerf.blocks.budget_file import BATCH, ROWS, SAMPLES, SIZE


def sentences(
    minutes: float,
    machine: Machine,
    todo: Todo,
    images: Sequence[Images],
    choice: Choice,
    twice: Choice,
    keys: Collection[str],
) -> tuple[str, str]:
    """What was chosen, and what would be with twice the time."""
    count, cores = sum(map(len, todo.waves)), machine.cores
    chosen = _named(choice, images, keys)
    first = (
        f"{minutes:g} minutes for {count} block{'s' * (count > 1)} at {machine.rays_per_s:,.0f} rays a second on "
        f"{cores} {machine.kind}{'s' * (cores > 1)}: {''.join(f'{part}, ' for part in chosen.values())}"
        f"{minutes_a_block(choice.machine_s, todo)}, in which rays visit {_passes(choice.passes)}."
    )
    others = [part for name, part in _named(twice, images, keys).items() if part != chosen[name]]
    instead = ", ".join(others) if others else "the same, trained for longer"
    return first, f"With {2 * minutes:g} minutes it would be {instead}."


def _named(choice: Choice, images: Sequence[Images], keys: Collection[str]) -> dict[str, str]:
    """In words, what was chosen of these keys."""
    _, height, width = max((camera for block in images for camera in block), key=lambda camera: camera[1] * camera[2])
    factor = choice.image_downsample
    words = {
        SIZE: "images at their full size" if factor == 1 else f"images at 1/{factor} of their size",
        ROWS: f"tables of 2^{choice.log2_table_rows} rows",
        BATCH: f"{choice.batch_size:,} rays a step",
        SAMPLES: f"{choice.num_samples_fine} samples a ray",
    }
    words[SIZE] += f" ({width // factor} x {height // factor} pixels)"
    return {key: text for key, text in words.items() if key in keys}


def _passes(passes: float) -> str:
    return f"{100 * passes:.0f} % of its pixels" if passes < 1 else f"its pixels {passes:.1f} times"


def minutes_a_block(machine_s: float, todo: Todo) -> str:
    """By the clock: a block that shares the machine takes longer."""
    places = max(map(todo.places, todo.waves))
    at_a_time = f", {places} at a time" if places > 1 else ""
    return f"{machine_s * places / 60:.1f} minutes a block{at_a_time}"
