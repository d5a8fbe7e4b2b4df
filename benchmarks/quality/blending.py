"""The quality of blending along a path across a synthetic city, compared with the ray-traced truth.

The path follows the training images of one drive; the truth has that drive's light and mean exposure, and no traffic.
`flicker`, in 8-bit levels: difference between the error of a pixel and that of the same surface in the previous frame,
found by the true depth (surfaces that one of the frames does not see are skipped). `step`: difference of a frame from
the previous one, mapped in the same way, minus that of the truth. `bound` is not a rule: it is the best result of any
shares that vary over at least BOUND_PX pixels, by the true errors.

python -m benchmarks.quality.blending SCENE OUT [--drive NAME] [--frames 40] [--config FILE] [--skip-training]
    [section.key=value ...]

SCENE is one that `blocknerf synth` wrote.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch.nn.functional import avg_pool2d, grid_sample

from benchmarks.quality.town import parser, trace_town, train
from benchmarks.report import report
from benchmarks.results import measured
from blocknerf.blocks.output import load_output, open_scene
from blocknerf.blocks.plan import planned_split
from blocknerf.city.city import City, Layer, composite
from blocknerf.core.reading import read_json
from blocknerf.core.types import Appearance
from blocknerf.export.paths import View, interpolated_views, view_rays
from blocknerf.scene.rays import camera_directions, pixels_of
from blocknerf.synth.develop import develop
from blocknerf.synth.lighting import lighting_at
from blocknerf.synth.tracer import render_image

RULES = ("nearest", "visibility", "distance")  # the bound is taken of the last, in which every block has its say
BOUND = "bound"
BOUND_PX = 11
SAME_SURFACE = 0.02
"""Depths of one surface in two frames agree to this share."""
LEAST_ERROR = 1e-4


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--drive")
    options.add_argument("--frames", type=int, default=40)
    arguments = options.parse_intermixed_args()
    train(arguments)
    rows = measure(arguments.out, arguments.drive, arguments.frames)
    texts = {rule: f"{rows[rule]['psnr']:.2f} dB, flicker {rows[rule]['flicker']:.2f}" for rule in (*RULES, BOUND)}
    note = "; ".join(f"{rule} {text}" for rule, text in texts.items())
    gain_db = rows["visibility"]["psnr"] - rows["distance"]["psnr"]
    name = f"blending on a way across blocks, {arguments.scene.name}"
    cells = {
        "must": "+0.5 dB over inverse distance, no more flicker",
        "measured": measured(gain_db, "dB", "+.2f", note),
    }
    report("quality/blending", {name: cells}, details={name: rows})


def measure(out: Path, drive: str | None, frames: int) -> dict:
    config, plan = load_output(out)
    scene = open_scene(out, config.dataset)
    images, _ = planned_split(plan, scene)
    views = interpolated_views(images, scene.cameras, frames, 1, drive)
    truths, depths_m = photograph(scene.root, views)
    city = City.open(out)
    rows: dict[str, dict[str, float]] = {}
    for rule in RULES:
        city.manifest = replace(city.manifest, blending=rule)
        frames_of_layers = [layers_of(city, view) for view in views]
        rows[rule] = figures([composed(layers) for layers in frames_of_layers], truths, depths_m, views)
    bound = [best_blend(layers, truth) for layers, truth in zip(frames_of_layers, truths, strict=True)]
    rows[BOUND] = figures(bound, truths, depths_m, views)
    shared = sum(len(layers) > 1 for layers in frames_of_layers)
    return {"drive": views[0].drive, "frames": frames, "frames_of_several_blocks": shared, **rows}


def photograph(root: Path, views: list[View]) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """What the drive's camera would have seen: pictures [H, W, 3] in [0, 1] and depths [H, W] in metres, 0 is sky."""
    images = read_json(root / "blocknerf_scene.json", "sidecar")["images"].values()
    (preset, tracer), name = trace_town(root), views[0].drive
    light = lighting_at(next(drive.hour for drive in preset.drives if drive.name == name))
    exposure = float(np.exp(np.mean([np.log(image["exposure"]) for image in images if image["drive"] == name])))
    shots = [
        render_image(tracer, view.camera, view.world_from_cam, light, preset.samples_edge, preset.contrast)
        for view in views
    ]
    return [develop(shot.radiance, exposure) / np.float32(255) for shot in shots], [shot.depth_z_m for shot in shots]


