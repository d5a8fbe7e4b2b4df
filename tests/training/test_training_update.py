"""A capture grows and one block learns from it: every other block's files stay as they are, byte for byte."""

import hashlib
import json
import shutil
from pathlib import Path

import pytest
import torch

from blocknerf.blocks.output import load_output, open_scene
from blocknerf.blocks.plan import planned_split
from blocknerf.city.alignment.file import read_alignment
from blocknerf.city.city import City
from blocknerf.cli.train import train
from blocknerf.core.errors import UserError
from blocknerf.core.types import Appearance
from blocknerf.models.block_file import has_block, read_block, read_block_meta
from blocknerf.models.block_nerf import BlockNeRF
from blocknerf.scene.store import ImageStore
from blocknerf.training.run.update import grown_block
from tests.support.room import write_room
from tests.support.small_field import SMALL_HASH

SMALL = (
    *SMALL_HASH,
    "block_manager.block_size=1.5",
    "block_manager.overlap_ratio=0.15",
    "block_manager.min_images_per_block=4",
    "appearance_embedding.embedding_dim=4",
    "dataset.batch_size=256",
    "training.num_epochs=0.3",
    "training.max_minutes=",
    "validation.num_val_images=0",
    "logging.use_tensorboard=false",
)


def add_images(room: Path, extra: Path, count: int) -> None:
    """New images of a new drive, which come first by name and stand between the old ones in the room."""
    tree = json.loads((room / "transforms.json").read_text())
    new = json.loads((write_room(extra, images=count) / "transforms.json").read_text())["frames"]
    for number, frame in enumerate(new):
        name = f"images/a_dawn/{number:03d}.png"
        (room / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(extra / frame["file_path"], room / name)
        tree["frames"].append({**frame, "file_path": name})
    (room / "transforms.json").write_text(json.dumps(tree))


def hashes(out: Path, block_ids) -> dict[str, str]:
    files = [path for block_id in block_ids for path in sorted((out / "blocks" / block_id).iterdir())]
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture(scope="module")
def grown(tmp_path_factory):
    """(room with new images, a city trained before they came)."""
    folder = tmp_path_factory.mktemp("update")
    room, out = write_room(folder / "room", images=24), folder / "out"
    train(room, out, None, SMALL)
    add_images(room, folder / "extra", 13)
    return room, out


@pytest.fixture
def copied(grown, tmp_path):
    return grown[0], shutil.copytree(grown[1], tmp_path / "out")


def test_only_the_updated_block_changes(copied):
    room, out = copied
    _, before = load_output(out)
    ids = [block.id for block in before.blocks]
    assert len(ids) >= 2
    target, others = ids[0], ids[1:]
    files, old = hashes(out, others), read_block_meta(out / "blocks" / target, "latest")
    train(room, out, blocks=target, update=True)

    config, plan = load_output(out)
    scene = open_scene(out, config.dataset)
    assert hashes(out, others) == files
    assert [plan.block(name) for name in others] == [before.block(name) for name in others]
    updated, old_images = plan.block(target), before.block(target).train_images
    assert updated.train_images[: len(old_images)] == old_images
    added = set(updated.train_images[len(old_images) :])
    dawn = {image.id for image in scene.images if image.drive == "a_dawn"}
    assert added
    assert added <= dawn
    meta = read_block_meta(out / "blocks" / target, "latest")
    assert meta.finished
    assert meta.weights != old.weights
    assert (old.scene_hash, meta.scene_hash) == (before.scene_hash, plan.scene_hash)
    assert plan.earlier_scene_hashes == (before.scene_hash,)
    assert not has_block(out / "blocks" / target, "checkpoint")

    train_images, test_images = planned_split(plan, scene)
    assert {image.id for image in train_images} == added | {
        name for block in before.blocks for name in block.train_images
    }
    assert not {image.id for image in train_images} & {image.id for image in test_images}
    city = City.open(out)
    assert city.ids == ids
    assert city.main_drive is not None
    assert set(read_alignment(out).blocks) <= {target}
    model = city.model(target)
    assert isinstance(model, BlockNeRF)
    assert model.image_ids == updated.train_images
    first = next(image for image in scene.images if image.id in added)
    store = ImageStore.open(scene, 1, out / "store", progress=False)
    center = torch.from_numpy(first.world_from_cam[:, 3].copy())
    assert bool(city.render(store.rays(first.id), center, Appearance(first.id, first.drive)).rgb.isfinite().all())

    train(room, out, blocks=others[0], update=True)  # the same images, now for a second block
    _, again = load_output(out)
    assert again.scene_hash == plan.scene_hash
    assert again.earlier_scene_hashes == plan.earlier_scene_hashes
    assert again.block(target) == updated
    learned = {name for block in again.blocks for name in (*block.train_images, *block.test_images)}
    assert learned >= dawn if len(ids) == 2 else learned & dawn >= added


def test_old_codes_are_those_of_before_and_new_images_have_some(copied):
    from blocknerf.blocks.output import update_scene
    from blocknerf.core.config.load import load_config

    room, out = copied
    _, before = load_output(out)
    target = before.blocks[0].id
    config, scene, plan = update_scene(load_config(out / "config.json"), room, out, [target])
    store = ImageStore.open(scene, 1, out / "store", progress=False)
    saved = read_block(out / "blocks" / target, "latest")
    old = BlockNeRF.from_state(saved.meta.model, saved.tensors)
    new = grown_block(out / "blocks" / target, plan.block(target), store)
    assert old.appearance is not None
    assert new.appearance is not None
    assert new.image_ids[: len(old.image_ids)] == old.image_ids
    assert torch.equal(new.appearance.codes[: len(old.image_ids)], old.appearance.codes)
    assert len(new.appearance.codes) == len(plan.block(target).train_images) > len(old.image_ids)
    assert torch.equal(new.code_for(Appearance(drive="noon")), old.code_for(Appearance(drive="noon")))
    assert not torch.equal(new.code_for(Appearance(drive="a_dawn")), old.code_for(Appearance(drive="a_dawn")))


def test_what_a_user_can_mend_is_said_before_anything_is_written(copied, tmp_path):
    room, out = copied
    target = load_output(out)[1].blocks[0].id
    before = {path: path.read_bytes() for path in out.rglob("*.json")}
    with pytest.raises(UserError, match="--update needs --blocks"):
        train(room, out, update=True)
    with pytest.raises(UserError, match="--update and --resume cannot be given together"):
        train(room, out, blocks=target, update=True, resume=True)
    with pytest.raises(UserError, match="no block 'z'"):
        train(room, out, blocks="z", update=True)
    with pytest.raises(UserError, match=r"another configuration: block_nerf\.hidden_dim 16 -> 32"):
        train(room, out, None, ("block_nerf.hidden_dim=32",), blocks=target, update=True)
    with pytest.raises(UserError, match="belongs to another scene .*--update"):
        train(room, out, resume=True)

    tree = json.loads((room / "transforms.json").read_text())
    moved, fewer = shutil.copytree(room, tmp_path / "moved"), shutil.copytree(room, tmp_path / "fewer")
    frame = next(frame for frame in tree["frames"] if "a_dawn" not in frame["file_path"])
    frame["transform_matrix"][0][3] += 0.01
    (moved / "transforms.json").write_text(json.dumps(tree))
    with pytest.raises(UserError, match="Poses or cameras of the old images .* are"):
        train(moved, out, blocks=target, update=True)
    tree["frames"].remove(frame)
    (fewer / "transforms.json").write_text(json.dumps(tree))
    with pytest.raises(UserError, match="1 of the 24 images .* no longer in"):
        train(fewer, out, blocks=target, update=True)
    assert {path: path.read_bytes() for path in out.rglob("*.json")} == before

    shutil.rmtree(out / "blocks" / target)
    with pytest.raises(UserError, match=f"block {target} was never trained"):
        train(room, out, blocks=target, update=True)
