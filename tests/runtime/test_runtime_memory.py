"""How much memory there is."""

import resource

import pytest

from blocknerf.runtime.memory import free_gb, require_addresses
from tests.support.control_groups import write_groups

GROUPS = [
    ("0::/", {"memory.max": "3000000000", "memory.current": "2900000000"}, 0.1),
    ("0::/", {"memory.max": "3000000000", "memory.current": "3100000000"}, 0.0),
    ("0::/", {"memory.max": "max", "memory.current": "2900000000"}, None),
    ("0::/a/b", {"a/memory.max": "3000000000", "a/memory.current": "2900000000", "a/b/memory.max": "max"}, 0.1),
    ("0::/a", {"memory.max": "3000000000", "memory.current": "2900000000"}, 0.1),
    (
        "4:memory:/job",
        {"memory/job/memory.limit_in_bytes": "2000000000", "memory/job/memory.usage_in_bytes": "1500000000"},
        0.5,
    ),
    (
        "4:memory:/job",
        {
            "memory/job/memory.limit_in_bytes": "2000000000",
            "memory/job/memory.usage_in_bytes": "1900000000",
            "memory/job/memory.stat": "cache 5\ntotal_inactive_file 600000000\n",
        },
        0.7,
    ),
    (
        "4:memory:/",
        {"memory/memory.limit_in_bytes": "9223372036854771712", "memory/memory.usage_in_bytes": "1900000000"},
        None,
    ),
    ("4:memory:/gone", {}, None),
]


@pytest.mark.parametrize(("group", "files", "expected_gb"), GROUPS)
def test_free_memory_is_what_the_groups_around_leave(tmp_path, group, files, expected_gb):
    write_groups(tmp_path, group, files)
    if expected_gb is None:
        assert 0.7 < free_gb(tmp_path) < 1e5
    else:
        assert free_gb(tmp_path) == expected_gb


def test_addresses_are_asked_for_where_the_shell_bounds_them(monkeypatch):
    require_addresses(1 << 60)
    monkeypatch.setattr(resource, "getrlimit", lambda kind: (100 << 40, 100 << 40))
    require_addresses(1 << 40)
    with pytest.raises(MemoryError, match="bytes of addresses are left, and 1152921504606846976 are needed"):
        require_addresses(1 << 60)
