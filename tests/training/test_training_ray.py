"""Blocks on a cluster of Ray, and runs on URLs: the city is the one of this machine, whoever dies."""

import os
import signal
import subprocess
import sys
import time
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
import ray
from PIL import Image

from benchmarks.scale.ray_nodes import resumed_at, same_block, same_city, train_with_a_death
from blocknerf.blocks.output import PLAN_FILES, plan_scene, pull_city, pull_plan
from blocknerf.blocks.plan import BlockSpec
from blocknerf.cli.render import render
from blocknerf.cli.train import train
from blocknerf.core.caches import CACHE_VARIABLE
from blocknerf.core.config.load import load_config
from blocknerf.core.errors import UserError
from blocknerf.core.shared_folder import SharedFolder
from blocknerf.models.block_file import read_block_meta
from blocknerf.training.block.trainer import BlockResult
from blocknerf.training.launchers.choose import choose_launcher
from blocknerf.training.launchers.ray_tasks import RayCluster, RayLauncher, cores_of_block, gpus_of_block, have_room
from blocknerf.training.launchers.sequential import SequentialLauncher
from blocknerf.training.launchers.worker import train_in_worker
from blocknerf.training.run.run import Run
from blocknerf.training.run.staging import staged_run, subset_for_block
from blocknerf.training.train_blocks import train_blocks
from tests.support.room import write_room
from tests.support.tiny_run import TINY

RAY_WARNS = pytest.mark.filterwarnings(
    "ignore:Tip. In future versions of Ray:FutureWarning",  # of accelerators' variables
    "ignore::ResourceWarning:ray",  # of sockets and log files of its daemons, which outlive the call
    "ignore::pytest.PytestUnraisableExceptionWarning",  # the same, when they are collected
)
SEVERAL = (
    *TINY,
    "block_manager.max_blocks=4",
    "block_manager.block_size=2.8",
    "block_manager.min_images_per_block=6",
    "training.checkpoint_minutes=0.002",
    "logging.log_freq=1",
    "validation.num_val_images=1",
)


@pytest.fixture(scope="module")
def room(tmp_path_factory) -> Path:
    """With a mask."""
    folder = write_room(tmp_path_factory.mktemp("room"))
    (folder / "masks/noon").mkdir(parents=True)
    Image.fromarray(np.kron([[0, 255], [255, 255]], np.ones((12, 16))).astype(np.uint8)).save(
        folder / "masks/noon/000.png"
    )
    return folder


@pytest.fixture(autouse=True)
def _copies_lie_apart(tmp_path, monkeypatch):
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def undisturbed(room, tmp_path_factory) -> Path:
    """The city that one process makes on this machine."""
    out = tmp_path_factory.mktemp("undisturbed")
    train_all(planned(room, out))
    return out


def planned(scene: Path | str, out: Path | str, *overrides: str) -> Run:
    folder = SharedFolder.at(out)
    pull_plan(folder)
    found = plan_scene(load_config(None, [*SEVERAL, *overrides]), scene, folder.local)
    return Run(*found, folder.local, scene_url=SharedFolder.at(scene).url, output_url=folder.url)


def train_all(run: Run, report=lambda block_id, progress: None, **options):
    return train_blocks(run, report=report, **{"launcher": SequentialLauncher(), **options})


def pulled(url: str, to: Path) -> Path:
    folder = SharedFolder(to, url)
    pull_city(folder)
    return to


def urls(room: Path, tmp_path: Path) -> tuple[str, str]:
    return f"file://{room}", f"file://{tmp_path}/there/city"


def test_a_run_on_urls_is_that_of_plain_folders(room, undisturbed, tmp_path):
    run = planned(*urls(room, tmp_path))
    train_all(run)
    _, url = urls(room, tmp_path)
    assert same_city(undisturbed, pulled(url, tmp_path / "pulled"))
    names = {path.relative_to(tmp_path / "there/city").as_posix() for path in (tmp_path / "there").rglob("*.*")}
    assert names >= {"plan.json", "scene.json", "config.json", "city.json", "map.png", "blocks/000/metrics.jsonl"}
    assert not [name for name in names if name.startswith("store") or "checkpoint" in name or name.endswith(".tmp")]


def test_what_lies_on_a_url_is_resumed_and_overwritten_as_on_a_disk(room, tmp_path):
    scene, url = urls(room, tmp_path)
    train_all(planned(scene, url), block_ids=("000",))
    with pytest.raises(UserError, match="already holds what block 000 has learned"):
        train_all(planned(scene, url))
    assert [result.block_id for result in train_all(planned(scene, url), resume=True)] == ["003"]
    (weights,) = (tmp_path / "there/city/blocks/000").glob("latest-*.safetensors")
    weights.write_bytes(b"damaged")
    assert [result.block_id for result in train_all(planned(scene, url), resume=True)] == ["000"]
    assert len(train_all(planned(scene, url), overwrite=True)) == 2


