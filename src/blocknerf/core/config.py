"""Strict configuration: every key is known, typed, bounded and has an effect; a misspelt one names its nearest."""

import copy
import difflib
from itertools import pairwise
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from blocknerf.core.effects import MLP_KEYS, refused, waiting
from blocknerf.core.errors import UserError, shown
from blocknerf.core.logging import log
from blocknerf.core.reading import Damaged, parse_yaml, read_json, read_yaml

Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
Count = Annotated[int, Field(ge=1)]
Width = Annotated[int, Field(ge=4, le=1024)]
Samples = Annotated[int, Field(ge=4, le=1024)]
Folder = Annotated[str, Field(min_length=1)]

DensityActivation = Literal["exp", "softplus", "relu"]
RgbActivation = Literal["sigmoid", "padded_sigmoid"]
FieldPart = Literal["encoder", "nerf_mlp", "decoder"]
Component = Literal["nerf", "appearance", "pose", "visibility"]


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, use_attribute_docstrings=True)

    @field_validator("*", mode="before")
    @classmethod
    def _truth_is_no_number(cls, value: Any, info: Any) -> Any:
        if isinstance(value, bool) and cls.model_fields[info.field_name].annotation is not bool:
            raise ValueError("true and false have no meaning here")
        return value


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
    num_workers: Annotated[int, Field(ge=1, le=256)] = 2
    """Threads that decode photographs when the image store is made."""
    batch_size: Count = 1024
    """Rays in one training step. More, smaller steps learn more in the same time than fewer, larger ones."""
    val_batch_size: Count | None = None
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


class BlockManagerConfig(Section):
    """Where blocks stand and which images they are given."""

    placement: Literal["grid", "drives", "junctions"] = "grid"
    """Blocks on a square `grid`; along the `drives`, one after the other; or (Block-NeRF) at `junctions`, where drives
    cross, with further blocks on long streets. Drives without any junction have their blocks along them."""
    block_size: Positive = 50.0
    """In metres: edge of a grid cell; spacing along the drives; or the longest arm of a block at a junction, so that
    streets up to twice as long have no further block."""
    streets_file: Annotated[str, Field(min_length=1)] | None = None
    """Junctions and streets from a map in place of the drives: a file of OpenStreetMap (.osm), of Overpass' JSON, or
    GeoJSON with lines. The scene must say where on Earth it lies (`geo_origin`)."""
    overlap_ratio: Annotated[float, Field(ge=0, le=1)] = 0.25
    """How far a block reaches into its neighbours, as a share of `block_size`. 0.25 is the paper's: a block covers
    three quarters of the way to its neighbour, and both cover the middle half of it."""
    min_images_per_block: Count = 10
    """Blocks with fewer training images merge into a neighbour."""
    max_blocks: Count = 100
    """More blocks than this are an error; 1 makes the whole scene one block."""
    distance_threshold: Positive | None = None
    """Blocks farther from the camera than this (metres) are left out, except the nearest; none: 1.5 block sizes."""
    divide_by: Literal["camera", "surface"] = "camera"
    """How blocks share the work. `camera` (Block-NeRF): a block learns whole pictures taken in and around its cells,
    and pictures are blended by the camera's distance. `surface` (from the air): a block learns those pixels of any
    picture that show its cells, and every pixel is blended by the distance of what it shows."""
    visibility_threshold: Annotated[float, Field(ge=0, lt=1)] = 0.25
    """Blocks whose mean visibility in a picture is below this are left out (fading in up to twice this); 0: none."""
    blending: Literal["visibility", "distance", "nearest"] = "visibility"
    """How pictures of blocks become one where `divide_by` is `camera`. `distance` (Block-NeRF): by the camera's inverse
    distance to blocks; `visibility`: that, softened, and pixel by pixel by how well each block knows what it shows
    there; `nearest`: the nearest block alone."""
    blend_power: NotNegative = 4.0
    """p of the inverse-distance weights d^-p (Block-NeRF, section 4.3: 4 in Alamo Square, 1 in Mission Bay)."""
    max_composited: Annotated[int, Field(ge=1, le=8)] = 3
    """At most this many blocks make one picture, but all that are equally near within 10 % (see city/selection.py)."""

    @model_validator(mode="after")
    def _junctions_share_pictures(self) -> "BlockManagerConfig":
        if self.placement == "junctions" and self.divide_by == "surface":
            raise ValueError(
                "blocks at junctions are given whole pictures by where the camera stands on the street; with divide_by "
                "surface, give placement grid"
            )
        if self.placement != "junctions" and self.streets_file is not None:
            raise ValueError(f"streets_file would change nothing with placement {self.placement}; give junctions")
        return self


