"""Blocks at junctions against as many along the drives, on a synthetic city with known streets.

For both: the largest distance of a junction from a block; the share of a street between two junctions that is covered
by any block, by the block of either end and by both (Block-NeRF, section 3.1: 75 and 50 %), by length; PSNR and SSIM on
the same test images with equal steps for each block.

python -m benchmarks.quality.junctions SCENE OUT [--config FILE] [--skip-training] [section.key=value ...]

SCENE is one that `blocknerf synth` wrote, with more than one street.
"""

import json
from itertools import pairwise
from pathlib import Path

import numpy as np

from benchmarks.measure import blocknerf, run
from benchmarks.quality.town import parser
from benchmarks.report import report
from benchmarks.results import Cell, measured
from blocknerf.blocks.output import load_output
from blocknerf.blocks.plan import Plan
from blocknerf.blocks.planner import make_plan
from blocknerf.core.config.load import load_config
from blocknerf.core.errors import UserError
from blocknerf.core.reading import read_json
from blocknerf.scene.readers.read import read_scene
from blocknerf.synth.drives import CAMERA_HEIGHT_M
from blocknerf.synth.presets import PRESETS
from blocknerf.synth.town import StreetPlan

STEP_M = 0.1
"""Between the places on a street at which is asked who covers them."""
FINEST_SHRINK = 0.95


def main() -> None:
    options = parser(__doc__)
    arguments = options.parse_intermixed_args()
    plan = PRESETS[read_json(arguments.scene / "synth.json", "mark of a synthetic city")["preset"]].plan
    rows: dict[str, dict[str, Cell]] = {}
    for placement, settings in placements(arguments).items():
        out = arguments.out / placement
        train(out, arguments, settings)
        rows[f"`{placement}`"] = figures(out, plan)
    report("quality/junctions", rows)


def placements(arguments) -> dict[str, list[str]]:
    """The overrides of both: as many blocks along the drives as there are at junctions."""
    at_junctions = [*arguments.overrides, "block_manager.placement=junctions"]
    config = load_config(arguments.config, at_junctions)
    scene = read_scene(arguments.scene, config.dataset)
    wanted = len(make_plan(scene, config).blocks)
    size_m = float(np.ptp(scene.centers_world, axis=0).max())
    while size_m > config.block_manager.block_size / 2:
        along = [*arguments.overrides, "block_manager.placement=drives", f"block_manager.block_size={size_m:.4g}"]
        if len(make_plan(scene, load_config(arguments.config, along)).blocks) == wanted:
            return {"junctions": at_junctions, "drives": along}
        size_m *= FINEST_SHRINK
    raise UserError(f"No block size gives {wanted} blocks along the drives of {scene.root}.")


def train(out: Path, arguments, settings: list[str]) -> None:
    config = ["--config", arguments.config] if arguments.config else []
    if not arguments.skip_training:
        run(blocknerf("train", *config, "--data-root", arguments.scene, "--output-dir", out, "--resume", *settings))
        run(blocknerf("evaluate", out, "--protocols", "masked"))


def figures(out: Path, streets: StreetPlan) -> dict[str, Cell]:
    plan = load_output(out)[1]
    junctions = np.array([(x, y, CAMERA_HEIGHT_M) for x in streets.xs for y in streets.ys])
    anchors = np.array([block.anchor_world for block in plan.blocks])
    apart_m = np.linalg.norm(junctions[:, None] - anchors, axis=2)
    by_any, by_one, by_both = np.mean([covered(plan, *ends) for ends in between_junctions(streets)], axis=0)
    masked = json.loads((out / "report" / "metrics.json").read_text())["protocols"]["masked"]
    return {
        "blocks": measured(len(plan.blocks), format=".0f"),
        "images a block": measured(float(np.mean([len(block.train_images) for block in plan.blocks])), format=".0f"),
        "farthest junction from a block": measured(float(apart_m.min(axis=1).max()), "m", ".1f"),
        "street covered": measured(float(by_any), format=".1%"),
        "by the block of either end": measured(float(by_one), format=".1%"),
        "by both": measured(float(by_both), format=".1%"),
        "PSNR": measured(masked["psnr"], "dB"),
        "SSIM": measured(masked["ssim"], format=".3f"),
    }


def between_junctions(streets: StreetPlan) -> list[tuple[np.ndarray, np.ndarray]]:
    """Ends of every street between two neighbouring junctions."""
    across = [((x, y), (next_x, y)) for y in streets.ys for x, next_x in pairwise(streets.xs)]
    along = [((x, y), (x, next_y)) for x in streets.xs for y, next_y in pairwise(streets.ys)]
    return [(np.array(begin), np.array(end)) for begin, end in across + along]


def covered(plan: Plan, begin_xy: np.ndarray, end_xy: np.ndarray) -> tuple[float, float, float]:
    """Shares of a street's length: covered by any block, by that of an end (the mean of both), and by those of both."""
    shares = np.arange(STEP_M / 2, length := float(np.linalg.norm(end_xy - begin_xy)), STEP_M)[:, None] / length
    places = np.column_stack([begin_xy + shares * (end_xy - begin_xy), np.full(len(shares), CAMERA_HEIGHT_M)])
    layout = plan.ground()
    xy = layout.frame().to_ground(places)[:, :2]
    owners = [block for block in plan.blocks for _ in block.cells_xy]
    nearest = layout.cells(tuple(cell for block in plan.blocks for cell in block.cells_xy)).nearest(xy)[0]
    of = {}
    for block in plan.blocks:
        within = layout.cells(block.cells_xy + block.shared_xy).nearest(xy)[1] <= layout.cell_reach_m
        of[block.id] = within | np.array([owners[cell] is block for cell in nearest])
    ends = [min(plan.blocks, key=lambda block: distance_m(block, end)) for end in (begin_xy, end_xy)]
    one, other = (of[block.id] for block in ends)
    by_any = np.any(list(of.values()), axis=0).mean()
    return float(by_any), float((one.mean() + other.mean()) / 2), float((one & other).mean())


def distance_m(block, xy: np.ndarray) -> float:
    return float(np.linalg.norm(np.array(block.anchor_world)[:2] - xy))


if __name__ == "__main__":
    main()
