"""What one block will take."""

from blocknerf.blocks.cost import BlockCost, estimates
from blocknerf.blocks.plan import BlockSpec
from blocknerf.core.config.config import Config
from blocknerf.scene.scene import Scene


def estimate(block: BlockSpec, scene: Scene, config: Config, cores: int | None = None) -> BlockCost:
    return estimates([block], scene, config, cores)[0]