class HashGridConfig(Section):
    """The multiresolution hash grid of the `hash` backbone (Mueller et al. 2022)."""

    num_levels: Annotated[int, Field(ge=1, le=24)] = 8
    """Grids of rising resolution, each with a table of its own."""
    log2_table_rows: Annotated[int, Field(ge=8, le=24)] = 17
    """A table has two to this power rows."""
    base_resolution: Annotated[int, Field(ge=2)] = 16
    """Cells across the contracted cube on the coarsest level."""
    finest_resolution: Annotated[int, Field(ge=4)] = 2048
    """Cells across the contracted cube, whose inner half is the block."""


class FieldConfig(Section):
    """The radiance field of one block, and how many samples a ray takes in it.

    Where `backbone` is `mlp`, keys that are not given have the defaults of MLP_DEFAULTS. Where it is not given, but one
    of MLP_KEYS is, it is `mlp`.
    """

    backbone: Literal["hash", "mlp"] = "hash"
    """`hash`: a hash grid with small networks, learned in minutes. `mlp`: the paper's mip-NeRF, 20 to 400 times
    slower on a processor, by its width."""
    white_background: bool = False
    """The same as dataset.white_background: white where either says so."""
    hidden_dim: Annotated[int, Field(ge=8, le=1024)] = 64
    """Width of the networks; the colour head of `mlp` is 3 x 128 whatever this is."""
    num_layers: Annotated[int, Field(ge=2, le=32)] = 8
    """mlp: layers before density."""
    skip_connections: tuple[Annotated[int, Field(ge=0)], ...] = (4,)
    """mlp: layers, counted from 0, after which the encoded position joins again."""
    pos_encoding_levels: Annotated[int, Field(ge=1, le=16)] = 10
    """mlp: octaves of the encoding of positions, from a period of 2 pi block radii down."""
    use_integrated_pos_enc: bool = True
    """mlp: encodes the piece of a pixel's cone that a sample stands for; false: only its middle."""
    dir_encoding_levels: Annotated[int, Field(ge=1, le=4)] = 4
    """hash: spherical harmonics of the viewing direction up to this degree (exclusive); mlp: octaves."""
    num_samples_coarse: Samples = 64
    """First samples along a ray: of the proposal grid (hash), or of the network itself (mlp)."""
    num_samples_fine: Samples = 12
    """Samples of the field along a ray, placed where the first ones saw matter."""
    use_hierarchical_sampling: bool = True
    """mlp: false takes the first samples only."""
    perturb_samples: bool = True
    """Samples are drawn at random within their strata while training; else they lie in the middle."""
    density_activation: DensityActivation = "exp"
    """How density is made positive."""
    rgb_activation: RgbActivation = "sigmoid"
    """`padded_sigmoid` (mip-NeRF) reaches a little beyond black and white."""
    proposal_resolution: Annotated[int, Field(ge=8, le=512)] = 128
    """Cells across the contracted cube of the proposal's density grid."""
    near_m: Positive | None = None
    """Rays begin here; none: a hundredth of the block's radius."""
    far_m: Positive | None = None
    """Rays end here; none: a hundred times the block's radius."""
    hash_grid: HashGridConfig = HashGridConfig()

    @model_validator(mode="after")
    def _near_is_before_far(self) -> "FieldConfig":
        if self.near_m is not None and self.far_m is not None and self.near_m >= self.far_m:
            raise ValueError(f"near_m {self.near_m:g} must be less than far_m {self.far_m:g}")
        return self

    @property
    def worker(self) -> Literal["numba", "torch"]:
        """Which of the two does most of a block's arithmetic, and is to have the cores."""
        return "torch" if self.backbone == "mlp" else "numba"

    @model_validator(mode="after")
    def _skips_join_a_layer(self) -> "FieldConfig":
        late = [layer for layer in self.skip_connections if layer > self.num_layers - 2]
        if late:
            raise ValueError(
                f"skip_connections {late} lead nowhere: with num_layers {self.num_layers} a layer follows on layers "
                f"0 to {self.num_layers - 2}"
            )
        return self

    @model_validator(mode="after")
    def _hash_is_hierarchical(self) -> "FieldConfig":
        if self.backbone == "hash" and not self.use_hierarchical_sampling:
            raise ValueError("use_hierarchical_sampling can be false with backbone mlp only")
        return self


