"""No dead keys: every key of the schema stands in a table with a change of it and what must then be different.

To add a key, add a line to KEYS: the value it is changed to, and a probe, which turns a configuration into something
that can be compared (tensors of a few steps, a plan, a city file, what a run does). Where a test elsewhere shows its
effect, name that test in its place.
"""

import hashlib
import re
from collections.abc import Callable
from functools import cache, reduce
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple
from unittest import mock

import pytest
import torch
import yaml
from pydantic import BaseModel

from blocknerf.blocks.output import plan_scene
from blocknerf.blocks.planner import make_plan
from blocknerf.city.city import City
from blocknerf.city.manifest import block_folder, manifest_of, write_manifest
from blocknerf.core.config.config import Config
from blocknerf.core.config.effects import CHOICES, SWITCHES, Need, keys_of
from blocknerf.core.config.keys import sections_of
from blocknerf.core.config.load import config_to_json, load_config
from blocknerf.core.config.stages import StageConfig
from blocknerf.core.errors import UserError
from blocknerf.core.files import write_json
from blocknerf.core.types import Exposures, RayBatch, RenderOutput
from blocknerf.models.backbones.mip_nerf.config import MipNerfConfig
from blocknerf.models.block_file import BlockFile, write_block
from blocknerf.models.poses import PoseRefinementNetwork
from blocknerf.scene.readers.read import read_scene
from blocknerf.scene.store import ImageStore
from blocknerf.training.block import pose_setup
from blocknerf.training.block.inputs import BlockFolders, BlockInputs
from blocknerf.training.block.metrics import TrainingMetrics
from blocknerf.training.block.trainer import BlockNeRFTrainer
from blocknerf.training.launchers.sequential import SequentialLauncher
from blocknerf.training.run.run import Run, open_store
from blocknerf.training.train_blocks import train_blocks
from tests.support.block_meta import meta_of
from tests.support.formula_block import FormulaBlock
from tests.support.room import write_room

ROOT = Path(__file__).parents[2]


class Changed(NamedTuple):
    """`key=value` on top of `base` must change what `probe` gives."""

    value: str
    probe: Callable[[Config], object]
    base: tuple[str, ...] = ()
    refused: bool = False
    """What changes is an error."""


class CoveredBy(NamedTuple):
    """FILE::TEST, which names the key."""

    test: str


# --- probes ---------------------------------------------------------------------------------------------------------


@cache
def room() -> Path:
    folder = TemporaryDirectory()
    KEPT.append(folder)
    return write_room(Path(folder.name), images=4, width=16, height=12)


KEPT: list[TemporaryDirectory] = []


def store_of(config: Config) -> ImageStore:
    factor = config.dataset.image_downsample
    return ImageStore.open(
        read_scene(room(), config.dataset), factor, room() / f"store_{factor}", False, config.dataset.num_workers
    )


def captured(config: Config) -> object:
    scene = read_scene(room(), config.dataset)
    return [image.name for image in scene.images], store_of(config).size(scene.images[0].id)


def planned(config: Config) -> object:
    return make_plan(read_scene(room(), config.dataset), config).blocks


class NumberedBlock(FormulaBlock):
    """A plain block of a colour, a distance and a visibility of its own."""

    def __init__(self, block: BlockFile) -> None:
        self.number = block.meta.number
        LOADED.append(self.number)

    def render(self, rays: RayBatch, code: object) -> RenderOutput:
        count, place = len(rays), 0.1 * self.number
        colours = torch.tensor([place, 1 - place, 0.5]).expand(count, 3)
        return RenderOutput(colours, torch.ones(count), torch.full((count,), 1.0 + self.number))

    def mean_visibility(self, rays: RayBatch) -> float:
        return (0.9, 0.28, 0.6)[self.number % 3]

    def view_confidence(self, rays: RayBatch, distances_m: torch.Tensor) -> torch.Tensor:
        return torch.linspace(0.1, 1.0, len(rays)) if self.number % 2 else torch.ones(len(rays))


LOADED: list[int] = []


