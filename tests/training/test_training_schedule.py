"""Learning rates: limits, laws of each curve, milestones, the picture of them."""

import numpy as np
import pytest
import torch

from blocknerf.core.config.training import TrainingConfig
from blocknerf.training.block.rates_plot import axis_label, draw_rates, rate_curves, run_length
from blocknerf.training.block.schedule import BlockNeRFScheduler

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


MILESTONES = CONFIG.model_copy(update={"num_epochs": 200, "lr_decay_steps": (100, 150), "lr_decay_rate": 0.1})


def curve(name: str, config: TrainingConfig = MILESTONES) -> np.ndarray:
    return np.array([BlockNeRFScheduler(config).rates(99, share)[name] for share in np.linspace(0, 1, 201).tolist()])


def test_with_milestones_the_field_falls_by_the_same_factor_in_every_epoch():
    rates = curve("nerf")
    assert rates[[0, 100, 200]] == pytest.approx([0.1, 0.01, 0.001])  # as much as two milestones make, smoothly
    assert rates[1:] / rates[:-1] == pytest.approx(np.full(200, rates[1] / rates[0]))


def test_with_milestones_appearance_is_half_a_cosine():
    rates = curve("appearance")
    assert rates[[0, 200]] == pytest.approx([0.2, 0.002])
    assert rates + rates[::-1] == pytest.approx(np.full(201, 0.202))  # point symmetric around its middle
    assert (np.diff(rates) < 0).all()
    assert (-np.diff(rates)[[0, 199]] < -np.diff(rates)[100] / 50).all()  # flat at both ends
    fitted = (2 * rates - 0.202) / 0.198
    assert fitted == pytest.approx(np.cos(np.linspace(0, np.pi, 201)))


def test_with_milestones_poses_fall_at_them_and_nowhere_else():
    rates = curve("pose")
    assert np.flatnonzero(np.diff(rates)).tolist() == [99, 149]  # a milestone is an epoch, and 200 of them make a run
    assert rates[[0, 99, 100, 149, 150, 200]] == pytest.approx(
        MILESTONES.pose_lr * np.array([1, 1, 0.1, 0.1, 0.01, 0.01])
    )


def test_with_milestones_visibility_warms_up_and_then_falls():
    rates = curve("visibility")
    assert rates[0] == 0
    assert np.argmax(rates) == 20
    assert (np.diff(rates)[:20] > 0).all()
    assert (np.diff(rates)[20:] < 0).all()
    assert rates[200] == pytest.approx(0.01 * MILESTONES.visibility_lr)


def test_a_decay_of_one_holds_every_rate():
    held = MILESTONES.model_copy(update={"lr_decay_rate": 1.0})
    for name in ("nerf", "appearance", "pose"):
        assert curve(name, held) == pytest.approx(np.full(201, curve(name, held)[0]))


def test_the_picture_shows_every_rate_and_the_borders_of_stages(tmp_path):
    stages = ({"name": "a", "epochs": 50, "components": ["nerf"]}, {"name": "b", "epochs": 150})
    settings = {"num_epochs": 200, "use_pose_refinement": True, "stage_training": {"enable": True, "stages": stages}}
    staged = TrainingConfig.model_validate(settings)
    epochs, curves = rate_curves(staged)
    assert (epochs[0], epochs[-1]) == (0, 200)
    assert set(curves) == {"nerf", "appearance", "pose", "visibility"}
    assert np.isfinite(curves["nerf"]).all()
    assert np.array_equal(np.isfinite(curves["pose"]), epochs >= 50)
    draw_rates(tmp_path / "staged.png", staged)
    draw_rates(tmp_path / "plain.png", TrainingConfig(num_epochs=200))
    staged_picture, plain_picture = ((tmp_path / f"{name}.png").read_bytes() for name in ("staged", "plain"))
    assert staged_picture[:4] == b"\x89PNG"
    assert staged_picture != plain_picture


