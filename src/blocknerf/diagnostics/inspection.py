"""Runs all checks on one block, trained or not, and writes their folder."""

import copy
import difflib
from dataclasses import asdict
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from blocknerf.blocks.output import load_output, open_scene
from blocknerf.blocks.plan import Plan, planned_split
from blocknerf.city.city import City
from blocknerf.core.config.config import Config
from blocknerf.core.errors import UserError
from blocknerf.core.files import write_bytes, write_json
from blocknerf.core.lock import locked_folder
from blocknerf.core.seeds import generator
from blocknerf.core.types import Appearance, on_device
from blocknerf.diagnostics.coverage import draw_coverage
from blocknerf.diagnostics.debugger import BlockNeRFDebugger
from blocknerf.diagnostics.page import inspection_page
from blocknerf.diagnostics.pose_motions import pose_motions
from blocknerf.diagnostics.result import Inspection
from blocknerf.diagnostics.seam import SeamView, draw_seam, view_seam
from blocknerf.models.block_nerf import BlockNeRF, load_block
from blocknerf.runtime.devices import CPU, default_device, devices_of
from blocknerf.scene.exposures import scene_exposures
from blocknerf.scene.sampler import PixelSampler
from blocknerf.scene.scene import ImageRecord, Scene, by_name
from blocknerf.scene.store import ImageStore
from blocknerf.training.block.initial_model import initial_model, initial_rng
from blocknerf.training.block.inputs import BlockInputs
from blocknerf.training.block.losses.block_nerf_loss import BlockNeRFLoss


def inspect_city(
    out: Path,
    data_root: str | Path | None = None,
    block_id: str | None = None,
    image_name: str | None = None,
    pixel_xy: tuple[int, int] | None = None,
    seam: tuple[str, str] | None = None,
    device: str = CPU,
) -> Inspection:
    """Inspects a trained block of the city in `out`, and writes OUT/inspect/.

    Defaults: `image_name` is the first test image (of the block, if one is named), `block_id` the block nearest to that
    image's camera, `pixel_xy` its middle, `seam` the block and its nearest neighbour, if there is one. `device`: see
    `City.open`. Raises UserError if nothing is trained, or block, image or pixel do not exist.
    """
    config, plan = load_output(out)
    city, scene = City.open(out, device=device), open_scene(out, config.dataset, data_root)
    store = ImageStore.open(scene, config.dataset.image_downsample, out / "store")
    image = _image(plan, scene, store, image_name, block_id)
    block_id = block_id or city.nearest(torch.from_numpy(image.world_from_cam[:, 3].copy()))
    model = load_block(city.read(block_id), devices_of(device)[0])
    pair = seam or _nearest_neighbour(city, plan, block_id)
    view = None if pair is None else view_seam(city, scene, store, pair)
    code = city.code_for(block_id, Appearance(image.id, image.drive, image.exposure))
    state = f"As trained, after {city.meta(block_id).step:,} steps"
    with _writing(out / "inspect"):
        return _inspect(out / "inspect", config, block_id, model, state, scene, store, image, pixel_xy, code, view)


def inspect_start(config: Config, scene: Scene, plan: Plan, output_dir: Path, device: str = CPU) -> Inspection:
    """Inspects the first block of the plan at the start of training on `device`, without training.

    Writes OUT/inspect/.
    """
    store = ImageStore.open(scene, config.dataset.image_downsample, output_dir / "store")
    block = plan.blocks[0]
    exposures = scene_exposures(planned_split(plan, scene)[0])
    inputs = BlockInputs(config, block, store, plan.scene_hash, exposures=exposures)
    model = initial_model(inputs, device, initial_rng(inputs))
    image = _image(plan, scene, store, None, block.id)
    code = model.code_for(Appearance(image.id, image.drive, image.exposure))
    state = "As training begins it"
    with _writing(output_dir / "inspect"):
        return _inspect(output_dir / "inspect", config, block.id, model, state, scene, store, image, None, code, None)


def _writing(folder: Path):
    return locked_folder(folder, f"{folder} is being written")