def composited(config: Config) -> object:
    """What cameras see of a city of formula blocks."""
    scene = read_scene(room(), config.dataset)
    plan = make_plan(scene, config)
    with TemporaryDirectory() as folder:
        out = Path(folder)
        write_manifest(out, manifest_of(plan, config.block_manager, config.city))
        for number, block in enumerate(plan.blocks):
            meta = meta_of(block.id, scene_hash=plan.scene_hash, number=number)
            tensors = {"ballast": torch.zeros(2500)}
            write_block(block_folder(out, block.id), "latest", BlockFile(meta, tensors))
        LOADED.clear()
        city = City.open(out, load=NumberedBlock)
        ahead, pictures = torch.tensor([[0.0, 1.0, 0.0]]).expand(4, 3), []
        for center in scene.centers_world:
            origins = torch.tensor(center).float().expand(4, 3)
            rays = RayBatch(origins, ahead, torch.full((4,), -1), torch.zeros(4))
            pictures.append(city.render(rays, torch.tensor(center)).rgb.tolist())
    return pictures


def loaded(config: Config) -> object:
    """Which blocks come from the disk, in which order, while cameras look at a city."""
    composited(config)
    return list(LOADED)


class Watched(BlockNeRFTrainer):
    """Remembers what it did."""

    def _validate(self) -> float | None:
        done = super()._validate()
        self.did.append(("validated", self.step, len(self.validator.test_images), done))
        return done

    def save(self) -> None:
        self.did.append(("saved", self.step))


def trainer_of(config: Config, folder: Path) -> Watched:
    scene = read_scene(room(), config.dataset)
    plan = make_plan(scene, config)
    stops = {image.id: 0.5 if image.drive == "noon" else -0.5 for image in scene.images}
    exposures = Exposures(1.0, (-0.5, 0.5), {"noon": 0.5, "dusk": -0.5}, stops)
    did: list[tuple] = []
    curves = folder / "curves" if config.logging.use_tensorboard else None
    trainer = Watched(
        BlockInputs(config, plan.blocks[0], store_of(config), plan.scene_hash, exposures=exposures),
        BlockFolders(folder / "block", tensorboard=curves),
        on_progress=lambda progress: did.append(("reported", progress.step)),
    )
    trainer.did = did
    return trainer


def learned(config: Config) -> object:
    """Every tensor after three steps."""
    with TemporaryDirectory() as folder:
        trainer = trainer_of(config, Path(folder))
        for _ in range(3):
            trainer.train_step()
        digest = hashlib.sha256()
        for name, tensor in trainer.model.state_dict().items():
            digest.update(f"{name} {tuple(tensor.shape)}".encode() + tensor.numpy().tobytes())
        return digest.digest()


def done(config: Config) -> object:
    """When a run ends, and what it has done until then."""
    with TemporaryDirectory() as folder:
        trainer = trainer_of(config, Path(folder))
        steps = trainer.train().steps
        return steps, trainer.did, (Path(folder) / "curves").exists()


def rendered_at_once(config: Config) -> object:
    with TemporaryDirectory() as folder:
        trainer = trainer_of(config, Path(folder))
        with mock.patch.object(trainer.model, "composite", wraps=trainer.model.composite) as composite:
            trainer._validate()
        return [len(call.args[0]) for call in composite.call_args_list]


def written(config: Config) -> object:
    """Where files of a whole run lie; those of TensorBoard have names of the moment."""
    with TemporaryDirectory() as folder:
        out = Path(folder)
        run = Run(*plan_scene(config, room(), out), out)
        train_blocks(run, launcher=SequentialLauncher())
        files = [path.relative_to(out) for path in out.rglob("*") if path.is_file()]
        return sorted({str(path.parent if path.name.startswith("events") else path) for path in files})


def log_place(config: Config) -> object:
    scene = read_scene(room(), config.dataset)
    return Run(config, scene, make_plan(scene, config), Path("out")).log_file("000")


def pictures_shown(config: Config) -> object:
    with TemporaryDirectory() as folder, mock.patch.object(TrainingMetrics, "images") as images:
        trainer_of(config, Path(folder)).train()
        return len(images.call_args_list)