class AppearanceConfig(Section):
    """Codes of images: what of a picture's look is neither geometry nor exposure."""

    embedding_dim: Annotated[int, Field(ge=1, le=256)] = 32
    """Numbers in the code of an image (32 in the paper)."""
    num_images: Count = 256
    """Rows that a block's table begins with, so that images can join it without a new table; never a limit."""
    use_global_appearance: bool = True
    """Codes begin at one of their drive, drawn once and the same in every block; else at zero."""
    use_block_appearance: bool = True
    """Each block learns by how much the code of an image differs from where it begins."""

    @model_validator(mode="after")
    def _codes_come_from_somewhere(self) -> "AppearanceConfig":
        if not (self.use_global_appearance or self.use_block_appearance):
            raise ValueError(
                "use_global_appearance and use_block_appearance are both false, which leaves no codes; to have none, "
                "set training.use_appearance_embedding to false"
            )
        return self


class ExposureConfig(Section):
    """The encoding of a photograph's exposure (Block-NeRF, section 4.2.1)."""

    num_levels: Annotated[int, Field(ge=1, le=10)] = 4
    """Sinusoids of value / 1000 at this many octaves; the mean exposure of a scene has the value 250."""


PoseMode = Literal["drive", "segment", "image", "features"]
FEATURE_KEYS = {"feature_extractor", "feature_weights", "hidden_dim"}
"""Keys of pose_refinement that mean something to `mode: features` alone."""


class PoseRefinementConfig(Section):
    """How far, and how, the poses of a block's images may move while it learns (Block-NeRF, section 4.2.2)."""

    mode: PoseMode = "drive"
    """One rigid offset for each drive, for each segment of a drive between two gaps, for each image, or for each image
    from what it shows. A block with one drive alone goes by segment, and one with one segment alone by image. It is
    features where it is not given, and feature_extractor, feature_weights or hidden_dim is."""
    max_translation: Positive = 1.0
    """An offset stays below this many metres."""
    max_rotation: Annotated[float, Field(gt=0, le=1.5)] = 0.1
    """An offset turns by less than this many radians."""
    regularization_start: NotNegative = 10.0
    """Weight of the squared offsets, each as a share of its bound, while the first geometry is learned."""
    regularization_end: NotNegative = 1e-5
    """Weight of the squared offsets when it has fallen."""
    regularization_share: Annotated[float, Field(ge=0, le=1)] = 0.1
    """Share of the run over which that weight falls from start to end."""
    regularization_decay: Literal["exponential", "linear"] = "exponential"
    """How it falls: by equal factors, or by equal steps (the paper's), which hold it high for longer."""
    coarse_to_fine_share: Annotated[float, Field(ge=0, le=1)] = 0.2
    """Share of the run, or of the time since a field's restart, over which levels (hash) or octaves (mlp) are let in,
    coarsest first; 0: all from the start."""
    field_restarts: Annotated[int, Field(ge=0, le=100)] = 0
    """How often the field begins anew in the first third of the run, with the poses learned so far. A field that
    has learned from wrong poses holds them in place; without it they go on to the right ones. For parts of a drive
    that follow one another and are off by more than a few pixels."""
    feature_extractor: Literal["resnet18"] = "resnet18"
    """What `mode: features` sees of an image."""
    feature_weights: str | None = None
    """A safetensors file of the extractor's weights; none: random ones."""
    hidden_dim: Annotated[int, Field(ge=8, le=4096)] = 256
    """Width of the network from an image's features to its offset."""

    @model_validator(mode="before")
    @classmethod
    def _features_are_meant_where_they_are_described(cls, tree: Any) -> Any:
        """As in the documents, whose section has no `mode`."""
        if isinstance(tree, dict) and "mode" not in tree and FEATURE_KEYS & set(tree):
            return {"mode": "features"} | tree
        return tree


