"""What a block will take, before it is trained. Estimates, meant to be right within a factor of two."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from blocknerf.blocks.plan import BlockSpec
from blocknerf.core.config.block_nerf import FieldConfig
from blocknerf.core.config.config import Config
from blocknerf.kernels.hash_grid import FEATURES
from blocknerf.runtime.threads import available_cores
from blocknerf.scene.levels import bounded, layout, levels_for, pyramid
from blocknerf.scene.scene import Scene

HASH_RAYS_PER_SECOND_PER_CORE = 16_000.0
"""Training rays of the default field (64 proposal, 16 field samples); other sample counts scale it."""
PROPOSAL_SAMPLE_COST = 0.1
"""A sample of the proposal grid beside one of the field."""
HASH_NETWORK_PARAMETERS = 20_000
HASH_BYTES_PER_SAMPLE = 1_500
"""Activations and gradients of one field sample in a training step."""
MLP_FLOPS_PER_SECOND_PER_CORE = 50e9
"""Of training steps in float32; measured 37, 53 and 68 x 10^9 at widths of 128, 256 and 512."""
MLP_HEAD_WIDTH = 128
BASE_MEMORY_BYTES = 0.7e9
"""The program itself: torch, numba and what they compile."""
PYRAMID = 1 + 1 / 4 + 1 / 16
"""The pixel store keeps three sizes of every image, and those that stages ask for."""


@dataclass(frozen=True, slots=True)
class BlockCost:
    """One block: training images, their pixels, peak memory, minutes of training, bytes of its files."""

    images: int
    pixels: int
    memory_gb: float
    minutes: float
    bytes_on_disk: int


def estimates(blocks: Sequence[BlockSpec], scene: Scene, config: Config, cores: int | None = None) -> list[BlockCost]:
    """Costs of each block on this machine (`cores`: how many train; none: all of them).

    memory: four copies of the parameters (values, gradients, two moments of Adam), activations of one batch, the
    block's pixels (3 bytes each, memory-mapped, so they give way when memory is short; at most
    training.ram_budget_gb), and the program itself.
    minutes: pixels x num_epochs, or the rays of max_steps where these are fewer, / rays per second, stage by stage; or
    max_minutes where that is less; validation not counted.
    disk: while it is trained, the latest file, the best, and the checkpoint with its two moments: five copies of the
    parameters; two when it is finished.
    """
    camera_of = {image.id: image.camera_key for image in scene.images}
    used = [Counter(filter(None, map(camera_of.get, block.train_images))) for block in blocks]
    return [
        _estimate(len(block.train_images), cameras, scene, config, cores)
        for block, cameras in zip(blocks, used, strict=True)
    ]


def estimate(block: BlockSpec, scene: Scene, config: Config, cores: int | None = None) -> BlockCost:
    """`estimates` of one block."""
    return estimates([block], scene, config, cores)[0]


def _estimate(images: int, cameras: Counter[str], scene: Scene, config: Config, cores: int | None) -> BlockCost:
    """Of a block whose images are so many of each camera."""
    pixels = _pixels(cameras, scene, config, None)
    field = config.block_nerf
    parameter_bytes = 4 * parameters(config)
    activation_bytes = config.dataset.batch_size * _bytes_per_ray(field)
    pixel_bytes, budget_gb = 3 * pixels * PYRAMID, config.training.ram_budget_gb
    held_bytes = pixel_bytes if budget_gb is None else min(pixel_bytes, 1e9 * budget_gb)
    memory_bytes = 4 * parameter_bytes + activation_bytes + held_bytes + BASE_MEMORY_BYTES
    minutes = _seconds(cameras, scene, config, cores or available_cores()) / 60
    if config.training.max_minutes is not None:
        minutes = min(minutes, config.training.max_minutes)
    return BlockCost(images, pixels, memory_bytes / 1e9, minutes, 5 * parameter_bytes)


def cuda_devices(config: Config) -> int:
    """How many CUDA devices a block in training takes."""
    return len({device for device in config.distributed.device_map.values() if device.startswith("cuda")})


def store_bytes(scene: Scene, config: Config) -> int:
    """Disk that the pixel store takes, once for all blocks: pixels of images, directions of cameras.

    A pixel has its colour and, where any image has them, its depth and whether it is masked. Images with rays of their
    own have each a table, and with it where its rays begin.
    """
    images = scene.images
    masked = any(image.mask_paths or image.alpha == "mask" for image in images)
    bytes_per_pixel = 3 + masked + 4 * any(image.depth_path is not None for image in images)
    bytes_per_direction = 24 if any(image.rays_path is not None for image in images) else 12
    levels = levels_for(scene.cameras, config.dataset.image_downsample, config.training.stage_training.resolutions)
    laid = [layout("", scene.cameras, images, sizes) for sizes in levels]
    return sum(bytes_per_pixel * level.num_pixels + bytes_per_direction * level.num_directions for level in laid)


def parameters(config: Config) -> int:
    """How many numbers a block learns besides its codes, to within a few thousand."""
    field = config.block_nerf
    if field.backbone == "hash":
        tables = field.hash_grid.num_levels * 2**field.hash_grid.log2_table_rows * FEATURES
        return tables + (field.proposal_resolution + 1) ** 3 + HASH_NETWORK_PARAMETERS
    encoded, width, head = 6 * field.pos_encoding_levels, field.hidden_dim, MLP_HEAD_WIDTH
    code_dim = config.appearance_embedding.embedding_dim if config.training.use_appearance_embedding else 0
    trunk = encoded * (1 + len(field.skip_connections)) * width + (field.num_layers - 1) * width**2
    colour = width**2 + (width + 6 * field.dir_encoding_levels + code_dim) * head + 2 * head**2
    return trunk + colour + (field.num_layers + 2) * width


def rays_per_second(config: Config, cores: int) -> float:
    """Training rays. Every parameter of the mlp takes part in 6 operations a sample: 2 forward, 4 backward."""
    field = config.block_nerf
    if field.backbone == "mlp":
        operations = 6 * parameters(config) * _mlp_samples(field)
        return MLP_FLOPS_PER_SECOND_PER_CORE * cores / operations
    return HASH_RAYS_PER_SECOND_PER_CORE * cores * _hash_work(FieldConfig()) / _hash_work(field)


def _seconds(cameras: Counter[str], scene: Scene, config: Config, cores: int) -> float:
    """A run's time: of each stage its rays by its rays per second; max_steps shortens all stages alike."""
    staged = config.training.stage_training
    if staged.enable:
        parts = [
            (stage.epochs * _pixels(cameras, scene, config, stage.resolution), stage.num_samples)
            for stage in staged.stages
        ]
    else:
        parts = [(config.training.num_epochs * _pixels(cameras, scene, config, None), None)]
    rays, steps = sum(rays for rays, _ in parts), config.training.max_steps
    share = 1.0 if steps is None else min(1.0, steps * config.dataset.batch_size / rays)
    return sum(share * rays / rays_per_second(_with_samples(config, samples), cores) for rays, samples in parts)


