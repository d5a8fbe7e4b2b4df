"""Evaluation of a city of formulas: figures, files and the page."""

import json
import math
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from blocknerf.blocks.plan import BlockSpec, Plan
from blocknerf.city.city import City
from blocknerf.city.manifest import block_folder, manifest_of, write_manifest
from blocknerf.core.config.block_manager import BlockManagerConfig
from blocknerf.core.errors import UserError
from blocknerf.core.types import RayBatch, RenderOutput
from blocknerf.evaluation.evaluate import evaluate_city
from blocknerf.models.block_file import BlockFile, write_block
from blocknerf.scene.scene import ImageRecord
from tests.support.block_meta import meta_of
from tests.support.formula_block import FormulaBlock

HEIGHT, WIDTH = 12, 16


class GrayBlock(FormulaBlock):
    """A wall of one gray at 5 m, brighter in drives with a code."""

    def __init__(self, block: BlockFile):
        self.gray = block.meta.gray
        self.asked = []

    def render(self, rays, code):
        count = len(rays)
        gray = self.gray + (0.0 if code is None else float(code[0]))
        return RenderOutput(torch.full((count, 3), gray), torch.ones(count), 5 + rays.directions[:, 0])

    def code_for(self, appearance):
        assert appearance.image_id is None, "a test image must not be looked up"
        return torch.tensor([0.1]) if appearance.drive == "bright" else None


class Album:
    """Photographs of one gray, with masks."""

    def __init__(self, grays, masks=None):
        self.grays, self.masks = grays, masks or {}

    def size(self, image_id):
        return HEIGHT, WIDTH

    def rgb(self, image_id):
        return np.full((HEIGHT, WIDTH, 3), round(255 * self.grays[image_id]), np.uint8)

    def valid(self, image_id):
        return self.masks.get(image_id, np.ones((HEIGHT, WIDTH), bool))

    def reached(self, image_id):
        return np.ones((HEIGHT, WIDTH), bool)

    def rays(self, image_id):
        count = HEIGHT * WIDTH
        spread = torch.linspace(-0.5, 0.5, count)
        directions = torch.nn.functional.normalize(torch.stack([spread, 0 * spread, 1 + 0 * spread], -1), dim=-1)
        return RayBatch(torch.zeros(count, 3), directions, torch.full((count,), -1), torch.zeros(count))


def make_city(out: Path) -> City:
    specs = [("left", 0.0, 0.4), ("right", 50.0, 0.6), ("far", 500.0, 0.9)]
    blocks = tuple(BlockSpec(name, (x, 0.0, 0.0), 25.0, (x, 0.0, 0.0), (), ()) for name, x, _ in specs)
    write_manifest(out, manifest_of(Plan("s", "c", blocks), BlockManagerConfig()))
    for name, _, gray in specs:
        meta = meta_of(name, scene_hash="s", gray=gray)
        write_block(block_folder(out, name), "latest", BlockFile(meta, {"none": torch.zeros(1)}))
    return City.open(out, load=GrayBlock)


def image(image_id: str, x: float, drive: str = "0", name: str | None = None) -> ImageRecord:
    pose = np.concatenate([np.eye(3), [[x], [0], [0]]], axis=1)
    return ImageRecord(image_id, name or f"{image_id}.jpg", Path(image_id), "camera", pose, drive)


def psnr_of(error: float) -> float:
    return -20 * math.log10(error)


def test_figures_are_those_of_the_formula(tmp_path):
    """On an anchor the city is its block; halfway between two it is their mean."""
    album = Album({"a": 0.2, "b": 0.6, "c": 0.8})
    images = [image("a", 0.0), image("b", 25.0), image("c", 50.0, "bright")]
    metrics = evaluate_city(make_city(tmp_path), album, images, tmp_path / "report")
    a, b, c = metrics["images"]
    assert a["composited"]["psnr"] == pytest.approx(psnr_of(0.2), abs=1e-3)
    assert a["nearest"] == a["composited"]
    assert (a["blocks"], a["weights"]) == (["left"], [1.0])
    assert b["nearest_block"] in b["blocks"]
    assert b["weights"] == pytest.approx([0.5, 0.5])
    assert b["composited"]["psnr"] == pytest.approx(psnr_of(0.1), abs=1e-3)
    assert b["nearest"]["psnr"] == pytest.approx(psnr_of(0.2), abs=1e-3)
    assert c["composited"]["psnr"] == pytest.approx(psnr_of(0.1), abs=1e-3)


def test_the_figure_of_the_city_is_the_mean_of_its_images(tmp_path):
    images = [image("a", 0.0), image("b", 5.0), image("c", 50.0)]
    metrics = evaluate_city(make_city(tmp_path), Album({"a": 0.2, "b": 0.3, "c": 0.9}), images, tmp_path / "report")
    for kind in ("composited", "nearest"):
        for figure in ("psnr", "ssim"):
            mean = sum(entry[kind][figure] for entry in metrics["images"]) / 3
            assert metrics[kind][figure] == pytest.approx(mean)
    assert {name: block["images"] for name, block in metrics["blocks"].items()} == {"left": 2, "right": 1, "far": 0}
    left = [entry["nearest"]["psnr"] for entry in metrics["images"][:2]]
    assert metrics["blocks"]["left"]["nearest"]["psnr"] == pytest.approx(sum(left) / 2)
    assert "nearest" not in metrics["blocks"]["far"]


