"""A city of four small blocks that hold random weights, as if they had been trained."""

from pathlib import Path

from blocknerf.blocks.output import plan_scene
from blocknerf.blocks.plan import BlockSpec
from blocknerf.city.manifest import block_folder, manifest_of, write_manifest
from blocknerf.core.config.config import Config
from blocknerf.core.config.load import load_config
from blocknerf.core.seeds import generator
from blocknerf.core.types import Exposures
from blocknerf.models.block_file import BlockFile, write_block
from blocknerf.models.block_nerf import BlockNeRF
from blocknerf.scene.scene import Scene, scene_hash
from tests.support.block_meta import meta_of
from tests.support.small_field import SMALL_HASH

SETTINGS = (
    *SMALL_HASH,
    "block_manager.max_blocks=4",
    "block_manager.placement=grid",
    "block_manager.block_size=1.6",
    "block_manager.min_images_per_block=1",
)


def write_city(room: Path, out: Path, blocks: int | None = None) -> Scene:
    """Every block of the plan, or only its first few, as if they had been trained."""
    config, scene, plan = plan_scene(load_config(None, SETTINGS), room, out)
    assert len(plan.blocks) == 4
    write_manifest(out, manifest_of(plan, config.block_manager))
    for block in plan.blocks[:blocks]:
        write_random_block(out, config, block, scene)
    return scene


def write_random_block(out: Path, config: Config, block: BlockSpec, scene: Scene, seed: int = 0) -> None:
    drives = tuple({image.id: image.drive for image in scene.images}[name] for name in block.train_images)
    exposures = Exposures(1.0, (-1.0, 1.0), {}, {})
    rng = generator(seed, block.id)
    model = BlockNeRF(config, block.center_world, block.radius_m, block.train_images, drives, rng, exposures)
    meta = meta_of(block.id, model.description(), scene_hash=scene_hash(scene))
    write_block(block_folder(out, block.id), "latest", BlockFile(meta, model.state_dict()))
