"""Images added after a plan was made, and which of them a block gets.

The plan is extended for the requested blocks and does not change for all others. Everything decided before stays:
cells, cubes, neighbours, and the old images of each block.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from jaxtyping import Bool

from blocknerf.blocks.assignment import SHARE_SEEN, claim_images
from blocknerf.blocks.image_visibility import gather_sights
from blocknerf.blocks.plan import BlockSpec, Plan
from blocknerf.blocks.surface import claim_surfaces, visible_ground
from blocknerf.core.config.block_manager import BlockManagerConfig
from blocknerf.core.config.config import Config
from blocknerf.core.errors import UserError
from blocknerf.scene.scene import ImageRecord, Scene, poses_of, scene_hash


def grow_plan(plan: Plan, scene: Scene, config: Config, block_ids: Sequence[str]) -> Plan:
    """The plan with later images assigned to the blocks of `block_ids` to which they belong.

    They follow a block's old images, by name. If the scene has no test list, a later image is a test image if its id is
    divisible by `dataset.test_every`, which depends on no other image. Raises UserError if old images are missing or
    changed, or for an unknown block.
    """
    known = {name for block in plan.blocks for name in (*block.train_images, *block.test_images)} | {*plan.later_images}
    _require_the_old_scene(plan, scene, known)
    new = sorted((image for image in scene.images if image.id not in known), key=lambda image: image.name)
    later = (*plan.later_images, *(image.id for image in new))
    later_ids = set(later)
    of_later = sorted((image for image in scene.images if image.id in later_ids), key=lambda image: image.name)
    chosen = {plan.block(block_id).id for block_id in block_ids}
    blocks = tuple(
        _with(block, plan, scene, of_later, config) if block.id in chosen else block for block in plan.blocks
    )
    now = scene_hash(scene)
    earlier = tuple(dict.fromkeys((*plan.earlier_scene_hashes, plan.scene_hash)))
    earlier = tuple(old for old in earlier if old != now)
    grown = replace(plan, scene_hash=now, blocks=blocks, later_images=later, earlier_scene_hashes=earlier)
    return replace(grown, geo_origin=scene.geo_origin, world_offset_m=scene.world_offset_m)


def _require_the_old_scene(plan: Plan, scene: Scene, known: set[str]) -> None:
    old = tuple(image for image in scene.images if image.id in known)
    if len(old) < len(known):
        raise UserError(
            f"{len(known) - len(old)} of the {len(known)} images that the blocks were planned for are no longer in "
            f"{scene.root}, or their files were changed. An update adds images; give the old ones with them, as they "
            "were, or train into another output folder."
        )
    if scene_hash(replace(scene, images=old)) != plan.scene_hash:
        raise UserError(
            f"Poses or cameras of the old images in {scene.root} are not those that the blocks were trained with. "
            "Register new images in the frame of the old reconstruction and leave its poses as they are, or train "
            "into another output folder."
        )


def _with(block: BlockSpec, plan: Plan, scene: Scene, later: Sequence[ImageRecord], config: Config) -> BlockSpec:
    known_ids = {*block.train_images, *block.test_images}
    images = [image for image in later if image.id not in known_ids]
    if not images:
        return block
    claimed = _claimed(block, plan, scene, images, config.block_manager)
    claimed_images = [image for image, is_claimed in zip(images, claimed, strict=True) if is_claimed]
    test = tuple(image.id for image in claimed_images if _is_test(image, scene, config.dataset.test_every))
    train = tuple(image.id for image in claimed_images if image.id not in test)
    return replace(block, train_images=block.train_images + train, test_images=block.test_images + test)


def _claimed(
    block: BlockSpec, plan: Plan, scene: Scene, images: Sequence[ImageRecord], config: BlockManagerConfig
) -> Bool[np.ndarray, " images"]:
    """Whether the block gets each image, by the rules of the plan."""
    layout = plan.ground()
    cells = layout.cells(tuple(center for one in plan.blocks for center in one.cells_xy))
    block_cells = {*block.cells_xy, *block.shared_xy}
    of_block = [center in block_cells for one in plan.blocks for center in one.cells_xy]
    frame = layout.frame()
    width, depth = np.ptp(frame.to_ground(scene.centers_world)[:, :2], axis=0).tolist()
    frame = replace(frame, extent_m=(width, depth))
    poses = poses_of(images)
    cameras_xy, open_m = frame.to_ground(poses[:, :, 3])[:, :2], config.block_size / 2
    if config.divide_by == "surface":
        claims = claim_surfaces(cells, cameras_xy, visible_ground(scene, images, frame, open_m))
    else:
        claims = claim_images(cells, cameras_xy, gather_sights(scene, images, frame, poses, open_m))
    near, seen = np.zeros(len(images), bool), np.zeros(len(images))
    for claim, is_of_block in zip(claims, of_block, strict=True):
        if is_of_block:
            near[claim.images] |= claim.near
            seen[claim.images] += claim.seen
    return near | (seen >= SHARE_SEEN)


def _is_test(image: ImageRecord, scene: Scene, test_every: int) -> bool:
    if scene.test_names is not None:
        return image.name in scene.test_names
    return test_every > 0 and int(image.id, 16) % test_every == 0
