"""Which images are for training and which for testing."""

from blocknerf.core.errors import UserError
from blocknerf.scene.scene import ImageRecord, Scene


def split_images(scene: Scene, test_every: int) -> tuple[tuple[ImageRecord, ...], tuple[ImageRecord, ...]]:
    """(train, test), each sorted by name.

    The test images are the scene's own list, or else every `test_every`th usable image by name, starting with the
    first; 0: no test images. Raises UserError if nothing is left to train on.
    """
    images = sorted(scene.images, key=lambda image: image.name)
    test_names = test_names_of(scene, test_every)
    train = tuple(image for image in images if image.name not in test_names)
    test = tuple(image for image in images if image.name in test_names)
    if not train:
        raise UserError(
            f"All {len(test)} usable images of {scene.root} are test images, so none is left to train on. "
            "Set dataset.test_every to 0 or to 2 and more, or shorten the scene's own test list."
        )
    return train, test


def test_names_of(scene: Scene, test_every: int) -> frozenset[str]:
    """Names of the test images; the scene's own list may name skipped images."""
    if scene.test_names is not None:
        return scene.test_names
    names = sorted(image.name for image in scene.images)
    return frozenset(names[::test_every]) if test_every else frozenset()
