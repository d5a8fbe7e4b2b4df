"""Every command by its name: each is a function with typed arguments in a file of its own."""

from collections.abc import Callable
from importlib import import_module

ABOUT = """Radiance fields for scenes larger than one model: photographs in, a city out.

For example:
  $ blocknerf prepare photographs my_street
  $ blocknerf train --data-root my_street --output-dir out --minutes 30
  $ blocknerf view out

`blocknerf COMMAND --help` describes a command, with examples."""

COMMANDS = (
    "synth",
    "prepare",
    "masks",
    "plan",
    "train",
    "align",
    "render",
    "view",
    "evaluate",
    "inspect",
    "export",
    "merge",
    "config",
    "completion",
)
_WITHOUT_TORCH = ("config", "completion")
_HELP = ("-h", "--help")


def parse(arguments: list[str]) -> None:
    """Does what is asked for. Help on the whole program has a line for each command, a command's own help has all."""
    import tyro

    from blocknerf.cli.ending import require_room
    from blocknerf.cli.help import flowing, in_short
    from blocknerf.core.caches import settle_fonts

    is_small = not arguments or arguments[0] in _WITHOUT_TORCH or any(word in _HELP for word in arguments)
    require_room(is_small)
    if not is_small:
        settle_fonts()
    shortened = in_short if arguments[:1] in (["-h"], ["--help"]) else flowing
    named = {name: shortened(command) for name, command in load_commands().items()}
    tyro.extras.subcommand_cli_from_dict(named, prog="blocknerf", args=arguments, description=ABOUT)


def load_commands() -> dict[str, Callable[..., None]]:
    """Every command by its name, in the order of help: the function of that name in the file of that name."""
    return {name: getattr(import_module(f"blocknerf.cli.{name}"), name) for name in COMMANDS}
