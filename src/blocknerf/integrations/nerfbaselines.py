"""blocknerf as a method of nerfbaselines, whose protocol trains, saves, renders and measures a city.

Nothing here imports nerfbaselines; it calls this class as its documentation says (`Method`). `save` writes an output
folder without its scene, plus nerfbaselines.json, which maps images of the data set to ids.
"""

import json
import shutil
import tempfile
import weakref
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from blocknerf.blocks.output import differences
from blocknerf.blocks.plan import Plan, read_plan, write_plan
from blocknerf.blocks.planner import make_plan
from blocknerf.city.city import City, composite
from blocknerf.core import disk
from blocknerf.core.config.config import Config
from blocknerf.core.config.load import config_to_json, load_config
from blocknerf.core.errors import UserError
from blocknerf.core.files import write_json
from blocknerf.core.logging import log
from blocknerf.core.reading import read_json
from blocknerf.core.seeds import generator
from blocknerf.core.stored import Text, Whole, fitted
from blocknerf.core.types import MEAN_APPEARANCE, Appearance
from blocknerf.evaluation.views import CODE_STEPS, SEED
from blocknerf.integrations.nerfbaselines_scene import (
    CAMERA_MODELS,
    Cameras,
    Dataset,
    camera_of,
    image_of,
    is_before_white,
    mask_of,
    names_of,
    scene_of,
)
from blocknerf.models.fit import fit_code
from blocknerf.scene.rays import camera_rays
from blocknerf.scene.scene import Scene, by_name, scene_hash
from blocknerf.scene.store import ImageStore
from blocknerf.training.run.run import Run
from blocknerf.training.run.training_iterator import TrainingIterator

METHOD_ID = "blocknerf"
DEFAULTS = (
    "training.max_steps=30000",
    "training.num_epochs=1000",
    "validation.num_val_images=0",
    "logging.use_tensorboard=false",
)
"""Steps end a block; nerfbaselines evaluates and draws curves."""
NOT_OURS = (
    "dataset.type",
    "dataset.test_every",
    "dataset.max_images",
    "dataset.scene_bounds",
    "dataset.use_depth",
    "output.checkpoint_dir",
)
"""Keys that nerfbaselines controls: it reads and splits the data set, and chooses where checkpoints are written."""
VERSION = 1
_FILE = "nerfbaselines.json"
_INFO: dict[str, Any] = {
    "method_id": METHOD_ID,
    "required_features": frozenset({"color", "points3D_xyz", "points3D_rgb", "images_points3D_indices"}),
    "supported_camera_models": frozenset(CAMERA_MODELS),
    "supported_outputs": ("color", "depth", "accumulation"),
    "can_resume_training": True,
    "viewer_default_resolution": 160,
}