def test_the_picture_counts_steps_where_the_run_has_a_number_of_them():
    config = MILESTONES.model_copy(update={"max_steps": 400})
    steps, curves = rate_curves(config)
    assert (run_length(config), steps[-1]) == (400, 400)
    assert "steps" in axis_label(config)
    scheduler = BlockNeRFScheduler(config)
    for at in (0, 5, 9, 200, 399):
        point = int(np.searchsorted(steps, at))
        assert curves["nerf"][point] == pytest.approx(scheduler.rates(at, at / 400)["nerf"], rel=1e-3)


def test_where_nobody_knows_the_steps_the_picture_says_that_it_leaves_their_rise_out():
    epochs, curves = rate_curves(MILESTONES)
    assert (run_length(MILESTONES), epochs[-1]) == (200, 200)
    assert curves["nerf"][0] == MILESTONES.nerf_lr
    assert axis_label(MILESTONES) == "epochs, without the rise over the first 10 steps"


def test_what_is_switched_off_has_no_curve():
    assert "pose" not in rate_curves(CONFIG)[1]
    assert "pose" in rate_curves(CONFIG.model_copy(update={"use_pose_refinement": True}))[1]


def test_milestones_are_marked(tmp_path):
    draw_rates(tmp_path / "marked.png", MILESTONES)
    flat = MILESTONES.model_copy(update={"lr_decay_rate": 1.0})
    draw_rates(tmp_path / "flat.png", flat)
    draw_rates(tmp_path / "moved.png", flat.model_copy(update={"lr_decay_steps": (50, 150)}))
    assert (tmp_path / "flat.png").read_bytes() != (tmp_path / "moved.png").read_bytes()
    assert (tmp_path / "marked.png").read_bytes() != (tmp_path / "flat.png").read_bytes()


def test_groups_with_keys_of_their_own_follow_the_schedulers_of_torch():
    """The documents' ExponentialLR, CosineAnnealingLR and MultiStepLR, stepped once an epoch."""
    config = TrainingConfig(
        num_epochs=20,
        lr_warmup_steps=0,
        nerf_lr=0.1,
        nerf_lr_decay=0.8,
        appearance_lr=0.2,
        appearance_min_lr=0.05,
        appearance_cosine_cycles=8,
        pose_lr=0.3,
        pose_milestones=(5, 12),
        pose_lr_decay=0.4,
    )
    rates = {"nerf": config.nerf_lr, "appearance": config.appearance_lr, "pose": config.pose_lr}
    optimizers = {name: torch.optim.SGD([torch.zeros(1)], lr=rate) for name, rate in rates.items()}
    schedulers = (
        torch.optim.lr_scheduler.ExponentialLR(optimizers["nerf"], gamma=0.8),
        torch.optim.lr_scheduler.CosineAnnealingLR(optimizers["appearance"], T_max=8, eta_min=0.05),
        torch.optim.lr_scheduler.MultiStepLR(optimizers["pose"], milestones=[5, 12], gamma=0.4),
    )
    for epoch in range(20):
        rates_now = BlockNeRFScheduler(config).rates(epoch, epoch / 20)
        for name, optimizer in optimizers.items():
            assert rates_now[name] == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-6)
            optimizer.step()
        for scheduler in schedulers:
            scheduler.step()
    plain = TrainingConfig(num_epochs=20, lr_warmup_steps=0)
    assert (
        BlockNeRFScheduler(plain).rates(5, 0.25)["visibility"]
        == BlockNeRFScheduler(config).rates(5, 0.25)["visibility"]
    )


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"pose_milestones": [3, 2]}, "must rise"),
        ({"pose_milestones": [5]}, "never passes"),
        ({"appearance_min_lr": 1.0}, "above appearance_lr"),
    ],
)
def test_rates_that_cannot_be_are_refused(values, message):
    with pytest.raises(ValueError, match=message):
        TrainingConfig.model_validate(values)
