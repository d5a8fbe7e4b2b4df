"""One capture in every format that is read: the same rays must learn the same picture.

python -m benchmarks.interop.formats OUT [--preset tiny|street] [section.key=value ...]

One camera of a synthetic city, written in each format by tests/support/writers.py; drives, exposures, masks and the
split stand in the sidecar file beside each. A row for each format: PSNR, how far it is from the first one's, and
how far its rays are at most from those of the city (directions, and origins in metres).
"""

import argparse
import json
from pathlib import Path

import numpy as np

from benchmarks.measure import blocknerf, run
from benchmarks.quality.capture import row
from benchmarks.report import report
from benchmarks.results import measured
from blocknerf.core.config.dataset import DatasetConfig
from blocknerf.scene.photographs import read_masks, read_rgb
from blocknerf.scene.readers.read import read_scene
from blocknerf.scene.scene import ImageRecord, Scene
from blocknerf.scene.store import ImageStore
from tests.support.writers import FORMATS, Capture, Shot, write_sidecar

TEST_EVERY = 8
SHORT = ["block_manager.max_blocks=1", "training.num_epochs=1000", "training.max_steps=400", "dataset.batch_size=1024"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--preset", default="tiny")
    parser.add_argument("overrides", nargs="*")
    arguments = parser.parse_intermixed_args()
    out = arguments.out
    run(blocknerf("synth", out / "city", "--preset", arguments.preset))
    capture = captured(read_scene(out / "city", DatasetConfig()))
    rows: dict[str, dict] = {}
    for name, form in FORMATS.items():
        root = out / "scenes" / name
        names = form.write(root, capture)
        write_sidecar(root, capture, names)
        apart = rays_apart(root, out / "stores" / name, capture, names)
        run(blocknerf("train", "--data-root", root, "--output-dir", out / name, *SHORT, *arguments.overrides))
        run(blocknerf("evaluate", out / name))
        psnr = json.loads((out / name / "report" / "metrics.json").read_text())["composited"]["psnr"]
        rows[name] = {"psnr": psnr, "test_images": row(out / name)["test_images"], **apart}
    first = next(iter(rows.values()))["psnr"]
    cells = {
        name: {
            "PSNR": measured(one["psnr"], "dB", ".3f"),
            "to the first": measured(one["psnr"] - first, "dB", "+.3f"),
            "directions": measured(one["directions"], format=".1e"),
            "origins": measured(one["origins_m"], "m", ".1e"),
        }
        for name, one in rows.items()
    }
    report("interop/formats", cells, details=rows)
    apart_db = max(abs(one["psnr"] - first) for one in rows.values())
    summary = {"must": "0.05 dB", "measured": measured(apart_db, "dB", ".3f")}
    report("interop/formats", {"the same scene in every format": summary}, "largest difference")


def captured(scene: Scene) -> Capture:
    """Images of the first camera, numbered by name, so that they have the same order in every format."""
    key = min(scene.cameras)
    camera, images = scene.cameras[key], [image for image in scene.images if image.camera_key == key]
    focal_px, fy, cx, cy = camera.params
    if (fy, cx, cy) != (focal_px, camera.width / 2, camera.height / 2):
        raise ValueError(f"LLFF has no room for the camera {camera}")
    shots = [_shot(number, image) for number, image in enumerate(images)]
    return Capture(camera.width, camera.height, focal_px, shots)


def _shot(number: int, image: ImageRecord) -> Shot:
    photograph = read_rgb(image.path)
    kept = read_masks(image.mask_paths, photograph.size)
    right, down, forward, center = image.world_from_cam.T
    return Shot(
        f"{number:04d}.png",
        np.asarray(photograph),
        right,
        down,
        forward,
        center,
        moving=np.zeros(photograph.size[::-1], bool) if kept is None else ~kept,
        drive=image.drive,
        exposure=image.exposure or 1.0,
        is_test=number % TEST_EVERY == 0,
    )


def rays_apart(root: Path, folder: Path, capture: Capture, names: list[str]) -> dict[str, float]:
    """The largest differences of rays to the capture's own."""
    scene = read_scene(root, DatasetConfig())
    store = ImageStore.open(scene, 1, folder, progress=False)
    ids = {image.name: image.id for image in scene.images}
    apart = np.zeros(2)
    for name, shot in zip(names, capture.shots, strict=True):
        rays, (origins, directions) = store.rays(ids[name]), capture.true_rays(shot)
        read = rays.directions.numpy() - directions.reshape(-1, 3), rays.origins.numpy() - origins.reshape(-1, 3)
        apart = np.maximum(apart, [float(np.abs(one).max()) for one in read])
    return {"directions": apart[0], "origins_m": apart[1]}


if __name__ == "__main__":
    main()
