"""`blocknerf train --resume` of a missing, damaged or foreign checkpoint: a sentence, exit code 2, nothing changed."""

import json
import shutil
from pathlib import Path

import pytest

from blocknerf.city.manifest import manifest_of, write_manifest
from blocknerf.cli.main import main
from blocknerf.core.files import write_json
from tests.support.room import write_room
from tests.support.tiny_run import TINY, saved_after_three, snapshot, tiny_run


@pytest.fixture(scope="module")
def rooms(tmp_path_factory) -> tuple[Path, Path]:
    """Two scenes that are not the same."""
    folder = tmp_path_factory.mktemp("rooms")
    return tuple(write_room(folder / str(n), images=n, width=16, height=12) for n in (4, 5))


@pytest.fixture(scope="module")
def begun(rooms, tmp_path_factory) -> Path:
    """An output folder whose block stands at step 3; copied by `out`."""
    folder = tmp_path_factory.mktemp("begun")
    run = tiny_run(rooms[0], folder)
    saved_after_three(run)
    write_manifest(folder, manifest_of(run.plan, run.config.block_manager))
    return folder


@pytest.fixture
def out(begun, tmp_path) -> Path:
    return shutil.copytree(begun, tmp_path / "out")


def weights_of(out: Path, name: str = "checkpoint") -> Path:
    (path,) = (out / "blocks" / "000").glob(f"{name}-*.safetensors")
    return path


def refused(capsys, scene: Path, out: Path, *overrides: str) -> str:
    """What the shell is told; nothing in the folder may have changed."""
    before = snapshot(out)
    with pytest.raises(SystemExit) as exit:
        main(["train", "--data-root", str(scene), "--output-dir", str(out), *TINY, *overrides, "--resume"])
    assert exit.value.code == 2
    assert snapshot(out) == before
    message = capsys.readouterr().err
    assert "Traceback" not in message
    return " ".join(message.split())


def test_a_whole_one_is_gone_on_with(rooms, out, capsys):
    """What is refused below is not what every run ends in."""
    main(["train", "--data-root", str(rooms[0]), "--output-dir", str(out), *TINY, "--resume"])
    assert "Block 000 resumes at step 3." in " ".join(capsys.readouterr().err.split())


def test_missing(rooms, out, capsys):
    (out / "blocks" / "000" / "checkpoint.json").unlink()
    message = refused(capsys, rooms[0], out)
    assert f"Block 000 was trained to step 3, but its checkpoint is not in {out}/blocks/000." in message
    assert "Restore it" in message
    assert "--resume-from step_N.json" in message


def test_missing_weights(rooms, out, capsys):
    weights = weights_of(out)
    weights.unlink()
    message = refused(capsys, rooms[0], out)
    assert f"The weights {weights}, which checkpoint.json names, are missing." in message


@pytest.mark.parametrize(("key", "value"), [("parts", 5), ("parts", [["model"]]), ("state", [1]), ("state", None)])
def test_parts_and_state_of_another_kind(rooms, out, capsys, key, value):
    path = out / "blocks" / "000" / "checkpoint.json"
    meta = json.loads(path.read_text())
    meta.pop("checksum")
    write_json(path, {**meta, key: value})
    assert f"damaged ({key}" in refused(capsys, rooms[0], out)


def test_truncated_weights(rooms, out, capsys):
    weights = weights_of(out)
    whole = weights.stat().st_size
    weights.write_bytes(weights.read_bytes()[:-100])
    message = refused(capsys, rooms[0], out)
    assert (
        f"The weights {weights} are {whole - 100} bytes long, but checkpoint.json was written for {whole}." in message
    )


def test_weights_with_another_byte(rooms, out, capsys):
    weights = weights_of(out)
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    assert f"The weights {weights} are damaged" in refused(capsys, rooms[0], out)


@pytest.mark.parametrize("part", [0.0, 0.5, 0.99])
def test_truncated_json(rooms, out, capsys, part):
    path = out / "blocks" / "000" / "checkpoint.json"
    path.write_bytes(path.read_bytes()[: int(part * path.stat().st_size)])
    assert f"The block file {path} is damaged" in refused(capsys, rooms[0], out)


@pytest.mark.parametrize("content", ["[]", "{}", '{"version": 1}', '{"version": 99, "weights": {}}'])
def test_json_of_something_else(rooms, out, capsys, content):
    path = out / "blocks" / "000" / "checkpoint.json"
    path.write_text(content)
    assert f"The block file {path}" in refused(capsys, rooms[0], out)


@pytest.mark.parametrize("part", ["trainer.step", "metrics.num_bytes", "trainer.sampler"])
def test_a_state_with_a_gap(rooms, out, capsys, part):
    path = out / "blocks" / "000" / "checkpoint.json"
    meta = json.loads(path.read_text())
    del meta["state"][part], meta["checksum"]
    write_json(path, meta)
    message = refused(capsys, rooms[0], out)
    assert f"The checkpoint {path} has no {part}: another version of the program wrote it." in message


def test_the_checkpoint_of_another_scene(rooms, out, tmp_path, capsys):
    other = tiny_run(rooms[1], tmp_path / "other")
    saved_after_three(other)
    for old in (out / "blocks" / "000").iterdir():
        old.unlink()
    for new in other.block_folder("000").iterdir():
        shutil.copy(new, out / "blocks" / "000")
    message = refused(capsys, rooms[0], out)
    hashes = [json.loads((folder / "scene.json").read_text())["scene_hash"] for folder in (tmp_path / "other", out)]
    assert f"{out}/blocks/000/checkpoint.json was made from something else" in message
    assert f"its scene has the hash {hashes[0]}, not {hashes[1]}" in message


def test_the_checkpoint_of_another_configuration(rooms, out, tmp_path, capsys):
    other = tiny_run(rooms[0], tmp_path / "other", "training.seed=7", "block_nerf.num_samples_fine=4")
    saved_after_three(other)
    shutil.rmtree(out / "blocks" / "000")
    shutil.copytree(other.block_folder("000"), out / "blocks" / "000")
    message = refused(capsys, rooms[0], out)
    assert f"{out}/blocks/000/checkpoint.json was made from something else" in message
    assert "block_nerf.num_samples_fine 4 -> 8" in message
    assert "training.seed 7 -> 42" in message


def test_another_scene_for_this_folder(rooms, out, capsys):
    message = refused(capsys, rooms[1], out)
    assert f"{out} belongs to another scene (that of {rooms[0].resolve()}" in message


def test_another_configuration_for_this_folder(rooms, out, capsys):
    message = refused(capsys, rooms[0], out, "training.seed=7")
    assert f"{out} belongs to another configuration: training.seed 42 -> 7." in message
