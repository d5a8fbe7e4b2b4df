"""One block of a run: what it is made from, and its training from wherever it stands to its end."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from blocknerf.blocks.output import PLAN_FILES
from blocknerf.blocks.plan import BlockSpec, Plan, planned_split
from blocknerf.blocks.surface import tiles_of_block
from blocknerf.city.manifest import block_folder, checkpoint_folder
from blocknerf.core.config.config import Config
from blocknerf.core.logging import log
from blocknerf.core.shared_folder import SharedFolder
from blocknerf.core.types import Exposures
from blocknerf.models.block_file import is_finished, read_block
from blocknerf.models.block_meta import ModelMeta
from blocknerf.models.block_nerf import BlockNeRF, load_block
from blocknerf.runtime.devices import CPU
from blocknerf.runtime.process_group import ALONE, ProcessGroup
from blocknerf.scene.background import say_other_ground
from blocknerf.scene.exposures import scene_exposures
from blocknerf.scene.sampler import PixelSampler
from blocknerf.scene.scene import Scene
from blocknerf.scene.stage_levels import stage_level
from blocknerf.scene.store import ImageStore
from blocknerf.training.checkpoint import CheckpointProvenance, read_checkpoint_meta
from blocknerf.training.field_restarts import FieldRestarts
from blocknerf.training.neighbours import LearnedNeighbours, SharedBorders, borders_of, usable_images
from blocknerf.training.trainer import BlockNeRFTrainer, BlockResult, Progress
from blocknerf.training.update import grown_block
from blocknerf.training.warmup import warmup
from blocknerf.training.waves import wave_of_each


@dataclass(frozen=True, slots=True)
class Run:
    """Everything a worker needs besides the block."""

    config: Config
    scene: Scene
    plan: Plan
    output_dir: Path
    update: bool = False
    """Blocks go on from their weights of before, with whatever images were added to them."""

    scene_url: str | None = None
    """What `scene.root` is a copy of; none: of nothing."""
    output_url: str | None = None
    """What `output_dir` is a copy of; none: of nothing."""
    store_dir: Path | None = None
    """Of decoded pixels; none: in the output folder."""
    at_once: int = 1
    """Blocks that share this machine: each may take so many times training.max_minutes."""
    devices: tuple[str, ...] = (CPU,)
    """Where blocks learn, one after the other on each; a block alone learns on the first."""
    exposures: Exposures | None = None
    """Those of the whole scene, where `scene` is a part of it; none: as `scene` tells."""

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


def train_one(
    run: Run,
    block: BlockSpec,
    store: ImageStore,
    should_stop: Callable[[], bool],
    report: Callable[[Progress], None],
    group: ProcessGroup = ALONE,
) -> BlockResult:
    """Trains one block from its checkpoint, where it has one, to its end; KeyboardInterrupt when it `should_stop`."""
    trainer = make_trainer(run, block, store, report, group, learned_neighbours(run, block, store))
    warmup(PixelSampler(store, trainer.image_ids, batch_size=8, seed=0), run.config)
    if trainer.resume():
        log.info("Block %s goes on at step %d.", block.id, trainer.step)
    log.info("Training block %s on %d images.", block.id, len(trainer.image_ids))
    result = said(trainer.train(should_stop))
    run.push_block(block.id)
    return result


def make_trainer(
    run: Run,
    block: BlockSpec,
    store: ImageStore,
    report: Callable[[Progress], None],
    group: ProcessGroup = ALONE,
    shown: SharedBorders | None = None,
) -> BlockNeRFTrainer:
    """Of a block as it begins: from nothing or, in an update, from what it has learned."""
    config, plan = run.config, run.plan
    tensorboard_dir = run.tensorboard_folder(block.id)
    folder = run.block_folder(block.id)
    learned = grown_block(folder, block, store) if run.update else None
    begun = _begun_with(run, block, store) if learned is None else learned.description()
    tiles = None
    if run.config.block_manager.divide_by == "surface":
        tiles = tiles_of_block(run.scene, run.plan, block, run.config.block_manager.block_size / 2)
    trainer = BlockNeRFTrainer(
        *(config, block, store, plan.scene_hash, folder),
        tensorboard_dir=tensorboard_dir if config.logging.use_tensorboard and group.is_first else None,
        report=report,
        exposures=_exposures(run, begun),
        pose_groups=None if begun is None else begun.known_pose_groups,
        tiles=tiles,
        checkpoint_dir=run.checkpoint_folder(block.id),
        render_dir=run.render_folder(block.id),
        earlier_scene_hashes=plan.earlier_scene_hashes,
        shown=shown,
        group=group,
        saved=lambda: run.push_block(block.id),
        device=run.devices[0],
    )
    trainer.budget_s *= run.at_once
    if learned is not None:
        trainer.model.load_state_dict(learned.state_dict(), strict=True)
        trainer.restarts = FieldRestarts(0)  # what was learned stays
    return trainer


def learned_neighbours(run: Run, block: BlockSpec, store: ImageStore) -> LearnedNeighbours | None:
    """The neighbours of an earlier wave, with which the block is to agree; None where there is nothing to compare.

    Raises UserError where what one of them has learned is damaged.
    """
    wave = wave_of_each(run.plan)
    earlier = [run.plan.block(name) for name in block.neighbours if wave[name] < wave[block.id]]
    if run.config.training.consistency_loss_weight == 0 or not earlier:
        return None
    run.pull(*(run.block_folder(neighbour.id) for neighbour in earlier))
    finished = [neighbour for neighbour in earlier if is_finished(run.block_folder(neighbour.id))]
    missing = [neighbour.id for neighbour in earlier if neighbour not in finished]
    if missing:
        log.warning(
            "Block %s does not learn to agree with block %s, which is not trained (training.consistency_loss_weight). "
            "Train that one first.",
            *(block.id, ", ".join(missing)),
        )
    borders = borders_of([block], finished, store)
    models = {border.neighbour_of(block).id: read_model(run, border.neighbour_of(block).id) for border in borders}
    if not models:
        return None
    log.info("Block %s learns to agree with block %s.", block.id, ", ".join(models))
    return LearnedNeighbours(run.config, block, models, borders, store)


def read_model(run: Run, block_id: str) -> BlockNeRF:
    """What a block has learned. Raises UserError where that is damaged."""
    return load_block(read_block(run.block_folder(block_id), "latest"))


def provenance_of(run: Run, block: BlockSpec, store: ImageStore) -> CheckpointProvenance:
    """What a state of this block must have been made from."""
    hashes = (run.plan.scene_hash, *run.plan.earlier_scene_hashes)
    return CheckpointProvenance(block.id, hashes, run.config, usable_images(block, store))


def said(result: BlockResult) -> BlockResult:
    psnr = "not validated" if result.val_psnr is None else f"validation PSNR {result.val_psnr:.2f} dB"
    log.info(
        "Block %s: %d steps in %.0f s, %.0f rays/s, %s.",
        result.block_id, result.steps, result.train_s, result.rays_per_s, psnr,
    )  # fmt: skip
    return result


def _begun_with(run: Run, block: BlockSpec, store: ImageStore) -> ModelMeta | None:
    """The description of the model in the block's checkpoint; None where it has none."""
    meta = read_checkpoint_meta(run.checkpoint_folder(block.id), provenance_of(run, block, store))
    return None if meta is None else meta.model


def _exposures(run: Run, begun: ModelMeta | None) -> Exposures | None:
    """Those that a block was begun with, where it was begun: 0 stops stay what they were when the scene grows."""
    if begun is not None:
        return begun.exposures
    return run.exposures or scene_exposures(planned_split(run.plan, run.scene)[0])


def open_store(run: Run, progress: bool) -> ImageStore:
    """The scene's decoded pixels; decodes them where that has not been done."""
    dataset = run.config.dataset
    folder = run.store_dir or run.output_dir / "store"
    store = ImageStore.open(run.scene, dataset.image_downsample, folder, progress, dataset.num_workers)
    for resolution in run.config.training.stage_training.resolutions:
        stage_level(store, resolution, progress, dataset.num_workers)
    if progress:
        say_other_ground(store, run.config.white_background)
    return store
