"""How much memory there is."""

from blocknerf.runtime import memory


def test_free_memory_is_what_the_container_leaves(tmp_path, monkeypatch):
    monkeypatch.setattr(memory, "_CONTAINER", tmp_path)
    of_machine = memory.free_gb()
    assert 0 < of_machine < 1e5
    (tmp_path / "memory.max").write_text("3000000000\n")
    (tmp_path / "memory.current").write_text("2900000000\n")
    assert memory.free_gb() == 0.1
    (tmp_path / "memory.current").write_text("3100000000\n")
    assert memory.free_gb() == 0
    (tmp_path / "memory.max").write_text("max\n")
    assert memory.free_gb() > 0.1
