"""Which flags of `blocknerf train` exclude each other: one table, and the sentence for each pair."""

from collections.abc import Mapping
from dataclasses import dataclass

from blocknerf.core.errors import UserError

URL = "a folder on a URL"


@dataclass(frozen=True, slots=True)
class Exclusive:
    """`flag` cannot be given together with any of `excludes`, because it `does` something else."""

    flag: str
    does: str
    excludes: tuple[str, ...]


EXCLUSIVE = (
    Exclusive(
        "--distributed",
        "trains one block at a time with all processes",
        ("--jobs", "--side-by-side", "--launcher ray", "--update", "--debug", URL),
    ),
    Exclusive(
        "--launcher ray",
        "trains blocks apart, as many at a time as the cluster has room for",
        ("--jobs", "--side-by-side", "--update", "--debug"),
    ),
    Exclusive(
        "--side-by-side",
        "trains all blocks at the same time; to use several processes, run `torchrun --nproc-per-node N -m blocknerf "
        "train --side-by-side ...`",
        ("--jobs", "--update", URL),
    ),
    Exclusive(
        "--debug",
        "trains tiny blocks one after the other in this process",
        ("--jobs", "--update", URL),
    ),
    Exclusive(
        "--resume-from",
        "resumes one block from a state that you name",
        ("--overwrite", "--side-by-side", "--update", URL),
    ),
    Exclusive(
        "--update",
        "begins from what a block has learned; to resume an update that was stopped, give --resume in its place, then "
        "run `blocknerf align`",
        ("--overwrite", "--resume", URL),
    ),
    Exclusive(
        "--minutes",
        "is divided among blocks that this machine trains apart, from their beginning or their last checkpoint",
        ("--distributed", "--side-by-side", "--launcher ray", "--update", "--resume-from", "--debug"),
    ),
    Exclusive("--overwrite", "gives up what blocks have learned", ("--resume",)),
)


def require_compatible(given: Mapping[str, bool]) -> None:
    """Raises UserError that names the first two flags of the table that are `given` and exclude each other."""
    for row in EXCLUSIVE:
        for other in row.excludes:
            if given.get(row.flag) and given.get(other):
                advice = "Copy the folder to this machine" if other == URL else "Leave one of the two out"
                raise UserError(f"{row.flag} and {other} cannot be given together: {row.flag} {row.does}. {advice}.")
