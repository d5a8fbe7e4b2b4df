"""`blocknerf COMMAND ...`: each command is a function with typed arguments in a file of its own."""

import signal
import sys
from collections.abc import Callable

import tyro
from rich.markup import escape

from blocknerf.cli.help import flowing, in_short
from blocknerf.core.errors import UserError
from blocknerf.core.logging import console, start_logging

ABOUT = """Radiance fields for scenes larger than one model: photographs in, a city out.

For example:
  $ blocknerf prepare photographs my_street
  $ blocknerf train --data-root my_street --output-dir out --config configs/street.yaml
  $ blocknerf view out

`blocknerf COMMAND --help` tells of each command, with examples."""


def main(arguments: list[str] | None = None) -> None:
    run(lambda: parse(sys.argv[1:] if arguments is None else arguments))


def parse(arguments: list[str]) -> None:
    """Does what is asked for. Help on the whole program has a line for each command, a command's own help has all."""
    told = in_short if arguments[:1] in (["-h"], ["--help"]) else flowing
    named = {name: told(command) for name, command in commands().items()}
    tyro.extras.subcommand_cli_from_dict(named, prog="blocknerf", args=arguments, description=ABOUT)


def commands() -> dict[str, Callable[..., None]]:
    """Every command by its name, in the order of help."""
    from blocknerf.cli.align import align
    from blocknerf.cli.completion import completion
    from blocknerf.cli.config import config
    from blocknerf.cli.evaluate import evaluate
    from blocknerf.cli.export import export
    from blocknerf.cli.inspect import inspect
    from blocknerf.cli.masks import masks
    from blocknerf.cli.merge import merge
    from blocknerf.cli.plan import plan
    from blocknerf.cli.prepare import prepare
    from blocknerf.cli.render import render
    from blocknerf.cli.synth import synth
    from blocknerf.cli.train import train
    from blocknerf.cli.view import view

    return {
        "synth": synth, "prepare": prepare, "masks": masks, "plan": plan, "train": train, "align": align,
        "render": render, "view": view, "evaluate": evaluate, "inspect": inspect, "export": export, "merge": merge,
        "config": config, "completion": completion,
    }  # fmt: skip


def run(command) -> None:
    """Runs a command; what a user can mend becomes one sentence and exit code 2, Ctrl-C and SIGTERM become 130."""
    start_logging()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        command()
    except UserError as error:
        console.print(f"[bold red]blocknerf:[/] {escape(str(error))}", highlight=False, soft_wrap=True)
        sys.exit(2)
    except OSError as error:
        name = error.filename or "a file"
        console.print(f"[bold red]blocknerf:[/] {escape(f'{name}: {error.strerror or error}')}.", soft_wrap=True)
        sys.exit(2)
    except KeyboardInterrupt:
        console.print("Stopped. Run the same command again to go on; `train` wants --resume with it.")
        sys.exit(130)