def stopped_and_moved(room: Path, tmp_path: Path) -> tuple[Run, BlockSpec]:
    """A run whose first block was begun in one place, to go on in another from what was pushed."""
    run = planned(*urls(room, tmp_path))
    block = run.plan.blocks[0]
    train_all(run, block_ids=("003",))
    steps = iter(range(100))
    staged = staged_run(subset_for_block(run, block))
    assert train_in_worker(staged, block, 1, lambda: next(steps) == 9, lambda progress: None) is None
    assert list((tmp_path / "cache").glob("task-*")) == []
    assert read_block_meta(tmp_path / "there/city/blocks/000", "checkpoint").step == 10
    return run, block


def test_a_block_goes_on_elsewhere_from_what_was_pushed(room, undisturbed, tmp_path):
    """20 steps are 10, another machine that has nothing, and 10 more."""
    run, block = stopped_and_moved(room, tmp_path)
    begun = []
    with staged_run(subset_for_block(run, block)) as staged:
        assert not any(image.path.exists() for image in staged.scene.images)
        assert len(staged.scene.images) == len({*block.train_images, *block.test_images})
        train_in_worker(nullcontext(staged), block, 1, lambda: False, lambda progress: begun.append(progress.step))
    assert min(begun) == 11
    _, url = urls(room, tmp_path)
    assert same_city(undisturbed, pulled(url, tmp_path / "pulled"))
    metrics = "blocks/000/metrics.jsonl"
    lines = [(out / metrics).read_text().count("\n") for out in (undisturbed, tmp_path / "there/city")]
    assert lines[0] == lines[1]


def test_a_photograph_that_was_changed_since_is_named(tmp_path):
    scene = write_room(tmp_path / "scene")
    run = planned(*urls(scene, tmp_path))
    block = run.plan.blocks[0]
    image = next(image for image in run.scene.images if image.id == block.train_images[0])
    path = scene / "images" / image.name if (scene / "images" / image.name).is_file() else scene / image.name
    path.write_bytes(path.read_bytes() + b"\0")
    with (
        pytest.raises(UserError, match=f"photograph {image.name} has changed since"),
        staged_run(subset_for_block(run, block)),
    ):
        pass


