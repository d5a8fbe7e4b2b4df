"""Names of files in the order that people count in."""

import re


def natural_order(name: str) -> list[tuple[int, str]]:
    """Sort key in which frame_9 comes before frame_10."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"([0-9]+)", name)]
