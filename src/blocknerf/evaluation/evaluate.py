"""Every test image rendered from the city and from its nearest block alone, measured, and written down.

The heading figures (`composited`, `nearest`) use the mean code and the pixels that masks keep; each protocol has
separate figures.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float
from rich.progress import track
from torch import Tensor

from blocknerf.blocks.output import load_output, open_scene
from blocknerf.blocks.plan import planned_split
from blocknerf.city.city import City
from blocknerf.city.pictures import to_bytes, write_png
from blocknerf.city.states import LATEST
from blocknerf.core import disk
from blocknerf.core.errors import UserError
from blocknerf.core.files import write_json
from blocknerf.core.lock import locked_folder
from blocknerf.core.logging import console
from blocknerf.core.names import word_of
from blocknerf.core.own_png import is_own_png
from blocknerf.evaluation.colour_correction import correct_colours
from blocknerf.evaluation.protocols import PROTOCOLS, EvaluationProtocol, default_protocols, scored
from blocknerf.evaluation.report import write_report
from blocknerf.evaluation.views import HeldOutImage, Photographs, Views, picture_under, render_views
from blocknerf.rendering.colours import distance_colours, error_colours
from blocknerf.rendering.perceptual import Metric, perceptual_metrics
from blocknerf.rendering.quality import psnr, ssim
from blocknerf.runtime.devices import CPU
from blocknerf.runtime.threads import each_on_a_core
from blocknerf.scene.scene import ImageRecord
from blocknerf.scene.store import ImageStore
from blocknerf.scene.trajectories import NO_TRAJECTORIES, Trajectories

METRICS_VERSION = 1
HEADING = PROTOCOLS["masked"]
"""The protocol of `composited` and `nearest`, whichever protocols are measured beside them."""
PROTOCOL = {
    "appearance": "drive-mean",
    "appearance_meaning": "mean code of the training images of the test image's drive; no test pixel is looked at",
    "exposure": "where colour knows exposures: the test image's own, as captured",
    "psnr": "mean of per-image PSNR in dB; clamped to [0, 1], not rounded to bytes, valid pixels only",
    "ssim": "11x11 Gaussian, sigma 1.5, k1 0.01, k2 0.03, data range 1, reflected border, mean over valid pixels",
    "poses": "as captured, unless a protocol says otherwise",
}


def evaluate(
    out: Path,
    data_root: str | Path | None = None,
    protocols: Sequence[EvaluationProtocol] | None = None,
    state: str = LATEST,
    device: str = CPU,
) -> dict[str, Any]:
    """Evaluates the city in `out` on the test images of its scene (at `data_root`, when it has moved).

    Without `protocols`, those of `default_protocols`; for `state` and `device` see `City.open`.
    Writes OUT/report/metrics.json, index.html and pictures; returns the content of metrics.json. Raises UserError if
    there is no trained block or no test image.
    """
    config, plan = load_output(out)
    city = City.open(out, state=state, device=device)
    scene = open_scene(out, config.dataset, data_root)
    dataset = config.dataset
    store = ImageStore.open(scene, dataset.image_downsample, out / "store", threads=dataset.num_workers)
    _, test_images = planned_split(plan, scene)
    images = [image for image in test_images if image.id in store.records]
    if not images and scene.test_names is not None:
        raise UserError(
            f"There is no test image to evaluate on: the scene in {scene.root} has a test list of its own, and no "
            "image on it can be used. Add images to that list or mend them, and plan and train again."
        )
    with locked_folder(out / "report", f"The report in {out} is being written"):
        return evaluate_city(
            city,
            store,
            images,
            out / "report",
            skipped=scene.skipped + store.skipped,
            details={"image_downsample": config.dataset.image_downsample},
            map_png=out / "map.png",
            protocols=protocols,
            trajectories=Trajectories.of(scene.images),
        )


def evaluate_city(
    city: City,
    photographs: Photographs,
    images: Sequence[ImageRecord],
    folder: Path,
    skipped: Sequence[tuple[str, str]] = (),
    details: dict[str, Any] | None = None,
    map_png: Path | None = None,
    protocols: Sequence[EvaluationProtocol] | None = None,
    trajectories: Trajectories = NO_TRAJECTORIES,
) -> dict[str, Any]:
    """`evaluate` with its inputs loaded: renders and measures `images`, and writes the report into `folder`.

    `skipped` are (name, reason) of images skipped before; `details` are added to the protocol; `trajectories` are those
    of the scene.
    """
    if not images:
        raise UserError(
            "There is no test image to evaluate on. Keep some out of training: set dataset.test_every to 8 (0 keeps "
            "none), or give the scene a test list of its own, and plan and train again."
        )
    tested, left_out = [], list(skipped)
    for image in images:
        if photographs.valid(image.id).any():
            tested.append(image)
        else:
            left_out.append((image.name, "its mask leaves no pixel to measure"))
    if not tested:
        raise UserError("No test image has a pixel to measure: the masks hide all of them. Look at the mask files.")
    protocols = protocols or _default(city, photographs, tested, trajectories)
    judges, missing = _judges(photographs, tested)
    measured = []
    for number, image in enumerate(track(tested, "Evaluating", console=console, transient=True)):
        stem = f"{number:04d}_{word_of(image.name)}"
        test = HeldOutImage.of(photographs, image, trajectories)
        measured.append(_evaluate_image(city, test, protocols, judges, folder / "images", stem))
    metrics = {
        "version": METRICS_VERSION,
        "heading": f"{HEADING.name} v{HEADING.version}",
        "composited": _mean(measured, "composited"),
        "nearest": _mean(measured, "nearest"),
        "protocols": {protocol.name: _protocol_entry(protocol, measured) for protocol in protocols},
        "not_measured": missing,
        "without_order": trajectories.without_order({image.drive for image in tested}),
        "blocks": _by_block(measured, city.ids),
        "images": measured,
        "skipped": [{"name": name, "reason": reason} for name, reason in left_out],
        "protocol": PROTOCOL | (details or {}),
    }
    write_json(folder / "metrics.json", metrics)
    _remove_old_pictures(folder / "images", measured)
    write_report(folder, metrics, map_png)
    return metrics


def _evaluate_image(
    city: City,
    test: HeldOutImage,
    protocols: Sequence[EvaluationProtocol],
    judges: dict[str, Metric],
    folder: Path,
    stem: str,
) -> dict[str, Any]:
    views = render_views(city, test, {protocol.codes for protocol in protocols})
    figures = {protocol.name: _figures_under(protocol, city, test, views, judges) for protocol in protocols}
    return {
        "name": test.record.name,
        "id": test.record.id,
        "drive": test.record.drive,
        "composited": _measure(views.composited.rgb, test.truth, test.valid),
        "nearest": _measure(views.nearest.rgb, test.truth, test.valid),
        "protocols": {name: values for name, values in figures.items() if values is not None},
        "nearest_block": views.nearest_id,
        "blocks": [layer.block_id for layer in views.layers],
        "weights": [layer.weight for layer in views.layers],
        "valid_share": float(test.valid.double().mean()),
        "pictures": _write_pictures(views, test.truth, test.valid, folder, stem),
    }


def _figures_under(
    protocol: EvaluationProtocol, city: City, test: HeldOutImage, views: Views, judges: dict[str, Metric]
) -> dict[str, float] | None:
    """Every metric, and the protocol's gain over the mean code on the same pixels; None if no pixel counts."""
    pixels = (test.truth, test.valid, test.reached)
    before = scored(protocol, views.composited.rgb, *pixels)
    if not bool(before.counts.any()):
        return None
    after = scored(protocol, picture_under(protocol, city, test, views), *pixels)
    if protocol.corrects_colours:
        after = after._replace(render=correct_colours(*after))
    figures = {name: judge(*after) for name, judge in judges.items()}
    return figures | {"gain_db": figures["psnr"] - psnr(*before)}