def _inspect(
    folder: Path,
    config: Config,
    block_id: str,
    model: BlockNeRF,
    state: str,
    scene: Scene,
    store: ImageStore,
    image: ImageRecord,
    pixel_xy: tuple[int, int] | None,
    code: Float[Tensor, " code"] | None,
    seam: SeamView | None,
) -> Inspection:
    debugger = BlockNeRFDebugger({block_id: model}, config)
    height, width = store.size(image.id)
    pixel_xy = (width // 2, height // 2) if pixel_xy is None else pixel_xy
    ray_png, seam_png = f"ray_{block_id}.png", None
    trace = debugger.visualize_rendering_process(block_id, store, image, pixel_xy, code, folder / ray_png)
    findings = debugger.check_data_quality(store)
    learner = copy.deepcopy(model).train()
    learner.set_trainable(learner.components())  # regardless of what its stage freezes
    settings = config.training
    sampler = PixelSampler(store, model.image_ids, config.dataset.batch_size, settings.seed)
    batch = on_device(sampler.next(), model.device)
    rng = generator(settings.seed, "inspect", block_id, device=model.device)
    with default_device(model.device):
        total, _ = BlockNeRFLoss(settings)(learner, batch, rng)
    gradients, about_gradients = debugger.check_model_gradients(learner, total)
    memory = debugger.memory_profiling(learner, sampler)
    draw_coverage(folder / "coverage.png", scene, store)
    if seam is not None:
        seam_png = "seam_{}_{}.png".format(*seam.blocks)
        draw_seam(folder / seam_png, seam)
    inspection = Inspection(
        folder,
        block_id,
        state,
        image.name,
        pixel_xy,
        findings + about_gradients,
        gradients,
        trace,
        memory,
        ray_png,
        "coverage.png",
        None if model.poses is None else model.poses.pose_groups.by,
        pose_motions(model, {image.id: image.name for image in scene.images}),
        seam,
        seam_png,
    )
    _write(inspection)
    return inspection


def _write(inspection: Inspection) -> None:
    write_json(inspection.folder / "inspect.json", _to_json(inspection))
    write_bytes(inspection.page, inspection_page(inspection).encode())


def _to_json(inspection: Inspection) -> dict:
    trace, seam = inspection.trace, inspection.seam
    samples = {
        name: getattr(trace, name).tolist()
        for name in ("edges_m", "density", "rgb", "weights", "transmittance", "first_edges_m", "first_weights")
    }
    about_seam = None
    if seam is not None:
        about_seam = {"blocks": list(seam.blocks), "image": seam.image, "drive": seam.drive, **seam.figures()}
    return {
        "block": inspection.block_id,
        "state": inspection.state,
        "findings": [asdict(finding) for finding in inspection.findings],
        "ray": {"image": inspection.image, "pixel_xy": list(inspection.pixel_xy)}
        | {"rgb": trace.pixel_rgb.tolist(), "opacity": trace.opacity, "distance_m": trace.distance_m}
        | samples,
        "gradients": [asdict(gradient) for gradient in inspection.gradients],
        "memory": [asdict(phase) for phase in inspection.memory],
        "poses": None
        if inspection.poses_by is None
        else {"by": inspection.poses_by, "moved": [asdict(motion) for motion in inspection.pose_motions]},
        "seam": about_seam,
    }


def _image(plan: Plan, scene: Scene, store: ImageStore, name: str | None, block_id: str | None) -> ImageRecord:
    """The image called `name`, else the first test image of the block or the city, else the first of training."""
    if name is not None:
        named = by_name(store.records.values())
        if name not in named:
            near = difflib.get_close_matches(name, named, 1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            raise UserError(f"No image of {scene.root} that can be decoded is called {name!r}.{hint}")
        return named[name]
    if block_id is None:
        train, test = planned_split(plan, scene)
    else:
        block = plan.block(block_id)
        train, test = (
            tuple(image for image in scene.images if image.id in ids) for ids in (block.train_images, block.test_images)
        )
    return next(image for image in (*test, *train) if image.id in store.records)


def _nearest_neighbour(city: City, plan: Plan, block_id: str) -> tuple[str, str] | None:
    """The block and the trained neighbour with the nearest anchor, in order; None if it has none."""
    anchor = torch.tensor(city.anchor(block_id))
    known = [other for other in plan.links.get(block_id, ()) if other in city.ids]
    nearest = min(known, key=lambda other: float((torch.tensor(city.anchor(other)) - anchor).norm()), default=None)
    return None if nearest is None else (min(block_id, nearest), max(block_id, nearest))
