"""Where files of a run lie."""

from blocknerf.core.config.section import Folder, Section


class OutputConfig(Section):
    """Where files of a run lie; a relative folder is inside the output folder."""

    checkpoint_dir: Folder | None = None
    """What blocks go on from, their best and their kept states, a folder for each block; none: beside the block."""
    render_dir: Folder = "renders"
    """Pictures and videos."""
    log_dir: Folder = "logs"
    """Text."""
