"""What a user gets wrong about training, from the command line: exit code 2, one sentence, nothing lost."""

from pathlib import Path

import pytest

from blocknerf.cli.main import main
from blocknerf.compat.training_config import BlockNeRFTrainingConfig
from blocknerf.core.config.load import config_to_json
from blocknerf.core.files import write_json
from blocknerf.runtime.process_group import ENVIRONMENT
from tests.support.room import write_room
from tests.support.small_field import SMALL_HASH

TINY = (
    "block_manager.max_blocks=1",
    *SMALL_HASH,
    "dataset.batch_size=128",
    "training.max_steps=3",
    "logging.use_tensorboard=false",
    "validation.num_val_images=0",
)
WEIGHTS = ("rgb", "depth", "consistency", "interlevel", "coarse", "distortion", "appearance", "visibility")
ALL_ZERO = tuple(f"training.{name}_loss_weight=0" for name in WEIGHTS) + ("training.regularization_weight=0",)


def _stages(stage: str) -> str:
    return f"training.stage_training={{enable: true, stages: [{{name: coarse, epochs: 5, {stage}}}]}}"


BAD = {
    "an unknown component": (
        (_stages("components: [nerf, apearance]"),),
        r"training.stage_training.stages.0.components.1: input should be 'nerf', 'appearance', 'pose' or 'visibility', "
        "not 'apearance'",
    ),
    "weights that are all zero": (
        ALL_ZERO,
        "cannot be used: the weights of all terms that compare a block with its photographs are zero; give "
        "training.rgb_loss_weight",
    ),
    "no processes to join": (("--distributed",), "--distributed needs RANK, WORLD_SIZE, MASTER_ADDR, MASTER_PORT"),
    "a rate that is no number": (
        ("training.nerf_lr=5e-4x",),
        "training.nerf_lr: input should be a valid number, unable to parse string as a number, not '5e-4x'",
    ),
    "a rate at which the loss breaks": (
        ("training.nerf_lr=1e36", "training.lr_warmup_steps=0"),
        "Training of block 000 broke at step 1: ",
    ),
}


@pytest.fixture(scope="module")
def room(tmp_path_factory) -> Path:
    return write_room(tmp_path_factory.mktemp("room"))


def _train(room: Path, out: Path, *arguments: str) -> None:
    main(["train", "--data-root", str(room), "--output-dir", str(out), *TINY, *arguments])


@pytest.mark.parametrize("mistake", BAD)
def test_one_sentence_and_the_command_can_be_given_again(room, tmp_path, capsys, monkeypatch, mistake):
    for name in ENVIRONMENT:
        monkeypatch.delenv(name, raising=False)
    arguments, sentence = BAD[mistake]
    with pytest.raises(SystemExit) as exit:
        _train(room, tmp_path / "out", *arguments)
    assert exit.value.code == 2
    lines = capsys.readouterr().err.splitlines()
    messages = [line for line in lines if line.startswith("blocknerf: ")]
    assert len(messages) == 1
    assert lines[-1] == messages[0]
    assert sentence in messages[0]
    assert messages[0].endswith((".", "`."))
    assert "value error" not in messages[0].lower()
    assert "Traceback" not in "".join(lines)
    _train(room, tmp_path / "out")  # what is right now is not in the way of what was wrong before
    assert (tmp_path / "out" / "blocks" / "000" / "latest.json").is_file()


def test_a_loss_that_breaks_names_its_term_block_and_images_and_leaves_the_batch(room, tmp_path, capsys):
    with pytest.raises(SystemExit):
        _train(room, tmp_path, *BAD["a rate at which the loss breaks"][0])
    err = capsys.readouterr().err
    assert err.count("broke at step 1") == 1  # said once
    assert "rgb" in err
    assert "lower training.nerf_lr, and run again with --resume: training resumes from its beginning." in err
    assert (tmp_path / "blocks" / "000" / "broken_batch.safetensors").is_file()
    assert not (tmp_path / "blocks" / "000" / "checkpoint.json").exists()


def test_the_flat_configuration_trains_as_its_example_shows(room, tmp_path):
    """The documents' object, as a file of the schema, through the ordinary command."""
    config = BlockNeRFTrainingConfig()
    config.batch_size = 128
    config.num_epochs = 300
    config.distributed = True
    config.nerf_layers, config.nerf_hidden_dim, config.visibility_hidden_dim = 3, 16, 16
    config.num_samples_coarse = config.num_samples_fine = 8
    config.use_tensorboard = False
    write_json(tmp_path / "flat.json", config_to_json(config.to_config()))
    out = tmp_path / "out"
    arguments = ["--data-root", str(room), "--output-dir", str(out), "--config", str(tmp_path / "flat.json")]
    main(["train", *arguments, "training.max_steps=2", "validation.num_val_images=0"])
    assert (out / "blocks" / "000" / "latest.json").is_file()
