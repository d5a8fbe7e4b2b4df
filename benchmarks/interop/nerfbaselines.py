"""One capture trained and judged through nerfbaselines, and by ourselves: both must find the same PSNR.

python -m benchmarks.interop.nerfbaselines OUT [--scene SCENE] [--steps 400] [--repeats 1] [section.key=value ...]

The capture (without --scene: the smallest synthetic city, one drive of it) is written as a COLMAP scene without
anything beside it, so that both know the same; images, steps, seed and split are the same. nerfbaselines' own commands
train, render the checkpoint, and evaluate, all with its default protocol but for LPIPS. --repeats takes as many
seeds, each a row, and a row of their medians.

It needs nerfbaselines in the same environment (see docs/nerfbaselines.md).
"""

import argparse
import importlib.util
import json
import os
import shutil
import sys
from pathlib import Path

import numpy as np

from benchmarks.measure import blocknerf, run
from benchmarks.report import report
from benchmarks.results import Cell, measured
from blocknerf.core.config.dataset import DatasetConfig
from blocknerf.core.files import write_json
from blocknerf.scene.colmap_writer import ModelImage, ModelPoints, write_colmap
from blocknerf.scene.rays import pixels_of
from blocknerf.scene.readers.read import read_scene
from blocknerf.scene.scene import ImageRecord, Scene

