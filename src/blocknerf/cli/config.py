"""`blocknerf config`: what a run would be told, whether a file is right, and a schema for editors."""

import json
import sys
from pathlib import Path
from typing import Literal

import tyro
import yaml

from blocknerf.cli.overrides import Overrides
from blocknerf.cli.place import Place
from blocknerf.core.config.config import Config
from blocknerf.core.config.load import config_to_json, load_config
from blocknerf.core.errors import UserError
from blocknerf.core.logging import console, log
from blocknerf.core.shared_folder import SharedFolder


def config(
    action: tyro.conf.Positional[Literal["show", "check", "schema"]],
    overrides: Overrides = (),
    config: Path | None = None,
    plot: Path | None = None,
    data_root: Place | None = None,
) -> None:
    """Shows the configuration that a run would have, checks a file, or prints the JSON schema of such files.

    For example:
      # What a run would be told, and a drawing of its learning rates
      $ blocknerf config show --config configs/street.yaml training.max_minutes=5 --plot rates.png
      # Whether a file is right
      $ blocknerf config check --config configs/street.yaml
      # Whether it fits a scene as well
      $ blocknerf config check --config configs/street.yaml --data-root my_street
      # What an editor needs to help with such files
      $ blocknerf config schema > blocknerf.schema.json

    Args:
        action: `show` prints every key as YAML, `check` says what is wrong, `schema` prints JSON for editors.
        overrides: Single values, as section.key=value.
        config: YAML or JSON file; none: the defaults.
        plot: With `show`: a PNG of all learning rates over a run, with the borders of its stages.
        data_root: With `check`: folder or URL of a scene that the file is to train.
    """
    if plot is not None and action != "show":
        raise UserError(f"--plot draws what `config show` shows; `config {action}` draws nothing.")
    if data_root is not None and action != "check":
        raise UserError(f"--data-root is a scene for `config check`; `config {action}` looks at none.")
    if action == "schema":
        sys.stdout.write(json.dumps(Config.model_json_schema(), indent=2) + "\n")
        return
    settings = load_config(config, overrides)
    if action == "check":
        if data_root is not None:
            _check_scene(settings, data_root)
        console.print(f"{config or 'The configuration'} is fine.", soft_wrap=True)
        return
    sys.stdout.write(yaml.safe_dump(config_to_json(settings), sort_keys=False, default_flow_style=None, width=110))
    if plot is not None:
        from blocknerf.training.block.rates_plot import draw_rates

        draw_rates(plot, settings.training)
        log.info("The learning rates are drawn in %s.", plot)


def _check_scene(settings: Config, data_root: Place) -> None:
    """Raises UserError where the scene cannot be read as it is told; says what will be trained smaller than told."""
    from blocknerf.scene.readers.read import read_scene
    from blocknerf.training.block.stages import say_stages_above

    folder = SharedFolder.at(data_root)
    folder.pull()
    say_stages_above(settings, read_scene(folder.local, settings.dataset))
