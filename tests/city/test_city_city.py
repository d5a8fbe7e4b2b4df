"""Compositing, the cache of blocks, and cities that are only partly trained; with blocks that are formulas."""

import logging
from dataclasses import replace
from itertools import pairwise
from math import nextafter

import pytest
import torch

from blocknerf.blocks.plan import BlockSpec, Layout, Plan
from blocknerf.city.city import COARSE_RAYS, City, Layer, coarse_rows, composite
from blocknerf.city.manifest import MANIFEST_VERSION, block_folder, manifest_of, read_manifest, write_manifest
from blocknerf.core.config.block_manager import BlockManagerConfig
from blocknerf.core.config.city import CityConfig
from blocknerf.core.errors import UserError
from blocknerf.core.types import Appearance, RayBatch, RenderOutput
from blocknerf.models.block_file import BlockFile, write_block
from tests.support.block_meta import meta_of
from tests.support.formula_block import FormulaBlock


class PlainBlock(FormulaBlock):
    """A block of one colour; its appearance code is added to it."""

    def __init__(self, block: BlockFile):
        self.rgb = block.tensors["rgb"]
        self.codes = block.meta.codes

    def render(self, rays, code):
        count = len(rays)
        shift = 0 if code is None else code[0]
        return RenderOutput((self.rgb + shift).expand(count, 3), torch.ones(count), torch.full((count,), 5.0))

    def code_for(self, appearance):
        value = self.codes.get(appearance.image_id, self.codes.get(appearance.drive))
        return None if value is None else torch.tensor([value])


SPECS = [("a", 0.0), ("b", 50.0), ("c", 100.0)]
COLOURS = {"a": [1.0, 0.0, 0.0], "b": [0.0, 1.0, 0.0], "c": [0.0, 0.0, 1.0]}


def make_city(out, trained=("a", "b", "c"), budget_gb=2.0, **meta):
    blocks = tuple(BlockSpec(name, (x, 0.0, 0.0), 25.0, (x, 0.0, 0.0), ("i",), ()) for name, x in SPECS)
    write_manifest(
        out, manifest_of(Plan("scene", "config", blocks), BlockManagerConfig(), CityConfig(memory_budget_gb=budget_gb))
    )
    for name in trained:
        entries = meta_of(name, **({"drives": ("dusk", "noon", "noon"), "codes": {}} | meta))
        tensors = {"rgb": torch.tensor(COLOURS[name]), "ballast": torch.zeros(2500)}
        write_block(block_folder(out, name), "latest", BlockFile(entries, tensors))
    return out


def at(x: float) -> torch.Tensor:
    return torch.tensor([x, 0.0, 0.0], dtype=torch.float64)


def rays(count: int = 4) -> RayBatch:
    return RayBatch(
        torch.zeros(count, 3),
        torch.tensor([[0.0, 0, 1]]).expand(count, 3),
        torch.full((count,), -1),
        torch.zeros(count),
    )


def test_a_city_file_comes_back_as_written(tmp_path):
    manifest = manifest_of(
        Plan("s", "c", (BlockSpec("a", (0.0, 0.0, 0.0), 1.0, (1.5, 2.0, 3.0), (), ()),)), BlockManagerConfig()
    )
    path = write_manifest(tmp_path, manifest)
    first = path.read_bytes()
    assert read_manifest(tmp_path) == manifest
    write_manifest(tmp_path, read_manifest(tmp_path))
    assert path.read_bytes() == first


def test_the_reach_is_one_and_a_half_blocks_unless_given():
    plan = Plan("s", "c", ())
    assert manifest_of(plan, BlockManagerConfig(block_size=20)).distance_threshold_m == 30
    assert manifest_of(plan, BlockManagerConfig(distance_threshold=7)).distance_threshold_m == 7


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no city at .* city.json is missing"),
        ("{", "damaged"),
        ('{"version": 99}', f"version 99; this program reads version {MANIFEST_VERSION}"),
        (f'{{"version": {MANIFEST_VERSION}, "scene_hash": "x"}}', "damaged .*divide_by"),
    ],
)
def test_a_damaged_city_file_is_said(tmp_path, content, message):
    if content is not None:
        (tmp_path / "city.json").write_text(content)
    with pytest.raises(UserError, match=message):
        read_manifest(tmp_path)


