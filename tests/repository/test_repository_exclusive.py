"""Flags of `blocknerf train` that exclude each other: each pair is refused in a sentence, and nothing is written."""

import inspect

import pytest

from blocknerf.cli.exclusive import EXCLUSIVE, URL, require_compatible
from blocknerf.cli.main import main
from blocknerf.cli.train import train
from blocknerf.core.errors import UserError
from tests.support.room import write_room

PAIRS = [(row.flag, other) for row in EXCLUSIVE for other in row.excludes]
FLAGS = sorted({flag for pair in PAIRS for flag in pair})
ARGUMENTS = {"--jobs": ["--jobs", "2"], "--launcher ray": ["--launcher", "ray"], "--minutes": ["--minutes", "2"]}


@pytest.fixture(scope="module")
def room(tmp_path_factory):
    return write_room(tmp_path_factory.mktemp("room"), images=4, width=16, height=12)


@pytest.mark.parametrize("pair", PAIRS, ids=" and ".join)
def test_each_pair_is_refused_and_nothing_is_written(pair, room, tmp_path, capsys):
    arguments = ["--data-root", f"file://{room}" if URL in pair else str(room), "--output-dir", str(tmp_path / "out")]
    for flag in pair:
        if flag == "--resume-from":
            arguments += [flag, str(tmp_path / "step_000010.json")]
        elif flag != URL:
            arguments += ARGUMENTS.get(flag, [flag])
    with pytest.raises(SystemExit) as stopped:
        main(["train", *arguments])
    assert stopped.value.code == 2
    message = " ".join(capsys.readouterr().err.split())
    assert f"{pair[0]} and {pair[1]} cannot be given together" in message
    assert not (tmp_path / "out").exists()


def test_the_order_in_which_flags_are_given_does_not_matter():
    for one, other in PAIRS:
        for given in ({one: True, other: True}, {other: True, one: True}):
            with pytest.raises(UserError, match="cannot be given together"):
                require_compatible(given)


def test_what_is_in_no_row_goes_together():
    for one in FLAGS:
        for other in FLAGS:
            if (one, other) not in PAIRS and (other, one) not in PAIRS:
                require_compatible({one: True, other: True})


def test_every_flag_of_the_table_is_one_of_the_command():
    parameters = inspect.signature(train).parameters
    for flag in FLAGS:
        assert flag == URL or flag.split()[0].removeprefix("--").replace("-", "_") in parameters
