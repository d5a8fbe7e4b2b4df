"""Every command that writes, on a scene so small that it takes a tenth of a second, and how to resume it."""

import hashlib
import io
import json
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.robustness.forks import COMPILING_S, KILLED, At, Outcome, run

SETTINGS = (
    "block_manager.max_blocks=4",
    "block_manager.block_size=2.5",
    "block_manager.min_images_per_block=4",
    "block_nerf.hash_grid.num_levels=2",
    "block_nerf.hash_grid.log2_table_rows=8",
    "block_nerf.proposal_resolution=8",
    "block_nerf.num_samples_coarse=8",
    "block_nerf.num_samples_fine=8",
    "block_nerf.hidden_dim=16",
    "appearance_embedding.embedding_dim=4",
    "dataset.batch_size=32",
    "dataset.test_every=4",
    "dataset.num_workers=1",
    "training.max_steps=2",
    "training.num_epochs=10",
    "training.max_minutes=",
    "training.checkpoint_minutes=1e-9",
    "training.use_pose_refinement=true",
    "logging.use_tensorboard=false",
    "logging.log_freq=1",
    "validation.num_val_images=1",
)
FREE = ("*/logs/*", "*/prepare/colmap.log*", "*/prepare/database.db*")
"""Files whose bytes may differ: what was said and when, and COLMAP's own database, whose matches must not."""
_CLOCK = re.compile(rb'"(?:[\w./]*spent_s|clock/[\w/]*|metrics\.num_bytes|num_bytes)": *[-+.\deE]+')
"""Figures that depend on how fast the machine is."""
_CHECKSUM = re.compile(rb'"checksum": *"[0-9a-f]+"')

Ways = Callable[[Path, Outcome], Iterator[list[str]]]


@dataclass(frozen=True, slots=True)
class Command:
    """`make` prepares the folder, `line` is the command in it, and `ways` are the commands that resume it."""

    name: str
    before: str
    line: Callable[[Path], list[str]]
    act: Callable[[list[str]], None] | None = None
    rebuilt: tuple[str, ...] = field(default=("out/store/*",))
    """Files that may be gone for a while: they are made from others and hold nothing of their own, or were given up."""
    free: tuple[str, ...] = ()
    """Files whose bytes differ from run to run, beside FREE: figures of time and memory stand in them."""


def command_of(command: Command, line: list[str]) -> Callable[[], None]:
    from blocknerf.cli.commands import parse

    return (lambda: parse(line)) if command.act is None else (lambda: command.act(line))  # pyright: ignore


def train_iteration(command: Command, root: Path, output: Path) -> list[Outcome]:
    """The same command again, and what it then advises; all that was run, the last one ended well or nothing helps.

    Of an update whose block is trained already, what is left is to align it.
    """
    line = command.line(root)
    if "--update" in line and _is_updated(root, line[line.index("--blocks") + 1]):
        line = ["align", f"{root}/out"]
    done = [run(command_of(command, line), output, argv=line)]
    if done[-1].code == 2 and "--resume" in done[-1].message and "--resume" not in line:
        line = [*line, "--resume"]
        done.append(run(command_of(command, line), output, argv=line))
    return done


def _is_updated(root: Path, block_id: str) -> bool:
    """Whether the plan has grown, and the block has learned the images that it has by now, to the end.

    If its checkpoint still exists, the update resumes from that, and removes it.
    """
    plan, scene = (json.loads((root / "out" / f"{name}.json").read_text()) for name in ("plan", "scene"))
    if not plan["earlier_scene_hashes"] or scene["scene_hash"] != plan["scene_hash"]:
        return False
    folder = root / "out" / "blocks" / block_id
    if (folder / "checkpoint.json").is_file():
        return False
    (planned,) = (block for block in plan["blocks"] if block["id"] == block_id)
    latest = json.loads((folder / "latest.json").read_text())
    return latest["finished"] and len(latest["image_ids"]) == len(planned["train_images"])


def read_tree(root: Path) -> dict[str, bytes]:
    """Every file below `root` by its name there; a link by where it leads."""
    found: dict[str, bytes] = {}
    for path in sorted(root.rglob("*")):
        if path.is_symlink():
            found[path.relative_to(root).as_posix()] = b"link to " + str(path.readlink()).encode()
        elif path.is_file():
            found[path.relative_to(root).as_posix()] = path.read_bytes()
    return found


def comparable(tree: dict[str, bytes], command: Command) -> dict[str, bytes]:
    """Without logs and the clock."""
    left_out = (*FREE, *command.free)
    kept = {name: content for name, content in tree.items() if not any(fnmatch(f"/{name}", free) for free in left_out)}
    return {
        name: _timeless(content) if name.endswith((".json", ".jsonl")) else content for name, content in kept.items()
    }


