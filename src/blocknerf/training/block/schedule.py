"""Learning rates over a run."""

import math

from blocknerf.core.config.training import TrainingConfig

POSES_HOLD = 0.8
VISIBILITY_WARMUP = 0.1
"""Shares of the run."""


class BlockNeRFScheduler:
    """Learning rates by optimiser group, as a pure function of progress, so there is no state to save.

    Rates change at every step. They depend on `share`, the finished share of the run's epochs. If the clock limits a
    run, `share` follows the clock, so that every run ends at its lowest rates.
    """

    def __init__(self, config: TrainingConfig):
        self.config = config

    def rates(self, step: int, share: float) -> dict[str, float]:
        """Rates at `step` (from 0), when `share` in [0, 1] of the epochs is finished.

        All groups but visibility warm up linearly over `lr_warmup_steps`. Visibility warms up over a share of the run,
        because it has nothing to learn from before there is a density.
        """
        share = min(max(share, 0.0), 1.0)
        warmup = min(1.0, (step + 1) / max(self.config.lr_warmup_steps, 1))
        curves = self._milestones(share) if self.config.lr_decay_steps else self._exponential(share)
        curves |= self._group_curves(share * self.config.num_epochs)
        return {
            "nerf": self.config.nerf_lr * warmup * curves["nerf"],
            "appearance": self.config.appearance_lr * warmup * curves["appearance"],
            "pose": self.config.pose_lr * warmup * curves["pose"],
            "visibility": self.config.visibility_lr * curves["visibility"] * min(1.0, share / VISIBILITY_WARMUP),
        }

    def _group_curves(self, epoch: float) -> dict[str, float]:
        """Curves of groups with separate keys, as torch's ExponentialLR, CosineAnnealingLR and MultiStepLR."""
        config, curves = self.config, {}
        if config.nerf_lr_decay is not None:
            curves["nerf"] = config.nerf_lr_decay**epoch
        if config.appearance_cosine_cycles is not None or config.appearance_min_lr is not None:
            lowest = (config.appearance_min_lr or 0.0) / config.appearance_lr
            angle = math.pi * epoch / (config.appearance_cosine_cycles or config.num_epochs)
            curves["appearance"] = lowest + (1 - lowest) * (1 + math.cos(angle)) / 2
        if config.pose_milestones:
            curves["pose"] = config.pose_lr_decay ** sum(epoch >= milestone for milestone in config.pose_milestones)
        return curves

    def _exponential(self, share: float) -> dict[str, float]:
        """Fall to `lr_final_ratio` of the start.

        Poses keep their rate until POSES_HOLD: they can only follow the field, which forgets, as it is refined, where
        it saw things before.
        """
        ratio = self.config.lr_final_ratio
        decay, late = ratio**share, ratio ** max((share - POSES_HOLD) / (1 - POSES_HOLD), 0.0)
        return {"nerf": decay, "appearance": decay, "pose": late, "visibility": decay}

    def _milestones(self, share: float) -> dict[str, float]:
        """Fall by `lr_decay_rate` at each of `lr_decay_steps`: poses in steps, all others smoothly over the run."""
        milestones, rate = self.config.lr_decay_steps, self.config.lr_decay_rate
        final = rate ** len(milestones)
        passed = sum(share >= epoch / self.config.num_epochs for epoch in milestones)
        cosine = final + (1 - final) * (1 + math.cos(math.pi * share)) / 2
        return {"nerf": final**share, "appearance": cosine, "pose": rate**passed, "visibility": final**share}