def decoding_threads(config: Config) -> object:
    scene = read_scene(room(), config.dataset)
    from concurrent.futures import ThreadPoolExecutor

    with TemporaryDirectory() as folder, mock.patch("blocknerf.scene.store_files.ThreadPoolExecutor") as pools:
        pools.side_effect = ThreadPoolExecutor
        open_store(Run(config, scene, make_plan(scene, config), Path(folder)), progress=False)
        return [call.args for call in pools.call_args_list]


def extractor(config: Config) -> object:
    with mock.patch.dict(pose_setup.EXTRACTORS, {"resnet18": mock.Mock(return_value=abs)}):
        pose_setup.make_extractor(config.pose_refinement, config.training.seed)
        return pose_setup.EXTRACTORS["resnet18"].call_args.args[0]


def pose_parameters(config: Config) -> object:
    network = PoseRefinementNetwork(config.pose_refinement, ("a", "b"), ("0", "0"))
    return sum(parameter.numel() for parameter in network.parameters())


def announced(config: Config) -> object:
    with TemporaryDirectory() as folder, mock.patch("blocknerf.training.block.trainer.log.info") as info:
        trainer_of(config, Path(folder))
        return [call.args[0] % call.args[1:] for call in info.call_args_list]


# --- the table ------------------------------------------------------------------------------------------------------

BASE = (
    "block_manager.max_blocks=1",
    "block_manager.min_images_per_block=1",
    "block_nerf.num_samples_coarse=8",
    "block_nerf.num_samples_fine=8",
    "block_nerf.hidden_dim=16",
    "dataset.batch_size=32",
    "dataset.test_every=4",
    "training.max_steps=4",
    "training.use_visibility_network=false",
    "logging.use_tensorboard=false",
)
HASH = (
    "block_nerf.backbone=hash",
    "block_nerf.hash_grid.num_levels=5",
    "block_nerf.hash_grid.log2_table_rows=8",
    "block_nerf.proposal_resolution=12",
)
MLP = (
    *("block_nerf.backbone=mlp", "block_nerf.num_layers=4", "block_nerf.skip_connections=[1]"),
    *("training.rgb_l1_share=0", "training.rgb_ssim_share=0"),
)
POSES = (*HASH, "training.use_pose_refinement=true")
LEARNS_SIGHT = "training.use_visibility_network=true"
SEES = (*HASH, LEARNS_SIGHT)
BLOCKS = ("block_manager.max_blocks=100", "block_manager.block_size=1.5")
PATCHES = (*HASH, "dataset.batch_size=300", "training.rgb_ssim_share=0.5")
MILESTONES = (*HASH, "training.num_epochs=3", "training.lr_decay_steps=[1]")
ONE_STAGE = (*HASH, "training.num_epochs=2")


def staged(**changed: str) -> str:
    stage = {"name": "a", "epochs": "2"} | changed
    return f"{{enable: true, stages: [{{{', '.join(f'{key}: {value}' for key, value in stage.items())}}}]}}"


