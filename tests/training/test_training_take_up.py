"""`train_block_nerf.py --resume FILE`: resuming from a state of this output folder or of another, and losing none."""

import json
import shutil
from pathlib import Path

import pytest

from blocknerf.city.manifest import manifest_of, write_manifest
from blocknerf.cli.main import main, run
from blocknerf.core.files import write_json
from blocknerf.models.block_file import has_block, read_block_meta
from blocknerf.training.block.metrics import CLOCK, FILE
from tests.support.room import write_room
from tests.support.script import load_script
from tests.support.tiny_run import TINY, same_weights, saved_after_three, snapshot, tiny_run, train, trainer_of

KEPT = ("logging.log_freq=1", "validation.val_freq=0.3", "validation.save_freq=0.2")  # every 5 and 4 steps


@pytest.fixture(scope="module")
def room(tmp_path_factory) -> Path:
    return write_room(tmp_path_factory.mktemp("room"), images=4, width=16, height=12)


@pytest.fixture(scope="module")
def whole(room, tmp_path_factory) -> Path:
    """An output folder whose block was never disturbed."""
    settled = tiny_run(room, tmp_path_factory.mktemp("whole"), *KEPT)
    train(settled)
    return settled.output_dir


@pytest.fixture(scope="module")
def ten_steps(room, tmp_path_factory) -> Path:
    """An output folder whose block has come to step 10, and keeps its states of steps 4 and 8."""
    begun = tiny_run(room, tmp_path_factory.mktemp("begun"), *KEPT)
    write_manifest(begun.output_dir, manifest_of(begun.plan, begun.config.block_manager))
    trainer = trainer_of(begun)
    trainer.metrics.start(0)
    for _ in range(10):
        trainer.train_iteration()
    trainer.save()
    trainer.metrics.close()
    return begun.output_dir


@pytest.fixture
def out(ten_steps, tmp_path) -> Path:
    return shutil.copytree(ten_steps, tmp_path / "out")


@pytest.fixture
def script():
    return load_script()


@pytest.fixture
def resume(script, room, tmp_path, capsys):
    """Runs the script to its end or its refusal; what it says, in one line."""
    config = tmp_path / "config.yaml"
    config.write_text("training: {seed: 42}\n")

    def start(out: Path, state: Path, *overrides: str, refused: bool = False) -> str:
        arguments = [
            "--config",
            str(config),
            "--data_root",
            str(room),
            "--output_dir",
            str(out),
            *TINY,
            *KEPT,
            *overrides,
        ]
        if refused:
            with pytest.raises(SystemExit) as exit:
                run(lambda: script.train_as_asked(script.parse_arguments([*arguments, "--resume", str(state)])))
            assert exit.value.code == 2
        else:
            run(lambda: script.train_as_asked(script.parse_arguments([*arguments, "--resume", str(state)])))
        return " ".join(capsys.readouterr().err.split())

    return start


def block(out: Path) -> Path:
    return out / "blocks" / "000"


def figures(out: Path) -> list[dict[str, float]]:
    lines = [json.loads(line) for line in (block(out) / FILE).read_text().splitlines()]
    return [{name: value for name, value in line.items() if not name.startswith(CLOCK)} for line in lines]


def assert_is_whole(out: Path, whole: Path) -> None:
    """As if nothing had ever disturbed it; of states that are kept, those before the one taken up may be elsewhere."""
    kept = {path.stem for path in block(out).glob("step_*.json")} - {"step_000010"}
    assert kept >= {"step_000012", "step_000016", "step_000020"}
    for name in ("latest", "best", *kept):
        assert same_weights(block(out), block(whole), name), name
    assert figures(out) == figures(whole)


def test_the_newest_checkpoint_is_what_resume_goes_on_with_anyway(resume, out, whole):
    assert "Block 000 resumes at step 10." in resume(out, block(out) / "checkpoint.json")
    assert_is_whole(out, whole)
    assert not has_block(block(out), "step_000010")


def test_the_same_command_after_the_end_says_that_it_is_finished(resume, out, whole):
    resume(out, block(out) / "checkpoint.json")
    before = snapshot(out)
    assert "Block 000 is finished" in resume(out, block(out) / "checkpoint.json")
    assert snapshot(out) == before


@pytest.mark.parametrize("form", ["json", "weights"])
def test_back_to_a_kept_state_and_the_newest_is_kept_too(resume, out, whole, form):
    (weights,) = block(out).glob("step_000004-*.safetensors")
    output = resume(out, weights if form == "weights" else block(out) / "step_000004.json")
    assert "Block 000 was at step 10, which is kept as step_000010." in output
    assert "Block 000 resumes at step 4." in output
    assert_is_whole(out, whole)
    assert read_block_meta(block(out), "step_000010").state["trainer.step"] == 10
    assert has_block(block(out), "step_000004")


@pytest.mark.parametrize(("named", "step"), [("step_000008.json", 8), ("checkpoint.json", 10), ("", 10)])
def test_a_state_of_another_folder_goes_on_in_this_one(resume, out, whole, tmp_path, named, step):
    before = snapshot(out)
    new = tmp_path / "new"
    assert f"Block 000 resumes at step {step}." in resume(new, block(out) / named)
    assert_is_whole(new, whole)
    assert snapshot(out) == before


def test_a_state_alone_in_a_folder_is_enough(resume, out, whole, tmp_path):
    (tmp_path / "backup").mkdir()
    for path in block(out).glob("step_000008*"):
        shutil.copy(path, tmp_path / "backup")
    resume(tmp_path / "new", tmp_path / "backup" / "step_000008.json")
    assert same_weights(block(tmp_path / "new"), block(whole))
    assert figures(tmp_path / "new") == [line for line in figures(whole) if line["step"] > 8]