def test_masked_pixels_are_not_measured_and_hidden_images_are_named(tmp_path):
    half = np.zeros((HEIGHT, WIDTH), bool)
    half[:, : WIDTH // 4] = True
    album = Album({"a": 0.5, "hidden": 0.5}, {"a": half, "hidden": np.zeros((HEIGHT, WIDTH), bool)})
    album.rgb = lambda image_id: np.where(half[..., None], 127, 255).repeat(3, -1).astype(np.uint8)
    metrics = evaluate_city(
        make_city(tmp_path),
        album,
        [image("a", 0.0), image("hidden", 0.0)],
        tmp_path / "report",
        skipped=[("gone.jpg", "file is missing")],
    )
    assert metrics["images"][0]["composited"]["psnr"] == pytest.approx(psnr_of(127 / 255 - 0.4), abs=1e-3)
    assert metrics["images"][0]["valid_share"] == 0.25
    assert [entry["name"] for entry in metrics["skipped"]] == ["gone.jpg", "hidden.jpg"]
    page = (tmp_path / "report" / "index.html").read_text()
    assert "file is missing" in page
    assert "25 % of the pixels count" in page


def test_what_lies_on_disk_is_what_is_returned_and_the_same_each_time(tmp_path):
    album, images = Album({"a": 0.2, "b": 0.6}), [image("a", 0.0), image("b", 20.0)]
    report = tmp_path / "report"
    (tmp_path / "map.png").write_bytes(b"a map")
    metrics = evaluate_city(
        make_city(tmp_path), album, images, report, details={"image_downsample": 4}, map_png=tmp_path / "map.png"
    )
    assert json.loads((report / "metrics.json").read_text()) == metrics
    assert metrics["protocol"]["appearance"] == "drive-mean"
    assert metrics["protocol"]["image_downsample"] == 4
    assert (report / "map.png").read_bytes() == b"a map"
    first = {path: path.read_bytes() for path in report.rglob("*") if path.is_file()}
    assert len(first) == 3 + 2 * 5
    pictures = sorted((report / "images").glob("*.png"))
    (report / "images" / "0009_old_truth.png").write_bytes(pictures[0].read_bytes())  # of an earlier run
    of_somebody = report / "images" / "0009_old_photograph.png"
    of_somebody.write_bytes(b"not made by the program")
    evaluate_city(
        make_city(tmp_path), album, images, report, details={"image_downsample": 4}, map_png=tmp_path / "map.png"
    )
    assert of_somebody.read_bytes() == b"not made by the program"
    of_somebody.unlink()
    assert {path: path.read_bytes() for path in report.rglob("*") if path.is_file()} == first


def test_pictures_hold_the_rendered_colours(tmp_path):
    metrics = evaluate_city(make_city(tmp_path), Album({"a": 0.2}), [image("a", 0.0)], tmp_path / "report")
    names = metrics["images"][0]["pictures"]

    def pixels(kind):
        return np.asarray(Image.open(tmp_path / "report" / "images" / names[kind]))

    assert (pixels("composited") == round(0.4 * 255)).all()
    assert (pixels("truth") == round(0.2 * 255)).all()
    assert pixels("distance").shape == pixels("error").shape == (HEIGHT, WIDTH, 3)
    assert pixels("distance").std() > 1


class Links(HTMLParser):
    def __init__(self):
        super().__init__()
        self.open, self.targets, self.ids = [], [], set()

    def handle_starttag(self, tag, attrs):
        if tag not in ("meta", "img"):
            self.open.append(tag)
        self.targets += [value for name, value in attrs if name in ("src", "href")]
        self.ids |= {value for name, value in attrs if name == "id"}

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_the_page_is_well_formed_points_only_at_files_that_exist_and_escapes_names(tmp_path):
    name = 'drive "1"/<script>alert(1)</script> & co.jpg'
    evaluate_city(make_city(tmp_path), Album({"a": 0.2}), [image("a", 0.0, name=name)], tmp_path / "report")
    page = (tmp_path / "report" / "index.html").read_text()
    links = Links()
    links.feed(page)
    assert links.open == []
    assert len(links.targets) == 1 + 2 * 5
    for target in links.targets:
        if target.startswith("#"):
            assert target[1:] in links.ids
        else:
            assert (tmp_path / "report" / target).is_file()
    assert "<script>alert" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt; &amp; co.jpg" in page
    assert "http" not in page
    assert "prefers-color-scheme: dark" in page


def test_no_test_image_is_said(tmp_path):
    city = make_city(tmp_path)
    with pytest.raises(UserError, match="no test image to evaluate on.*dataset.test"):
        evaluate_city(city, Album({}), [], tmp_path / "report")
    hidden = Album({"a": 0.5}, {"a": np.zeros((HEIGHT, WIDTH), bool)})
    with pytest.raises(UserError, match="masks hide all"):
        evaluate_city(city, hidden, [image("a", 0.0)], tmp_path / "report")
    assert not (tmp_path / "report" / "metrics.json").exists()