def _timeless(content: bytes) -> bytes:
    """Without figures of the clock, and without the checksum that they are part of."""
    without, figures = _CLOCK.subn(b'"clock": 0', content)
    return _CHECKSUM.sub(b'"checksum": 0', without) if figures else content


def is_whole(name: str, content: bytes) -> bool:
    """Whether a file that was begun in between is one that a reader can use."""
    try:
        if name.endswith(".json"):
            json.loads(content)
        elif name.endswith(".jsonl"):
            [json.loads(line) for line in content.split(b"\n")[:-1]]
        elif name.endswith(".safetensors"):
            return hashlib.sha256(content).hexdigest()[:16] == name.rpartition("-")[2].removesuffix(".safetensors")
        elif name.endswith((".png", ".jpg")):
            Image.open(io.BytesIO(content)).load()
        else:
            return False
    except (ValueError, OSError):
        return False
    return True


def restore(template: Path, root: Path) -> None:
    shutil.rmtree(root, ignore_errors=True)
    shutil.copytree(template, root, symlinks=True)


# --- what lies there before -------------------------------------------------------------------------------------------


def template(name: str, folder: Path, root: Path) -> Path:
    """The folder as it is before commands that begin from `name`, made at `root` and kept in `folder`."""
    kept = folder / name
    if not kept.exists():
        base, act = _TEMPLATES[name]
        if base is None:
            shutil.rmtree(root, ignore_errors=True)
            root.mkdir(parents=True)
        else:
            restore(template(base, folder, root), root)
        act(root)
        shutil.copytree(root, kept, symlinks=True)
    return kept


def _scene(root: Path) -> None:
    from tests.support.room import write_room

    write_room(root / "scene", images=12, width=24, height=16)


