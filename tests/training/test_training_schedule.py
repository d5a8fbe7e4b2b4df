import pytest

from blocknerf.core.config import TrainingConfig
from blocknerf.training.schedule import BlockNeRFScheduler

CONFIG = TrainingConfig(nerf_lr=0.1, appearance_lr=0.2, lr_warmup_steps=10, lr_final_ratio=0.01)


def test_warm_up_is_linear_and_decay_exponential():
    assert BlockNeRFScheduler(CONFIG).rates(0, 0.0)["nerf"] == pytest.approx(0.01)
    assert BlockNeRFScheduler(CONFIG).rates(9, 0.0)["nerf"] == pytest.approx(0.1)
    assert BlockNeRFScheduler(CONFIG).rates(99, 0.5)["nerf"] == pytest.approx(0.01)
    assert BlockNeRFScheduler(CONFIG).rates(99, 1.0)["nerf"] == pytest.approx(0.001)
    assert BlockNeRFScheduler(CONFIG).rates(99, 7.0) == BlockNeRFScheduler(CONFIG).rates(99, 1.0)


def test_poses_hold_their_rate_and_end_as_low():
    rates = [BlockNeRFScheduler(CONFIG).rates(99, progress)["pose"] for progress in (0.0, 0.8, 0.9, 1.0)]
    assert rates == pytest.approx([CONFIG.pose_lr, CONFIG.pose_lr, 0.1 * CONFIG.pose_lr, 0.01 * CONFIG.pose_lr])


def test_groups_keep_their_ratio():
    rates = BlockNeRFScheduler(CONFIG).rates(3, 0.3)
    assert rates["appearance"] == pytest.approx(2 * rates["nerf"])


def test_visibility_waits_for_a_density_and_then_falls_like_the_others():
    rates = [BlockNeRFScheduler(CONFIG).rates(99, progress)["visibility"] for progress in (0.0, 0.05, 0.1, 0.5, 1.0)]
    assert rates[0] == 0
    assert 0 < rates[1] < rates[2] > rates[3] > rates[4]
    assert rates[4] == pytest.approx(CONFIG.visibility_lr * CONFIG.lr_final_ratio)
