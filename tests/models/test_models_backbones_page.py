"""The backbone of docs/backbones.md trains, and what it warns of is refused."""

import re
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import nn

from tests.support.backbones import registrations_undone
from tests.support.room import write_room
from tests.support.small_field import SMALL_HASH
from tests.support.tiny_run import TINY, tiny_run, trainer_of

PAGE = Path(__file__).parents[2] / "docs" / "backbones.md"
PLANES = (
    "block_nerf.backbone=planes",
    "block_nerf.plane_resolution=16",
    "block_nerf.num_samples_coarse=16",
    "block_nerf.num_samples_fine=8",
    "training.lr_warmup_steps=1",
)


@pytest.fixture(scope="module")
def planes():
    """The module of the page, known as long as the tests take."""
    (code,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    module = ModuleType("my_planes")
    with registrations_undone():
        sys.modules["my_planes"] = module
        exec(compile(code, "my_planes.py", "exec"), module.__dict__)
        yield module
        del sys.modules["my_planes"]


@pytest.fixture
def trainer(planes, tmp_path):
    hash_keys = {key.partition("=")[0] for key in SMALL_HASH}
    kept = [key for key in TINY if key.partition("=")[0] not in hash_keys]
    room = write_room(tmp_path / "room", images=4, width=16, height=12)
    return trainer_of(tiny_run(room, tmp_path / "out", *PLANES, base=kept))


def test_all_of_it_learns(trainer):
    before = {name: tensor.clone() for name, tensor in trainer.model.field.state_dict().items()}
    for _ in range(3):
        trainer.train_step()
    still = [name for name, tensor in trainer.model.field.state_dict().items() if torch.equal(tensor, before[name])]
    assert still == []


def test_it_looks_the_same_in_intervals_and_at_points(trainer):
    field = trainer.model.field
    origins, directions = torch.zeros(5, 3), nn.functional.normalize(torch.randn(5, 3), dim=-1)
    edges = torch.linspace(0.1, 0.9, 4).expand(5, 4)
    codes = torch.zeros(5, field.code_layer().in_features - 31)
    density, rgb = field.query_intervals(origins, directions, torch.zeros(5), codes, edges)
    at_points = field.query(0.5 * (edges[:, :1] + edges[:, 1:2]) * directions, directions, codes)
    torch.testing.assert_close((density[:, 0], rgb[:, 0]), at_points)


def test_a_table_whose_gradient_nobody_reads_is_refused(trainer, planes, monkeypatch):
    monkeypatch.setattr(planes, "redirect_grad", lambda table, gradient: table)
    with pytest.raises(TypeError, match="'planes' .*redirect_grad"):
        trainer.train_step()


def test_a_parameter_that_nothing_moves_is_refused(trainer, planes, monkeypatch):
    monkeypatch.setattr(planes.PlanesField, "networks", lambda field: list(field.head.parameters()))
    with pytest.raises(TypeError, match=r"field\.base\.0\.weight"):
        type(trainer)(trainer.inputs, trainer.folders)
