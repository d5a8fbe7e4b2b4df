"""Blocks for other trainers: every sparse point as one splat, through `export blocks` and `merge`, and back.

Measured: of the capture's points, how many came back exactly once.

python -m benchmarks.interop.block_scenes OUT WORK    (OUT: an output folder of `blocknerf plan` or `train`)
"""

import argparse
from collections import Counter
from pathlib import Path

import numpy as np

from benchmarks.measure import blocknerf, run
from benchmarks.report import report
from blocknerf.blocks.output import load_output, open_scene
from blocknerf.core.config.dataset import DatasetConfig
from blocknerf.export.splats import Splats
from blocknerf.export.splats_file import read_splats, write_splats
from blocknerf.scene.readers.read import read_scene

ROW = "blocks for other trainers: sparse points as splats, through `export blocks` and `merge`"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("work", type=Path)
    arguments = parser.parse_args()

    exported = run(blocknerf("export", "blocks", arguments.out, arguments.work / "blocks", "--photographs", "link"))
    folders = [path for path in sorted((arguments.work / "blocks").iterdir()) if path.is_dir()]
    put_in = sum(_one_splat_a_point(folder) for folder in folders)
    merged = run(blocknerf("merge", arguments.work / "blocks", "--out", arguments.work / "city.ply"))
    config, _ = load_output(arguments.out)
    wanted = _counted(open_scene(arguments.out, config.dataset).points_world)
    back = _counted(read_splats(arguments.work / "city.ply").means)
    once = sum(count for place, count in wanted.items() if back[place] == count)
    details = {
        "scene": arguments.out.name,
        "blocks": len(folders),
        "splats_of_blocks": put_in,
        "lost": (wanted - back).total(),
        "doubled": (back - wanted).total(),
        "export_s": round(exported.seconds, 1),
        "merge_s": round(merged.seconds, 1),
    }
    cells = {"must": "each exactly once", "measured": f"{once:,} of {wanted.total():,}"}
    report("interop/block_scenes", {ROW: cells}, details={ROW: details})


def _one_splat_a_point(folder: Path) -> int:
    places = np.asarray(read_scene(folder, DatasetConfig()).points_world, np.float32)
    count = len(places)
    turns, zeros = np.eye(1, 4, dtype=np.float32).repeat(count, 0), np.zeros((count, 1, 3), np.float32)
    sizes = np.full((count, 3), -3, np.float32)
    write_splats(folder / "splats.ply", Splats(places, sizes, turns, np.ones(count, np.float32), zeros))
    return count


def _counted(places: np.ndarray) -> Counter[bytes]:
    return Counter(place.tobytes() for place in places.astype(np.float32))


if __name__ == "__main__":
    main()