def layers_of(city: City, view: View) -> list[Layer]:
    center = torch.from_numpy(view.world_from_cam[:, 3].copy())
    return city.layers(view_rays(view), center, Appearance(drive=view.drive))


def composed(layers: list[Layer]) -> np.ndarray:
    return composite(layers).rgb.clamp(0, 1).numpy()


def best_blend(layers: list[Layer], truth: np.ndarray) -> np.ndarray:
    """Pictures weighted by the inverse of their true squared error around each pixel."""
    shape = truth.shape
    rgb = np.stack([layer.picture.rgb.numpy().reshape(shape) for layer in layers])
    errors = np.square(rgb - truth).mean(-1)
    around = avg_pool2d(torch.from_numpy(errors)[:, None], BOUND_PX, 1, BOUND_PX // 2, count_include_pad=False)[:, 0]
    weights = 1 / (around.numpy() + LEAST_ERROR)
    blended = (weights[..., None] * rgb).sum(0) / weights.sum(0)[..., None]
    return blended.reshape(-1, 3).clip(0, 1)


def figures(
    pictures: list[np.ndarray], truths: list[np.ndarray], depths_m: list[np.ndarray], views: list[View]
) -> dict:
    """Mean PSNR over the frames, and both measures of unrest over pairs of frames that share a surface."""
    errors = [picture.reshape(truth.shape) - truth for picture, truth in zip(pictures, truths, strict=True)]
    psnrs = [-10 * np.log10(np.mean(np.square(error))) for error in errors]
    flicker, steps = [], []
    for i in range(1, len(views)):
        earlier, seen = carried([errors[i - 1], truths[i - 1]], depths_m[i - 1], depths_m[i], views[i - 1], views[i])
        if not seen.any():
            continue
        moved = errors[i][seen] - earlier[0]
        step = truths[i][seen] - earlier[1]
        flicker.append(np.abs(moved).mean())
        steps.append(np.abs(step + moved).mean() - np.abs(step).mean())
    return {
        "psnr": round(float(np.mean(psnrs)), 2),
        "flicker": round(255 * float(np.mean(flicker)), 3),
        "step": round(255 * float(np.mean(steps)), 3),
    }


def carried(
    earlier: list[np.ndarray], earlier_depth_m: np.ndarray, depth_m: np.ndarray, before: View, now: View
) -> tuple[list[np.ndarray], np.ndarray]:
    """Pictures of the frame before, sampled where the surfaces of this one stood; and which pixels [H, W] have one."""
    height, width = depth_m.shape
    ways = camera_directions(now.camera, width, height).reshape(height, width, 3).astype(np.float64)
    points = ways / ways[..., 2:] * depth_m[..., None]
    pose, other = now.world_from_cam, before.world_from_cam
    reprojected = (points @ pose[:, :3].T + pose[:, 3] - other[:, 3]) @ other[:, :3]
    ahead = np.where(reprojected[..., 2:] > 0.1, reprojected, 1.0)
    columns, rows = (pixels_of(before.camera, ahead.reshape(-1, 3)).reshape(height, width, 2) - 0.5).transpose(2, 0, 1)
    inside = (rows >= 0) & (rows <= height - 1) & (columns >= 0) & (columns <= width - 1)
    nearest = np.rint(rows.clip(0, height - 1)).astype(int), np.rint(columns.clip(0, width - 1)).astype(int)
    same = np.abs(earlier_depth_m[nearest] - reprojected[..., 2]) < SAME_SURFACE * reprojected[..., 2]
    seen = (depth_m > 0) & (reprojected[..., 2] > 0.1) & inside & same
    at = np.stack([2 * columns[seen] / (width - 1) - 1, 2 * rows[seen] / (height - 1) - 1], -1)
    places = torch.from_numpy(at.astype(np.float32))[None, None]
    pictures = torch.from_numpy(np.stack(earlier)).float().permute(0, 3, 1, 2)
    sampled = grid_sample(pictures, places.expand(len(earlier), -1, -1, -1), align_corners=True)[:, :, 0]
    return list(sampled.transpose(1, 2).numpy()), seen


if __name__ == "__main__":
    main()
