"""What is read from a capture."""

from pathlib import PurePosixPath
from typing import Annotated, Literal

from pydantic import Field, model_validator

from blocknerf.core.config.section import CHANGEABLE, Count, Section


class DatasetConfig(Section):
    """What is read from a capture, and how its pixels are drawn."""

    type: Literal[
        "auto", "colmap", "nerfstudio", "blender", "mega_nerf", "waymo", "kitti", "nuscenes", "llff", "bundler"
    ] = "auto"
    """The format of the capture. `auto` takes the best in the folder, and of equals the first in this order."""
    colmap_model: str | None = None
    """The model of COLMAP to read where there are several, as `sparse/1` or, where both forms of it are there,
    `sparse/1/images.txt`; none: the best."""
    image_downsample: Annotated[int, Field(ge=1, le=64)] = 1
    """Images are trained and rendered at 1/N of their size."""
    num_workers: Annotated[int, Field(ge=1, le=256), CHANGEABLE] = 2
    """Threads that decode photographs when the image store is made."""
    batch_size: Count = 1024
    """Rays in one training step. More, smaller steps learn more in the same time than fewer, larger ones."""
    val_batch_size: Annotated[Count | None, CHANGEABLE] = None
    """Rays rendered at once when validating; none: as many as the backbone likes."""
    num_rays_per_image: Count | None = None
    """A batch has this many rays of each of batch_size / num_rays_per_image images; none: pixels of all images."""
    precrop_iters: Annotated[int, Field(ge=0)] = 0
    """The first steps, in which pixels are drawn from the middle of images alone."""
    precrop_frac: Annotated[float, Field(gt=0, le=1)] = 0.5
    """How much of the width and of the height that middle is."""
    scene_bounds: tuple[float, float, float, float, float, float] | None = None
    """x_min, y_min, z_min, x_max, y_max, z_max in metres, in the capture's own coordinates; images whose camera stands
    outside are left out; none: all are taken."""
    test_every: Annotated[int, Field(ge=0)] = 8
    """Every Nth image by name is a test image, unless the scene names its own; 0 keeps none."""
    max_images: Annotated[int, Field(ge=2)] | None = None
    """At most so many images of a capture, spread evenly over their names; none: all."""
    use_masks: bool = True
    """Leaves out pixels that the masks of the scene hide."""
    use_depth: bool = False
    """Reads the depth maps that the scene names; training.depth_loss_weight says how much they count."""
    patch_size: Annotated[int, Field(ge=11, le=256)] = 11
    """Edge in pixels of the squares that SSIM and the gradient of depth are taken on; 11 is the window of SSIM."""
    patch_share: Annotated[float, Field(gt=0, le=1)] = 0.25
    """Share of a batch that is drawn as such squares, at least one, where a term of the loss needs them."""
    white_background: bool = False
    """Rays that leave the scene end in white instead of black."""
    alpha: Literal["white", "black", "mask"] | None = None
    """What transparent pixels become. `white`: they are laid on white, and rays end in white; `black`: on black;
    `mask`: they are left out; none: white where white_background is set, else an error where pictures have any."""

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