def test_on_an_anchor_the_picture_is_that_blocks_own(tmp_path):
    city = City.open(make_city(tmp_path), load=PlainBlock)
    for name, x in SPECS:
        assert city.nearest(at(x)) == name
        picture = city.render(rays(), at(x))
        alone = city.render(rays(), at(x), only=name)
        assert torch.equal(picture.rgb, alone.rgb)
        assert picture.rgb[0].tolist() == COLOURS[name]


def test_the_picture_is_the_weighted_mean_of_the_blocks(tmp_path):
    city = City.open(make_city(tmp_path), load=PlainBlock)
    weights = city.weights(at(20.0))
    assert list(weights) == ["a", "b"]
    assert sum(weights.values()) == pytest.approx(1)
    expected = sum(weight * torch.tensor(COLOURS[name]) for name, weight in weights.items())
    torch.testing.assert_close(city.render(rays(), at(20.0)).rgb, expected.expand(4, 3))


def test_a_blend_of_a_picture_with_itself_is_that_picture():
    picture = RenderOutput(torch.rand(6, 3), torch.linspace(0, 1, 6), torch.linspace(1, 9, 6))
    shares = {"a": 0.5, "b": 0.25, "c": 0.25}
    blended = composite([Layer(name, torch.full((6,), share), picture) for name, share in shares.items()])
    for name in ("rgb", "opacity", "distance_m"):
        torch.testing.assert_close(getattr(blended, name), getattr(picture, name))


def test_a_block_that_sees_nothing_does_not_move_the_distance():
    wall = RenderOutput(torch.ones(1, 3), torch.ones(1), torch.full((1,), 10.0))
    nothing = RenderOutput(torch.zeros(1, 3), torch.zeros(1), torch.full((1,), 1000.0))
    half = torch.full((1,), 0.5)
    blended = composite([Layer("a", half, wall), Layer("b", half, nothing)])
    assert blended.distance_m.item() == pytest.approx(10.0, abs=0.01)
    assert blended.opacity.item() == 0.5


def test_appearance_follows_the_image_then_the_drive_then_the_largest_drive(tmp_path):
    codes = {"image": 0.125, "noon": 0.25, "dusk": 0.5}
    city = City.open(make_city(tmp_path, codes=codes), load=PlainBlock)
    assert city.main_drive == "noon"

    def blue_at_a(**appearance):
        return city.render(rays(), at(0.0), Appearance(**appearance)).rgb[0, 2].item()

    assert blue_at_a() == 0.25
    assert blue_at_a(drive="dusk") == 0.5
    assert blue_at_a(image_id="image", drive="dusk") == 0.125
    assert blue_at_a(image_id="unknown", drive="dusk") == 0.5
    assert blue_at_a(image_id="unknown") == 0.25


def test_a_city_without_drives_renders_without_codes(tmp_path):
    city = City.open(make_city(tmp_path, drives=[]), load=PlainBlock)
    assert city.main_drive is None
    assert city.render(rays(), at(0.0)).rgb[0].tolist() == COLOURS["a"]


def test_only_blocks_in_use_are_loaded_and_old_ones_leave_within_the_budget(tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("blocknerf"), "propagate", True)
    loads = []

    def load(block):
        loads.append(block.meta.block_id)
        return PlainBlock(block)

    city = City.open(make_city(tmp_path, budget_gb=21e-6), load=load)  # two blocks of 10 kB
    assert "The 3 blocks take 3.05e-05 GB; at most 2.1e-05 GB of them are loaded at a time" in caplog.text
    city.render(rays(), at(0.0))
    assert loads == ["a"]
    for name in ("a", "b", "a", "c", "a", "b"):
        city.render(rays(), at(0.0), only=name)
    assert loads == ["a", "b", "c", "b"]


def test_a_budget_smaller_than_a_block_still_renders(tmp_path):
    city = City.open(make_city(tmp_path, budget_gb=1e-9), load=PlainBlock)
    assert city.render(rays(), at(20.0)).rgb.shape == (4, 3)