KEYS: dict[str, Changed | CoveredBy] = {
    "dataset.type": Changed("colmap", captured, refused=True),
    "dataset.colmap_model": Changed("sparse/1", captured, refused=True),
    "dataset.image_downsample": Changed("2", captured),
    "dataset.num_workers": Changed("5", decoding_threads),
    "dataset.batch_size": Changed("48", learned, HASH),
    "dataset.val_batch_size": Changed("50", rendered_at_once, HASH),
    "dataset.num_rays_per_image": Changed("16", learned, HASH),
    "dataset.precrop_iters": Changed("2", learned, HASH),
    "dataset.precrop_frac": Changed("0.8", learned, (*HASH, "dataset.precrop_iters=2")),
    "dataset.scene_bounds": Changed("[-9, 0, -9, 9, 9, 9]", captured),
    "dataset.max_images": Changed("3", captured),
    "dataset.use_depth": CoveredBy(
        "tests/scene/test_scene_depth.py::test_one_map_that_cannot_be_read_is_named_and_all_are_an_error"
    ),
    "dataset.patch_size": Changed("12", learned, PATCHES),
    "dataset.patch_share": Changed("1", learned, PATCHES),
    "dataset.test_every": Changed("2", planned),
    "dataset.use_masks": CoveredBy("tests/scene/test_scene_colmap.py::test_masks_by_folder_and_of_the_wrong_size"),
    "dataset.white_background": Changed("true", learned, HASH),
    "dataset.alpha": CoveredBy("tests/scene/test_scene_alpha.py::test_transparent_pixels_become_what_is_chosen"),
    "block_manager.placement": Changed("drives", planned, BLOCKS),
    "block_manager.streets_file": CoveredBy(
        "tests/blocks/test_streets_file.py::test_a_side_street_that_nobody_drove_is_a_junction_on_the_map"
    ),
    "block_manager.block_size": Changed("2", planned, BLOCKS),
    "block_manager.overlap_ratio": Changed("0", planned, BLOCKS),
    "block_manager.min_images_per_block": Changed("3", planned, BLOCKS),
    "block_manager.max_blocks": Changed("1", planned, BLOCKS),
    "block_manager.distance_threshold": Changed("0.5", composited, BLOCKS),
    "block_manager.divide_by": Changed("surface", composited, BLOCKS),
    "block_manager.visibility_threshold": Changed("0.1", composited, (*BLOCKS, LEARNS_SIGHT)),
    "block_manager.blending": Changed("nearest", composited, BLOCKS),
    "block_manager.blend_power": Changed("2", composited, BLOCKS),
    "block_manager.max_composited": Changed("1", composited, BLOCKS),
    "city.memory_budget_gb": Changed("1e-6", loaded, BLOCKS),
    "block_nerf.backbone": Changed("mlp", learned, ("training.rgb_ssim_share=0",)),
    "block_nerf.white_background": Changed("true", learned, HASH),
    "block_nerf.hidden_dim": Changed("24", learned, HASH),
    "block_nerf.num_layers": Changed("5", learned, MLP),
    "block_nerf.skip_connections": Changed("[2]", learned, MLP),
    "block_nerf.pos_encoding_levels": Changed("4", learned, MLP),
    "block_nerf.use_integrated_pos_enc": Changed("false", learned, MLP),
    "block_nerf.dir_encoding_levels": Changed("2", learned, HASH),
    "block_nerf.num_samples_coarse": Changed("12", learned, HASH),
    "block_nerf.num_samples_fine": Changed("12", learned, HASH),
    "block_nerf.use_hierarchical_sampling": Changed("false", learned, MLP),
    "block_nerf.perturb_samples": Changed("false", learned, HASH),
    "block_nerf.density_activation": Changed("softplus", learned, HASH),
    "block_nerf.rgb_activation": Changed("padded_sigmoid", learned, HASH),
    "block_nerf.proposal_resolution": Changed("16", learned, HASH),
    "block_nerf.full_gradient_radii": Changed("2", learned, HASH),
    "block_nerf.near_m": Changed("0.5", learned, HASH),
    "block_nerf.far_m": Changed("50", learned, HASH),
    "block_nerf.hash_grid.num_levels": Changed("4", learned, HASH),
    "block_nerf.hash_grid.log2_table_rows": Changed("9", learned, HASH),
    "block_nerf.hash_grid.base_resolution": Changed("8", learned, HASH),
    "block_nerf.hash_grid.finest_resolution": Changed("256", learned, HASH),
    "appearance_embedding.embedding_dim": Changed("8", learned, HASH),
    "appearance_embedding.num_images": Changed("300", learned, HASH),
    "appearance_embedding.use_global_appearance": Changed("false", learned, HASH),
    "appearance_embedding.use_block_appearance": Changed("false", learned, HASH),
    "exposure_encoding.num_levels": Changed("2", learned, HASH),
    "pose_refinement.mode": Changed("image", learned, POSES),
    "pose_refinement.max_translation": Changed("0.5", learned, POSES),
    "pose_refinement.max_rotation": Changed("0.05", learned, POSES),
    "pose_refinement.regularization_start": Changed("1", learned, (*POSES, "pose_refinement.regularization_share=0.9")),
    "pose_refinement.regularization_end": Changed("1", learned, POSES),
    "pose_refinement.regularization_share": Changed("0.9", learned, POSES),
    "pose_refinement.regularization_decay": Changed(
        "linear", learned, (*POSES, "pose_refinement.regularization_share=0.9")
    ),
    "pose_refinement.coarse_to_fine_share": Changed("0.9", learned, POSES),
    "pose_refinement.field_restarts": Changed("1", learned, (*POSES, "training.max_steps=3")),
    "pose_refinement.feature_extractor": Changed("another", extractor, refused=True),
    "pose_refinement.feature_weights": Changed("some.safetensors", extractor, ("pose_refinement.mode=features",)),
    "pose_refinement.hidden_dim": Changed("64", pose_parameters, ("pose_refinement.mode=features",)),
    "visibility_network.hidden_dims": Changed("[32]", learned, SEES),
    "visibility_network.use_camera_features": Changed("false", learned, SEES),
    "visibility_network.use_block_features": Changed("false", learned, SEES),
    "visibility_network.loss": Changed("squared", learned, SEES),
    "visibility_network.use_random_pairs": Changed("false", learned, SEES),
    "visibility_network.dropout": Changed("0.5", learned, SEES),
    "training.num_epochs": Changed("0.1", done, HASH),
    "training.max_steps": Changed("2", done, HASH),
    "training.max_minutes": CoveredBy("tests/training/test_training_blocks.py::test_the_clock_bounds_training"),
    "training.seed": Changed("1", learned, HASH),
    "training.nerf_lr": Changed("0.1", learned, HASH),
    "training.appearance_lr": Changed("0.1", learned, HASH),
    "training.pose_lr": Changed("0.1", learned, POSES),
    "training.visibility_lr": Changed("0.1", learned, SEES),
    "training.lr_warmup_steps": Changed("2", learned, HASH),
    "training.lr_final_ratio": Changed("0.5", learned, HASH),
    "training.lr_decay_steps": Changed("[1]", learned, HASH),
    "training.lr_decay_rate": Changed("0.5", learned, MILESTONES),
    "training.nerf_lr_decay": Changed("0.5", learned, HASH),
    "training.appearance_cosine_cycles": Changed("2", learned, HASH),
    "training.appearance_min_lr": Changed("0.0005", learned, HASH),
    "training.pose_milestones": Changed("[1]", learned, POSES),
    "training.pose_lr_decay": Changed("0.5", learned, (*POSES, "training.pose_milestones=[1]")),
    "training.weight_decay": Changed("0.5", learned, HASH),
    "training.gradient_clip_norm": Changed("0.01", learned, HASH),
    "training.rgb_loss_weight": Changed("0.5", learned, HASH),
    "training.rgb_l1_share": Changed("0.5", learned, HASH),
    "training.rgb_ssim_share": Changed("0.2", learned, PATCHES),
    "training.depth_loss_weight": CoveredBy(
        "tests/training/test_training_losses.py::test_the_total_is_the_sum_of_its_weighted_parts_and_a_weight_of_zero_takes_its_part_away"
    ),
    "training.point_loss_weight": CoveredBy(
        "tests/training/test_training_points.py::test_without_weight_a_block_is_that_of_a_capture_without_points"
    ),
    "training.consistency_loss_weight": CoveredBy(
        "tests/training/test_training_waves.py::test_the_later_block_is_drawn_to_its_neighbours_and_the_earlier_ones_are_as_without"
    ),
    "distributed.device_map": CoveredBy(
        "tests/models/test_models_model_parallel.py::test_parts_stand_where_the_map_says_and_answers_come_back_to_the_rays"
    ),
    "distributed.exchange_every": CoveredBy(
        "tests/training/test_training_neighbours.py::test_without_weight_blocks_are_those_of_a_plain_run_and_with_it_others"
    ),
    "training.regularization_weight": Changed("0.1", learned, HASH),
    "training.interlevel_loss_weight": Changed("0", learned, HASH),
    "training.coarse_loss_weight": Changed("1", learned, MLP),
    "training.distortion_loss_weight": Changed("1", learned, HASH),
    "training.appearance_loss_weight": Changed("1", learned, HASH),
    "training.appearance_smoothness_weight": CoveredBy(
        "tests/training/test_training_losses.py::test_the_total_is_the_sum_of_its_weighted_parts_and_a_weight_of_zero_takes_its_part_away"
    ),
    "training.visibility_loss_weight": Changed("0", learned, SEES),
    "training.use_appearance_embedding": Changed("false", learned, HASH),
    "training.use_exposure_encoding": Changed("false", learned, HASH),
    "training.use_pose_refinement": Changed("true", learned, HASH),
    "training.use_visibility_network": Changed("true", learned, HASH),
    "training.use_mixed_precision": CoveredBy(
        "tests/training/test_training_memory.py::test_half_precision_is_near_the_whole_and_not_it"
    ),
    "training.use_gradient_checkpointing": CoveredBy(
        "tests/training/test_training_memory.py::test_activations_computed_again_are_not_kept"
    ),
    "training.memory_limit_gb": CoveredBy(
        "tests/training/test_training_memory.py::test_a_limit_is_kept_while_training"
    ),
    "training.ram_budget_gb": CoveredBy(
        "tests/training/test_training_checkpoint.py::test_a_block_larger_than_its_budget_goes_on_exactly"
    ),
    "training.checkpoint_minutes": Changed("1e-9", done, HASH),
    "training.stage_training.enable": Changed(
        "false", learned, (*ONE_STAGE, f"training.stage_training={staged(num_samples='4')}")
    ),
    "training.stage_training.stages": Changed(
        "[{name: a, epochs: 2, resolution: 4}]", learned, (*ONE_STAGE, f"training.stage_training={staged()}")
    ),
    "validation.val_freq": Changed("0.1", done, HASH),
    "validation.num_val_images": Changed("0", done, HASH),
    "validation.save_freq": Changed("0.05", written, HASH),
    "validation.render_test_views": Changed("true", written, HASH),
    "validation.render_novel_views": Changed("true", written, HASH),
    "logging.image_log_freq": Changed("1", pictures_shown, (*HASH, "logging.use_tensorboard=true")),
    "logging.tensorboard_dir": Changed("curves", written, (*HASH, "logging.use_tensorboard=true")),
    "output.checkpoint_dir": Changed("kept", written, (*HASH, "validation.save_freq=0.05")),
    "output.render_dir": Changed("pictures", written, (*HASH, "validation.render_test_views=true")),
    "output.log_dir": Changed("text", log_place),
    "distributed.backend": CoveredBy("tests/training/test_training_distributed.py::test_gloo_stands_in_for_nccl"),
    "distributed.find_unused_parameters": CoveredBy(
        "tests/training/test_training_distributed.py::test_a_parameter_that_no_ray_reached_is_zero_or_an_error"
    ),
    "logging.log_freq": Changed("2", done, HASH),
    "logging.use_tensorboard": Changed("true", done, HASH),
}
STAGES = {
    "name": Changed("b", announced, ONE_STAGE),
    "epochs": Changed("1", learned, ONE_STAGE, refused=True),
    "resolution": Changed("8", learned, ONE_STAGE),
    "num_samples": Changed("4", learned, ONE_STAGE),
    "components": Changed("[nerf]", learned, ONE_STAGE),
}
"""Keys of one stage."""


