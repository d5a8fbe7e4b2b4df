"""Files of ours say so where they were changed, and read as nothing but what they should hold."""

import json
import re

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from benchmarks.robustness.targets import TARGETS
from blocknerf.core.errors import UserError
from blocknerf.core.stored import read_stored, write_stored

ANY_FOLDER = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
STORED = {
    "plan": ("plan.json",),
    "city": ("city.json", "plan.json", "alignment.json", "scene.json", "budget.json"),
    "block": ("latest.json",),
    "checkpoint": ("checkpoint.json",),
}


@pytest.fixture(scope="module", params=[(name, file) for name, files in STORED.items() for file in files])
def stored(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory):
    name, file = request.param
    folder = tmp_path_factory.mktemp(name)
    TARGETS[name].make(folder)
    return TARGETS[name], folder, folder / file


@ANY_FOLDER
@given(data=st.data())
def test_no_digit_changes_without_a_word(stored, data):
    """In plan, city, alignment, scene, block and checkpoint; but for what people may edit."""
    target, folder, path = stored
    content = path.read_text()
    digits = [found.start() for found in re.finditer("[0-9]", content)]
    free = content.find('"memory_budget_gb"')
    place = data.draw(st.sampled_from([at for at in digits if not 0 <= at - free <= 25]))
    other = data.draw(st.sampled_from([digit for digit in "0123456789" if digit != content[place]]))
    path.write_text(content[:place] + other + content[place + 1 :])
    try:
        with pytest.raises(UserError):
            target.read(folder)
    finally:
        path.write_text(content)


def test_files_without_a_checksum_are_read_still(stored):
    target, folder, path = stored
    content = path.read_text()
    tree = json.loads(content)
    assert tree.pop("checksum")
    try:
        path.write_text(json.dumps(tree))
        target.read(folder)
    finally:
        path.write_text(content)


def test_what_people_may_edit_and_what_they_may_not(tmp_path):
    path = tmp_path / "a.json"
    write_stored(path, {"version": 1, "gb": 4.0, "name": "ü"}, free=("gb",))
    first = path.read_bytes()
    write_stored(path, {"version": 1, "gb": 4.0, "name": "ü"}, free=("gb",))
    assert path.read_bytes() == first
    path.write_text(path.read_text().replace("4.0", "8.0"))
    assert read_stored(path, "city", "Make it again.", 1, ("gb",)) == {"version": 1, "gb": 8.0, "name": "ü"}
    path.write_text(json.dumps(json.loads(path.read_text()) | {"name": "u"}))
    with pytest.raises(UserError, match=r"its 'checksum'. Make it again"):
        read_stored(path, "city", "Make it again.", 1, ("gb",))
    with pytest.raises(UserError, match="The city .* is of version 1; this program reads"):
        read_stored(path, "city", "Make it again.", 2)
