"""What a budget chose for an output folder: OUT/budget.json. The chosen values themselves stand in config.json."""

from dataclasses import asdict, dataclass
from pathlib import Path

from blocknerf.core.config.backbone import BackboneConfig
from blocknerf.core.config.config import Config
from blocknerf.core.config.effects import value_of
from blocknerf.core.config.keys import free_keys, with_values
from blocknerf.core.config.load import load_config
from blocknerf.core.stored import Above0, Text, Whole, fitted, read_stored, write_stored

SIZE, BATCH, ROWS = "dataset.image_downsample", "dataset.batch_size", "block_nerf.hash_grid.log2_table_rows"
SAMPLES, MINUTES, EPOCHS = "block_nerf.num_samples_fine", "training.max_minutes", "training.num_epochs"
"""Keys that a budget chooses."""
FILE = "budget.json"
VERSION = 1
_WHAT, _REMEDY = "budget", "Remove it, and give --config or every key that the run was made with."


@dataclass(frozen=True, slots=True)
class StoredBudget:
    """Minutes that were given, what the machine was measured to do, and keys (section.key) whose values were chosen."""

    minutes: Above0
    rays_per_s_per_core: Above0
    cores: Whole
    chosen: tuple[Text, ...]


def read_budget(output_dir: Path) -> StoredBudget | None:
    """The folder's budget; None if it has none. Raises UserError if its file is damaged."""
    path = output_dir / FILE
    if not path.is_file():
        return None
    tree = read_stored(path, _WHAT, _REMEDY, VERSION)
    held = {key: value for key, value in tree.items() if key != "version"} if isinstance(tree, dict) else tree
    return fitted(StoredBudget, held, _WHAT, path, _REMEDY)


def write_budget(output_dir: Path, budget: StoredBudget) -> None:
    tree = asdict(budget) | {"chosen": sorted(budget.chosen)}
    write_stored(output_dir / FILE, {"version": VERSION, **tree})


def as_chosen(config: Config, budget: StoredBudget, output_dir: Path) -> Config:
    """`config` with the values that the folder's budget chose, of keys that were not given."""
    stored = load_config(output_dir / "config.json", stored=True)
    keys = free_keys(config) & set(budget.chosen) & _keys_with(stored.block_nerf)
    return with_values(config, {key: value_of(stored, key) for key in keys}) if keys else config


def _keys_with(field: BackboneConfig) -> frozenset[str]:
    """Keys that a budget may choose with this backbone."""
    return free_keys(Config.model_validate({"block_nerf": {"backbone": field.backbone}}))