def test_untrained_blocks_are_left_out_and_named(tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("blocknerf"), "propagate", True)
    city = City.open(make_city(tmp_path, trained=["b"]), load=PlainBlock)
    assert "2 of 3 blocks are not trained yet and are skipped: a, c" in caplog.text
    assert city.nearest(at(0.0)) == "b"
    assert city.render(rays(), at(0.0)).rgb[0].tolist() == COLOURS["b"]


def test_the_manifest_says_which_file_comes_first(tmp_path):
    make_city(tmp_path)
    best = BlockFile(meta_of("a", codes={}), {"rgb": torch.full((3,), 0.5)})
    write_block(block_folder(tmp_path, "a"), "best", best)
    assert City.open(tmp_path, load=PlainBlock).render(rays(), at(0.0)).rgb[0].tolist() == COLOURS["a"]
    manifest = read_manifest(tmp_path)
    blocks = tuple(replace(block, files=("best", "latest")) for block in manifest.blocks)
    write_manifest(tmp_path, replace(manifest, blocks=blocks))
    city = City.open(tmp_path, load=PlainBlock)
    assert city.render(rays(), at(0.0)).rgb[0].tolist() == [0.5] * 3
    assert city.render(rays(), at(50.0)).rgb[0].tolist() == COLOURS["b"]


def test_what_a_user_can_mend_is_said(tmp_path):
    with pytest.raises(UserError, match="No block of .* has been trained"):
        City.open(make_city(tmp_path / "none", trained=[]), load=PlainBlock)
    with pytest.raises(UserError, match=r"a/latest\.json belongs to another scene .* --blocks a --overwrite"):
        City.open(make_city(tmp_path / "other", scene_hash="other"), load=PlainBlock)
    city = City.open(make_city(tmp_path / "whole"), load=PlainBlock)
    with pytest.raises(UserError, match="no trained block 'z'. It has: a, b, c"):
        city.render(rays(), at(0.0), only="z")
    with pytest.raises(UserError, match="not trained on a drive 'night'. Its drives: dusk"):
        city.require_drive("night")


def test_a_file_whose_tensors_are_not_the_models_is_said(tmp_path):
    city = City.open(make_city(tmp_path))
    with pytest.raises(UserError, match="file of block a does not fit this program"):
        city.render(rays(), at(0.0))


def test_blocks_divided_by_surface_share_a_picture_pixel_by_pixel(tmp_path):
    """Two blocks side by side, a camera over their border looking down: each pixel is its own ground's colour."""
    axes = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))
    blocks = tuple(
        BlockSpec(name, (x, 0.0, 0.0), 25.0, (x, 0.0, 0.0), ("i",), (), cells_xy=((x, 0.0),)) for name, x in SPECS[:2]
    )
    plan = Plan("scene", "config", blocks, layout=Layout((0.0, 0.0, 0.0), axes, "square", 25.0, 30.0))
    make_city(tmp_path, trained=("a", "b"))
    write_manifest(tmp_path, manifest_of(plan, BlockManagerConfig(divide_by="surface", blend_power=8)))
    city = City.open(tmp_path, load=PlainBlock)
    xs = torch.tensor([0.0, 20.0, 25.0, 30.0, 50.0])
    origins = torch.stack([xs, torch.zeros(5), torch.full((5,), 5.0)], 1)
    down = replace(rays(5), origins=origins, directions=torch.tensor([[0.0, 0, -1]]).expand(5, 3))
    red = city.render(down, at(25.0)).rgb[:, 0]
    assert red[0] > 0.99 > red[1] > 0.9 > red[2] > 0.1 > red[3] > red[4]
    assert float(red[2]) == pytest.approx(0.5)
    assert sum(layer.weight for layer in city.layers(down, at(25.0))) == pytest.approx(1)
    assert read_manifest(tmp_path).layout == plan.layout


class BlindBlock(PlainBlock):
    """Sees as much of every picture as its file says."""

    def __init__(self, block):
        super().__init__(block)
        self.seen = block.meta.seen

    def mean_visibility(self, rays):
        return self.seen