def leaves(section: type[BaseModel], prefix: str = "") -> list[str]:
    found: list[str] = []
    for name, field in section.model_fields.items():
        inner = sections_of(field)
        found += [key for kind in inner for key in leaves(kind, f"{prefix}{name}.")] or [prefix + name]
    return [*dict.fromkeys(found)]


def test_every_key_stands_in_the_table():
    assert sorted(KEYS) == sorted(leaves(Config))
    assert set(STAGES) == set(StageConfig.model_fields)


@cache
def outcome(probe: Callable[[Config], object], overrides: tuple[str, ...]) -> object:
    """What the probe gives, or what is said where the configuration is refused."""
    try:
        return probe(load_config(None, [*BASE, *overrides]))
    except UserError as error:
        return str(error)


@pytest.mark.parametrize("key", KEYS)
def test_changing_a_key_changes_something(key):
    entry = KEYS[key]
    if isinstance(entry, CoveredBy):
        path, _, name = entry.test.partition("::")
        source = (ROOT / path).read_text(encoding="utf-8")
        assert f"def {name}(" in source
        assert key.rpartition(".")[2] in source
    else:
        before = outcome(entry.probe, entry.base)
        after = outcome(entry.probe, (*entry.base, f"{key}={entry.value}"))
        assert not isinstance(before, str)
        assert isinstance(after, str) is entry.refused, after
        assert before != after


