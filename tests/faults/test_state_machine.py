"""Random sequences of what people do to a city: no learned byte is lost, and what is said is true."""

import contextlib
import hashlib
import io
import json
import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from benchmarks.robustness.commands import SETTINGS, is_whole
from blocknerf.city.city import City
from blocknerf.cli.main import main
from blocknerf.core import disk
from blocknerf.core.errors import UserError
from blocknerf.models.block_file import has_block, read_block, read_block_meta
from blocknerf.models.block_meta import StoredMeta
from tests.support.room import write_room

FEW = [word for word in SETTINGS if not word.startswith(("training.max_steps", "training.use_pose", "validation."))]
FEW += ["training.max_steps=2", "training.use_pose_refinement=false", "validation.num_val_images=0"]


class Killed(BaseException):
    """Stands for the end of the process: nothing that comes after it reaches the disk."""


class KillAt:
    def __init__(self, number: int):
        self.left = number

    def __call__(self, kind, path, do, half):
        self.left -= 1
        if self.left == 0 and half is not None:
            half()
        if self.left <= 0:
            raise Killed
        return do()


class Town(RuleBasedStateMachine):
    """`learned` are hashes of the weights of finished blocks; a rule that may train a block again says so."""

    def __init__(self):
        super().__init__()
        self.room = Path(tempfile.mkdtemp())
        self.scene, self.out = self.room / "scene", self.room / "out"
        self.learned: dict[str, str] = {}
        self.may_change: set[str] = set()
        self.added = self.moves = 0
        self.key = "0.0005"

    def teardown(self):
        shutil.rmtree(self.room)

    # --- what people do

    @initialize()
    def capture(self):
        write_room(self.scene, images=12, width=24, height=16)

    @rule()
    def plan(self):
        self._do("plan", *self._folders(), *FEW)

    @rule(more=st.sampled_from([(), ("--resume",)]))
    def train(self, more):
        self._train(*more)

    @rule(number=st.integers(1, 250), more=st.sampled_from([(), ("--resume",)]))
    def train_and_be_killed(self, number, more):
        self._train(*more, killed_at=number)

    @precondition(lambda self: self._blocks())
    @rule(data=st.data(), killed_at=st.none() | st.integers(1, 200))
    def retrain_one(self, data, killed_at):
        block = data.draw(st.sampled_from(self._blocks()))
        self.may_change = {block}
        how = data.draw(st.sampled_from(["--overwrite", "--update"]))
        code, message = self._train("--blocks", block, how, killed_at=killed_at)
        if code == 2 and how == "--overwrite":
            assert "another" in message

    @rule(count=st.integers(1, 3))
    def add_images(self, count):
        tree = json.loads((self.scene / "transforms.json").read_text())
        new = json.loads((write_room(self.room / "new", 3, 24, 16) / "transforms.json").read_text())["frames"]
        for frame in new[:count]:
            self.added += 1
            name = f"images/later/{self.added:03d}.png"
            (self.scene / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(self.room / "new" / frame["file_path"], self.scene / name)
            tree["frames"].append({**frame, "file_path": name})
        (self.scene / "transforms.json").write_text(json.dumps(tree))

    @precondition(lambda self: self.added)
    @rule()
    def remove_the_last_image(self):
        tree = json.loads((self.scene / "transforms.json").read_text())
        (self.scene / tree["frames"].pop()["file_path"]).unlink()
        (self.scene / "transforms.json").write_text(json.dumps(tree))
        self.added -= 1

    @precondition(lambda self: self.out.exists())
    @rule(which=st.sampled_from(["scene", "out"]))
    def move_a_folder(self, which):
        self.moves += 1
        target = self.room / f"{which}_{self.moves}"
        getattr(self, which).rename(target)
        setattr(self, which, target)

    @rule(value=st.sampled_from(["0.0005", "0.002"]))
    def change_a_key_that_is_free(self, value):
        self.key = value

    @rule()
    def plan_with_a_key_that_is_not(self):
        code, message = self._do("plan", *self._folders(), *FEW, "block_nerf.hidden_dim=32")
        if code == 0:  # allowed as long as nothing has been learned
            assert not self._blocks()
            shutil.rmtree(self.out)
        elif self._blocks() and "scene" not in message:
            assert "hidden_dim 16 -> 32" in message

    @precondition(lambda self: self._blocks())
    @rule()
    def align(self):
        self._do("align", str(self.out), "--data-root", str(self.scene))

    @precondition(lambda self: self._blocks())
    @rule()
    def evaluate(self):
        code, _ = self._do("evaluate", str(self.out), "--data-root", str(self.scene), "--protocols", "plain")
        assert code == 2 or json.loads((self.out / "report" / "metrics.json").read_text())["images"]

    @precondition(lambda self: (self.out / "plan.json").exists())
    @rule()
    def export_blocks(self):
        folder = self.room / "blocks"
        shutil.rmtree(folder, ignore_errors=True)
        code, _ = self._do("export", "blocks", str(self.out), str(folder), "--data-root", str(self.scene))
        assert code == 2 or (folder / "plan.json").is_file()

    # --- what must hold

    @invariant()
    def nothing_learned_is_lost(self):
        for block, digest in self.learned.items():
            if block not in self.may_change:
                assert self._digest(block) == digest
        for block in self._blocks():
            read_block(self.out / "blocks" / block, "latest")
        finished = [block for block in self._blocks() if self._meta(block).finished]
        self.learned = {block: self._digest(block) for block in finished}
        self.may_change = set()

    @invariant()
    def every_file_is_whole(self):
        for path in self.out.rglob("*"):
            if path.suffix in (".json", ".safetensors", ".png") and not path.name.startswith("."):
                assert is_whole(path.name, path.read_bytes()), path

    @invariant()
    def the_city_is_its_blocks(self):
        if (self.out / "city.json").is_file() and self._blocks():
            assert set(City.open(self.out).ids) == set(self._blocks())

    # --- how

    def _train(self, *more: str, killed_at: int | None = None) -> tuple[int, str]:
        line = ("train", *self._folders(), "--jobs", "1", *more, *FEW, f"training.nerf_lr={self.key}")
        code, message = self._do(*line, killed_at=killed_at)
        if code == 2 and "Add --resume" in message:
            code, again = self._do(*line, "--resume", killed_at=killed_at)
            assert "Add --resume" not in again
        if code == 0:
            assert "--blocks" in more or all(self._meta(block).finished for block in self._blocks())
        return code, message

    def _do(self, *line: str, killed_at: int | None = None) -> tuple[int, str]:
        """Exit code and what was said; -1 for a process that was killed."""
        code, stderr = 0, io.StringIO()
        with contextlib.redirect_stderr(stderr), contextlib.redirect_stdout(io.StringIO()):
            try:
                with disk.faults(KillAt(killed_at)) if killed_at else contextlib.nullcontext():
                    main(list(line))
            except SystemExit as end:
                code = int(end.code or 0)
            except Killed:
                code = -1
        message = stderr.getvalue().rpartition("blocknerf: ")[2]
        assert code in (0, 2, -1)
        assert code != 2 or 0 < len(message) <= 501
        return code, message

    def _folders(self) -> tuple[str, ...]:
        return "--data-root", str(self.scene), "--output-dir", str(self.out)

    def _blocks(self) -> list[str]:
        return sorted(path.name for path in self.out.glob("blocks/*") if has_block(path, "latest"))

    def _meta(self, block: str) -> StoredMeta:
        return read_block_meta(self.out / "blocks" / block, "latest")

    def _digest(self, block: str) -> str:
        try:
            weights = self._meta(block).weights.file
        except UserError:
            return "gone"
        return hashlib.sha256((self.out / "blocks" / block / weights).read_bytes()).hexdigest()


QUIET = {"deadline": None, "suppress_health_check": list(HealthCheck), "print_blob": True}


def test_a_few_sequences():
    run_state_machine_as_test(
        Town, settings=settings(max_examples=4, stateful_step_count=10, derandomize=True, **QUIET)
    )


@pytest.mark.slow
def test_hundreds_of_sequences():
    run_state_machine_as_test(Town, settings=settings(max_examples=100, stateful_step_count=30, **QUIET))