def city_that_sees(out, **seen: float) -> City:
    make_city(out)
    for name, value in seen.items():
        entries = meta_of(name, codes={}, seen=value)
        write_block(block_folder(out, name), "latest", BlockFile(entries, {"rgb": torch.tensor(COLOURS[name])}))
    return City.open(out, load=BlindBlock)


def test_a_block_that_sees_too_little_is_left_out(tmp_path):
    shares = {}
    for seen in (0.0, 0.1, 0.25, 0.35, 0.5, 0.9):
        city = city_that_sees(tmp_path / str(seen), a=0.9, b=seen, c=0.9)
        shares[seen] = {layer.block_id: layer.weight for layer in city.layers(rays(), at(30.0))}
        assert sum(shares[seen].values()) == pytest.approx(1)
    assert city.manifest.visibility_threshold == 0.25
    for seen in (0.0, 0.1, 0.25):
        assert "b" not in shares[seen]
    assert 0 < shares[0.35]["b"] < shares[0.5]["b"]
    assert shares[0.5] == pytest.approx(shares[0.9])
    assert shares[0.9]["b"] == max(shares[0.9].values())  # its anchor is the nearest


def test_where_all_see_little_what_they_see_counts(tmp_path):
    city = city_that_sees(tmp_path, a=0.001, b=0.2, c=0.0)
    plain, left = city.weights(at(20.0)), city.block_weights(rays(), at(20.0))
    assert left["b"] > plain["b"] > 0
    assert sum(left.values()) == pytest.approx(1)
    assert [layer.block_id for layer in city.layers(rays(), at(30.0), only="a")] == ["a"]


@pytest.mark.parametrize("seen", [(0.15, 0.6, 0.6), (0.0, 1.0, 1.0), (0.6, 0.15, 0.0), (0.3, 0.2, 0.4)])
def test_no_block_pops_into_a_picture_between_neighbouring_doubles(tmp_path, seen):
    """On the way from one block to the next, every place where the blocks of a picture change is looked at closely."""
    city = city_that_sees(tmp_path, **dict(zip("abc", seen, strict=True)))

    def shares(x: float) -> dict[str, float]:
        return city.block_weights(rays(), at(x))

    def difference(x: float, y: float) -> float:
        first, second = shares(x), shares(y)
        return max(abs(first.get(name, 0.0) - second.get(name, 0.0)) for name in "abc")

    way = torch.linspace(0, 60, 601, dtype=torch.float64).tolist()
    for low, high in pairwise(way):
        assert difference(low, high) < 0.1
        if city.weights(at(low)).keys() != city.weights(at(high)).keys():
            while nextafter(low, high) < high:
                middle = 0.5 * (low + high)
                changed = city.weights(at(low)).keys() != city.weights(at(middle)).keys()
                low, high = (low, middle) if changed else (middle, high)
            assert difference(low, high) < 1e-9