@pytest.mark.parametrize("key", STAGES)
def test_changing_a_key_of_a_stage_changes_something(key):
    entry = STAGES[key]
    before = outcome(entry.probe, (*entry.base, f"training.stage_training={staged()}"))
    after = outcome(entry.probe, (*entry.base, f"training.stage_training={staged(**{key: entry.value})}"))
    assert not isinstance(before, str)
    assert isinstance(after, str) is entry.refused, after
    assert before != after


NEEDS = (*CHOICES, *SWITCHES, *MipNerfConfig.switches)

# --- keys that need another -----------------------------------------------------------------------------------------

BESIDE = {
    "without pose_refinement.mode features": (*POSES, "pose_refinement.mode=image"),
    "beside training.lr_decay_steps, where rates fall by lr_decay_rate": MILESTONES,
    "without training.lr_decay_steps": HASH,
    "without training.pose_milestones": POSES,
    "with block_manager.divide_by surface, where every pixel is blended by what it shows": (
        *(*BLOCKS, "block_manager.divide_by=surface"),
    ),
    "block_manager.max_blocks is 1": (),
    "block_manager.blending is nearest": (*BLOCKS, LEARNS_SIGHT, "block_manager.blending=nearest"),
    "block_nerf.use_hierarchical_sampling is false": (*MLP, "block_nerf.use_hierarchical_sampling=false"),
    "training.use_visibility_network is false": HASH,
    "training.use_pose_refinement is false": (*HASH, "pose_refinement.mode=features"),
    "pose_refinement.regularization_share is 0": (*POSES, "pose_refinement.regularization_share=0"),
    "training.use_appearance_embedding is false": (*HASH, "training.use_appearance_embedding=false"),
    "appearance_embedding.use_block_appearance is false": (*HASH, "appearance_embedding.use_block_appearance=false"),
    "training.use_exposure_encoding is false": (*HASH, "training.use_exposure_encoding=false"),
    "dataset.use_depth is false": HASH,
    "training.consistency_loss_weight is 0": HASH,
    "dataset.precrop_iters is 0": HASH,
    "neither SSIM nor depth is learned": HASH,
    "training.rgb_loss_weight is 0": (*MLP[:3], "dataset.batch_size=300", "training.rgb_loss_weight=0"),
    "training.stage_training.enable is false": ONE_STAGE,
    "validation.num_val_images is 0": (*HASH, "validation.num_val_images=0"),
    "logging.use_tensorboard is false": HASH,
}
"""What does not meet a need, by its words."""
OF_ITS_OWN = {
    "training.depth_loss_weight": "0.5",
    "training.appearance_smoothness_weight": "0.5",
    "distributed.exchange_every": "7",
}
"""Values of keys whose effect is shown elsewhere, or that the table's does not fit."""
OF_A_PART: tuple[Callable, ...] = (extractor, pose_parameters)
"""Probes that look at a part whether it is in use or not."""


