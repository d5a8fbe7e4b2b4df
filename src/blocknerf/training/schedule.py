"""Learning rates over a run."""

from blocknerf.core.config import TrainingConfig

POSES_HOLD = 0.8
VISIBILITY_WARMUP = 0.1
"""Shares of the run."""


def learning_rates(config: TrainingConfig, step: int, progress: float) -> dict[str, float]:
    """Rates by optimiser group at `step` (from 0), when `progress` in [0, 1] of the run is behind.

    A linear warm-up over `lr_warmup_steps`, then exponential decay to `lr_final_ratio` of the start. `progress`
    follows the clock where the run is bounded by it, so that every run ends at its lowest rate. Poses keep their rate
    until POSES_HOLD: they can only follow the field, which forgets where it saw things before as it is refined.
    Visibility warms up over a share of the run, because it has nothing to learn from before there is a density.
    """
    progress = max(progress, 0.0)
    warmup = min(1.0, (step + 1) / max(config.lr_warmup_steps, 1))
    decay = config.lr_final_ratio ** min(progress, 1.0)
    late = config.lr_final_ratio ** min(max((progress - POSES_HOLD) / (1 - POSES_HOLD), 0.0), 1.0)
    return {
        "nerf": config.nerf_lr * warmup * decay,
        "appearance": config.appearance_lr * warmup * decay,
        "pose": config.pose_lr * warmup * late,
        "visibility": config.visibility_lr * decay * min(1.0, progress / VISIBILITY_WARMUP),
    }
