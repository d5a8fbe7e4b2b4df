"""`--minutes`: what it chooses is stored, stays when a run resumes, and is never chosen against what was given."""

import subprocess
import sys
import time
from dataclasses import replace
from types import SimpleNamespace

import pytest

from blocknerf.blocks.budget import Machine
from blocknerf.blocks.budget_file import read_budget
from blocknerf.cli.minutes import read_settings
from blocknerf.cli.plan import plan
from blocknerf.cli.train import train
from blocknerf.core.config.keys import free_keys
from blocknerf.core.config.load import load_config
from blocknerf.core.errors import UserError
from blocknerf.models.block_file import read_block_meta
from blocknerf.training.run import budget as budgets
from blocknerf.training.run import calibration
from blocknerf.training.run.budget import EPOCHS, MINUTES, RunBudget, given_of
from blocknerf.training.run.budget_words import BATCH, ROWS, SIZE
from tests.support.room import write_room
from tests.support.small_field import SMALL_HASH, SMALL_MLP
from tests.support.tiny_run import TINY, tiny_run

SAMPLES = ("block_nerf.num_samples_coarse", "block_nerf.num_samples_fine")
FIELD = tuple(key for key in SMALL_HASH if not key.startswith(ROWS))
ONE_BLOCK = (*FIELD, "block_manager.max_blocks=1", "logging.use_tensorboard=false", "validation.num_val_images=1")
FOUR = ("block_manager.max_blocks=4", "block_manager.block_size=2", "block_manager.min_images_per_block=3")


@pytest.fixture(scope="module")
def room(tmp_path_factory):
    return write_room(tmp_path_factory.mktemp("room"), images=16, width=64, height=48)


@pytest.fixture(autouse=True)
def machine(monkeypatch):
    """As fast as no measurement says."""
    known = Machine(20_000.0, 1)
    monkeypatch.setattr(calibration, "measured", lambda config, devices: known)
    return known


@pytest.fixture
def clock(monkeypatch):
    """The clock of budgets stands still until it is moved."""
    standing = SimpleNamespace(now_s=100.0)
    monkeypatch.setattr(budgets, "time", SimpleNamespace(monotonic=lambda: standing.now_s))
    return standing


# --- keys -----------------------------------------------------------------------------------------------------------


def test_auto_is_the_same_as_not_to_give_a_key(tmp_path):
    keys = (SIZE, BATCH, ROWS, MINUTES, EPOCHS, *SAMPLES)
    assert free_keys(load_config(None)) == {*keys}
    assert load_config(None, [f"{key}=auto" for key in keys]) == load_config(None)
    path = tmp_path / "given.yaml"
    path.write_text("dataset: {batch_size: 64, image_downsample: auto}\n")
    assert load_config(path).dataset.batch_size == 64
    assert BATCH not in free_keys(load_config(path))
    assert free_keys(load_config(path, [f"{BATCH}=auto"])) == {*keys}
    assert ROWS not in free_keys(load_config(None, ["block_nerf.backbone=mlp"]))
    with pytest.raises(UserError, match="seed"):
        load_config(None, ["training.seed=auto"])


@pytest.mark.parametrize("minutes", [0.0, -1.0, float("inf"), float("nan")])
def test_a_time_that_is_none_is_refused(tmp_path, minutes):
    with pytest.raises(UserError, match="is no time for a run"):
        read_settings(None, (), tmp_path, False, minutes)


def test_minutes_of_a_block_contradict_minutes_of_the_run(tmp_path):
    with pytest.raises(UserError, match=r"--minutes 3 .* training\.max_minutes=4"):
        read_settings(None, [f"{MINUTES}=4"], tmp_path, False, 3.0)
    assert MINUTES in read_settings(None, [f"{MINUTES}=auto"], tmp_path, False, 3.0).free


# --- what is chosen for a plan --------------------------------------------------------------------------------------


