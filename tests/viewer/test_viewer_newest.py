"""A city that is still being trained."""

import threading
import time

import pytest

from blocknerf.blocks.output import load_output
from blocknerf.core.errors import UserError
from blocknerf.viewer.city_watcher import CityWatcher
from tests.support.random_city import write_city, write_random_block


def test_new_blocks_and_new_weights_are_seen(room, tmp_path):
    scene = write_city(room, tmp_path, blocks=1)
    newest = CityWatcher(tmp_path)
    assert newest.city.ids == ["000"]
    assert not newest.refresh()
    config, plan = load_output(tmp_path)
    write_random_block(tmp_path, config, plan.blocks[1], scene)
    assert newest.refresh()
    assert newest.city.ids == ["000", "001"]
    before = newest.city.meta("000").weights.sha256
    write_random_block(tmp_path, config, plan.blocks[0], scene, seed=1)
    assert newest.refresh()
    assert newest.city.meta("000").weights.sha256 != before
    (tmp_path / "blocks" / "000" / "checkpoint.json").write_text("what training goes on from is not shown")
    assert not newest.refresh()


def test_a_damaged_city_is_said_once_and_the_old_one_stays(room, tmp_path):
    write_city(room, tmp_path, blocks=1)
    newest = CityWatcher(tmp_path)
    content = (tmp_path / "city.json").read_text()
    (tmp_path / "city.json").write_text(content[: len(content) // 2])
    with pytest.raises(UserError, match=r"city\.json is damaged"):
        newest.refresh()
    assert not newest.refresh()
    assert newest.city.ids == ["000"]
    (tmp_path / "city.json").write_text(content + " ")
    assert newest.refresh()


def test_an_untrained_city_is_said(room, tmp_path):
    write_city(room, tmp_path, blocks=0)
    with pytest.raises(UserError, match="No block of .* has been trained yet. Run"):
        CityWatcher(tmp_path)


def test_a_reader_beside_a_writer_sees_whole_blocks_alone(room, tmp_path):
    """Pairs are replaced while they are read, and files are gone between being found and being asked."""
    scene = write_city(room, tmp_path, blocks=1)
    config, plan = load_output(tmp_path)
    newest, is_done = CityWatcher(tmp_path), threading.Event()

    def write() -> None:
        seed = 0
        while not is_done.is_set():
            seed += 1
            write_random_block(tmp_path, config, plan.blocks[0], scene, seed)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        seen, end = set(), time.monotonic() + 60
        while len(seen) < 6 and time.monotonic() < end:
            newest.refresh()
            seen.add(newest.city.meta("000").weights.sha256)
            newest.city.model("000")
    finally:
        is_done.set()
        writer.join()
    assert len(seen) == 6