def _with_samples(config: Config, count: int | None) -> Config:
    if count is None:
        return config
    field = config.block_nerf
    kind = "num_samples_fine" if field.use_hierarchical_sampling else "num_samples_coarse"
    return config.model_copy(update={"block_nerf": field.model_copy(update={kind: count})})


def _bytes_per_ray(field: FieldConfig) -> int:
    """Activations and gradients in a training step; of the mlp two numbers for each unit of each layer, and inputs."""
    if field.backbone == "mlp":
        return _mlp_samples(field) * (8 * field.num_layers * field.hidden_dim + 2_500)
    return field.num_samples_fine * HASH_BYTES_PER_SAMPLE


def _mlp_samples(field: FieldConfig) -> int:
    return field.num_samples_coarse + field.num_samples_fine * field.use_hierarchical_sampling


def _hash_work(field: FieldConfig) -> float:
    return field.num_samples_fine + PROPOSAL_SAMPLE_COST * field.num_samples_coarse


def _pixels(cameras: Counter[str], scene: Scene, config: Config, longer_side_px: int | None) -> int:
    """Of so many images of each camera, with at most so many pixels on their longer side."""
    sizes = bounded(pyramid(scene.cameras, config.dataset.image_downsample)[0], longer_side_px)
    return sum(number * sizes[key][0] * sizes[key][1] for key, number in cameras.items())