def test_a_plan_says_what_is_chosen_and_stores_numbers(room, tmp_path, caplog):
    plan(room, tmp_path / "out", overrides=ONE_BLOCK, minutes=4.0)
    assert "4 minutes for 1 block at 20,000 rays a second on 1 core: images at" in caplog.text
    assert "With 8 minutes it would be" in caplog.text
    config, stored = load_config(tmp_path / "out" / "config.json", stored=True), read_budget(tmp_path / "out")
    assert stored is not None
    assert {SIZE, BATCH, ROWS, MINUTES, EPOCHS} <= {*stored.chosen}
    assert 0 < config.training.max_minutes < 4
    assert not {*SAMPLES} & {*stored.chosen}  # they were given
    plan(room, tmp_path / "out", overrides=ONE_BLOCK)
    assert read_budget(tmp_path / "out") is None
    assert load_config(tmp_path / "out" / "config.json", stored=True) == load_config(None, ONE_BLOCK)


def test_what_is_given_is_never_chosen(room, tmp_path, caplog):
    given = (f"{SIZE}=2", f"{BATCH}=77", f"{ROWS}=9", f"{EPOCHS}=3", "training.max_steps=40")
    plan(room, tmp_path / "out", overrides=(*ONE_BLOCK, *given), minutes=4.0)
    config = load_config(tmp_path / "out" / "config.json", stored=True)
    assert (config.dataset.image_downsample, config.dataset.batch_size) == (2, 77)
    assert (config.block_nerf.hash_grid.log2_table_rows, config.training.num_epochs) == (9, 3)
    assert "training.max_steps=40 ends a block sooner" in caplog.text
    assert "training.num_epochs=3 ends a block sooner" in caplog.text


def test_epochs_stay_where_keys_count_in_them(room, tmp_path):
    for number, override in enumerate(("training.lr_decay_steps=[2,3]", "training.nerf_lr_decay=0.5")):
        plan(room, tmp_path / str(number), overrides=(*ONE_BLOCK, override), minutes=4.0)
        assert load_config(tmp_path / str(number) / "config.json", stored=True).training.num_epochs == 5


def test_stages_keep_their_sizes_and_the_mlp_has_no_table(room, tmp_path):
    stages = "training.stage_training={enable: true, stages: [{name: a, epochs: 5, resolution: 16}]}"
    for name, overrides in (("stages", (*ONE_BLOCK, stages)), ("mlp", (*SMALL_MLP, *ONE_BLOCK[-3:]))):
        plan(room, tmp_path / name, overrides=overrides, minutes=4.0)
        config = load_config(tmp_path / name / "config.json", stored=True)
        assert config.training.max_minutes is not None
    staged = load_config(None, [stages])
    assert given_of(staged, free_keys(staged), []).image_downsample == 1


def test_a_step_has_room_for_what_it_must_hold():
    config = load_config(None, ["dataset.num_rays_per_image=700"])
    assert given_of(config, free_keys(config), []).fewest_rays == 700
    patches = load_config(None, ["training.rgb_ssim_share=0.1", "dataset.patch_size=20"])
    assert given_of(patches, free_keys(patches), []).fewest_rays == 400


def test_too_little_time_says_how_much_is_the_least(room, tmp_path, caplog):
    with pytest.raises(UserError, match=r"Give at least --minutes 0\.\d") as refused:
        plan(room, tmp_path / "out", overrides=ONE_BLOCK, minutes=0.01)
    least = float(str(refused.value).split("least --minutes ")[1].split(",")[0])
    assert not (tmp_path / "out" / "config.json").exists()
    plan(room, tmp_path / "out", overrides=ONE_BLOCK, minutes=least)
    assert "Expect blurred pictures" in caplog.text


# --- a run ----------------------------------------------------------------------------------------------------------


def test_a_run_with_minutes_resumes_with_what_was_chosen(room, tmp_path, capsys):
    out, given = tmp_path / "out", (*ONE_BLOCK, "training.max_steps=4")
    train(room, out, overrides=given, minutes=4.0, device="cpu", align=False)
    chosen, stored = load_config(out / "config.json", stored=True), read_budget(out)
    assert read_block_meta(out / "blocks" / "000", "latest").step == 4
    for minutes in (None, 4.0, 9.0):  # from its own configuration, and from that of the first command
        for overrides in ((), given):
            settings = read_settings(None if overrides else out / "config.json", overrides, out, True, minutes)
            assert settings.kept == stored
            assert replace_minutes(settings.config) == replace_minutes(chosen)
            assert MINUTES in settings.free
    train(room, out, overrides=given, resume=True, device="cpu", align=False)
    assert "All blocks are already trained" in " ".join(capsys.readouterr().err.split())
    assert load_config(out / "config.json", stored=True) == chosen
    with pytest.raises(UserError, match="another configuration"):
        train(room, out, overrides=(*given, f"{BATCH}=99"), resume=True, device="cpu")
    with pytest.raises(UserError, match="nothing to choose"):
        plan(room, out, overrides=given, minutes=4.0)


