"""Updates of a block: it learns further, with the images that were added to it since."""

from pathlib import Path

import torch

from blocknerf.blocks.plan import BlockSpec
from blocknerf.core.errors import UserError
from blocknerf.models.block_file import has_block, read_block
from blocknerf.models.block_nerf import BlockNeRF
from blocknerf.scene.store import ImageStore


def require_learned(blocks: list[BlockSpec], output_dir: Path) -> None:
    """Raises UserError for a block that has learned nothing yet."""
    new = [block.id for block in blocks if not has_block(output_dir / "blocks" / block.id, "latest")]
    if new:
        raise UserError(
            f"--update trains blocks further, but block {', '.join(new)} was never trained. Train it without --update "
            "first."
        )


def grown_block(folder: Path, spec: BlockSpec, store: ImageStore) -> BlockNeRF:
    """The model of block file `latest`, with codes, exposures and offsets for the images that the plan has added.

    Old codes stay bit for bit. Raises UserError if an old image can no longer be decoded.
    """
    saved = read_block(folder, "latest")
    model = BlockNeRF.from_state(saved.meta.model, saved.tensors)
    image_ids = tuple(image_id for image_id in spec.train_images if image_id in store.records)
    if image_ids[: len(model.image_ids)] != model.image_ids:
        raise UserError(
            f"Block {spec.id} was trained on images that the plan no longer gives it, or that can no longer be "
            "decoded. Restore them, or train the block anew with --overwrite."
        )
    new = [store.records[image_id] for image_id in image_ids[len(model.image_ids) :]]
    if new:
        model.grow(
            tuple(image.id for image in new),
            tuple(image.drive for image in new),
            tuple(image.exposure for image in new),
            torch.stack([torch.from_numpy(image.world_from_cam[:, 3].copy()) for image in new]),
            tuple(image.segment for image in new),
        )
    return model