class BlockNeRFMethod:
    """A city in training or a trained one. One iteration is one step of one block, blocks one after the other.

    The planner decides on the number of blocks. The embedding of an image is the concatenation of its codes in all
    blocks, in the order of the city's blocks.
    """

    def __init__(
        self,
        *,
        checkpoint: str | None = None,
        train_dataset: Dataset | None = None,
        config_overrides: Mapping[str, Any] | None = None,
    ):
        """With `train_dataset` it can be trained, from `checkpoint` on where there is one; else only rendered.

        `config_overrides` are keys of the configuration, as in {"training.max_steps": 5000}. Raises UserError where
        they are wrong, the data set cannot be planned, or the checkpoint is of other images.
        """
        if checkpoint is None and train_dataset is None:
            raise UserError("Give nerfbaselines a data set to train on (--data) or a checkpoint to render from.")
        self._checkpoint = checkpoint
        self._city: City | None = None
        self._training: TrainingIterator | None = None
        if train_dataset is None:
            self._out = Path(str(checkpoint))
            about = _read_about(self._out)
            self.config = load_config(self._out / "config.json", stored=True)
            self.step, self._num_steps = about["step"], about["num_iterations"]
            self._image_ids, self._drives = about["image_ids"], about["drives"]
            return
        work = Path(tempfile.mkdtemp(prefix="blocknerf_"))
        weakref.finalize(self, shutil.rmtree, work, ignore_errors=True)
        self._out = work / "city"
        self._prepare(work, train_dataset, config_overrides or {})

    def _prepare(self, work: Path, dataset: Dataset, overrides: Mapping[str, Any]) -> None:
        """Scene, plan and blocks, from the checkpoint on where there is one."""
        if self._checkpoint is not None:
            _copy_city(Path(self._checkpoint), self._out)
        self.config = _config(self._out, dataset, overrides)
        photographs = work / "photographs"
        disk.make_folder(photographs)
        scene = scene_of(dataset, photographs, self.config.dataset.use_masks)
        plan = _plan(self._out, scene, self.config)
        write_json(self._out / "config.json", config_to_json(self.config))
        write_plan(self._out / "plan.json", plan)
        named = by_name(scene.images)
        images = [named.get(name) for name in names_of(dataset)]
        self._image_ids = [None if image is None else image.id for image in images]
        self._drives = [None if image is None else image.drive for image in images]
        settings = self.config.dataset
        store = ImageStore.open(scene, settings.image_downsample, work / "store", False, settings.num_workers)
        disk.remove_tree(photographs)  # decoded now
        log.info("%d images, %d block(s).", len(scene.images), len(plan.blocks))
        self._training = TrainingIterator(Run(self.config, scene, plan, self._out), store)
        self.step, self._num_steps = self._training.step, self._training.total_steps

    @classmethod
    def get_method_info(cls) -> dict[str, Any]:
        """What a data set must have for this method."""
        return dict(_INFO)

    def get_info(self) -> dict[str, Any]:
        """The same, with the number of iterations and the configuration."""
        return _INFO | {
            "num_iterations": self._num_steps,
            "loaded_step": None if self._checkpoint is None else _read_about(Path(self._checkpoint))["step"],
            "loaded_checkpoint": self._checkpoint,
            "batch_size": self.config.dataset.batch_size,
            "hparams": config_to_json(self.config),
        }

    def train_iteration(self, step: int) -> dict[str, float]:
        """Takes the `step`th step, counted from 0. Raises UserError if another one is next."""
        if self._training is None:
            raise UserError("This method was loaded without a data set, so it cannot be trained; give --data.")
        if step != self.step:
            raise UserError(f"nerfbaselines asks for iteration {step}, but {self.step} are done. Load that checkpoint.")
        terms = self._training.next()
        self.step, self._city = self._training.step, None
        figures = {f"loss_{name}": float(term) for name, term in terms.items() if name != "mse"}
        psnr = -10 * float(np.log10(max(float(terms["mse"]), 1e-12)))
        return figures | {"psnr": psnr, "num_rays": self.config.dataset.batch_size}

    def save(self, path: str) -> None:
        """Writes a city that can be rendered and resumed; the same state gives the same bytes."""
        self._write()
        _copy_city(self._out, Path(path))

    def render(self, camera: Cameras, *, options: Mapping[str, Any] | None = None) -> dict[str, np.ndarray]:
        """The view of one camera: color [h, w, 3] in [0, 1], depth along each ray and accumulation, both [h, w].

        Without an embedding, the appearance is the mean of the drive with most images. Raises UserError if the
        embedding is not of this city.
        """
        target_camera, world_from_cam = camera_of(_single(camera))
        city = self._opened()
        rays = camera_rays(target_camera, world_from_cam, target_camera.width, target_camera.height)
        codes = self._codes((options or {}).get("embedding"))
        layers = city.layers(rays, torch.from_numpy(world_from_cam[:, 3].copy()), codes=codes)
        picture = composite(layers).reshape(target_camera.height, target_camera.width)
        return {
            "color": picture.rgb.clamp(0, 1).numpy(),
            "depth": picture.distance_m.numpy(),
            "accumulation": picture.opacity.numpy(),
        }

    def get_train_embedding(self, index: int) -> np.ndarray | None:
        """The embedding of the data set's image `index`; None if the configuration has no codes."""
        return self._embedding(self._image_ids[index], self._drives[index])

    def optimize_embedding(self, dataset: Dataset, *, embedding: np.ndarray | None = None) -> dict[str, np.ndarray]:
        """The embedding under which the one image of `dataset` looks most like itself, every weight frozen.

        Codes of the blocks that may show it are fitted as in the protocol `half_image` (see evaluation/views.py), from
        `embedding` or the mean. Raises NotImplementedError, as nerfbaselines wants, where there are no codes.
        """
        codes = self._codes(embedding if embedding is not None else self._embedding(None, None))
        city = self._opened()
        if not codes:
            raise NotImplementedError("training.use_appearance_embedding is false: there are no codes to fit")
        camera, world_from_cam = camera_of(_single(dataset["cameras"]))
        kept = mask_of(dataset, 0)
        seen = torch.ones(camera.height * camera.width, dtype=torch.bool)
        if kept is not None:
            seen = torch.from_numpy(kept.ravel().copy())
        rays = camera_rays(camera, world_from_cam, camera.width, camera.height)[seen]
        truth = torch.from_numpy(image_of(dataset, 0).copy()).reshape(-1, 3)[seen].float() / 255
        (name,) = names_of(dataset)
        for block_id in city.weights(torch.from_numpy(world_from_cam[:, 3].copy())):
            model = city.model(block_id)
            if model.appearance_width > 0:
                rng = generator(SEED, "fitted codes", name, block_id)
                codes[block_id] = fit_code(model, rays, truth, codes[block_id], rng, CODE_STEPS)
        return {"embedding": _joined(codes)}

    def _embedding(self, image_id: str | None, drive: str | None) -> np.ndarray | None:
        city = self._opened()
        found = city.codes_for(city.ids, Appearance(image_id, drive or city.main_drive))
        codes = {block_id: code for block_id, code in found.items() if code is not None}
        return _joined(codes) if codes else None

    def _codes(self, embedding: np.ndarray | None) -> dict[str, Float[Tensor, " dim"]]:
        """The code of each block; empty without an embedding."""
        if embedding is None:
            return {}
        city = self._opened()
        code = city.code_for(city.ids[0], MEAN_APPEARANCE)
        width = 0 if code is None else len(code)
        given = torch.from_numpy(np.array(embedding, np.float32)).flatten()
        if len(given) != width * len(city.ids):
            raise UserError(
                f"An embedding of {len(given)} numbers is not of this city: its {len(city.ids)} blocks have {width} "
                "each. Embeddings are of one checkpoint; ask for them again."
            )
        return dict(zip(city.ids, given.reshape(len(city.ids), width), strict=True))

    def _opened(self) -> City:
        """The present city."""
        if self._city is None:
            self._write()
            self._city = City.open(self._out)
        return self._city

    def _write(self) -> None:
        """Updates the output folder; that of a checkpoint does not change."""
        if self._training is None:
            return
        self._training.save()
        about = {"version": VERSION, "step": self.step, "num_iterations": self._num_steps}
        write_json(self._out / _FILE, about | {"image_ids": self._image_ids, "drives": self._drives})


