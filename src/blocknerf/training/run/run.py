"""A run: what is trained, from which inputs, and in which folders."""

from dataclasses import dataclass
from pathlib import Path

from blocknerf.blocks.output import PLAN_FILES
from blocknerf.blocks.plan import Plan
from blocknerf.city.manifest import block_folder, checkpoint_folder
from blocknerf.core.config.config import Config
from blocknerf.core.shared_folder import SharedFolder
from blocknerf.core.types import Exposures
from blocknerf.runtime.devices import CPU
from blocknerf.runtime.process_group import ProcessGroup
from blocknerf.scene.background import say_other_ground
from blocknerf.scene.scene import Scene
from blocknerf.scene.stage_levels import stage_level
from blocknerf.scene.store import ImageStore
from blocknerf.training.block.inputs import BlockFolders


@dataclass(frozen=True, slots=True)
class Run:
    """Everything a worker needs besides the block."""

    config: Config
    scene: Scene
    plan: Plan
    output_dir: Path
    update: bool = False
    """Whether blocks are trained further, with the images that were added to them since."""

    scene_url: str | None = None
    """The URL of which `scene.root` is a copy; None if it is no copy."""
    output_url: str | None = None
    """The URL of which `output_dir` is a copy; None if it is no copy."""
    store_dir: Path | None = None
    """Folder of decoded pixels; None: in the output folder."""
    at_once: int = 1
    """Number of blocks that share this machine. Each may take this many times training.max_minutes."""
    devices: tuple[str, ...] = (CPU,)
    """Devices on which blocks learn, one after the other on each. A single block learns on the first."""
    exposures: Exposures | None = None
    """Exposures of the whole scene, if `scene` is a part of it; None: those of `scene`."""

    @property
    def is_on_urls(self) -> bool:
        """Whether the scene or the output folder is on a URL."""
        return self.scene_url is not None or self.output_url is not None

    @property
    def photographs(self) -> SharedFolder:
        return SharedFolder(self.scene.root, self.scene_url)

    @property
    def output(self) -> SharedFolder:
        return SharedFolder(self.output_dir, self.output_url)

    def block_folder(self, block_id: str) -> Path:
        return block_folder(self.output_dir, block_id)

    def checkpoint_folder(self, block_id: str) -> Path:
        return checkpoint_folder(self.output_dir, block_id, self.config.output.checkpoint_dir)

    def log_file(self, block_id: str) -> Path:
        return self.output_dir / self.config.output.log_dir / f"{block_id}.log"

    def tensorboard_folder(self, block_id: str) -> Path:
        return self.output_dir / self.config.logging.tensorboard_dir / block_id

    def render_folder(self, block_id: str) -> Path:
        return self.output_dir / self.config.output.render_dir / block_id

    def folders(self, block_id: str) -> BlockFolders:
        """Folders to which the training of a block writes."""
        return BlockFolders(
            self.block_folder(block_id),
            checkpoints=self.checkpoint_folder(block_id),
            tensorboard=self.tensorboard_folder(block_id) if self.config.logging.use_tensorboard else None,
            renders=self.render_folder(block_id),
        )

    def pull(self, *paths: Path) -> None:
        """Copies files and folders from the output folder's URL to this machine, if it has one."""
        if self.output_url is not None:
            self.output.pull(*(self.output.relative(path) for path in paths))

    def push(self, *paths: Path) -> None:
        """Copies files and folders of the output folder to its URL, if it has one."""
        if self.output_url is not None:
            self.output.push(*(self.output.relative(path) for path in paths))

    def push_plan(self) -> None:
        """Copies the files about all blocks to the output folder's URL."""
        self.output.push(*PLAN_FILES, "city.json")

    def pull_block(self, block_id: str) -> None:
        """Copies all files of a block from the output folder's URL to this machine."""
        self.pull(*self._paths_of(block_id))

    def push_block(self, block_id: str) -> None:
        """Copies all files of a block to the output folder's URL, the checkpoint before the weights."""
        self.push(*self._paths_of(block_id))

    def _paths_of(self, block_id: str) -> list[Path]:
        paths = (
            self.checkpoint_folder(block_id),
            self.block_folder(block_id),
            self.tensorboard_folder(block_id),
            self.render_folder(block_id),
            self.log_file(block_id),
        )
        return list(dict.fromkeys(paths))


def open_store(run: Run, progress: bool) -> ImageStore:
    """The scene's decoded pixels. Decodes them if necessary, with a progress bar if `progress` is set."""
    dataset = run.config.dataset
    folder = run.store_dir or run.output_dir / "store"
    store = ImageStore.open(run.scene, dataset.image_downsample, folder, progress, dataset.num_workers)
    for resolution in run.config.training.stage_training.resolutions:
        stage_level(store, resolution, progress, dataset.num_workers)
    if progress:
        say_other_ground(store, run.config.white_background)
    return store


def open_store_in_turn(run: Run, group: ProcessGroup) -> ImageStore:
    """Like `open_store`, for all processes of a group: the first decodes, and the others wait for it."""
    if not group.is_first:
        group.wait()
    store = open_store(run, progress=group.is_first)
    if group.is_first:
        group.wait()
    return store