class VisibilityConfig(Section):
    """The network that says what a block sees (see models/visibility.py)."""

    hidden_dims: Annotated[tuple[Width, ...], Field(min_length=1, max_length=12)] = (64, 64)
    """Widths of its layers; the paper's are four of 128."""
    use_camera_features: bool = True
    """It is told how far the camera stands, which direction and place alone (the paper's inputs) do not say."""
    use_block_features: bool = True
    """It is told what the block's training rays met between the camera and the place."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of hidden units that is silent in a training step."""
    loss: Literal["cross_entropy", "squared"] = "cross_entropy"
    """Of the transmittance. Both are least at its mean; `squared` (the paper's) hardly moves what is wrong and sure."""
    use_random_pairs: bool = True
    """It learns of places, and of views of places, that no training ray has; false (the paper): of training rays."""


class StageConfig(Section):
    """One of the stages that a block learns in."""

    name: Annotated[str, Field(min_length=1)]
    """What logs and plots call the stage."""
    epochs: Positive
    """Passes over the training pixels as large as this stage sees them."""
    resolution: Count | None = None
    """Images have at most this many pixels on their longer side; smaller ones, and with none all of them, stay as
    dataset.image_downsample leaves them."""
    num_samples: Samples | None = None
    """Samples of the field along a ray; none: those of block_nerf."""
    components: Annotated[tuple[Component, ...], Field(min_length=1)] = ("nerf", "appearance", "pose", "visibility")
    """What learns; all else stays bit for bit as it is."""


class StageTraining(Section):
    """Training in stages, from coarse to fine."""

    enable: bool = False
    """Trains in stages, in place of one run of training.num_epochs."""
    stages: tuple[StageConfig, ...] = ()
    """In the order in which they are trained."""

    @property
    def resolutions(self) -> tuple[int | None, ...]:
        """Different ones that a run trains at."""
        return tuple(dict.fromkeys(stage.resolution for stage in self.stages)) if self.enable else (None,)

    @model_validator(mode="after")
    def _there_is_a_stage(self) -> "StageTraining":
        if self.enable and not self.stages:
            raise ValueError("enable is true, but stages is empty; give at least one stage, or set enable to false")
        return self