def test_a_state_from_elsewhere_costs_a_begun_block_nothing(resume, out, whole, tmp_path):
    begun = shutil.copytree(out, tmp_path / "begun")
    output = resume(begun, block(out) / "step_000008.json")
    assert "Block 000 was at step 10, which is kept as step_000010." in output
    assert "Block 000 resumes at step 8." in output
    assert_is_whole(begun, whole)
    assert has_block(block(begun), "step_000010")


def test_states_in_checkpoint_dir(resume, out, whole, tmp_path):
    checkpoints = tmp_path / "elsewhere"
    new = tmp_path / "new"
    resume(new, block(out) / "step_000008.json", f"output.checkpoint_dir={checkpoints}")
    assert same_weights(block(new), block(whole))
    assert has_block(checkpoints / "000", "step_000016")
    assert figures(new) == figures(whole)


@pytest.mark.parametrize("harm", ["lost", "damaged"])
def test_a_kept_state_is_the_way_out_of_a_bad_checkpoint(resume, out, whole, harm):
    (weights,) = block(out).glob("checkpoint-*.safetensors")
    if harm == "lost":
        (block(out) / "checkpoint.json").unlink()
    else:
        weights.write_bytes(b"")
    output = resume(out, block(out) / "step_000008.json")
    assert "Block 000 resumes at step 8." in output
    assert (str(weights) in output.replace(" ", "")) == (harm == "damaged")
    assert_is_whole(out, whole)


def test_a_finished_block_is_not_given_up(resume, whole, tmp_path):
    out = shutil.copytree(whole, tmp_path / "out")
    before = snapshot(out)
    output = resume(out, block(out) / "step_000008.json", refused=True)
    assert (
        f"Block 000 in {out} is finished, and resuming from {block(out)}/step_000008.json would overwrite it." in output
    )
    assert snapshot(out) == before
    resume(tmp_path / "new", block(out) / "step_000008.json")
    assert_is_whole(tmp_path / "new", whole)


def altered(state: Path, **changes) -> None:
    tree = json.loads(state.read_text()) | changes
    del tree["checksum"]
    write_json(state, tree)


def bad_state(kind: str, folder: Path) -> Path:
    """In `folder`, which holds states of the block at step 8."""
    state = folder / "step_000008.json"
    (weights,) = folder.glob("step_000008-*.safetensors")
    meta = json.loads(state.read_text())
    if kind == "absent":
        return folder / "step_000009.json"
    if kind == "weights to render":
        return folder / "latest.json"
    if kind == "a picture":
        (folder / "x.png").write_bytes(b"")
        return folder / "x.png"
    if kind == "half a pair":
        state.unlink()
        return weights
    if kind == "an empty folder":
        (folder / "empty").mkdir()
        return folder / "empty"
    if kind == "truncated":
        weights.write_bytes(weights.read_bytes()[:-1])
    if kind == "another scene":
        altered(state, scene_hash="beef")
    if kind == "another block":
        altered(state, block_id="007")
    if kind == "another configuration":
        meta["model"]["config"]["training"]["seed"] = 5
        altered(state, model=meta["model"])
    if kind == "side by side":
        altered(state, parts=[*meta["parts"], "neighbours"])
    return state


@pytest.mark.parametrize(
    ("kind", "sentence"),
    [
        ("absent", "There is no checkpoint at {state}."),
        ("weights to render", "{state} holds only weights"),
        ("a picture", "{state} is no checkpoint of this program."),
        ("half a pair", "{state} is half a checkpoint: no step_000008.json next to it names it."),
        ("an empty folder", "There is no checkpoint at {state}/checkpoint.json."),
        ("truncated", "bytes long, but step_000008.json was written for"),
        ("another scene", "{state} was made from something else"),
        ("another block", "it is of block 007, not 000"),
        ("another configuration", "cannot resume from it: training.seed 5 -> 42."),
        ("side by side", "{state} belongs to blocks that learned side by side"),
    ],
)
def test_what_cannot_be_gone_on_from_is_named_and_changes_nothing(resume, out, tmp_path, kind, sentence):
    folder = shutil.copytree(block(out), tmp_path / "bad")
    state = bad_state(kind, folder)
    before = snapshot(out), snapshot(folder)
    output = resume(out, state, refused=True)
    assert sentence.format(state=state) in output
    assert "Traceback" not in output
    assert (snapshot(out), snapshot(folder)) == before


def test_a_block_that_is_left_out_and_flags_that_do_not_go_with_a_state(room, out, capsys):
    def refused(*flags: str) -> str:
        arguments = ["--data-root", str(room), "--output-dir", str(out), *TINY, *KEPT]
        with pytest.raises(SystemExit) as exit:
            main(["train", *arguments, "--resume-from", str(block(out) / "step_000008.json"), *flags])
        assert exit.value.code == 2
        return " ".join(capsys.readouterr().err.split())

    before = snapshot(out)
    assert "--resume-from and --overwrite cannot be given together" in refused("--overwrite")
    assert "cannot be given together" in refused("--side-by-side")
    assert "a state of block 000, which is not in --blocks" in refused("--blocks", "001")
    assert snapshot(out) == before


def test_figures_are_those_of_the_state_that_is_taken_up(room, resume, out, whole, tmp_path):
    other = tiny_run(room, tmp_path / "other", *KEPT)
    saved_after_three(other)
    (block(other.output_dir) / FILE).write_text('{"step": 3, "loss/rgb": 7.0}\n')
    resume(other.output_dir, block(out) / "step_000008.json")
    assert figures(other.output_dir) == figures(whole)
