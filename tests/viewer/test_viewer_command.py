"""`blocknerf view` from the command line: what a user can mend, and how it ends."""

import shutil
import socket
import sys

import pytest

from blocknerf.cli.main import main
from tests.support.random_city import write_city

pytest.importorskip("viser", reason="the viewer needs: pip install 'blocknerf[view]'")


def end_of(capsys, *arguments) -> tuple[int, str]:
    with pytest.raises(SystemExit) as ended:
        main(["view", *map(str, arguments)])
    return ended.value.code, " ".join(capsys.readouterr().err.split())


@pytest.fixture
def interrupted(monkeypatch):
    """Ctrl-C as soon as the page is up."""

    def interrupt(seconds):
        raise KeyboardInterrupt

    monkeypatch.setattr("blocknerf.cli.view.time.sleep", interrupt)


def test_it_says_where_the_page_is_and_ctrl_c_ends_it(built, capsys, interrupted):
    code, output = end_of(capsys, built[0], "--port", 0)
    assert code == 130
    assert "The city is at http://127.0.0.1:" in output
    assert "network" not in output
    assert "Stopped" in output


def test_listening_to_the_network_is_said(built, capsys, interrupted):
    _, output = end_of(capsys, built[0], "--port", 0, "--host", "0.0.0.0")
    assert "listens on 0.0.0.0: everyone who can reach this machine" in output


def test_a_scene_that_is_gone_is_said_and_the_city_is_shown(room, tmp_path, capsys, interrupted):
    moved = tmp_path / "room"
    shutil.copytree(room, moved)
    write_city(moved, tmp_path / "out")
    moved.rename(tmp_path / "elsewhere")
    code, output = end_of(capsys, tmp_path / "out", "--port", 0)
    assert code == 130
    assert "no longer at" in output
    assert "shown without its photographs" in output
    code, output = end_of(capsys, tmp_path / "out", "--port", 0, "--data-root", tmp_path / "nowhere")
    assert code == 2
    code, output = end_of(capsys, tmp_path / "out", "--port", 0, "--data-root", tmp_path / "elsewhere")
    assert "without its photographs" not in output


def test_a_port_in_use_is_said(built, capsys):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        code, output = end_of(capsys, built[0], "--port", port)
    assert code == 2
    assert f"Port {port} of 127.0.0.1 is in use" in output
    assert "--port" in output


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--port", "70000"], "--port 70000: give a number from 1 to 65535"),
        (["--host", "203.0.113.7"], "is not an address of this machine"),
        (["--host", "no such host"], "is not an address of this machine"),
        (["--max-width", "9"], "--max-width 9: give a number of pixels"),
    ],
)
def test_what_cannot_be_is_said(built, capsys, arguments, sentence):
    code, output = end_of(capsys, built[0], *arguments)
    assert code == 2
    assert sentence in output


def test_an_untrained_city_and_no_city_are_said(room, tmp_path, capsys):
    write_city(room, tmp_path, blocks=0)
    assert "has been trained yet" in end_of(capsys, tmp_path)[1]
    code, output = end_of(capsys, tmp_path / "nothing")
    assert code == 2
    assert "There is no city at" in output


def test_without_viser_the_command_that_installs_it_is_said(built, capsys, monkeypatch):
    for name in [name for name in sys.modules if name.startswith("blocknerf.viewer")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "viser", None)
    code, output = end_of(capsys, built[0])
    assert code == 2
    assert "pip install 'blocknerf[view]'" in output