def _grown(root: Path) -> None:
    from tests.support.room import write_room

    tree = json.loads((root / "scene" / "transforms.json").read_text())
    new = json.loads((write_room(root / "extra", 3, 24, 16) / "transforms.json").read_text())["frames"]
    for number, frame in enumerate(new):
        name = f"images/a_dawn/{number:03d}.png"
        (root / "scene" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(root / "extra" / frame["file_path"], root / "scene" / name)
        tree["frames"].append({**frame, "file_path": name})
    (root / "scene" / "transforms.json").write_text(json.dumps(tree))
    shutil.rmtree(root / "extra")


def _ran(line: Callable[[Path], list[str]], at: At | None = None) -> Callable[[Path], None]:
    from blocknerf.cli.commands import parse

    def act(root: Path) -> None:
        outcome = run(lambda: parse(line(root)), root / "said.txt", at, line(root), COMPILING_S)
        (root / "said.txt").unlink()
        if outcome.code != (0 if at is None else KILLED):
            raise RuntimeError(f"{' '.join(line(root))} ended with {outcome.code}: {outcome.text}")

    return act


def _photographs(root: Path) -> None:
    from tests.support.photo_walk import photograph_walk, write_photographs

    def act() -> None:
        write_photographs(root / "photographs", photograph_walk(6))

    _child(act, root)


def _splats(root: Path) -> None:
    from blocknerf.blocks.plan import read_plan
    from blocknerf.export.splats_file import write_splats
    from tests.support.made_splats import made_splats

    for number, block in enumerate(read_plan(root / "out" / "plan.json").blocks):
        write_splats(root / "blocks" / f"{block.id}.ply", made_splats(200, seed=number))
    shutil.copy(root / "out" / "plan.json", root / "blocks" / "plan.json")


def _child(act: Callable[[], None], root: Path) -> None:
    outcome = run(act, root / "said.txt")
    (root / "said.txt").unlink()
    if outcome.code:
        raise RuntimeError(outcome.text)


def plan_line(root: Path) -> list[str]:
    return ["plan", "--data-root", f"{root}/scene", "--output-dir", f"{root}/out", *SETTINGS]


def train_line(*more: str) -> Callable[[Path], list[str]]:
    def line(root: Path) -> list[str]:
        return ["train", "--data-root", f"{root}/scene", "--output-dir", f"{root}/out", "--jobs", "1", *more, *SETTINGS]

    return line


def out_line(*words: str, **files: str) -> Callable[[Path], list[str]]:
    """A command on the city; `files` are options whose values lie in the folder."""

    def line(root: Path) -> list[str]:
        named = [word for name, value in files.items() for word in (f"--{name}", f"{root}/{value}")]
        return [*words, f"{root}/out", *named]

    return line


_TEMPLATES: dict[str, tuple[str | None, Callable[[Path], None]]] = {
    "nothing": (None, lambda root: None),
    "scene": (None, _scene),
    "planned": ("scene", _ran(plan_line)),
    "begun": ("planned", _ran(train_line(), At(130, "kill before"))),
    "trained": ("planned", _ran(train_line())),
    "grown": ("trained", _grown),
    "reported": ("trained", _ran(out_line("evaluate"))),
    "photographs": (None, _photographs),
    "splats": ("planned", _splats),
}


# --- commands -------------------------------------------------------------------------------------------------------


def _masks(line: list[str]) -> None:
    from blocknerf.scene.transients import make_masks

    def finder(rgb: np.ndarray) -> np.ndarray:
        return (rgb.mean(axis=2) > 150).astype(np.float32)

    make_masks(Path(line[1]), finder, {"model": "bright"}, 0.02, overwrite="--overwrite" in line)


def _in_the_true_room(line: list[str]) -> None:
    """Surfaces of a block that has hardly learned are fog; here it shows the room as it is."""
    from blocknerf.cli.commands import parse
    from blocknerf.export import maps
    from tests.support.room import wall_distances_m
    from tests.support.solids import Solid

    real, room = maps.surface_map, Solid(lambda origins, directions: wall_distances_m(origins, directions)[:, 0])
    maps.surface_map = lambda block, *rest: real(room, *rest)  # pyright: ignore
    parse(line)


def _evaluate(line: list[str]) -> None:
    """With few steps of fitting."""
    from blocknerf.cli.commands import parse
    from blocknerf.evaluation import views

    views.CODE_STEPS = views.POSE_STEPS = 2
    parse(line)


def _synth(line: list[str]) -> None:
    from dataclasses import replace

    from blocknerf.synth import generate

    tiny = generate.PRESETS["tiny"]
    drive = replace(tiny.drives[0], stations=3)
    generate.PRESETS["tiny"] = replace(tiny, drives=(drive,), width=32, height=24)
    generate.make_scene(Path(line[1]), "tiny", overwrite="--overwrite" in line, workers=1)


def _update_line(root: Path) -> list[str]:
    return train_line("--blocks", read_blocks(root)[0]["id"], "--update")(root)


def read_blocks(root: Path) -> list[dict]:
    return json.loads((root / "out" / "plan.json").read_text())["blocks"]


COMMANDS = (
    Command("plan", "scene", plan_line),
    Command("train", "planned", train_line()),
    Command("resume", "begun", train_line("--resume")),
    Command("train --overwrite", "trained", train_line("--overwrite"), rebuilt=("out/blocks/*",)),
    Command("train --update", "grown", _update_line, free=("/out/alignment.json",)),
    Command("align", "trained", out_line("align")),
    Command("evaluate", "trained", out_line("evaluate"), _evaluate),
    Command("evaluate again", "reported", out_line("evaluate"), _evaluate),
    Command(
        "render",
        "trained",
        lambda root: [*out_line("render", out="film/a.mp4")(root), "--frames", "3", "--drive", "noon"],
    ),
    Command("inspect", "trained", out_line("inspect"), free=("/out/inspect/in*",)),
    Command("export cameras", "trained", out_line("export", "cameras")),
    Command("export depth", "trained", out_line("export", "depth")),
    Command("export depth npy", "trained", lambda root: [*out_line("export", "depth")(root), "--format", "npy"]),
    Command(
        "export points",
        "trained",
        lambda root: [*out_line("export", "points", out="made/p.ply")(root), "--least-views", "0"],
        _in_the_true_room,
    ),
    Command(
        "export mesh",
        "trained",
        lambda root: [*out_line("export", "mesh", out="made/m.ply")(root), "--voxel", "0.4"],
        _in_the_true_room,
    ),
    Command(
        "export orthophoto",
        "trained",
        lambda root: [*out_line("export", "orthophoto", out="made/o.tif")(root), "--pixel", "0.2"],
    ),
    Command(
        "export splats",
        "trained",
        lambda root: [
            *out_line("export", "splats", out="made/s.spz")(root),
            "--steps",
            "3",
            "--views",
            "4",
            "--splats",
            "50",
        ],
    ),
    Command("export blocks", "planned", lambda root: ["export", "blocks", f"{root}/out", f"{root}/blocks"]),
    Command("merge", "splats", lambda root: ["merge", f"{root}/blocks", "--out", f"{root}/city.ply"]),
    Command("masks", "scene", lambda root: ["masks", f"{root}/scene"], _masks),
    Command("synth", "nothing", lambda root: ["synth", f"{root}/town"], _synth),
    Command("prepare", "photographs", lambda root: ["prepare", f"{root}/photographs", f"{root}/scene"]),
)
