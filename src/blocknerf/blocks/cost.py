"""What training a block will cost. Estimates, meant to be right within a factor of two."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from blocknerf.blocks.plan import BlockSpec
from blocknerf.core.config.backbone import StepCost
from blocknerf.core.config.config import Config
from blocknerf.core.config.dataset import DatasetConfig
from blocknerf.core.config.distributed import DistributedConfig
from blocknerf.runtime.cores import available_cores
from blocknerf.scene.levels import bounded, layout, levels_for, pyramid
from blocknerf.scene.scene import Scene

BASE_MEMORY_BYTES = 0.7e9
"""The program itself: torch, numba and what they compile."""
PYRAMID = 1 + 1 / 4 + 1 / 16
"""The pixel store keeps three sizes of every image, plus those of training stages."""


@dataclass(frozen=True, slots=True)
class BlockCost:
    """One block: training images, their pixels, peak memory, minutes of training, bytes of its files."""

    images: int
    pixels: int
    memory_gb: float
    minutes: float
    bytes_on_disk: int


def estimates(blocks: Sequence[BlockSpec], scene: Scene, config: Config, cores: int | None = None) -> list[BlockCost]:
    """Costs of each block on this machine (`cores`: how many train, default all).

    memory: four copies of the parameters (values, gradients, two moments of Adam), activations of one batch, the
    block's pixels (3 bytes each, memory-mapped, so they give way when memory is short; at most
    training.ram_budget_gb), and the program itself.
    minutes: pixels x num_epochs, or the rays of max_steps where these are fewer, / rays per second, stage by stage; or
    max_minutes where that is less; validation not counted.
    disk: while it is trained, the latest file, the best, and the checkpoint with its two moments: five copies of the
    parameters; two when it is finished.
    """
    return [
        _estimate(len(block.train_images), cameras, scene, config, cores)
        for block, cameras in zip(blocks, cameras_of(blocks, scene), strict=True)
    ]


def cameras_of(blocks: Sequence[BlockSpec], scene: Scene) -> list[Counter[str]]:
    """For each block, how many of its training images each camera took."""
    camera_of = {image.id: image.camera_key for image in scene.images}
    return [Counter(filter(None, map(camera_of.get, block.train_images))) for block in blocks]


def _estimate(images: int, cameras: Counter[str], scene: Scene, config: Config, cores: int | None) -> BlockCost:
    """For a block with this many images of each camera."""
    pixels = _pixels(cameras, scene, config.dataset, None)
    cost = step_cost(config)
    parameter_bytes = 4 * cost.parameters
    activation_bytes = config.dataset.batch_size * cost.bytes_per_ray
    pixel_bytes, budget_gb = 3 * pixels * PYRAMID, config.training.ram_budget_gb
    held_bytes = pixel_bytes if budget_gb is None else min(pixel_bytes, 1e9 * budget_gb)
    memory_bytes = 4 * parameter_bytes + activation_bytes + held_bytes + BASE_MEMORY_BYTES
    minutes = _seconds(cameras, scene, config, cores or available_cores()) / 60
    if config.training.max_minutes is not None:
        minutes = min(minutes, config.training.max_minutes)
    return BlockCost(images, pixels, memory_bytes / 1e9, minutes, 5 * parameter_bytes)


def cuda_devices(config: DistributedConfig) -> int:
    """Number of CUDA devices for training a block."""
    return len({device for device in config.device_map.values() if device.startswith("cuda")})


def store_bytes(scene: Scene, config: Config) -> int:
    """Bytes of the pixel store on disk, once for all blocks: pixels of images and directions of cameras.

    A pixel has its colour and, if any image has them, depth and mask. Images with stored rays each have a table of
    directions and origins.
    """
    images = scene.images
    masked = any(image.mask_paths or image.alpha == "mask" for image in images)
    bytes_per_pixel = 3 + masked + 4 * any(image.depth_path is not None for image in images)
    bytes_per_direction = 24 if any(image.rays_path is not None for image in images) else 12
    levels = levels_for(scene.cameras, config.dataset.image_downsample, config.training.stage_training.resolutions)
    laid = [layout("", scene.cameras, images, sizes) for sizes in levels]
    return sum(bytes_per_pixel * level.num_pixels + bytes_per_direction * level.num_directions for level in laid)


def step_cost(config: Config) -> StepCost:
    """Cost of one block's field."""
    has_codes = config.training.use_appearance_embedding
    return config.block_nerf.cost(config.appearance_embedding.embedding_dim if has_codes else 0)


def _seconds(cameras: Counter[str], scene: Scene, config: Config, cores: int) -> float:
    """Time of a run: rays of each stage by rays per second; max_steps shortens all stages alike."""
    staged = config.training.stage_training
    if staged.enable:
        parts = [
            (stage.epochs * _pixels(cameras, scene, config.dataset, stage.resolution), stage.num_samples)
            for stage in staged.stages
        ]
    else:
        parts = [(config.training.num_epochs * _pixels(cameras, scene, config.dataset, None), None)]
    rays, steps = sum(rays for rays, _ in parts), config.training.max_steps
    share = 1.0 if steps is None else min(1.0, steps * config.dataset.batch_size / rays)
    return sum(
        share * rays / (cores * step_cost(_with_samples(config, samples)).rays_per_second_per_core)
        for rays, samples in parts
    )


def _with_samples(config: Config, count: int | None) -> Config:
    return config if count is None else config.model_copy(update={"block_nerf": config.block_nerf.with_samples(count)})


def _pixels(cameras: Counter[str], scene: Scene, config: DatasetConfig, longer_side_px: int | None) -> int:
    """For this many images of each camera, with at most this many pixels on the longer side."""
    sizes = bounded(pyramid(scene.cameras, config.image_downsample)[0], longer_side_px)
    return sum(number * sizes[key][0] * sizes[key][1] for key, number in cameras.items())
