"""What is logged."""

from blocknerf.core.config.section import Count, Folder, Section


class LoggingConfig(Section):
    log_freq: Count = 50
    """Steps between log entries."""
    image_log_freq: Count | None = None
    """Steps between pictures and histograms of gradients in TensorBoard; none: at validations only."""
    use_tensorboard: bool = True
    """Writes curves and pictures for TensorBoard, beside the plain file of figures."""
    tensorboard_dir: Folder = "tensorboard"
    """A relative folder is inside the output folder."""
