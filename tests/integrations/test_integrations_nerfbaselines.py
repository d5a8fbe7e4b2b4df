"""The method as nerfbaselines calls it: by the order of calls that its documentation gives, and by its own code."""

import os
from pathlib import Path

import numpy as np
import pytest

from blocknerf.city.city import City
from blocknerf.core.errors import UserError
from blocknerf.integrations import nerfbaselines_scene
from blocknerf.integrations.nerfbaselines import BlockNeRFMethod
from tests.support.nerfbaselines_data import dataset_of, moved, one_of
from tests.support.room import write_room
from tests.support.tiny_run import TINY

OVERRIDES = {key: value for key, value in (text.split("=") for text in TINY) if key != "dataset.test_every"}
TWO_BLOCKS = {"block_manager.max_blocks": "9", "block_manager.block_size": "2.2", "training.max_steps": 10}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory) -> dict:
    return dataset_of(write_room(tmp_path_factory.mktemp("room"), images=8, width=16, height=12))


def made(dataset: dict, **more) -> BlockNeRFMethod:
    return BlockNeRFMethod(train_dataset=dataset, config_overrides=OVERRIDES | more)


def trained(method: BlockNeRFMethod, until: int | None = None) -> BlockNeRFMethod:
    info = method.get_info()
    for step in range(info["loaded_step"] or 0, info["num_iterations"] if until is None else until):
        method.train_iteration(step)
    return method


@pytest.fixture(scope="module")
def checkpoint(dataset, tmp_path_factory) -> Path:
    """Of two or more blocks, trained to the end."""
    folder = tmp_path_factory.mktemp("checkpoint") / "made"
    trained(made(dataset, **TWO_BLOCKS)).save(str(folder))
    return folder


