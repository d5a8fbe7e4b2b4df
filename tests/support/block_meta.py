"""What stands in the JSON of a block file that no training wrote."""

from typing import Any

from blocknerf.core.config.config import Config
from blocknerf.models.block_meta import BlockMeta, ModelMeta

FORMULA = ModelMeta(config=Config(), center_world=(0, 0, 0), radius_m=1.0, image_ids=(), drives=(), exposures=None)
"""Of blocks that are formulas: nobody builds it."""


def meta_of(block_id: str, model: ModelMeta = FORMULA, **entries: Any) -> BlockMeta:
    """Images and drives are those of the model unless given; the scene is "scene"."""
    images = {"image_ids": model.image_ids, "drives": model.drives, "scene_hash": "scene"}
    return BlockMeta(block_id=block_id, model=model, **(images | entries))