class TrainingConfig(Section):
    num_epochs: Positive = 5
    """Passes over a block's training pixels."""
    max_steps: Count | None = None
    """Steps of a block; ends it when it comes before num_epochs."""
    max_minutes: Positive | None = None
    """Training time of a block by the clock, evaluation not counted; ends the block when it comes before num_epochs.
    Where N blocks are trained at once and share the cores, each may take N times as long."""
    seed: Annotated[int, Field(ge=0)] = 42
    """Everything random follows from it: the same seed gives the same bytes on the same machine."""
    nerf_lr: Positive = 2e-2
    """Learning rate of the field: tables and networks."""
    appearance_lr: Positive = 1e-3
    """Lower than nerf_lr: codes that learn as fast as colours explain what every image shows instead of its light."""
    pose_lr: Positive = 6e-3
    """Of offsets as shares of their bounds."""
    visibility_lr: Positive = 2e-3
    """Learning rate of the visibility network."""
    lr_warmup_steps: Annotated[int, Field(ge=0)] = 100
    """Steps in which the rate of the field rises from nothing."""
    lr_final_ratio: Annotated[float, Field(gt=0, le=1)] = 0.05
    """The rates fall exponentially to this share of their start over the run, where lr_decay_steps is empty."""
    lr_decay_steps: tuple[Positive, ...] = ()
    """Milestones, in epochs; a run that max_steps or max_minutes ends sooner reaches them sooner, by the same share.
    With any, pose_lr falls by lr_decay_rate at each of them, and the other rates smoothly by as much over the run:
    exponentially, appearance_lr along a cosine."""
    lr_decay_rate: Annotated[float, Field(gt=0, le=1)] = 0.1
    """By how much each of lr_decay_steps multiplies the rates."""
    nerf_lr_decay: Annotated[float, Field(gt=0, le=1)] | None = None
    """By how much every epoch multiplies nerf_lr; none: as lr_final_ratio or lr_decay_steps say."""
    appearance_cosine_cycles: Positive | None = None
    """Epochs in which appearance_lr falls to appearance_min_lr along half a cosine, and rises again after. None: the
    whole run, where appearance_min_lr is given, else as lr_final_ratio or lr_decay_steps say."""
    appearance_min_lr: Positive | None = None
    """The lowest appearance_lr on that cosine; none: nearly nothing."""
    pose_milestones: tuple[Positive, ...] = ()
    """Epochs at each of which pose_lr_decay multiplies pose_lr; none: as lr_final_ratio or lr_decay_steps say."""
    pose_lr_decay: Annotated[float, Field(gt=0, le=1)] = 0.1
    """By how much each of pose_milestones multiplies pose_lr."""
    weight_decay: NotNegative = 1e-6
    """Pulls the networks' weights (not the tables) towards zero."""
    gradient_clip_norm: Positive = 10.0
    """The gradients of the networks, of codes, of poses and of the visibility network are each shortened to this length
    where they are longer. Tables have no bound: Adam's steps there do not depend on it."""
    rgb_loss_weight: NotNegative = 1.0
    """Of the difference in colour."""
    rgb_l1_share: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Share of the absolute error in the rgb term. What the two shares leave is the squared error, that of PSNR."""
    rgb_ssim_share: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Share of 1 - SSIM, on patches, in the rgb term."""
    depth_loss_weight: NotNegative = 0.1
    """Distance against depth maps, where dataset.use_depth reads any."""
    consistency_loss_weight: NotNegative = 0.0
    """Colour and distance against a neighbouring block's, on rays that both render. Neighbours are then trained one
    after the other, or at the same time with --side-by-side. 0.05 is enough; the documents' 0.5 costs sharpness."""
    regularization_weight: NotNegative = 0.0
    """Sum of squared weights of the networks, density without ripples, codes near zero; the documents' is 1e-6."""
    interlevel_loss_weight: NotNegative = 1.0
    """hash: the proposal grid learns where the field has found matter."""
    coarse_loss_weight: NotNegative = 0.1
    """mlp: the colour of the first samples alone, beside that of the fine ones (mip-NeRF)."""
    distortion_loss_weight: NotNegative = 3e-4
    """Of the term that keeps a ray's weights together (Barron et al. 2022, equation 15)."""
    appearance_loss_weight: NotNegative = 1e-4
    """Pulls codes towards their drive's global one, or without those to zero, so that their mean stays meaningful."""
    visibility_loss_weight: NotNegative = 1e-6
    """The paper's. Adam does not mind how small a gradient is, and this one reaches the visibility network alone."""
    use_appearance_embedding: bool = True
    """Colour is told a learned code of each photograph: its hour, weather and white balance."""
    use_exposure_encoding: bool = True
    """Colour is told each photograph's exposure, where the scene knows it; `--exposure` then moves it."""
    use_pose_refinement: bool = False
    """Poses are learned as well, within the bounds of pose_refinement."""
    use_visibility_network: bool = True
    """Each block learns what it has seen; selection and blending ask it."""
    use_mixed_precision: bool = False
    """Networks multiply in half precision: float16 with a scaled loss on CUDA; bfloat16 on a processor that has it,
    which the kernels of the hash backbone have no use for."""
    use_gradient_checkpointing: bool = False
    """Activations are computed again in backward instead of kept: a part of the memory, and more time."""
    memory_limit_gb: Positive | None = None
    """A step is taken in parts small enough that the process stays below this, if it can; none: in one part. Their
    gradients are added up, so that a step is always of batch_size rays. Where distributed.device_map puts networks on
    CUDA devices, it is the memory of those."""
    ram_budget_gb: Positive | None = None
    """How much of a block's decoded pixels are in memory at a time; where there are more, training draws from a part of
    them that changes all the time. None: files are mapped, and the system decides. Not with dataset.num_rays_per_image.
    """
    checkpoint_minutes: Positive = 2.0
    """A block in training is saved this often; Ctrl-C saves as well."""
    stage_training: StageTraining = StageTraining()

    @property
    def components(self) -> tuple[Component, ...]:
        """What is not switched off."""
        switched_on = {
            "nerf": True,
            "appearance": self.use_appearance_embedding,
            "pose": self.use_pose_refinement,
            "visibility": self.use_visibility_network,
        }
        return tuple(component for component in get_args(Component) if switched_on[component])

    @property
    def learned_components(self) -> tuple[Component, ...]:
        """Of `components`, those that learn in some stage."""
        stages = self.stage_training.stages if self.stage_training.enable else ()
        named = {component for stage in stages for component in stage.components}
        return tuple(component for component in self.components if component in named or not stages)

    @field_validator("lr_decay_steps", "pose_milestones", mode="before")
    @classmethod
    def _milestones_are_a_list(cls, value: Any) -> Any:
        if not isinstance(value, list | tuple):
            raise ValueError("a list of epochs is wanted, as in [100, 150]")
        return value

    @model_validator(mode="after")
    def _milestones_are_reached(self) -> "TrainingConfig":
        for name in ("lr_decay_steps", "pose_milestones"):
            milestones = getattr(self, name)
            if any(later <= earlier for earlier, later in pairwise(milestones)):
                raise ValueError(f"{name} {[*milestones]} must rise from one to the next")
            if milestones and milestones[-1] >= self.num_epochs:
                raise ValueError(
                    f"{name} has epoch {milestones[-1]:g}, which a run of num_epochs {self.num_epochs:g} never passes"
                )
        return self

    @model_validator(mode="after")
    def _rates_fall(self) -> "TrainingConfig":
        if self.appearance_min_lr is not None and self.appearance_min_lr > self.appearance_lr:
            raise ValueError(
                f"appearance_min_lr {self.appearance_min_lr:g} is above appearance_lr {self.appearance_lr:g}, from "
                "which it is to be reached"
            )
        return self

    @model_validator(mode="after")
    def _stages_take_all_epochs(self) -> "TrainingConfig":
        staged = self.stage_training
        total = sum(stage.epochs for stage in staged.stages)
        if staged.enable and abs(total - self.num_epochs) > 1e-6 * total:
            parts = " + ".join(f"{stage.epochs:g}" for stage in staged.stages)
            raise ValueError(
                f"num_epochs is {self.num_epochs:g}, but the stages take {parts} = {total:g} epochs; let both agree, "
                "and end a run sooner by max_steps or max_minutes, which all stages share"
            )
        return self

    @model_validator(mode="after")
    def _shares_are_of_one_whole(self) -> "TrainingConfig":
        if self.rgb_l1_share + self.rgb_ssim_share > 1:
            raise ValueError(
                f"rgb_l1_share {self.rgb_l1_share:g} and rgb_ssim_share {self.rgb_ssim_share:g} are more than the "
                "whole of the rgb term; together they may be 1"
            )
        return self


