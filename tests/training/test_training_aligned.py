"""A city of several drives is aligned when its last block is trained, without asking."""

from dataclasses import replace
from pathlib import Path

import pytest

from blocknerf.city.alignment.file import Alignment, BlockShifts, read_alignment
from blocknerf.city.alignment.fitting import PairDifference, align_city
from blocknerf.cli.train import train
from tests.support.room import write_room
from tests.support.small_field import SMALL_HASH

SMALL = (
    "block_manager.block_size=2.5",
    "block_manager.overlap_ratio=0.5",
    "block_manager.min_images_per_block=6",
    "block_manager.max_blocks=4",
    "appearance_embedding.use_global_appearance=false",  # each block finds codes of its own
    *SMALL_HASH,
    "dataset.batch_size=256",
    "training.max_steps=80",
    "training.use_visibility_network=false",
    "validation.num_val_images=0",
    "logging.use_tensorboard=false",
)


@pytest.fixture(scope="module")
def room(tmp_path_factory) -> Path:
    return write_room(tmp_path_factory.mktemp("room"))


@pytest.fixture
def agreeing(monkeypatch):
    """Blocks that agree better when they are aligned: whether so few steps bring that depends on the processor."""

    def align(*arguments):
        alignment, differences = align_city(*arguments)
        return alignment, [replace(pair, mean_after=0.0) for pair in differences]

    monkeypatch.setattr("blocknerf.city.alignment.fitting.align_city", align)


def _train(room: Path, out: Path, *overrides: str, **flags) -> dict[str, str]:
    """By block id: the hash of the weights that its alignment fits."""
    train(room, out, overrides=(*SMALL, *overrides), jobs=1, **flags)
    return {name: entry.weights_sha256 for name, entry in read_alignment(out).blocks.items()}


def test_training_ends_with_one_look_unless_told_otherwise(room, tmp_path, agreeing):
    apart = _train(room, tmp_path / "apart", align=False)
    assert apart == {}
    assert not (tmp_path / "apart" / "alignment.json").exists()
    aligned = _train(room, tmp_path / "aligned")
    assert len(aligned) >= 2
    again = _train(room, tmp_path / "apart", resume=True)  # as after a kill between the last block and the alignment
    assert again == aligned


def test_nothing_is_aligned_before_the_last_block_and_then_only_what_is_new(room, tmp_path, agreeing):
    assert _train(room, tmp_path, blocks="000") == {}
    aligned = _train(room, tmp_path, resume=True)
    assert "000" in aligned
    anew = _train(room, tmp_path, "training.max_steps=60", blocks="001", overwrite=True)
    assert {name for name in aligned if aligned[name] != anew[name]} == {"001"}


def test_blocks_that_agree_less_when_aligned_stay_as_they_were_trained(room, tmp_path, monkeypatch, capsys):
    worse = PairDifference(("000", "001"), "noon", 0.1, 0.1, 0.1, 0.2)
    found = Alignment({"000": BlockShifts("hash", {"noon": (1.0,)})})
    monkeypatch.setattr("blocknerf.city.alignment.fitting.align_city", lambda *arguments: (found, [worse]))
    assert _train(room, tmp_path, "training.max_steps=2") == {}
    assert "did not make them agree better" in " ".join(capsys.readouterr().err.split())
    assert (tmp_path / "alignment.json").is_file()  # so that it is not tried again


@pytest.mark.parametrize(
    "alone", ["block_manager.max_blocks=1", "training.use_appearance_embedding=false"], ids=["block", "codes"]
)
def test_where_there_is_nothing_to_align_training_just_ends(room, tmp_path, alone):
    assert _train(room, tmp_path, alone) == {}
