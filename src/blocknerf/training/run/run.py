"""A run: what is trained, from what, and into which folders."""

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
    """Blocks learn on from what they have learned, with the images that were added to them since."""

    scene_url: str | None = None
    """What `scene.root` is a copy of; None: of nothing."""
    output_url: str | None = None
    """What `output_dir` is a copy of; None: of nothing."""
    store_dir: Path | None = None
    """Where decoded pixels lie; None: in the output folder."""
    at_once: int = 1
    """Blocks that share this machine: each may take so many times training.max_minutes."""
    devices: tuple[str, ...] = (CPU,)
    """Where blocks learn, one after the other on each; a block alone learns on the first."""
    exposures: Exposures | None = None
    """Those of the whole scene, where `scene` is a part of it; None: as `scene` tells."""

    @property
    def is_on_urls(self) -> bool:
        """Whether the scene or the output folder lies on a URL."""
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
        """Where the training of a block writes."""
        return BlockFolders(
            self.block_folder(block_id),
            checkpoints=self.checkpoint_folder(block_id),
            tensorboard=self.tensorboard_folder(block_id) if self.config.logging.use_tensorboard else None,
            renders=self.render_folder(block_id),
        )

    def pull(self, *paths: Path) -> None:
        """Brings files and folders of the output folder here from its URL, where it has one."""
        if self.output_url is not None:
            self.output.pull(*(self.output.relative(path) for path in paths))

    def push(self, *paths: Path) -> None:
        """Takes files and folders of the output folder to its URL, where it has one."""
        if self.output_url is not None:
            self.output.push(*(self.output.relative(path) for path in paths))

    def push_plan(self) -> None:
        """Takes what the output folder says of all blocks to its URL."""
        self.output.push(*PLAN_FILES, "city.json")

    def pull_block(self, block_id: str) -> None:
        """Brings all that was written of a block here from the output folder's URL."""
        self.pull(*self._paths_of(block_id))

    def push_block(self, block_id: str) -> None:
        """Takes all that was written of a block to the output folder's URL, checkpoint before weights."""
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
    """The scene's decoded pixels; decodes them where that has not been done. `progress`: with a progress bar."""
    dataset = run.config.dataset
    folder = run.store_dir or run.output_dir / "store"
    store = ImageStore.open(run.scene, dataset.image_downsample, folder, progress, dataset.num_workers)
    for resolution in run.config.training.stage_training.resolutions:
        stage_level(store, resolution, progress, dataset.num_workers)
    if progress:
        say_other_ground(store, run.config.white_background)
    return store


def open_store_in_turn(run: Run, group: ProcessGroup) -> ImageStore:
    """As `open_store`, for all processes of a group: the first decodes, and the others wait for it."""
    if not group.is_first:
        group.wait()
    store = open_store(run, progress=group.is_first)
    if group.is_first:
        group.wait()
    return store