def needy() -> list[tuple[Need, str]]:
    config = Config.model_validate({"block_nerf": {"backbone": "mlp"}})
    pairs = [(need, key) for need in NEEDS for need_key in need.keys for key in keys_of(config, need_key)]
    return [(need, key) for need, key in pairs if key in OF_ITS_OWN or not KEYS[key].refused]


EVERYTHING = (
    *("training.use_pose_refinement=true", "pose_refinement.mode=features", LEARNS_SIGHT, "dataset.use_depth=true"),
    *("dataset.batch_size=300", "dataset.precrop_iters=2", "training.num_epochs=2", "logging.use_tensorboard=true"),
    *(f"training.stage_training={staged()}", *BLOCKS, "training.consistency_loss_weight=0.1"),
)
"""Every part switched on."""


def test_a_need_is_met_where_all_is_switched_on_and_not_beside_what_it_names():
    assert set(BESIDE) == {need.other for need in NEEDS}
    kinds = [
        EVERYTHING,
        (*EVERYTHING, "block_nerf.backbone=mlp"),
        (*EVERYTHING, "training.lr_decay_steps=[1]", "training.pose_milestones=[1]"),
    ]
    whole = [load_config(None, [*BASE, *kind]) for kind in kinds]
    for need in NEEDS:
        assert not need.met(load_config(None, [*BASE, *BESIDE[need.other]]))
        having = whole[1:2] if need in MipNerfConfig.switches else whole
        assert any(map(need.met, having))
        assert need in CHOICES or all(map(need.met, having))