def _config(out: Path, dataset: Dataset, overrides: Mapping[str, Any]) -> Config:
    """The checkpoint's, where one was copied to `out`, or the defaults, with what the user wants instead."""
    wrong = [key for key in overrides if key.replace("-", "_") in NOT_OURS]
    if wrong:
        raise UserError(
            f"{', '.join(wrong)} would change nothing: nerfbaselines reads the data set, splits it and says where "
            "checkpoints lie. Leave it out."
        )
    known = out / "config.json"
    texts = [f"{key}={value if isinstance(value, str) else json.dumps(value)}" for key, value in overrides.items()]
    if known.is_file():
        config = load_config(known, texts, stored=True)
        changed = differences(load_config(known, stored=True), config)
        if changed:
            raise UserError(f"The checkpoint is of another configuration: {'; '.join(changed)}. Leave these out.")
        return config
    before_white = f"dataset.white_background={json.dumps(is_before_white(dataset))}"
    return load_config(None, [*DEFAULTS, before_white, *texts])


def _plan(out: Path, scene: Scene, config: Config) -> Plan:
    """The checkpoint's, which must be of these images, or a new one."""
    if not (out / "plan.json").is_file():
        return make_plan(scene, config)
    plan = read_plan(out / "plan.json")
    if plan.scene_hash != scene_hash(scene):
        raise UserError("The checkpoint was trained on other images, cameras or poses than the data set given now.")
    return plan


def _copy_city(source: Path, target: Path) -> None:
    """Replaces an output folder, except for files that nerfbaselines puts beside it."""
    disk.remove_tree(target / "blocks")
    shutil.copytree(source, target, dirs_exist_ok=True, ignore=shutil.ignore_patterns("nb-info.json"))


def _read_about(folder: Path) -> dict[str, Any]:
    path = folder / _FILE
    tree = read_json(path, "state of nerfbaselines") if path.is_file() else None
    if not isinstance(tree, dict) or tree.get("version") != VERSION:
        raise UserError(f"{folder} is not a checkpoint of this method: it has no {_FILE} of version {VERSION}.")
    return asdict(fitted(_About, tree, "state of nerfbaselines", path, "Restore a copy of the checkpoint."))


@dataclass(frozen=True)
class _About:
    """A checkpoint: how far training has come, and of which images."""

    step: Whole
    num_iterations: Whole
    image_ids: list[Text | None]
    drives: list[Text | None]


def _single(cameras: Any) -> Cameras:
    """One camera, whether it comes alone or as a list of one."""
    return cameras.item()


def _joined(codes: Mapping[str, Float[Tensor, " dim"]]) -> np.ndarray:
    """The codes of all blocks as float32, one behind the other."""
    return torch.cat(list(codes.values())).detach().numpy().astype(np.float32)
