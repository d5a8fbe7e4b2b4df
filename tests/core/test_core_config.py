"""Configuration: every key known, every value typed, every mistake named with its remedy."""

import json
from pathlib import Path

import pytest

from blocknerf.core.config.config import Config
from blocknerf.core.config.load import config_to_json, load_config
from blocknerf.core.errors import UserError


def write(folder: Path, text: str, name: str = "some.yaml") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def test_no_file_and_an_empty_file_are_the_defaults(tmp_path):
    assert load_config(None) == Config()
    assert load_config(write(tmp_path, "# nothing\n")) == Config()


def test_defaults_pass_their_own_bounds():
    assert Config.model_validate(Config().model_dump()) == Config()


def test_json_brings_back_what_was_written(tmp_path):
    config = load_config(None, ["training.max_minutes=1.5", "block_nerf.hash_grid.num_levels=6", "dataset.type=colmap"])
    path = write(tmp_path, json.dumps(config_to_json(config)), "config.json")
    assert load_config(path) == config


@pytest.mark.parametrize(
    ("text", "nearest"),
    [
        ("training: {nerf_lrr: 1}", "training.nerf_lr"),
        ("trainning: {seed: 1}", "training"),
        ("block_nerf: {hash_grid: {num_level: 4}}", "block_nerf.hash_grid.num_levels"),
        ("dataset: {max_minutes: 3}", "training.max_minutes"),  # right name, wrong section
    ],
)
def test_an_unknown_key_names_the_nearest(tmp_path, text, nearest):
    with pytest.raises(UserError, match=rf"unknown key .*did you mean '{nearest}'") as caught:
        load_config(write(tmp_path, text))
    assert "some.yaml" in str(caught.value)


def test_a_key_like_no_other_lists_what_is_allowed(tmp_path):
    with pytest.raises(UserError, match=r"unknown key 'exposure_encoding\.zzz' \(allowed there: num"):
        load_config(write(tmp_path, "exposure_encoding: {zzz: 1}"))


def test_several_mistakes_are_told_at_once(tmp_path):
    with pytest.raises(UserError) as caught:
        load_config(write(tmp_path, "training: {sede: 1, nerf_lr: -1}\ndataset: {test_every: x}"))
    message = str(caught.value)
    assert "'training.sede'" in message
    assert "training.nerf_lr" in message
    assert "dataset.test_every" in message


@pytest.mark.parametrize("text", ["training:\n  seed: 1\n  seed: 2\n", "training: {}\ntraining: {seed: 1}\n"])
def test_a_key_given_twice_is_an_error(tmp_path, text):
    with pytest.raises(UserError, match=r"some\.yaml.*twice"):
        load_config(write(tmp_path, text))


def test_exponents_without_a_point_are_numbers(tmp_path):
    assert load_config(write(tmp_path, "training: {nerf_lr: 5e-4}")).training.nerf_lr == 5e-4
    assert load_config(None, ["training.nerf_lr=5e-4"]).training.nerf_lr == 5e-4


@pytest.mark.parametrize("text", ["5e-4x", "fast", "[1]", "true", ".inf", ".nan", "-1", "0"])
def test_what_is_no_rate_is_refused(tmp_path, text):
    with pytest.raises(UserError, match=r"training\.nerf_lr"):
        load_config(write(tmp_path, f"training: {{nerf_lr: {text}}}"))


@pytest.mark.parametrize("text", ["2.5", "0", "many", "true"])
def test_what_is_no_count_is_refused(tmp_path, text):
    with pytest.raises(UserError, match=r"dataset\.batch_size"):
        load_config(write(tmp_path, f"dataset: {{batch_size: {text}}}"))


def test_overrides_win_over_the_file_and_leave_the_rest(tmp_path):
    path = write(tmp_path, "training: {seed: 1, nerf_lr: 0.5}")
    config = load_config(path, ["training.seed=2", "block-manager.max-blocks=1"])
    assert (config.training.seed, config.training.nerf_lr, config.block_manager.max_blocks) == (2, 0.5, 1)


def test_an_override_without_a_value_takes_the_limit_away(tmp_path):
    path = write(tmp_path, "training: {max_minutes: 3}")
    assert load_config(path, ["training.max_minutes="]).training.max_minutes is None


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("training.seed", "is not an override; write section.key=value"),
        ("=3", "is not an override"),
        ("training.sed=3", r"did you mean 'training\.seed'"),
        ("training.seed.deep=3", "'seed' is a value, not a section"),
        ("training.seed=[", "cannot be read"),
    ],
)
def test_a_bad_override_says_why(tmp_path, override, message):
    path = write(tmp_path, "training: {seed: 1}")
    with pytest.raises(UserError, match=message):
        load_config(path, [override])


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("some.yaml", b"a: [", "is not YAML"),
        ("some.yaml", b"\xff\xfe\x00", "is not YAML"),
        ("some.yaml", b"- 1\n- 2\n", "holds a list"),
        ("some.yaml", b"? [1, 2]\n: 3\n", "is not YAML"),
        ("some.json", b"{", "is damaged"),
    ],
)
def test_a_file_that_is_no_configuration_is_named(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=message) as caught:
        load_config(tmp_path / name)
    assert name in str(caught.value)