class ValidationConfig(Section):
    val_freq: Positive = 1
    """Epochs between validations."""
    num_val_images: Annotated[int, Field(ge=0)] = 2
    """Test images rendered at each validation and at the end of a block, spread over its list; 0: none."""
    save_freq: Positive | None = None
    """Epochs between states of a block that are kept for good, each one to go on from; none: only the newest."""
    render_test_views: bool = False
    """Pictures of these test images at each validation: photograph, render and distance side by side."""
    render_novel_views: bool = False
    """Pictures from as many places halfway between training cameras at each validation: render and distance."""


class LoggingConfig(Section):
    log_freq: Count = 50
    """Steps between log entries."""
    image_log_freq: Count | None = None
    """Steps between pictures and histograms of gradients in TensorBoard; none: at validations only."""
    use_tensorboard: bool = True
    """Writes curves and pictures for TensorBoard, beside the plain file of figures."""
    tensorboard_dir: Folder = "tensorboard"
    """A relative folder is inside the output folder."""


class OutputConfig(Section):
    """Where files of a run lie; a relative folder is inside the output folder."""

    checkpoint_dir: Folder | None = None
    """What blocks go on from, their best and their kept states, a folder for each block; none: beside the block."""
    render_dir: Folder = "renders"
    """Pictures and videos."""
    log_dir: Folder = "logs"
    """Text."""


class CityConfig(Section):
    """How the blocks of a city are held when it is rendered."""

    memory_budget_gb: Positive = 2.0
    """Loaded blocks take at most this much; those used least recently leave. A picture needs up to three at once."""


