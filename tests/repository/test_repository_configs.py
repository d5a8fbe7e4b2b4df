"""Every configuration that we ship loads, with every value as it is written; that of the documents is theirs."""

import re
from pathlib import Path

import pytest
import yaml
from pydantic import BaseModel

from blocknerf.core.config.config import Config
from blocknerf.core.config.load import load_config

ROOT = Path(__file__).parents[2]
CONFIGS = sorted((ROOT / "configs").glob("*.yaml"))
DOCUMENTS = ROOT / "configs" / "block_nerf_config.yaml"


def read(path: Path) -> dict:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def test_there_are_configurations():
    assert {path.stem for path in CONFIGS} >= {"quickstart", "street", "aerial", "object", "paper"}


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_a_shipped_configuration_loads_with_every_value_as_written(path):
    written = read(path)
    config = load_config(path)
    assert config != Config()
    assert_holds(config, written)


def assert_holds(held: object, written: object) -> None:
    if isinstance(written, dict):
        for key, value in written.items():
            assert_holds(getattr(held, key), value)
    elif isinstance(written, list):
        assert isinstance(held, tuple)
        for one, value in zip(held, written, strict=True):
            assert_holds(one, value)
    else:
        assert held == (float(written) if isinstance(held, float) else written)


def test_the_documents_file_is_the_documents():
    """Rates are strings to a parser of YAML 1.1; the schema makes them numbers."""
    assert read(DOCUMENTS) == {
        "dataset": {
            "type": "colmap",
            "num_workers": 8,
            "batch_size": 4096,
            "val_batch_size": 1024,
            "image_downsample": 4,
            "use_depth": False,
            "white_background": False,
            "num_rays_per_image": 1024,
            "precrop_iters": 500,
            "precrop_frac": 0.5,
        },
        "block_manager": {
            "block_size": 50.0,
            "overlap_ratio": 0.3,
            "min_images_per_block": 50,
            "max_blocks": 100,
            "visibility_threshold": 0.1,
            "distance_threshold": 100.0,
        },
        "block_nerf": {
            "num_layers": 8,
            "hidden_dim": 256,
            "skip_connections": [4],
            "pos_encoding_levels": 10,
            "dir_encoding_levels": 4,
            "use_integrated_pos_enc": True,
            "num_samples_coarse": 64,
            "num_samples_fine": 128,
            "use_hierarchical_sampling": True,
            "perturb_samples": True,
            "white_background": False,
            "density_activation": "relu",
            "rgb_activation": "sigmoid",
        },
        "appearance_embedding": {
            "embedding_dim": 32,
            "num_images": 10000,
            "use_global_appearance": True,
            "use_block_appearance": True,
        },
        "visibility_network": {
            "hidden_dims": [512, 256, 128],
            "use_camera_features": True,
            "use_block_features": True,
            "dropout": 0.1,
        },
        "pose_refinement": {
            "feature_extractor": "resnet18",
            "hidden_dim": 256,
            "max_translation": 1.0,
            "max_rotation": 0.1,
        },
        "training": {
            "num_epochs": 200,
            "seed": 42,
            "nerf_lr": "5e-4",
            "appearance_lr": "1e-3",
            "visibility_lr": "1e-3",
            "pose_lr": "1e-5",
            "lr_decay_steps": [100, 150],
            "lr_decay_rate": 0.1,
            "weight_decay": "1e-6",
            "gradient_clip_norm": 1.0,
            "rgb_loss_weight": 1.0,
            "depth_loss_weight": 0.1,
            "consistency_loss_weight": 0.5,
            "regularization_weight": "1e-6",
            "appearance_loss_weight": 0.1,
            "use_mixed_precision": True,
            "use_gradient_checkpointing": False,
            "use_appearance_embedding": True,
            "use_visibility_network": True,
            "use_pose_refinement": True,
            "stage_training": {
                "enable": True,
                "stages": [
                    {"name": "coarse", "epochs": 50, "resolution": 256, "components": ["nerf", "appearance"]},
                    {"name": "fine", "epochs": 100, "resolution": 512, "components": ["nerf", "appearance", "pose"]},
                    {
                        "name": "refinement",
                        "epochs": 50,
                        "resolution": 1024,
                        "components": ["nerf", "appearance", "pose", "visibility"],
                    },
                ],
            },
        },
        "validation": {
            "val_freq": 5,
            "save_freq": 10,
            "num_val_images": 10,
            "render_test_views": True,
            "render_novel_views": True,
        },
        "logging": {
            "log_freq": 100,
            "image_log_freq": 1000,
            "use_tensorboard": True,
            "tensorboard_dir": "./logs/tensorboard",
        },
        "output": {"checkpoint_dir": "./checkpoints", "render_dir": "./renders", "log_dir": "./logs"},
        "distributed": {"backend": "nccl", "find_unused_parameters": True},
    }


