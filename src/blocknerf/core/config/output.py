"""Where files of a run lie."""

from blocknerf.core.config.section import Folder, Section


class OutputConfig(Section):
    """Where a run's files are written. A relative folder is inside the output folder."""

    checkpoint_dir: Folder | None = None
    """Folder of checkpoints: the newest, the best and the kept states, one folder per block. Default: beside each
    block."""
    render_dir: Folder = "renders"
    """Folder of pictures and videos."""
    log_dir: Folder = "logs"
    """Folder of text logs."""