OF_BACKBONES = {
    "hash": ("block_nerf.hash_grid.num_levels=4", "block_nerf.proposal_resolution=16"),
    "mlp": (
        "block_nerf.num_layers=12",
        "block_nerf.skip_connections=[2]",
        "block_nerf.pos_encoding_levels=4",
        "block_nerf.use_integrated_pos_enc=false",
        "block_nerf.use_hierarchical_sampling=false",
    ),
}
WEIGHTS = {"hash": "training.interlevel_loss_weight=2", "mlp": "training.coarse_loss_weight=2"}
BASES = {"hash": HASH, "mlp": MLP}


@pytest.mark.parametrize(("backbone", "other"), [("hash", "mlp"), ("mlp", "hash")])
def test_keys_of_another_backbone_are_refused_and_change_nothing(backbone, other, tmp_path):
    beside = [*BASE, *BASES[backbone]]
    config = load_config(None, beside)
    for override in (*OF_BACKBONES[other], WEIGHTS[other]):
        key, _, value = override.partition("=")
        with pytest.raises(
            UserError, match=rf"{re.escape(key)} would change nothing with .* {backbone}; give .* {other},"
        ):
            load_config(None, [*beside, override])
        tree = config_to_json(config)
        *sections, name = key.split(".")
        reduce(lambda part, section: part.setdefault(section, {}), sections, tree)[name] = yaml.safe_load(value)
        write_json(tmp_path / "config.json", tree)
        stored = load_config(tmp_path / "config.json", stored=True)
        assert stored.block_nerf == config.block_nerf


def test_keys_of_another_backbone_at_their_defaults_are_no_error():
    """As folders of before keep them, with all keys of both."""
    overrides = [
        "block_nerf.num_layers=8",
        "block_nerf.skip_connections=[4]",
        "block_nerf.use_hierarchical_sampling=true",
    ]
    assert load_config(None, ["block_nerf.backbone=hash", *overrides]) == load_config(None)


@pytest.mark.parametrize(("need", "key"), needy(), ids=lambda value: value if isinstance(value, str) else value.other)
def test_a_key_that_would_change_nothing_is_refused_or_said_and_changes_nothing(need, key, tmp_path, caplog):
    entry = KEYS[key]
    value = OF_ITS_OWN.get(key) or entry.value
    beside = [*BASE, *BESIDE[need.other]]
    config = load_config(None, beside)
    caplog.set_level("INFO")
    if need in CHOICES:
        with pytest.raises(UserError, match=rf"{re.escape(key)}.* would change nothing {re.escape(need.other)}; "):
            load_config(None, [*beside, f"{key}={value}"])
    else:
        load_config(None, [*beside, f"{key}={value}"])
        assert any(key in message and message.endswith(f" as long as {need.other}.") for message in caplog.messages)
    tree = config_to_json(config)
    write_json(tmp_path / "config.json", tree)
    assert load_config(tmp_path / "config.json") == config  # all of it, as a folder keeps it
    *sections, name = key.split(".")
    reduce(dict.__getitem__, sections, tree)[name] = yaml.safe_load(value)
    write_json(tmp_path / "config.json", tree)
    caplog.clear()
    changed = load_config(tmp_path / "config.json", stored=True)
    assert changed != config
    assert caplog.messages == []
    probe = entry.probe if isinstance(entry, Changed) and entry.probe not in OF_A_PART else learned
    assert probe(changed) == probe(config)