class DistributedConfig(Section):
    """Several processes, several devices, and blocks that learn side by side."""

    backend: Literal["nccl", "gloo"] = "nccl"
    """How processes that train one block together (`--distributed`) talk; gloo stands in for nccl where there is no
    CUDA device."""
    find_unused_parameters: bool = True
    """Parameters that no ray of a process reached count as zero there; false: they are an error."""
    device_map: dict[FieldPart, str] = {}
    """On which devices parts of a block's field learn, as in {decoder: "cuda:1"}; a number N is cuda:N. Parts that are
    not named stay with the rays, on the processor: `encoder` of positions, `nerf_mlp` for density, `decoder` for
    colour. With `hash` the whole block, rays and codes included, goes where its encoder goes: {encoder: 0} trains it on
    cuda:0."""
    exchange_every: Count = 50
    """Steps for which a block keeps the renders of rays that it shares with its neighbours; then there are new ones."""

    @field_validator("device_map", mode="before")
    @classmethod
    def _numbers_are_cuda_devices(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        return {part: f"cuda:{device}" if type(device) is int else device for part, device in value.items()}


MLP_DEFAULTS = {
    "block_nerf": {"hidden_dim": 256, "num_samples_fine": 128, "density_activation": "softplus"},
    "training": {"nerf_lr": 5e-4, "rgb_l1_share": 0.1, "rgb_ssim_share": 0.1},
}
"""Defaults of keys that both backbones have and for which one number does not serve both."""


class Config(Section):
    """Everything a run is told. The same file trains, renders and evaluates."""

    dataset: DatasetConfig = DatasetConfig()
    block_manager: BlockManagerConfig = BlockManagerConfig()
    block_nerf: FieldConfig = FieldConfig()
    appearance_embedding: AppearanceConfig = AppearanceConfig()
    exposure_encoding: ExposureConfig = ExposureConfig()
    pose_refinement: PoseRefinementConfig = PoseRefinementConfig()
    visibility_network: VisibilityConfig = VisibilityConfig()
    training: TrainingConfig = TrainingConfig()
    validation: ValidationConfig = ValidationConfig()
    logging: LoggingConfig = LoggingConfig()
    output: OutputConfig = OutputConfig()
    city: CityConfig = CityConfig()
    distributed: DistributedConfig = DistributedConfig()

    @property
    def needs_patches(self) -> bool:
        """Whether a term of the loss is taken on neighbouring pixels."""
        settings = self.training
        compares_windows = settings.rgb_loss_weight > 0 and settings.rgb_ssim_share > 0
        return compares_windows or (self.dataset.use_depth and settings.depth_loss_weight > 0)

    @model_validator(mode="after")
    def _a_batch_has_room_for_a_patch(self) -> "Config":
        size, batch_size = self.dataset.patch_size, self.dataset.batch_size
        if self.needs_patches and size**2 > batch_size:
            raise ValueError(
                f"SSIM and depth are learned on patches of {size} x {size} pixels (dataset.patch_size), more than the "
                f"{batch_size} rays of a step (dataset.batch_size); make one smaller or the other larger, or set "
                "training.rgb_ssim_share to 0 and dataset.use_depth to false"
            )
        return self

    @model_validator(mode="after")
    def _a_batch_mixes_what_is_in_memory(self) -> "Config":
        if self.training.ram_budget_gb is not None and self.dataset.num_rays_per_image is not None:
            raise ValueError(
                "training.ram_budget_gb draws batches from all pixels in memory, and dataset.num_rays_per_image from a "
                "few images anywhere; give one of them"
            )
        return self

    @model_validator(mode="after")
    def _something_is_learned(self) -> "Config":
        settings, field = self.training, self.block_nerf
        coarse = field.backbone == "mlp" and field.use_hierarchical_sampling and settings.coarse_loss_weight > 0
        depth = self.dataset.use_depth and settings.depth_loss_weight > 0
        if not (settings.rgb_loss_weight > 0 or coarse or depth):
            raise ValueError(
                "the weights of all terms that compare a block with its photographs are zero; give "
                "training.rgb_loss_weight (usually 1) or, with dataset.use_depth, training.depth_loss_weight"
            )
        return self

    @property
    def white_background(self) -> bool:
        """Whether rays that leave the scene end in white."""
        return self.dataset.white_background or self.block_nerf.white_background or self.dataset.alpha == "white"

    @model_validator(mode="after")
    def _rays_end_in_what_pictures_end_in(self) -> "Config":
        if self.white_background and self.dataset.alpha == "black":
            raise ValueError("dataset.alpha black lays pictures on black, and with white_background rays end in white")
        return self

    @model_validator(mode="before")
    @classmethod
    def _defaults_of_the_backbone(cls, tree: Any) -> Any:
        field = tree.get("block_nerf") if isinstance(tree, dict) else None
        if not isinstance(field, dict):
            return tree
        if "backbone" not in field and any(key in field for key in MLP_KEYS):
            field = {"backbone": "mlp"} | field
            tree = tree | {"block_nerf": field}
        if field.get("backbone") != "mlp":
            return tree
        sections = {name: tree.get(name, {}) for name in MLP_DEFAULTS}
        given = {name: section for name, section in sections.items() if isinstance(section, dict)}
        return tree | {name: MLP_DEFAULTS[name] | section for name, section in given.items()}


def load_config(path: Path | None, overrides: list[str] | tuple[str, ...] = (), stored: bool = False) -> Config:
    """Reads a YAML or JSON file (none: the defaults) and applies `section.key=value` overrides.

    Raises UserError that names the file, the key and its nearest known neighbour, also for a key that would change
    nothing beside another (see core/effects.py); of what a run has `stored` that is asked of the overrides alone.
    """
    tree: Any = {}
    origin = "the command line"
    if path is not None:
        origin = str(path)
        tree = read_json(path, "configuration") if path.suffix == ".json" else read_yaml(path, "configuration")
        tree = {} if tree is None else tree
        if not isinstance(tree, dict):
            raise UserError(f"{path} holds a {type(tree).__name__}; a configuration is a mapping of sections.")
    given: dict[str, Any] = {} if stored else copy.deepcopy(tree)
    for override in overrides:
        _apply_override(tree, override)
        _apply_override(given, override)
    return validated(tree, origin, given)


def validated(tree: dict[str, Any], origin: str, given: dict[str, Any] | None = None) -> Config:
    """The configuration of a tree of sections; raises UserError that names the `origin` and what is wrong.

    `given`: what a person has said of it, which must have an effect; none: all of it.
    """
    try:
        config = Config.model_validate(tree)
    except ValidationError as error:
        raise UserError(_explain(error, origin)) from error
    default = Config.model_validate({"block_nerf": {"backbone": config.block_nerf.backbone}})
    told = tree if given is None else given
    if silent := refused(config, default, told):
        raise UserError(f"The configuration from {origin} cannot be used: {'; '.join(silent)}.")
    for sentence in waiting(config, default, told):
        log.info(sentence)
    return config


def config_to_json(config: Config) -> dict[str, Any]:
    return config.model_dump(mode="json")


def _apply_override(tree: dict, override: str) -> None:
    dotted, equals, text = override.partition("=")
    if not equals or not dotted.strip():
        raise UserError(f"{override!r} is no override; write section.key=value, as in training.max_minutes=5.")
    try:
        value = parse_yaml(text) if text else None
    except Damaged as error:
        raise UserError(f"The value in {shown(override)} cannot be read: {error}.") from error
    *sections, key = dotted.strip().replace("-", "_").split(".")
    for section in sections:
        tree = tree.setdefault(section, {})
        if not isinstance(tree, dict):
            raise UserError(f"{override!r}: {section!r} is a value, not a section.")
    tree[key] = value


def _explain(error: ValidationError, origin: str) -> str:
    lines = []
    for problem in error.errors():
        where = ".".join(str(part) for part in problem["loc"])
        if problem["type"] == "extra_forbidden":
            lines.append(f"unknown key {where!r}" + _nearest(problem["loc"]))
        else:
            arrived = "" if isinstance(problem["input"], dict) else f", not {problem['input']!r}"
            own = problem.get("ctx", {}).get("error")
            said = f"{own}" if own else problem["msg"].lower()
            lines.append(f"{where}: {said}{arrived}" if where else f"{said}{arrived}")
    return f"The configuration from {origin} cannot be used: " + "; ".join(lines) + "."


def _nearest(location: tuple[int | str, ...]) -> str:
    known = known_keys(Config)
    section, name = ".".join(str(part) for part in location[:-1]), str(location[-1])
    in_section = [key for key in known if key.rpartition(".")[0] == section]
    elsewhere = {key.rpartition(".")[2]: key for key in known}
    here = {key.rpartition(".")[2]: key for key in in_section}
    for names, cutoff in ((elsewhere, 1.0), (here, 0.6), (elsewhere, 0.6)):
        match = difflib.get_close_matches(name, names, 1, cutoff)
        if match:
            return f" (did you mean {names[match[0]]!r}?)"
    return f" (allowed there: {', '.join(sorted(key.rpartition('.')[2] for key in in_section))})"


def known_keys(section: type[BaseModel], prefix: str = "") -> list[str]:
    """Every key of a section and of those within it, as section.key; the sections themselves are among them."""
    keys = []
    for name, field in section.model_fields.items():
        keys.append(prefix + name)
        inner = field.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            keys += known_keys(inner, f"{prefix}{name}.")
    return keys