class HalfSightedBlock(PlainBlock):
    """Knows what its file says in the first half of the pixels, all in the others."""

    def view_confidence(self, rays, distances_m):
        known = torch.ones(len(rays))
        known[: len(rays) // 2] = self.codes["known"]
        return known


def city_that_knows(out, blending="visibility", **known: float) -> City:
    make_city(out)
    write_manifest(out, replace(read_manifest(out), blending=blending))
    for name, value in known.items():
        entries = meta_of(name, codes={"known": value})
        write_block(block_folder(out, name), "latest", BlockFile(entries, {"rgb": torch.tensor(COLOURS[name])}))
    return City.open(out, load=HalfSightedBlock)


def shares_at(city: City, x: float) -> dict[str, torch.Tensor]:
    return {layer.block_id: layer.weights for layer in city.layers(rays(), at(x))}


def test_pixels_go_to_the_blocks_that_know_them(tmp_path):
    city = city_that_knows(tmp_path, a=0.02, b=0.5, c=0.5)
    weights, shares = city.weights(at(20.0)), shares_at(city, 20.0)
    assert torch.allclose(torch.stack(list(shares.values())).sum(0), torch.ones(4))
    unknown, known = (shares["a"][row] / shares["b"][row] for row in (0, 3))
    assert float(known) == pytest.approx((weights["a"] / weights["b"]) ** 0.5, rel=1e-5)
    assert float(unknown / known) == pytest.approx(0.02 / 0.5, rel=1e-5)
    assert torch.equal(shares["a"][:2], shares["a"][:1].expand(2))


def test_shares_by_visibility_do_not_jump_as_the_camera_moves(tmp_path):
    """Blocks come and go on the way, and each of them from and to nothing."""
    city = city_that_knows(tmp_path, a=0.3, b=1.0, c=3.0)
    step_m, ways = 0.05, torch.arange(-20.0, 120.0, 0.05)
    rows = [shares_at(city, float(x)) for x in ways]
    assert {len(row) for row in rows} > {1, 2}
    every = torch.stack([torch.stack([row.get(name, torch.zeros(4)) for name in "abc"]) for row in rows])
    jumps = every.diff(dim=0).abs().amax((1, 2))
    assert float(jumps.max()) < 0.05
    assert step_m * float(jumps.sum()) > 0  # the way crosses blocks


def test_blocks_without_a_network_are_blended_by_distance(tmp_path):
    by_distance = City.open(make_city(tmp_path), load=PlainBlock)
    assert by_distance.manifest.blending == "visibility"
    weights = by_distance.weights(at(30.0))
    for name, share in shares_at(by_distance, 30.0).items():
        assert torch.allclose(share, torch.full((4,), weights[name]))


def test_blending_by_distance_asks_nobody_what_it_knows(tmp_path):
    city = city_that_knows(tmp_path, blending="distance", a=0.02, b=0.5, c=0.5)
    weights = city.weights(at(20.0))
    assert all(torch.allclose(share, torch.full((4,), weights[name])) for name, share in shares_at(city, 20.0).items())


def test_nearest_is_one_block_alone(tmp_path):
    city = city_that_knows(tmp_path, blending="nearest", a=0.0, b=0.5, c=0.5)
    assert [shares_at(city, x).keys() for x in (24.0, 26.0)] == [{"a"}, {"b"}]


def test_coarse_rows_are_spread_over_a_picture():
    assert coarse_rows(7).tolist() == list(range(7))
    rows = coarse_rows(160 * 120)
    assert len(set(rows.tolist())) == COARSE_RAYS
    for coordinate, size in ((rows % 160, 160), (rows // 160, 120)):
        counts = torch.histc(coordinate.float() / size, bins=8, min=0, max=1)
        assert counts.min() > COARSE_RAYS / 8 / 2


def test_other_rules_and_fewer_blocks_share_what_is_loaded(tmp_path):
    loads = []

    def load(block):
        loads.append(block.meta.block_id)
        return PlainBlock(block)

    city = City.open(make_city(tmp_path), load=load)
    assert list(city.weights(at(20.0))) == ["a", "b"]
    city.render(rays(), at(20.0))
    nearest = city.with_blending(replace(city.manifest, blending="nearest"), city.ids)
    assert nearest.render(rays(), at(20.0)).rgb[0].tolist() == COLOURS["a"]
    rest = city.with_blending(city.manifest, ["b", "c"])
    assert rest.render(rays(), at(0.0)).rgb[0].tolist() == COLOURS["b"]
    assert rest.ids == ["b", "c"]
    assert city.ids == ["a", "b", "c"]
    assert loads == ["a", "b"]
    with pytest.raises(UserError, match="one of a, b, c"):
        city.with_blending(city.manifest, [])


def test_a_picture_in_parts_is_the_picture(tmp_path):
    """Each part alone would judge by itself which blocks have seen enough of it."""
    city = city_that_sees(tmp_path, a=0.9, b=0.1, c=0.9)
    whole = city.layers(rays(6), at(25.0))
    weights = city.block_weights(rays(6), at(25.0))
    parts = [city.layers(rays(6)[rows], at(25.0), weights=weights) for rows in (slice(0, 2), slice(2, 6))]
    for layer, *pieces in zip(whole, *parts, strict=True):
        assert {piece.block_id for piece in pieces} == {layer.block_id}
        assert torch.equal(torch.cat([piece.picture.rgb for piece in pieces]), layer.picture.rgb)
        assert torch.equal(torch.cat([piece.weights for piece in pieces]), layer.weights)