def files(folder: Path) -> dict[str, bytes]:
    """Figures of speed are the machine's."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.suffix == ".safetensors"
    }


def psnr(picture: np.ndarray, truth: np.ndarray) -> float:
    return -10 * float(np.log10(np.square(picture - truth / 255).mean()))


def test_what_is_said_of_it_is_said_alike(dataset):
    method = made(dataset)
    info, before = method.get_info(), BlockNeRFMethod.get_method_info()
    assert before.items() <= info.items()
    assert (info["num_iterations"], info["loaded_step"], info["loaded_checkpoint"]) == (20, None, None)
    assert info["batch_size"] == 32
    assert info["hparams"]["training"]["max_steps"] == 20


def test_training_learns_and_says_how_well(dataset):
    method = made(dataset, **{"training.max_steps": 60})
    figures = [method.train_iteration(step) for step in range(60)]
    assert np.mean([one["psnr"] for one in figures[-5:]]) > np.mean([one["psnr"] for one in figures[:5]]) + 1
    assert all(np.isfinite(list(one.values())).all() and one["num_rays"] == 32 for one in figures)


def test_a_view_has_the_camera_s_size_and_kinds(dataset):
    view = made(dataset).render(dataset["cameras"][0])  # before the first step as well
    assert {name: (one.shape, one.dtype) for name, one in view.items()} == {
        "color": ((12, 16, 3), np.float32),
        "depth": ((12, 16), np.float32),
        "accumulation": ((12, 16), np.float32),
    }
    assert 0 <= view["color"].min() <= view["color"].max() <= 1


def test_a_loaded_checkpoint_is_the_method_that_was_saved(dataset, checkpoint, tmp_path):
    method = trained(made(dataset, **TWO_BLOCKS))
    loaded = BlockNeRFMethod(checkpoint=str(checkpoint))
    total = method.get_info()["num_iterations"]
    assert len(City.open(checkpoint).ids) > 1
    assert (loaded.get_info()["loaded_step"], loaded.get_info()["num_iterations"]) == (total, total)
    for camera in dataset["cameras"]:
        for name, picture in method.render(camera).items():
            np.testing.assert_array_equal(loaded.render(camera)[name], picture)
    np.testing.assert_array_equal(loaded.get_train_embedding(1), method.get_train_embedding(1))
    loaded.save(str(tmp_path / "again"))
    assert {path.name for path in (tmp_path / "again").iterdir()} == {path.name for path in checkpoint.iterdir()}
    assert files(tmp_path / "again") == files(checkpoint)


@pytest.mark.parametrize("stop", [7, 10])
def test_going_on_from_a_checkpoint_ends_in_the_same_weights(dataset, checkpoint, tmp_path, stop):
    begun = trained(made(dataset, **TWO_BLOCKS), until=stop)
    begun.save(str(tmp_path / "begun"))
    before = begun.render(dataset["cameras"][0])["color"]
    again = BlockNeRFMethod(checkpoint=str(tmp_path / "begun"), train_dataset=dataset, config_overrides={})
    assert again.get_info()["loaded_step"] == stop
    np.testing.assert_array_equal(again.render(dataset["cameras"][0])["color"], before)
    trained(again).save(str(tmp_path / "ended"))
    assert files(tmp_path / "ended") == files(checkpoint)


def test_embeddings_change_the_look_and_can_be_fitted(dataset):
    method = trained(made(dataset, **{"training.max_steps": 150, "training.appearance_lr": 0.02}))
    darker = one_of(dataset, 0)
    darker["images"] = [(0.6 * darker["images"][0]).astype(np.uint8)]
    camera, truth = darker["cameras"].item(), darker["images"][0]
    mean = method.render(camera)["color"]
    fitted = method.optimize_embedding(darker)["embedding"]
    assert fitted.shape == method.get_train_embedding(0).shape
    assert psnr(method.render(camera, options={"embedding": fitted})["color"], truth) > psnr(mean, truth) + 0.5
    rendered = method.render(camera, options={"embedding": method.get_train_embedding(0)})["color"]
    assert not np.array_equal(rendered, mean)
    np.testing.assert_array_equal(method.optimize_embedding(darker)["embedding"], fitted)


def test_masked_pixels_are_not_fitted_to(dataset):
    method = trained(made(dataset))
    one, other = one_of(dataset, 0), one_of(dataset, 0)
    mask = np.ones((1, 12, 16), bool)
    mask[:, :, :8] = False
    other["images"] = [other["images"][0].copy()]
    other["images"][0][:, :8] = 0
    fits = [method.optimize_embedding(each | {"masks": mask})["embedding"] for each in (one, other)]
    np.testing.assert_array_equal(*fits)
    assert not np.array_equal(fits[0], method.optimize_embedding(one)["embedding"])


def test_without_codes_there_is_no_embedding(dataset):
    method = made(dataset, **{"training.use_appearance_embedding": False})
    assert method.get_train_embedding(0) is None
    with pytest.raises(NotImplementedError):
        method.optimize_embedding(one_of(dataset, 0))
    with pytest.raises(UserError, match="An embedding of 32 numbers is not of this"):
        method.render(dataset["cameras"][0], options={"embedding": np.zeros(32, np.float32)})


def test_a_white_background_is_ended_in(dataset):
    white = dataset | {"metadata": {"background_color": np.full(3, 255, np.uint8)}}
    assert made(white).config.white_background
    assert not made(dataset).config.white_background


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("dataset.test_every", 8, r"dataset\.test_every would change nothing"),
        ("dataset.use_depth", True, r"dataset\.use_depth would change nothing"),
        ("output.checkpoint_dir", "elsewhere", r"output\.checkpoint_dir would change nothing"),
        ("training.max_minutes", 1, r"training\.max_minutes limits a block by time"),
        ("training.max_stepz", 1, r"did you mean 'training\.max_steps'"),
    ],
)
def test_what_would_change_nothing_is_refused(dataset, key, value, message):
    with pytest.raises(UserError, match=message):
        made(dataset, **{key: value})


def test_misuse_is_one_sentence(dataset, checkpoint, tmp_path):
    with pytest.raises(UserError, match=r"\(--data\) or a checkpoint"):
        BlockNeRFMethod()
    with pytest.raises(UserError, match="asks for iteration 5, but 0 are done"):
        made(dataset).train_iteration(5)
    with pytest.raises(UserError, match="loaded without a data set"):
        BlockNeRFMethod(checkpoint=str(checkpoint)).train_iteration(0)
    with pytest.raises(UserError, match="is not a checkpoint of this method"):
        BlockNeRFMethod(checkpoint=str(tmp_path))
    with pytest.raises(UserError, match="trained on other images, cameras or poses"):
        BlockNeRFMethod(checkpoint=str(checkpoint), train_dataset=moved(dataset, 0.1))
    overrides = {"block_nerf.hidden_dim": "32"}
    with pytest.raises(UserError, match=r"another configuration: block_nerf\.hidden_dim 16 -> 32"):
        BlockNeRFMethod(checkpoint=str(checkpoint), train_dataset=dataset, config_overrides=overrides)
    method = BlockNeRFMethod(checkpoint=str(checkpoint))
    with pytest.raises(UserError, match="Embeddings are of one checkpoint"):
        method.render(dataset["cameras"][0], options={"embedding": np.zeros(3, np.float32)})


def test_nerfbaselines_itself_agrees(monkeypatch):
    package = pytest.importorskip("nerfbaselines")
    numbers = [package.camera_model_to_int(name) for name in nerfbaselines_scene.CAMERA_MODELS]
    assert numbers == [0, 1, 2, 3]
    spec = Path(nerfbaselines_scene.__file__).with_name("blocknerf_spec.py")
    monkeypatch.setenv("NERFBASELINES_REGISTER", os.fspath(spec))
    assert package.get_method_spec("blocknerf")["method_class"].endswith("integrations.nerfbaselines:BlockNeRFMethod")
    assert issubclass(BlockNeRFMethod, package.Method)


def test_nerfbaselines_own_classes_are_taken(dataset, monkeypatch):
    package = pytest.importorskip("nerfbaselines")
    names = ("poses", "intrinsics", "camera_models", "distortion_parameters", "image_sizes")
    arrays = {name: getattr(dataset["cameras"], name) for name in names}
    cameras = package.new_cameras(**arrays)
    package_dataset = package.new_dataset(
        cameras=cameras,
        images=dataset["images"],
        image_paths=dataset["image_paths"],
        image_paths_root=dataset["image_paths_root"],
        metadata=dataset["metadata"],
    )
    expected, rendered = (trained(made(each)).render(cameras[0])["color"] for each in (dataset, package_dataset))
    np.testing.assert_array_equal(expected, rendered)
