"""`blocknerf completion`: the Tab key in a shell."""

import contextlib
import inspect
import sys
from collections.abc import Callable, Iterator
from typing import Any, Literal, get_args, get_origin

import tyro

from blocknerf.cli.commands import load_commands, parse
from blocknerf.cli.overrides import Overrides
from blocknerf.core.config.config import Config
from blocknerf.core.config.keys import known_keys

BASH = """
# tyro's function completes commands and flags. A flag is offered where its hyphen was typed; after a command come the
# words that it takes there and keys of the configuration; where nothing is offered, readline completes files.
_blocknerf() {
  local word current=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD-1]} words="" offered=() files
  local keys="%(keys)s"
  _tyro_blocknerf
  files=($(compgen -f -- "$current"))
  [[ $before == -* && "${COMPREPLY[*]}" == "${files[*]}" ]] && COMPREPLY=()
  for word in "${COMPREPLY[@]}"; do
    [[ -n $word && ($word != -* || $current == -*) ]] && offered+=("$word")
  done
  if [[ ${#offered[@]} == 0 && $before != [=-]* && $current != [=-]* ]]; then
    case ${COMP_WORDS[1]} in
%(cases)s
    esac
    offered=($(compgen -W "$words" -- "$current"))
    [[ ${offered[0]} == *= ]] && compopt -o nospace
  fi
  COMPREPLY=("${offered[@]}")
}
complete -o default -F _blocknerf blocknerf
"""


def completion(shell: tyro.conf.Positional[Literal["bash", "zsh", "fish"]]) -> None:
    """Prints a script with which the Tab key completes commands, flags and files; in bash also configuration keys.

    The script needs no other start of blocknerf, only Python; print it again after an update.

    For example:
      # bash
      $ blocknerf completion bash > ~/.local/share/bash-completion/completions/blocknerf
      # fish
      $ blocknerf completion fish > ~/.config/fish/completions/blocknerf.fish

    Args:
        shell: The shell that reads it. bash reads scripts of that folder itself, where its package bash-completion is
            installed; else, put `source FILE` into ~/.bashrc. zsh wants it as _blocknerf in a folder of its fpath.
    """
    with contextlib.suppress(SystemExit):  # with which tyro ends when it has printed
        parse(["--tyro-write-completion", shell, "-"])
    if shell == "bash":
        words = {name: " ".join(_words(command)) for name, command in load_commands().items()}
        cases = "\n".join(f'      {name}) words="{known}" ;;' for name, known in words.items() if known)
        sys.stdout.write(BASH % {"keys": " ".join(_keys()), "cases": cases})


def _words(command: Callable[..., Any]) -> Iterator[str]:
    """What a command takes without a flag, apart from files, as bash is to read it."""
    for parameter in inspect.signature(command).parameters.values():
        kind = parameter.annotation
        if kind == Overrides:
            yield "$keys"
        elif tyro.conf.Positional in getattr(kind, "__metadata__", ()) and get_origin(kind.__origin__) is Literal:
            yield from get_args(kind.__origin__)


def _keys() -> list[str]:
    keys = known_keys(Config)
    sections = {key.rpartition(".")[0] for key in keys}
    return [f"{key}=" for key in keys if key not in sections]