PROTOCOL = "without-lpips"
SPEC = f"""from nerfbaselines import register

register({{"id": {PROTOCOL!r}, "evaluation_protocol_class": "benchmarks.interop.nerfbaselines_psnr:WithoutLpips"}})
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--scene", type=Path)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("overrides", nargs="*")
    arguments = parser.parse_intermixed_args()
    if importlib.util.find_spec("nerfbaselines") is None:
        sys.exit("nerfbaselines is not installed here; docs/nerfbaselines.md says how.")
    out = arguments.out.absolute()
    source = arguments.scene
    if source is None:
        source = out / "city"
        if not source.exists():
            run(blocknerf("synth", source, "--preset", "tiny"))
    scene = out / "scene"
    write_plain_colmap(scene, read_scene(source, DatasetConfig()))
    rows: dict[str, dict] = {}
    settings = [f"training.max_steps={arguments.steps}", "training.num_epochs=1000", *arguments.overrides]
    for seed in range(42, 42 + arguments.repeats):
        overrides = [*settings, f"training.seed={seed}"]
        direct = by_ourselves(scene, out / f"ours_{seed}", overrides)
        wrapped = by_nerfbaselines(scene, out / f"nerfbaselines_{seed}", overrides)
        rows[f"seed {seed}"] = direct | wrapped | {"difference": wrapped["nerfbaselines"] - direct["blocknerf"]}
    cells = {name: psnrs(row["blocknerf"], row["nerfbaselines"], row["difference"]) for name, row in rows.items()}
    columns = ([row[key] for row in rows.values()] for key in ("blocknerf", "nerfbaselines", "difference"))
    report("interop/nerfbaselines", cells | {"all seeds": psnrs(*columns)}, details=rows)
    differences = ", ".join(f"{row['difference']:+.3f}" for row in rows.values())
    summary = {"must": "0.1 dB", "measured": f"{differences} dB"}
    report("interop/nerfbaselines", {"nerfbaselines: train and evaluate": summary}, "summary")


def psnrs(direct, wrapped, differences) -> dict[str, Cell]:
    """Each a number, or those of several seeds."""
    return {
        "`blocknerf train`, `evaluate`": measured(direct, "dB", ".3f"),
        "`nerfbaselines train`, `render`, `evaluate`": measured(wrapped, "dB", ".3f"),
        "difference": measured(differences, "dB", "+.3f"),
    }


def write_plain_colmap(folder: Path, scene: Scene) -> None:
    """The images of the largest drive, their poses and sparse points, in the order of their names."""
    drives = [image.drive for image in scene.images]
    largest = max(sorted(set(drives)), key=drives.count)
    images = [image for image in scene.images if image.drive == largest]
    shutil.rmtree(folder, ignore_errors=True)
    tracks: list[list[tuple[int, int]]] = [[] for _ in scene.points_world]
    listed = []
    for number, image in enumerate(images):
        observations = observed(scene, image)
        for place, (_, _, row) in enumerate(observations):
            tracks[row].append((number, place))
        listed.append(ModelImage(image.name, image.camera_key, image.world_from_cam, observations))
        target = folder / "images" / image.name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.symlink_to(image.path.absolute())
    cameras = {key: scene.cameras[key] for key in sorted({image.camera_key for image in images})}
    write_colmap(folder / "sparse" / "0", cameras, listed, ModelPoints(scene.points_world, scene.points_rgb, tracks))
    write_json(folder / "nb-info.json", {"loader": "colmap", "evaluation_protocol": PROTOCOL})


def observed(scene: Scene, image: ImageRecord) -> list[tuple[float, float, int]]:
    """(x, y, row) of the sparse points that the image sees."""
    points_cam = (scene.points_world[image.point_rows] - image.world_from_cam[:, 3]) @ image.world_from_cam[:, :3]
    pixels_xy = pixels_of(scene.cameras[image.camera_key], points_cam).reshape(-1, 2)
    found = np.isfinite(pixels_xy).all(axis=1)
    rows = image.point_rows[found].tolist()
    return [(x, y, row) for (x, y), row in zip(pixels_xy[found].tolist(), rows, strict=True)]


def by_ourselves(scene: Path, out: Path, overrides: list[str]) -> dict:
    trained = run(blocknerf("train", "--data-root", scene, "--output-dir", out, "--overwrite", *overrides))
    run(blocknerf("evaluate", out))
    metrics = json.loads((out / "report" / "metrics.json").read_text())
    figures = {"blocks": len(metrics["blocks"]), "test_images": len(metrics["images"])}
    return figures | {"blocknerf": round(metrics["composited"]["psnr"], 3), "blocknerf_s": round(trained.seconds)}


def by_nerfbaselines(scene: Path, out: Path, overrides: list[str]) -> dict:
    """PSNR of its evaluation when training ends, and of the checkpoint that it has loaded again."""
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    spec = out / "without_lpips_spec.py"
    spec.write_text(SPEC)
    spec_module = importlib.util.find_spec("blocknerf.integrations.blocknerf_spec")
    assert spec_module is not None
    os.environ["NERFBASELINES_REGISTER"] = f"{spec_module.origin}:{spec}"
    os.environ["NERFBASELINES_NO_UPDATE_CHECK"] = "1"
    os.environ["PYTHONPATH"] = os.pathsep.join([os.getcwd(), os.environ.get("PYTHONPATH", "")])
    settings = [word for override in overrides for word in ("--set", override)]
    train = ["train", "--method", "blocknerf", "--backend", "python", "--data", str(scene), "--output", str(out)]
    trained = run([sys.executable, "-m", "nerfbaselines", *train, "--disable-output-artifact", *settings])
    (checkpoint,), (results,) = out.glob("checkpoint-*"), out.glob("results-*.json")
    predictions, again = out / "predictions", out / "again.json"
    render = ["render", "--checkpoint", str(checkpoint), "--data", str(scene), "--output", str(predictions)]
    run([sys.executable, "-m", "nerfbaselines", *render, "--backend", "python"])
    run([sys.executable, "-m", "nerfbaselines", "evaluate", str(predictions), "--output", str(again)])
    at_the_end, loaded = (json.loads(path.read_text())["metrics"]["psnr"] for path in (results, again))
    figures = {"nerfbaselines": round(at_the_end, 3), "checkpoint": round(loaded, 3)}
    return figures | {"nerfbaselines_s": round(trained.seconds)}


if __name__ == "__main__":
    main()