def _judges(photographs: Photographs, images: Sequence[ImageRecord]) -> tuple[dict[str, Metric], dict[str, str]]:
    """The available metrics, and why each of the others is missing; all must work on half a picture."""
    sizes = [photographs.size(image.id) for image in images]
    ready, missing = perceptual_metrics(min(min(height, width // 2) for height, width in sizes))
    return {"psnr": psnr, "ssim": ssim, **ready}, missing


def _default(
    city: City, photographs: Photographs, images: Sequence[ImageRecord], trajectories: Trajectories
) -> tuple[EvaluationProtocol, ...]:
    """One block tells what blocks have learned: all of a city have the same configuration."""
    masked = any((photographs.valid(image.id) != photographs.reached(image.id)).any() for image in images)
    model = city.model(city.ids[0])
    has_order = any(trajectories.point_of(image) is not None for image in images)
    return default_protocols(masked, model.appearance_width > 0, has_order)


def _protocol_entry(protocol: EvaluationProtocol, measured: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The entry of a protocol in metrics.json; figures are means over the images that it could score."""
    scored = [image["protocols"][protocol.name] for image in measured if protocol.name in image["protocols"]]
    figures = {name: sum(figures[name] for figures in scored) / len(scored) for name in (scored[0] if scored else ())}
    return {
        "version": protocol.version,
        "sees": protocol.sees,
        "meaning": protocol.meaning,
        "optimistic": protocol.optimistic,
        "images": len(scored),
        **figures,
    }


def _measure(
    render: Float[Tensor, "h w 3"], truth: Float[Tensor, "h w 3"], valid: Bool[Tensor, "h w"]
) -> dict[str, float]:
    return {"psnr": psnr(render, truth, valid), "ssim": ssim(render, truth, valid)}


def _write_pictures(
    views: Views, truth: Float[Tensor, "h w 3"], valid: Bool[Tensor, "h w"], folder: Path, stem: str
) -> dict[str, str]:
    """Writes the PNG files of one image; returns their names by kind."""
    pictures = {
        "truth": torch.where(valid[..., None], truth, 0.5 * truth),
        "composited": views.composited.rgb,
        "nearest": views.nearest.rgb,
        "error": error_colours(views.composited.rgb, truth, valid),
        "distance": distance_colours(views.composited),
    }
    names = {kind: f"{stem}_{kind}.png" for kind in pictures}
    each_on_a_core(lambda kind: write_png(folder / names[kind], to_bytes(pictures[kind])), list(pictures))
    return names


def _mean(measured: Sequence[dict[str, Any]], kind: str) -> dict[str, float]:
    return {name: sum(image[kind][name] for image in measured) / len(measured) for name in ("psnr", "ssim")}


def _by_block(measured: Sequence[dict[str, Any]], block_ids: Sequence[str]) -> dict[str, Any]:
    """Figures of the test images nearest to each block; blocks that are nearest to none have no figures."""
    blocks: dict[str, Any] = {}
    for block_id in block_ids:
        nearest = [image for image in measured if image["nearest_block"] == block_id]
        figures = {kind: _mean(nearest, kind) for kind in ("composited", "nearest")} if nearest else {}
        blocks[block_id] = {"images": len(nearest), **figures}
    return blocks


def _remove_old_pictures(folder: Path, measured: Sequence[dict[str, Any]]) -> None:
    wanted = {name for image in measured for name in image["pictures"].values()}
    for path in folder.glob("*.png"):
        if path.name not in wanted and is_own_png(path):
            disk.unlink(path)
