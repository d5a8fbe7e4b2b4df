"""`blocknerf config`: what a run would be told, whether a file is right, and a schema for editors."""

import json
import sys
from pathlib import Path
from typing import Literal

import tyro
import yaml

from blocknerf.cli.overrides import Overrides
from blocknerf.core.config import Config, config_to_json, load_config
from blocknerf.core.errors import UserError
from blocknerf.core.logging import console, log


def config(
    action: tyro.conf.Positional[Literal["show", "check", "schema"]],
    overrides: Overrides = (),
    config: Path | None = None,
    plot: Path | None = None,
) -> None:
    """Shows the configuration that a run would have, checks a file, or prints the JSON schema of such files.

    For example:
      # What a run would be told, and a drawing of its learning rates
      $ blocknerf config show --config configs/street.yaml training.max_minutes=5 --plot rates.png
      # Whether a file is right
      $ blocknerf config check --config configs/street.yaml
      # What an editor needs to help with such files
      $ blocknerf config schema > blocknerf.schema.json

    Args:
        action: `show` prints every key as YAML, `check` says what is wrong, `schema` prints JSON for editors.
        overrides: Single values, as section.key=value.
        config: YAML or JSON file; none: the defaults.
        plot: With `show`: a PNG of all learning rates over a run, with the borders of its stages.
    """
    if plot is not None and action != "show":
        raise UserError(f"--plot draws what `config show` shows; `config {action}` draws nothing.")
    if action == "schema":
        sys.stdout.write(json.dumps(Config.model_json_schema(), indent=2) + "\n")
        return
    settings = load_config(config, overrides)
    if action == "check":
        console.print(f"{config or 'The configuration'} is fine.", soft_wrap=True)
        return
    sys.stdout.write(yaml.safe_dump(config_to_json(settings), sort_keys=False, default_flow_style=None, width=110))
    if plot is not None:
        from blocknerf.training.rates_plot import draw_rates

        draw_rates(plot, settings.training)
        log.info("The learning rates are drawn in %s.", plot)
