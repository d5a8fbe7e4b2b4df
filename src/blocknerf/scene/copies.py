"""Training images that are copies of a test image are skipped, because figures would not be true.

A copy has the pose of the test image and shows the same: the same bytes, or the same picture at another size or
quality. The next frame of a video is not a copy.
"""

import hashlib
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from blocknerf.core.errors import listed
from blocknerf.core.logging import log
from blocknerf.scene.orientation import same_proportions
from blocknerf.scene.photographs import DECODE_ERRORS, opened_picture
from blocknerf.scene.scene import ImageRecord, Scene
from blocknerf.scene.splits import test_names_of

_SHARE_OF_SPACING = 0.2
_LARGEST_ANGLE_RAD = np.radians(2.0)
_THUMBNAIL_PX = 48
_ALIKE_LEVELS = 4.0
"""Root mean square difference of thumbnails, where one is not transparent, below which two pictures are the same.
Neighbours in real captures differ by 16 and more, a copy at a quarter of the size and a JPEG quality of 50 by 2."""
_MOST_NAMED = 6


def without_copies(scene: Scene, test_every: int, kept_ids: Collection[str] = ()) -> Scene:
    """The scene without training images that are copies of a test image; each is listed in `skipped` and logged.

    Test images stay. Images in `kept_ids`, which a plan has already given to blocks, stay as well.
    """
    test_names = test_names_of(scene, test_every)
    copies = {
        name: original
        for name, original in _copies(scene, test_names).items()
        if name not in {image.name for image in scene.images if image.id in kept_ids}
    }
    if not copies or len(scene.images) - len(test_names) <= len(copies):
        return scene
    named = listed([f"{name} (of {original})" for name, original in copies.items()], _MOST_NAMED)
    log.warning(
        "%d training images of %s are copies of test images and are skipped, so that figures of test images are true: "
        "%s. Remove them, or keep no test images (dataset.test_every=0).",
        len(copies),
        scene.root,
        named,
    )
    return replace(
        scene,
        images=tuple(image for image in scene.images if image.name not in copies),
        test_names=test_names,
        skipped=(*scene.skipped, *((name, f"it is a copy of the test image {of}") for name, of in copies.items())),
    )


def _copies(scene: Scene, test_names: frozenset[str]) -> dict[str, str]:
    """By name of a training image: the test image that it copies."""
    test = [image for image in scene.images if image.name in test_names]
    train = [image for image in scene.images if image.name not in test_names]
    if not test or not train:
        return {}
    centers = scene.centers_world
    extent = float(np.median(np.linalg.norm(centers - np.median(centers, axis=0), axis=1)))
    near_m = _SHARE_OF_SPACING * extent / np.sqrt(len(centers))
    train.sort(key=lambda image: float(image.world_from_cam[0, 3]))
    places = np.stack([image.world_from_cam[:, 3] for image in train])
    thumbnails: dict[Path, np.ndarray | None] = {}
    found = {}
    for image in test:
        place = image.world_from_cam[:, 3]
        first = np.searchsorted(places[:, 0], place[0] - near_m, "left")
        end = np.searchsorted(places[:, 0], place[0] + near_m, "right")
        is_near = np.linalg.norm(places[first:end] - place, axis=1) <= near_m
        for row in (first + np.flatnonzero(is_near)).tolist():
            other = train[row]
            if (
                other.name not in found
                and _angle_rad(image, other) <= _LARGEST_ANGLE_RAD
                and (_same_proportions(scene, image, other) and _show_the_same(image, other, thumbnails))
            ):
                found[other.name] = image.name
    return dict(sorted(found.items()))


def _angle_rad(one: ImageRecord, other: ImageRecord) -> float:
    turn = one.world_from_cam[:, :3].T @ other.world_from_cam[:, :3]
    return float(np.arccos(np.clip((np.trace(turn) - 1) / 2, -1, 1)))


def _same_proportions(scene: Scene, one: ImageRecord, other: ImageRecord) -> bool:
    sizes = [(camera.width, camera.height) for camera in (scene.cameras[image.camera_key] for image in (one, other))]
    return same_proportions(*sizes)


def _show_the_same(one: ImageRecord, other: ImageRecord, thumbnails: dict[Path, np.ndarray | None]) -> bool:
    if one.path.stat().st_size == other.path.stat().st_size and _digest(one.path) == _digest(other.path):
        return True
    for image in (one, other):
        if image.path not in thumbnails:
            thumbnails[image.path] = _thumbnail(image)
    first, second = thumbnails[one.path], thumbnails[other.path]
    if first is None or second is None or first.shape != second.shape:
        return False
    is_shown = np.maximum(first, second)[..., 3] > 0
    differences = (first - second)[is_shown, :3]
    return not is_shown.any() or float(np.sqrt(np.mean(differences**2))) <= _ALIKE_LEVELS


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _thumbnail(image: ImageRecord) -> np.ndarray | None:
    """[h, w, 4] levels, colours times opacity; None if it cannot be decoded (the store reports that)."""
    try:
        with opened_picture(image.path) as photograph:
            photograph.draft("RGB", (2 * _THUMBNAIL_PX, 2 * _THUMBNAIL_PX))
            height = max(1, round(_THUMBNAIL_PX * photograph.height / photograph.width))
            rgba = photograph.convert("RGBA" if photograph.has_transparency_data else "RGB").convert("RGBA")
            small = rgba.convert("RGBa").resize((_THUMBNAIL_PX, height), Image.Resampling.BOX)
    except DECODE_ERRORS:
        return None
    return image.orientation.picture(np.asarray(small, np.float32))