@pytest.fixture
def one_machine():
    ray.init(address="local", num_cpus=2, num_gpus=1, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()


@RAY_WARNS
def test_tasks_of_ray_make_the_same_city_and_one_that_fails_stops_no_other(one_machine, room, undisturbed, tmp_path):
    scene, url = urls(room, tmp_path)
    waited, reported = [], []

    def report(block_id, progress):
        (waited if progress is None else reported).append(block_id)

    broken = tmp_path / "there/city/blocks/000"
    broken.parent.mkdir(parents=True)
    broken.write_bytes(b"a file where a folder is to be")
    with pytest.raises(UserError, match=rf"1 of 2 blocks failed.* 000: .*{url}/logs. Run again with --resume"):
        train_all(planned(scene, url), report, launcher=RayLauncher(RayCluster()))
    assert sorted(waited) == ["000", "003"]
    assert "003" in reported
    assert same_block(undisturbed / "blocks/003", tmp_path / "there/city/blocks/003")
    shared = tmp_path / "plain"
    train_all(planned(room, shared), launcher=RayLauncher(RayCluster()))
    assert same_city(undisturbed, shared)


def test_a_block_whose_machine_died_after_the_last_byte_is_not_trained_again(room, undisturbed):
    run = planned(room, undisturbed)
    result = train_in_worker(nullcontext(run), run.plan.blocks[0], 1, lambda: True, lambda progress: None)
    assert isinstance(result, BlockResult)
    assert (result.block_id, result.steps) == ("000", 20)


def test_a_city_on_a_url_is_rendered(room, undisturbed, tmp_path):
    folder = SharedFolder(undisturbed, urls(room, tmp_path)[1])
    folder.push("blocks", *PLAN_FILES, "city.json")
    render(folder.url, path="test", size="16x12")
    assert (tmp_path / "there/city/renders/test.mp4").stat().st_size > 0
    assert len(list((tmp_path / "there/city/renders/test").glob("*.png"))) == 4


def test_ray_goes_with_no_other_way_to_train(room, tmp_path):
    with pytest.raises(UserError, match="one way"):
        choose_launcher(planned(room, tmp_path), (), jobs=2, ray=RayCluster())
    with pytest.raises(UserError, match="--address and --cores need --launcher ray"):
        train(room, tmp_path, address="head:6379")
    with pytest.raises(UserError, match="--cores 0"):
        train(room, tmp_path, launcher="ray", cores=0)
    with pytest.raises(UserError, match="--side-by-side and a folder on a URL"):
        train(f"file://{room}", tmp_path, side_by_side=True)


def test_a_missing_ray_says_what_to_install(room, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.delitem(sys.modules, "blocknerf.training.launchers.ray_tasks", raising=False)
    with pytest.raises(UserError, match=r"pip install 'blocknerf\[ray\]'"):
        train_all(planned(room, tmp_path), launcher=RayLauncher(RayCluster()))


@pytest.mark.parametrize("address", ["127.0.0.1:1", "nowhere", "ray://127.0.0.1:1"])
def test_no_cluster_at_an_address_is_named(room, tmp_path, address):
    with pytest.raises(UserError, match=f"There is no Ray cluster at {address} .*ray start --head"):
        train_all(planned(room, tmp_path), block_ids=("003",), launcher=RayLauncher(RayCluster(address)))


def test_cores_are_shared_among_blocks():
    assert cores_of_block([{"CPU": 4.0}, {"CPU": 16.0}], blocks=5) == 4
    assert cores_of_block([{"CPU": 4.0}, {"CPU": 16.0}], blocks=100) == 1
    assert cores_of_block([{"CPU": 64.0}], blocks=2) == 8
    assert cores_of_block([{"CPU": 2.0}, {"CPU": 2.0}, {}], blocks=1) == 2
    assert cores_of_block([], blocks=3) == 1


@pytest.mark.parametrize(
    ("machines", "use_gpus", "overrides", "gpus"),
    [
        ([{"CPU": 4.0}, {"CPU": 4.0, "GPU": 8.0}], True, (), 1),
        ([{"CPU": 4.0}, {"CPU": 4.0, "GPU": 8.0}], False, (), 0),
        ([{"CPU": 4.0}], True, (), 0),
        ([{"CPU": 4.0, "GPU": 0.5}], True, (), 0),
        ([{"CPU": 4.0}], False, ("distributed.device_map={nerf_mlp: 0, decoder: 1}",), 2),
    ],
)
def test_a_block_takes_a_gpu_where_any_machine_has_one(machines, use_gpus, overrides, gpus):
    assert gpus_of_block(machines, load_config(None, overrides).distributed, use_gpus) == gpus


def test_ray_gives_devices_itself(room, tmp_path):
    with pytest.raises(UserError, match="--device cuda:1: Ray itself gives each block a GPU"):
        train(room, tmp_path, launcher="ray", device="cuda:1")


def test_needs_are_those_of_one_machine():
    needs = {"num_cpus": 4, "num_gpus": 1, "memory": 5_000}
    assert have_room([{"CPU": 2.0}, {"CPU": 4.0, "GPU": 1.0, "memory": 5e3}], needs)
    assert not have_room([{"CPU": 64.0, "memory": 1e9}, {"CPU": 2.0, "GPU": 8.0, "memory": 1e9}], needs)
    assert have_room([{"CPU": 4.0, "memory": 5e3}], needs | {"num_gpus": 0})
    assert not have_room([], needs)


@pytest.mark.slow
def test_ctrl_c_saves_everywhere_and_the_same_command_goes_on(room, tmp_path):
    """As in a terminal: the signal reaches every process of the group."""
    scene, url = urls(room, tmp_path)
    command = [sys.executable, "-m", "blocknerf", "train", "--data-root", scene, "--output-dir", url]
    command += ["--launcher", "ray", *SEVERAL, "training.num_epochs=100000", "training.max_steps=1000000"]
    command += ["training.checkpoint_minutes=10"]
    checkpoint = tmp_path / "there/city/blocks"
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    )
    deadline = time.monotonic() + 240
    cache = tmp_path / "cache"
    while time.monotonic() < deadline and not any("step" in p.read_text() for p in cache.rglob("metrics.jsonl")):
        time.sleep(0.2)
    time.sleep(1)
    os.killpg(process.pid, signal.SIGINT)
    output, _ = process.communicate(timeout=180)
    assert process.returncode == 130, output
    assert "--resume" in output
    assert "Traceback" not in output
    steps = [read_block_meta(path.parent, "checkpoint").step for path in checkpoint.rglob("checkpoint.json")]
    assert steps
    assert min(steps) > 0
    more = ["training.max_steps=" + str(max(steps) + 5), "--resume"]
    done = subprocess.run([*command, *more], capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
    assert all(read_block_meta(checkpoint / block, "latest").finished for block in ("000", "003"))


@pytest.mark.slow
@RAY_WARNS
def test_a_machine_that_dies_in_the_middle_of_a_block_costs_no_byte(room, tmp_path):
    steps = "training.max_steps=300", "training.checkpoint_minutes=0.01"
    train_all(planned(room, tmp_path / "undisturbed", *steps))
    scene, url = urls(room, tmp_path)
    block_id, died_at = train_with_a_death(planned(scene, url, *steps))
    remote_city = tmp_path / "there/city"
    went_on = {name: resumed_at(remote_city / "logs" / f"{name}.log") for name in ("000", "003")}
    assert 0 < went_on.pop(block_id) < 300
    assert list(went_on.values()) == [None]
    assert died_at.step < 300
    assert same_city(tmp_path / "undisturbed", remote_city)