def replace_minutes(config):
    return config.model_copy(update={"training": config.training.model_copy(update={"max_minutes": None})})


@pytest.mark.parametrize("jobs", [1, 2])
def test_what_is_left_when_pixels_are_decoded_is_divided(room, tmp_path, monkeypatch, clock, machine, jobs):
    run = tiny_run(room, tmp_path / "out", *FOUR, base=(*TINY, "validation.num_val_images=0"))
    blocks = run.plan.blocks
    assert len(blocks) > 2
    budget = RunBudget(10.0, 0.0, machine, frozenset({MINUTES}), start_s=1.0, jobs=jobs, aligns=False)
    clock.now_s = 120.0  # of 600 seconds
    timed = budget.timed(run, blocks)
    assert timed.config == load_config(tmp_path / "out" / "config.json", stored=True)
    places, rounds = min(jobs, len(blocks)), -(-len(blocks) // jobs)
    a_block_s = 60 * timed.config.training.max_minutes * places
    assert 0.9 * (600 - 120) < rounds * a_block_s < 600 - 120
    assert replace_minutes(timed.config) == replace_minutes(run.config)

    clock.now_s = 240.0
    assert budget.timed(run, blocks).config.training.max_minutes < timed.config.training.max_minutes
    clock.now_s = 590.0
    with pytest.raises(UserError, match="too short for a step of each block"):
        budget.timed(run, blocks)


def test_a_resumed_run_has_the_rest_and_a_larger_number_adds(room, tmp_path, monkeypatch, clock, machine):
    run = tiny_run(room, tmp_path / "out", *FOUR, base=(*TINY, "validation.num_val_images=0"))
    first, second, *others = run.plan.blocks
    behind_s = {first.id: 100.0, second.id: 40.0}  # the first is finished
    monkeypatch.setattr(budgets, "_spent_s", lambda run, block: behind_s.get(block.id, 0.0))
    clock.now_s = 0.0
    whole = RunBudget(10.0, 0.0, machine, frozenset({MINUTES}), jobs=1, aligns=False)

    def seconds(budget):
        total_s = 60 * budget.timed(run, [second, *others]).config.training.max_minutes
        return (total_s - 40) + total_s * len(others)  # what is trained from now on

    assert 0.9 * (600 - 140) < seconds(whole) < 600 - 140
    assert seconds(replace(whole, minutes=20.0)) - seconds(whole) == pytest.approx(0.97 * 600, rel=0.05)
    assert whole.timed(run, []) is run


def test_the_measurement_is_of_steps_of_the_field(monkeypatch):
    monkeypatch.undo()
    monkeypatch.setattr(calibration, "MEASURED_S", 0.05)
    small, large = (
        calibration.measured(load_config(None, [*SMALL_HASH, *overrides]), ("cpu",))
        for overrides in ((), ("block_nerf.num_samples_fine=256",))
    )
    assert small.rays_per_s > 3 * large.rays_per_s > 0
    mlp = calibration.measured(load_config(None, SMALL_MLP), ("cpu",))
    assert mlp.rays_per_s > 0
    assert mlp.kind == "core"


@pytest.mark.slow
def test_a_run_of_some_minutes_takes_them(tmp_path):
    """Of a new process, with kernels, pixels, four blocks, two at a time, and their alignment."""
    scene, out, minutes = write_room(tmp_path / "room", images=32, width=160, height=120), tmp_path / "out", 3.0
    command = [sys.executable, "-m", "blocknerf", "train", "--data-root", str(scene), "--output-dir", str(out)]
    begin_s = time.monotonic()
    subprocess.run([*command, "--minutes", f"{minutes}", "--jobs", "2", *FOUR], check=True, timeout=600)
    assert 0.8 * 60 * minutes < time.monotonic() - begin_s < 1.1 * 60 * minutes