PAPER = {
    # 4.1: a block at every intersection, 75 % of the way to the next, so that both cover half of it
    "block_manager.placement": "junctions",
    "block_manager.overlap_ratio": 0.75 - 0.5,
    # 4.3: inverse distance, p = 4 in Alamo Square, one to three blocks
    "block_manager.blending": "distance",
    "block_manager.blend_power": 4.0,
    "block_manager.max_composited": 3,
    "block_manager.visibility_threshold": 0.05,  # not stated; of the re-implementations
    # the network (supplement)
    "block_nerf.backbone": "mlp",
    "block_nerf.num_layers": 8,
    "block_nerf.hidden_dim": 512,
    "block_nerf.use_integrated_pos_enc": True,
    "block_nerf.pos_encoding_levels": 16,
    "block_nerf.dir_encoding_levels": 4,
    "block_nerf.num_samples_coarse": 256,
    "block_nerf.num_samples_fine": 256,
    "block_nerf.near_m": 1.0,
    "block_nerf.far_m": 1000.0,
    "appearance_embedding.embedding_dim": 32,
    "exposure_encoding.num_levels": 4,
    # 4.2.2 and supplement: per segment, 1e5 linearly to 1e-1 in 5,000 iterations
    "training.use_pose_refinement": True,
    "pose_refinement.mode": "segment",
    "pose_refinement.regularization_start": 1e5,
    "pose_refinement.regularization_end": 1e-1,
    "pose_refinement.regularization_decay": "linear",
    "pose_refinement.regularization_share": 5_000 / 300_000,
    # 4.2.5 and supplement: 4 layers of 128, place and direction alone, MSE at 1e-6
    "visibility_network.hidden_dims": (128, 128, 128, 128),
    "visibility_network.use_camera_features": False,
    "visibility_network.use_block_features": False,
    "visibility_network.use_random_pairs": False,
    "visibility_network.loss": "squared",
    "training.visibility_loss_weight": 1e-6,
    # optimization: 300K iterations of 16,384 rays, 2e-3 to 2e-5, warm-up in 1,024
    "training.max_steps": 300_000,
    "dataset.batch_size": 16_384,
    "dataset.use_masks": True,
    "training.nerf_lr": 2e-3,
    "training.appearance_lr": 2e-3,
    "training.pose_lr": 2e-3,
    "training.visibility_lr": 2e-3,
    "training.lr_final_ratio": 2e-5 / 2e-3,
    "training.lr_warmup_steps": 1024,
    # a photograph is compared by its squared error alone
    "training.rgb_l1_share": 0.0,
    "training.rgb_ssim_share": 0.0,
    "training.distortion_loss_weight": 0.0,
    "training.appearance_loss_weight": 0.0,
    "training.appearance_smoothness_weight": 0.0,
    "training.regularization_weight": 0.0,
}
"""What the paper says (Block-NeRF, Tancik et al. 2022), by the key that says it here."""


@pytest.mark.parametrize("key", PAPER)
def test_the_papers_file_says_what_the_paper_does(key):
    section, _, name = key.rpartition(".")
    assert getattr(getattr(load_config(ROOT / "configs" / "paper.yaml"), section), name) == PAPER[key]


def test_the_papers_file_gives_each_number_with_its_section():
    lines = (ROOT / "configs" / "paper.yaml").read_text(encoding="utf-8").splitlines()
    stated = ("placement", "overlap_ratio", "blend_power", "hidden_dims", "max_steps", "batch_size", "nerf_lr", "loss")
    for name in stated:
        line = next(line for line in lines if line.strip().startswith(f"{name}:"))
        assert re.search(r"# (A|\d(\.\d)*)\b", line), line


def test_the_documents_file_takes_the_papers_network_or_the_one_that_is_asked_for():
    assert load_config(DOCUMENTS).block_nerf.backbone == "mlp"
    assert load_config(DOCUMENTS, ["block_nerf.backbone=hash"]).block_nerf.backbone == "hash"


def test_the_documents_file_refines_poses_by_what_images_show():
    """Its section has no `mode`, and two keys that no other mode reads."""
    assert load_config(DOCUMENTS).pose_refinement.mode == "features"
    assert load_config(DOCUMENTS, ["pose_refinement.mode=segment"]).pose_refinement.mode == "segment"


@pytest.mark.parametrize(
    ("override", "mode"),
    [("max_translation=2", "drive"), ("hidden_dim=64", "features"), ("feature_extractor=resnet18", "features")],
)
def test_keys_of_image_features_mean_them(override, mode):
    config = load_config(None, [f"pose_refinement.{override}"])
    assert config.pose_refinement.mode == mode
    assert Config.model_validate(config.model_dump(mode="json")) == config


def leaves(section: type[BaseModel], prefix: str = "") -> list[str]:
    found = []
    for name, field in section.model_fields.items():
        inner = field.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            found += leaves(inner, f"{prefix}{name}.")
        else:
            found.append(prefix + name)
    return found


SECTION_NAMES = {
    "dataset": ("config",),
    "block_manager": ("config", "settings", "manager", "rules"),
    "block_nerf": ("config", "field"),
    "block_nerf.hash_grid": ("config", "grid"),
    "appearance_embedding": ("config",),
    "exposure_encoding": (),
    "pose_refinement": ("config", "settings"),
    "visibility_network": ("config",),
    "training": ("config", "settings"),
    "training.stage_training": ("staged",),
    "validation": (),
    "logging": (),
    "output": (),
    "city": (),
    "distributed": (),
}
"""What the code calls a section, apart from the section's own name."""


@pytest.mark.parametrize("key", leaves(Config))
def test_every_key_is_read_somewhere(key):
    """A key without effect is a promise that nobody keeps."""
    section, _, name = key.rpartition(".")
    holders = "|".join((section.rpartition(".")[2], *SECTION_NAMES[section]))
    read = re.compile(rf"\b({holders})\.{name}\b")
    sources = [path for path in (ROOT / "src").rglob("*.py") if path.name != "config.py"]
    assert any(read.search(path.read_text(encoding="utf-8")) for path in sources)
