"""What is logged."""

from blocknerf.core.config.section import Count, Folder, Section


class LoggingConfig(Section):
    """What is logged, and how often."""

    log_freq: Count = 50
    """Steps between log entries."""
    image_log_freq: Count | None = None
    """Steps between pictures and gradient histograms in TensorBoard. Default: at validations only."""
    use_tensorboard: bool = True
    """Writes curves and pictures for TensorBoard, in addition to the metrics file."""
    tensorboard_dir: Folder = "tensorboard"
    """Folder of TensorBoard's files. A relative path is inside the output folder."""
