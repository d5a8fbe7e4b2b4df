"""What is read from a capture."""

from pathlib import PurePosixPath
from typing import Annotated, Literal

from pydantic import Field, model_validator

from blocknerf.core.config.section import CHANGEABLE, CHOSEN, Count, Section


class DatasetConfig(Section):
    """What is read from a capture, and how its pixels are drawn."""

    type: Literal[
        "auto", "colmap", "nerfstudio", "blender", "mega_nerf", "waymo", "kitti", "nuscenes", "llff", "bundler"
    ] = "auto"
    """Format of the capture. `auto` takes the best one found in the folder; among equals, the first in this order."""
    colmap_model: str | None = None
    """Which COLMAP model to read if there are several, as in `sparse/1`. If it exists as text and binary, name the
    file, as in `sparse/1/images.txt`. Default: the best."""
    image_downsample: Annotated[int, Field(ge=1, le=64), CHOSEN] = 1
    """Images are trained and rendered at 1/N of their size."""
    num_workers: Annotated[int, Field(ge=1, le=256), CHANGEABLE] = 2
    """Threads that decode photographs for the image store."""
    batch_size: Annotated[Count, CHOSEN] = 1024
    """Rays in one training step. Many small steps learn more in the same time than few large ones."""
    val_batch_size: Annotated[Count | None, CHANGEABLE] = None
    """Rays rendered at once in validation. Default: the backbone's choice."""
    num_rays_per_image: Count | None = None
    """Rays per image in a batch, which then has batch_size / num_rays_per_image images. Default: rays from all images.
    """
    precrop_iters: Annotated[int, Field(ge=0)] = 0
    """Number of first steps that draw pixels from the middle of images only."""
    precrop_frac: Annotated[float, Field(gt=0, le=1)] = 0.5
    """Width and height of that middle, as a share of the image's."""
    scene_bounds: tuple[float, float, float, float, float, float] | None = None
    """x_min, y_min, z_min, x_max, y_max, z_max in metres, in the capture's coordinates. Images whose camera is outside
    are skipped. Default: no bounds."""
    test_every: Annotated[int, Field(ge=0)] = 8
    """Every Nth image by name is a test image, unless the scene lists its own. 0: no test images."""
    max_images: Annotated[int, Field(ge=2)] | None = None
    """Maximum number of images, chosen evenly by name. Default: all."""
    use_masks: bool = True
    """Skips pixels that the scene's masks hide."""
    use_depth: bool = False
    """Reads the scene's depth maps; training.depth_loss_weight sets their weight."""
    patch_size: Annotated[int, Field(ge=11, le=256)] = 11
    """Edge in pixels of the square patches for SSIM and depth gradients. 11 is the window of SSIM."""
    patch_share: Annotated[float, Field(gt=0, le=1)] = 0.25
    """Share of a batch that is drawn as patches (at least one patch) if the loss needs them."""
    white_background: bool = False
    """Rays that leave the scene end in white instead of black."""
    alpha: Literal["white", "black", "mask"] | None = None
    """What transparent pixels become: `white` or `black` puts them on that colour (with `white`, rays end in white as
    well), `mask` skips them. Default: white if white_background is set; otherwise transparent pixels are an error."""

    @property
    def ground(self) -> Literal["white", "black", "mask"] | None:
        """What is chosen for transparent pixels, if anything."""
        return self.alpha or ("white" if self.white_background else None)

    @model_validator(mode="after")
    def _an_image_fits_into_a_batch(self) -> "DatasetConfig":
        if self.num_rays_per_image is not None and self.num_rays_per_image > self.batch_size:
            raise ValueError(f"num_rays_per_image {self.num_rays_per_image} is more than batch_size {self.batch_size}")
        return self

    @model_validator(mode="after")
    def _the_model_is_of_the_capture(self) -> "DatasetConfig":
        if self.colmap_model is not None:
            path = PurePosixPath(self.colmap_model)
            if path.is_absolute() or ".." in path.parts:
                raise ValueError(f"colmap_model {self.colmap_model!r} must be a path inside of the capture's folder")
            if self.type not in ("auto", "colmap"):
                raise ValueError(f"colmap_model is given, so type must be colmap and not {self.type}")
        return self

    @model_validator(mode="after")
    def _bounds_hold_something(self) -> "DatasetConfig":
        if self.scene_bounds is not None:
            for axis, low, high in zip("xyz", self.scene_bounds[:3], self.scene_bounds[3:], strict=True):
                if low >= high:
                    raise ValueError(f"scene_bounds: {axis}_min {low:g} must be less than {axis}_max {high:g}")
        return self
