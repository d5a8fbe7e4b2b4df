"""Tiles join to what one look would have seen; a network of random weights goes the whole way."""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from blocknerf.cli.main import main
from blocknerf.core.errors import UserError
from blocknerf.scene import segformer
from blocknerf.scene.segformer import SegFormer, in_tiles, working_size
from tests.support.scene_builders import transforms_capture

LABELS = ("road", "person", "car", "sky")


def small_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segformer, "_TILE", 128)
    monkeypatch.setattr(segformer, "_OVERLAP", 32)


@pytest.mark.parametrize("size", [(32, 64), (128, 128), (128, 160), (224, 416), (352, 128)])
def test_tiles_of_what_each_pixel_says_alone_join_to_the_whole(monkeypatch, size: tuple[int, int]):
    small_tiles(monkeypatch)
    looked_at = []

    def mean_of_red(tile: Tensor) -> Tensor:
        looked_at.append(tile.shape[1:])
        return functional.avg_pool2d(tile[:1], 4)[0]

    picture = torch.rand((3, *size), generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(in_tiles(picture, mean_of_red), functional.avg_pool2d(picture[:1], 4)[0])
    assert all(max(shape) <= 128 for shape in looked_at)
    assert (len(looked_at) == 1) == (max(size) <= 128)


@pytest.mark.parametrize("length", range(160, 1500, 32))
def test_neighbouring_tiles_overlap_and_reach_both_ends(monkeypatch, length: int):
    small_tiles(monkeypatch)
    corners = segformer._corners(length)
    assert corners[0] == 0
    assert corners[-1] == length - 128
    assert all(one + 128 - other >= 32 and one % 32 == 0 for one, other in zip(corners, corners[1:], strict=False))


def test_an_overlap_passes_smoothly_from_one_tile_to_the_next(monkeypatch):
    small_tiles(monkeypatch)
    answers = iter([torch.zeros(32, 32), torch.ones(32, 32)])
    joined = in_tiles(torch.zeros(3, 128, 160), lambda tile: next(answers))
    across = joined[16]
    assert (across[:8] == 0).all()
    assert (across[-8:] == 1).all()
    assert across.diff()[7:-7].min() > 0
    assert across.diff().max() < 0.11


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((2048, 1024), (2048, 1024)),
        ((1024, 4096), (1024, 4096)),
        ((4000, 3000), (1376, 1024)),
        ((160, 120), (640, 480)),
    ],
)
def test_pictures_are_looked_at_as_high_as_those_learned_from(size, expected):
    assert working_size(*size) == expected


def test_without_transformers_the_remedy_is_named(capsys, monkeypatch, tmp_path: Path):
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(SystemExit) as exit:
        main(["masks", str(tmp_path)])
    assert exit.value.code == 2
    output = capsys.readouterr().err
    assert output.count(". ") == 0
    assert "pip install 'blocknerf[masks]'" in output


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--classes", ","], "names nothing"),
        (["--dilate", "0.7"], "must be from 0 to 0.5"),
        (["--dilate", "nan"], "must be from 0 to 0.5"),
    ],
)
def test_options_without_sense(capsys, tmp_path: Path, options: list[str], message: str):
    with pytest.raises(SystemExit) as exit:
        main(["masks", str(tmp_path), *options])
    assert exit.value.code == 2
    assert message in capsys.readouterr().err


def test_a_scene_that_is_not_there(capsys, tmp_path: Path):
    with pytest.raises(SystemExit) as exit:
        main(["masks", str(tmp_path / "absent")])
    assert exit.value.code == 2
    assert "There is no folder" in capsys.readouterr().err


# --- with transformers ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def save_network(tmp_path_factory) -> Callable[[], Path]:
    transformers = pytest.importorskip("transformers", reason="needs: pip install 'blocknerf[masks]'")
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    folder = tmp_path_factory.mktemp("networks")
    torch.manual_seed(0)
    config = transformers.SegformerConfig(
        depths=[1, 1, 1, 1],
        hidden_sizes=[8, 8, 16, 16],
        num_attention_heads=[1, 1, 2, 2],
        decoder_hidden_size=16,
        id2label=dict(enumerate(LABELS)),
        label2id={label: row for row, label in enumerate(LABELS)},
    )
    network = transformers.SegformerForSemanticSegmentation(config)
    network.save_pretrained(folder / "whole")
    network.segformer.save_pretrained(folder / "encoder")
    return lambda name="whole": folder / name


def test_probabilities_are_those_of_the_network(save_network):
    rgb = np.random.default_rng(0).integers(0, 256, (256, 320, 3), np.uint8)
    everything, car, rest = (
        SegFormer(str(save_network()), classes)(rgb) for classes in (LABELS, ("Car",), ("road", "person", "sky"))
    )
    assert car.shape == rgb.shape[:2]
    assert car.dtype == np.float32
    assert 0 < car.min() < car.max() < 1
    np.testing.assert_allclose(everything, 1, atol=1e-5)
    np.testing.assert_allclose(car + rest, 1, atol=1e-5)


def test_the_command_goes_the_whole_way(save_network, tmp_path: Path, capsys):
    transforms_capture(tmp_path, size=(40, 30))
    main(["masks", str(tmp_path), "--model", str(save_network()), "--classes", "road,car"])
    report = json.loads((tmp_path / "masks/transient/report.json").read_text())
    assert report["made_with"]["classes"] == ["road", "car"]
    assert len(report["hidden"]) == 4
    assert (tmp_path / "masks/overview.png").is_file()
    assert "mean of 4 images" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "classes", "message"),
    [
        ("whole", ("cat",), r"knows no class 'cat'\. Did you mean 'car'\? Its classes are road, person, car, sky"),
        ("encoder", ("car",), "lacks weights of a segmentation network"),
        ("absent", ("car",), "cannot be loaded"),
        ("empty", ("car",), "cannot be loaded"),
        ("damaged", ("car",), "cannot be loaded"),
        ("broken_json", ("car",), "cannot be loaded"),
    ],
)
def test_networks_that_are_none(save_network, name: str, classes: tuple[str, ...], message: str):
    folder = save_network(name)
    whole = save_network()
    if name in ("empty", "damaged", "broken_json"):
        folder.mkdir()
    if name in ("damaged", "broken_json"):
        (folder / "config.json").write_bytes((whole / "config.json").read_bytes()[: None if name == "damaged" else 20])
        (folder / "model.safetensors").write_bytes((whole / "model.safetensors").read_bytes()[:500])
    with pytest.raises(UserError, match=message):
        SegFormer(str(folder), classes)
