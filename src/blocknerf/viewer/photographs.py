"""The photographs of the capture, as they would look in the viewer's picture."""

from collections import OrderedDict
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32
from PIL import Image
from torch import Tensor

from blocknerf.core.camera import Camera
from blocknerf.core.errors import UserError
from blocknerf.scene.photographs import DECODE_ERRORS, read_rgb
from blocknerf.scene.rays import camera_directions, directions_at, pixels_of
from blocknerf.scene.scene import ImageRecord, Scene
from blocknerf.viewer.render_request import Viewpoint

LARGEST_SIDE_PX = 1600
HELD = 4
_ASTRAY = 0.01


class Photographs:
    """Decoded when they are asked for, the last few kept."""

    def __init__(self, scene: Scene):
        self._cameras = scene.cameras
        self._images = {image.name: image for image in scene.images}
        self._held: OrderedDict[Path, Float[Tensor, "1 3 h w"]] = OrderedDict()

    def seen_from(
        self, name: str, viewpoint: Viewpoint, width: int
    ) -> tuple[Float[Tensor, "h w 3"], Bool[Tensor, "h w"]]:
        """The photograph in a picture of `width` pixels from `viewpoint`, and where it reaches; its lens undone.

        Exact where the photograph was taken, however the camera turns there; from elsewhere as if everything were far
        away. Raises UserError for a photograph that cannot be read.
        """
        image = self._images[name]
        camera, view = self._cameras[image.camera_key], viewpoint.camera(width)
        directions = camera_directions(view, view.width, view.height).reshape(-1, 3)
        turned = directions @ (image.world_from_cam[:, :3].T @ viewpoint.world_from_cam[:, :3]).T.astype(np.float32)
        pixels_xy, inside = _places(camera, turned)
        grid = torch.from_numpy(2 * pixels_xy / (camera.width, camera.height) - 1).float()
        rgb = torch.nn.functional.grid_sample(
            self._pixels(image), grid.reshape(1, view.height, view.width, 2), padding_mode="border", align_corners=False
        )
        return rgb[0].permute(1, 2, 0), torch.from_numpy(inside.reshape(view.height, view.width))

    def _pixels(self, image: ImageRecord) -> Float[Tensor, "1 3 h w"]:
        if image.path not in self._held:
            try:
                rgb = read_rgb(image.path, image.orientation, image.alpha)
            except DECODE_ERRORS as error:
                raise UserError(f"The photograph {image.path} cannot be read ({error}).") from error
            rgb.thumbnail((LARGEST_SIDE_PX, LARGEST_SIDE_PX), Image.Resampling.BOX)
            self._held[image.path] = torch.from_numpy(np.array(rgb)).permute(2, 0, 1)[None].float() / 255
        self._held.move_to_end(image.path)
        while len(self._held) > HELD:
            self._held.popitem(last=False)
        return self._held[image.path]


def _places(
    camera: Camera, directions: Float32[np.ndarray, "n 3"]
) -> tuple[Float[np.ndarray, "n 2"], Bool[np.ndarray, " n"]]:
    """Pixels of the full image that look along unit directions in its camera's axes, and which of them lie in it.

    Beyond its field of view a lens model may fold back into the picture: such pixels look elsewhere.
    """
    pixels_xy = pixels_of(camera, directions.astype(np.float64))
    with np.errstate(invalid="ignore"):
        inside = np.asarray(np.all((pixels_xy >= 0) & (pixels_xy <= (camera.width, camera.height)), axis=1))
    back = directions_at(camera, pixels_xy[inside])
    with np.errstate(invalid="ignore"):
        inside[inside] = np.abs(back - directions[inside]).max(axis=1) < _ASTRAY
    return np.where(inside[:, None], pixels_xy, 0.0), inside