@pytest.mark.parametrize("name", ["absent.yaml", "absent.json"])
def test_a_missing_file_is_named(tmp_path, name):
    with pytest.raises(UserError, match=rf"There is no configuration at .*{name}"):
        load_config(tmp_path / name)


def test_a_folder_in_the_place_of_the_file_is_named(tmp_path):
    with pytest.raises(UserError, match=str(tmp_path)):
        load_config(tmp_path)


def test_a_configuration_cannot_be_changed_after_it_was_checked():
    with pytest.raises(ValueError, match="frozen"):
        Config().training.seed = 3


def test_rays_that_would_end_before_they_begin_are_refused():
    with pytest.raises(UserError, match=r"block_nerf: near_m 5 must be less than far_m 5\.$"):
        load_config(None, ["block_nerf.near_m=5", "block_nerf.far_m=5"])
    assert load_config(None, ["block_nerf.near_m=5", "block_nerf.far_m=6"]).block_nerf.far_m == 6
    assert load_config(None, ["block_nerf.near_m=5"]).block_nerf.far_m is None


def test_the_mlp_has_defaults_of_its_own_and_what_is_given_wins(tmp_path):
    fast, slow = load_config(None), load_config(None, ["block_nerf.backbone=mlp"])
    assert fast == Config()
    assert (slow.block_nerf.hidden_dim, slow.block_nerf.num_samples_fine, slow.training.nerf_lr) == (256, 128, 5e-4)
    path = write(tmp_path, "block_nerf: {backbone: mlp, hidden_dim: 32}\ntraining: {nerf_lr: 1e-3, seed: 7}")
    given = load_config(path)
    assert (given.block_nerf.hidden_dim, given.training.nerf_lr, given.training.seed) == (32, 1e-3, 7)
    assert given.block_nerf.num_samples_fine == 128
    assert load_config(write(tmp_path, json.dumps(config_to_json(given)), "again.json")) == given


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["block_nerf.num_layers=4"], r"skip_connections \[4\] lead nowhere.*num_layers 4.*layers 0 to 2"),
        (["block_nerf.use_hierarchical_sampling=false"], "would change nothing with backbone hash; give backbone mlp"),
        (["block_nerf.backbone=nerf"], "block_nerf: there is no backbone 'nerf'; give hash or mlp"),
        *(
            ([f"block_nerf.backbone={value}"], "block_nerf: there is no backbone .*; give hash or mlp")
            for value in ("[1]", "{a: 1}", "", "3", "true")
        ),
        (["block_nerf.backbone=mlp", "training=7"], "training: .*not 7"),
        (["block_nerf.density_activation=tanh"], "density_activation.*'relu'"),
    ],
)
def test_networks_that_cannot_be_are_refused(overrides, message):
    with pytest.raises(UserError, match=message):
        load_config(None, overrides)


def test_keys_of_the_mlp_alone_choose_it_where_nothing_else_is_said():
    assert load_config(None, ["block_nerf.num_layers=6"]).block_nerf.backbone == "mlp"
    assert load_config(None, ["block_nerf.num_layers=6"]).block_nerf.hidden_dim == 256
    assert load_config(None, ["block_nerf.hidden_dim=32"]).block_nerf.backbone == "hash"
    with pytest.raises(UserError, match="num_layers would change nothing with backbone hash"):
        load_config(None, ["block_nerf.num_layers=6", "block_nerf.backbone=hash"])


@pytest.mark.parametrize(("of_dataset", "of_field"), [(a, b) for a in (False, True) for b in (False, True)])
def test_the_background_is_white_where_either_section_says_so(of_dataset, of_field):
    overrides = [f"dataset.white_background={of_dataset}", f"block_nerf.white_background={of_field}"]
    assert load_config(None, overrides).white_background is (of_dataset or of_field)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["training.lr_decay_steps=100"], r"lr_decay_steps: .*a list of epochs is wanted, as in \[100, 150\], not 100"),
        (["training.lr_decay_steps=[3, 2]"], r"lr_decay_steps \[3.*, 2.*\] must rise"),
        (["training.lr_decay_steps=[5]"], "epoch 5, which a run of num_epochs 5 never passes"),
        (["dataset.num_rays_per_image=2000"], "num_rays_per_image 2000 is more than batch_size 1024"),
        (["dataset.scene_bounds=[0, 0, 0, 1, 0, 1]"], "y_min 0 must be less than y_max 0"),
        (["training.stage_training.enable=true"], "enable is true, but stages is empty"),
        (
            ["training.stage_training={enable: true, stages: [{name: a, epochs: 2}, {name: b, epochs: 1}]}"],
            r"num_epochs is 5, but the stages take 2 \+ 1 = 3 epochs",
        ),
        (
            ["training.stage_training.stages=[{name: a, epochs: 1, components: [light]}]"],
            r"stages\.0\.components\.0: .*'nerf', 'appearance', 'pose' or 'visibility', not 'light'",
        ),
    ],
)
def test_plans_of_training_that_cannot_be_are_refused(overrides, message):
    with pytest.raises(UserError, match=message):
        load_config(None, overrides)
