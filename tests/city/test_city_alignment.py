"""Appearance matching: looks are carried from block to block, codes alone move, and only they are stored."""

import hashlib
import json
import logging
from pathlib import Path

import numpy as np
import pytest
import torch

from blocknerf.blocks.plan import BlockSpec, Plan
from blocknerf.city.alignment.file import ALIGNMENT_VERSION, Alignment, BlockShifts, read_alignment, write_alignment
from blocknerf.city.alignment.fitting import align_blocks, align_city
from blocknerf.city.alignment.overlaps import seen_by_both
from blocknerf.city.city import City
from blocknerf.city.manifest import block_folder, manifest_of, write_manifest
from blocknerf.core.camera import Camera
from blocknerf.core.config.config import Config
from blocknerf.core.config.load import load_config
from blocknerf.core.errors import UserError
from blocknerf.core.types import MEAN_EXPOSURE_VALUE, Appearance, Exposures
from blocknerf.models.block_file import BlockFile, write_block
from blocknerf.models.block_nerf import BlockNeRF
from blocknerf.scene.rays import camera_rays
from blocknerf.scene.scene import ImageRecord, Scene
from tests.support.block_meta import meta_of
from tests.support.small_field import SMALL_HASH

SMALL = (
    *SMALL_HASH,
    "appearance_embedding.embedding_dim=6",
    "appearance_embedding.num_images=8",
    "training.use_visibility_network=false",  # none of these blocks has been trained
)
DRIVES = {"a": ("noon", "noon", "dusk"), "b": ("noon", "dusk"), "c": ("dusk",)}
EXPOSURES = Exposures(MEAN_EXPOSURE_VALUE, (-1.0, 1.0), {"noon": -0.5, "dusk": 0.5}, {})


@pytest.fixture(autouse=True)
def _small_areas(monkeypatch):
    monkeypatch.setattr("blocknerf.city.alignment.overlaps.LONG_SIDE_PX", 12)
    monkeypatch.setattr("blocknerf.models.fit.RAYS_PER_STEP", 64)


def config(*overrides: str) -> Config:
    return load_config(None, [*SMALL, *overrides])


def block(drives: tuple[str, ...], settings: Config, exposures: Exposures | None = None, seed: int = 3) -> BlockNeRF:
    """A thick fog; its features and the first three entries of the code make its colours, and they make them alone.

    The same weights for the same seed, whatever the drives.
    """
    ids = tuple(f"{drive}_{row}" for row, drive in enumerate(drives))
    rng = torch.Generator().manual_seed(seed)
    model = BlockNeRF(settings, (0.0, 0.0, 0.0), 4.0, ids, drives, rng, exposures)
    with torch.no_grad():
        for name, table in model.field.sparse_tables().items():
            table.rows.copy_(0.3 * torch.randn(table.rows.shape, generator=rng) + (2.0 if name == "proposal" else 0.0))
        model.field.base[-1].bias[0] = 5.0  # dense: rays end in it
        first, second, third = (layer for layer in model.field.head if isinstance(layer, torch.nn.Linear))
        for layer in (first, second, third):
            layer.weight.zero_()
            layer.weight[:3, :3] = torch.eye(3)
        of_code = first.weight[:3, 31:34]  # behind 15 features and 16 harmonics of the direction
        of_code.copy_(torch.eye(3)[:, : of_code.shape[1]])
        first.bias.fill_(9.0)
        third.bias.fill_(-9.0)
    return model


def scene_of(cameras: int = 8) -> Scene:
    images = []
    for number in range(cameras):
        angle = 2 * np.pi * number / cameras
        forward = np.array([np.cos(angle), np.sin(angle), 0.0])
        right = np.array([np.sin(angle), -np.cos(angle), 0.0])
        pose = np.stack([right, np.cross(forward, right), forward, -2 * forward], axis=1)
        drive = ("noon", "dusk")[number % 2]
        images.append(ImageRecord(f"{drive}_{number}", f"{number}.png", Path("x.png"), "0", pose, drive))
    camera = {"0": Camera("PINHOLE", 64, 48, (50.0, 50.0, 32.0, 24.0))}
    return Scene(Path("scene"), camera, tuple(images), np.zeros((0, 3)), np.zeros((0, 3), np.uint8))


def write_city(out: Path, blocks: dict[str, BlockNeRF]) -> dict[str, tuple[str, ...]]:
    """A chain of blocks in the order of their ids, all at one place; returns who neighbours whom."""
    ids = list(blocks)
    specs = tuple(BlockSpec(name, (0.0, 0.0, 0.0), 4.0, (float(x), 0.0, 0.0), (), ()) for x, name in enumerate(ids))
    settings = next(iter(blocks.values())).config
    write_manifest(out, manifest_of(Plan("scene", "config", specs), settings.block_manager))
    every = tuple(image.id for image in scene_of().images)
    for name, model in blocks.items():
        meta = meta_of(name, model.description(), image_ids=every)
        write_block(block_folder(out, name), "latest", BlockFile(meta, model.state_dict()))
    return {name: tuple(ids[i] for i in (x - 1, x + 1) if 0 <= i < len(ids)) for x, name in enumerate(ids)}


def moved(model: BlockNeRF, amount: float, seed: int = 0) -> BlockNeRF:
    """With all of its codes moved by one random vector of that length."""
    direction = torch.nn.functional.normalize(torch.randn(6, generator=torch.Generator().manual_seed(seed)), dim=0)
    with torch.no_grad():
        model.appearance.residuals += amount * direction
    return model


def hashes(out: Path) -> dict[str, str]:
    return {str(p): hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(out.glob("blocks/*/*"))}


@pytest.mark.parametrize("exposures", [None, EXPOSURES])
def test_a_block_whose_codes_were_moved_comes_back(tmp_path, exposures):
    """Two copies of one block: nothing but the codes tells them apart, so that alignment can be perfect."""
    drives, settings = ("noon", "noon", "dusk"), config()
    links = write_city(
        tmp_path, {"a": block(drives, settings, exposures), "b": moved(block(drives, settings, exposures), 1.0)}
    )
    city, before = City.open(tmp_path), hashes(tmp_path)
    raw = {drive: city.code_for("b", Appearance(drive=drive)) for drive in ("noon", "dusk")}
    alignment, differences = align_city(city, links, scene_of(), seed=0)
    assert {pair.drive for pair in differences} == {"noon", "dusk"}
    for pair in differences:
        assert pair.blocks == ("a", "b")
        assert pair.before > 0.01
        assert pair.after < pair.before / 20
        assert pair.mean_after < pair.mean_before / 20
    assert list(alignment.blocks) == ["b"]

    write_alignment(tmp_path, alignment)
    again = City.open(tmp_path)
    assert hashes(tmp_path) == before
    for drive, code in raw.items():
        shifted = again.code_for("b", Appearance(drive=drive))
        assert torch.equal(
            shifted, code + torch.nn.functional.pad(again.alignment.blocks["b"].shift(drive), (0, len(code) - 6))
        )
        assert torch.equal(again.code_for("a", Appearance(drive=drive)), city.code_for("a", Appearance(drive=drive)))
    assert torch.equal(
        again.code_for("b", Appearance(drive="never driven")),
        city.model("b").code_for(Appearance(drive="never driven")),
    )


def test_relative_looks_of_one_drive_stay(tmp_path, monkeypatch):
    monkeypatch.setattr("blocknerf.city.alignment.fitting.STEPS", 5)
    settings = config()
    one, other = block(("noon", "noon"), settings), moved(block(("noon", "noon"), settings), 1.0)
    with torch.no_grad():
        other.appearance.residuals[1] += 0.3
    links = write_city(tmp_path, {"a": one, "b": other})
    city = City.open(tmp_path)
    city.alignment, _ = align_city(city, links, scene_of(), seed=0)
    first, second = (city.code_for("b", Appearance(f"noon_{row}", "noon")) for row in (0, 1))
    torch.testing.assert_close(second - first, torch.full((6,), 0.3))
    half = city.code_for("b", Appearance("noon_0", "noon", blend_towards=Appearance("noon_1", "noon"), share=0.5))
    torch.testing.assert_close(half, 0.5 * (first + second))


def test_a_look_travels_to_blocks_that_never_saw_it(tmp_path):
    """Noon was seen by the first of a chain alone: it reaches the last through the middle one."""
    settings = config("appearance_embedding.use_global_appearance=true")
    links = write_city(
        tmp_path,
        {"a": block(("noon", "dusk"), settings), "b": block(("dusk",), settings), "c": block(("dusk",), settings)},
    )
    city = City.open(tmp_path)
    alignment, differences = align_city(city, links, scene_of(), seed=0)
    assert set(alignment.blocks["c"].by_drive) == {"noon", "dusk"}
    assert "a" not in alignment.blocks
    noon = {pair.blocks: pair for pair in differences if pair.drive == "noon"}
    assert set(noon) == {("a", "b")}  # b and c never saw noon: there is no difference to speak of before
    assert noon["a", "b"].after < noon["a", "b"].before / 20
    rays = camera_rays(scene_of().cameras["0"], scene_of().images[0].world_from_cam, 16, 12)
    show = {name: city.model(name).render(rays, city.code_for(name, Appearance(drive="noon"))).rgb for name in "ac"}
    raw = city.model("c").render(rays, city.model("c").code_for(Appearance(drive="noon"))).rgb
    assert (show["c"] - show["a"]).abs().mean() < 0.1 * (raw - show["a"]).abs().mean()


def test_a_root_that_is_named_stays_where_it_is(tmp_path, monkeypatch):
    monkeypatch.setattr("blocknerf.city.alignment.fitting.STEPS", 5)
    settings = config()
    links = write_city(tmp_path, {name: block(DRIVES[name], settings) for name in "abc"})
    city = City.open(tmp_path)
    by_default, _ = align_city(city, links, scene_of(), seed=0)
    assert "noon" not in by_default.blocks.get("a", BlockShifts("", {})).by_drive
    rooted, _ = align_city(city, links, scene_of(), seed=0, root="b")
    assert "b" not in rooted.blocks
    assert set(rooted.blocks["a"].by_drive) == {"noon", "dusk"}
    with pytest.raises(UserError, match="--root z: .* a, b, c"):
        align_city(city, links, scene_of(), seed=0, root="z")


def test_the_same_seed_gives_the_same_bytes(tmp_path, monkeypatch):
    monkeypatch.setattr("blocknerf.city.alignment.fitting.STEPS", 5)
    settings, files = config(), []
    links = write_city(tmp_path, {name: block(DRIVES[name], settings) for name in "ab"})
    for _ in range(2):
        alignment, _ = align_city(City.open(tmp_path), links, scene_of(), seed=5)
        files.append(write_alignment(tmp_path, alignment).read_bytes())
    assert files[0] == files[1]
    assert read_alignment(tmp_path) == alignment


def test_aligning_one_block_leaves_the_other_entries(tmp_path, monkeypatch):
    monkeypatch.setattr("blocknerf.city.alignment.fitting.STEPS", 5)
    settings = config()
    links = write_city(tmp_path, {name: moved(block(DRIVES[name], settings), 1.0, ord(name)) for name in "abc"})
    city = City.open(tmp_path)
    city.alignment, _ = align_city(city, links, scene_of(), seed=0)
    whole = city.alignment
    one, differences = align_blocks(city, links, scene_of(), 0, ["b"])
    assert one.blocks["c"] == whole.blocks["c"]
    assert set(one.blocks["b"].by_drive) == {"noon", "dusk"}
    assert {pair.blocks for pair in differences} == {("a", "b"), ("b", "c")}


def test_a_block_trained_again_loses_its_entry_and_no_other(tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("blocknerf"), "propagate", True)
    settings = config()
    models = {name: block(DRIVES[name], settings) for name in "abc"}
    write_city(tmp_path, models)
    city = City.open(tmp_path)
    shifts = {name: BlockShifts(city.meta(name).weights.sha256, {"noon": (0.1,) * 6}) for name in "bc"}
    write_alignment(tmp_path, Alignment(shifts))
    write_city(tmp_path, models | {"b": moved(models["b"], 0.5)})
    again = City.open(tmp_path)
    assert list(again.alignment.blocks) == ["c"]
    assert "last alignment: block b. Run `blocknerf align`" in caplog.text


def test_both_see_well_what_both_show_at_one_distance():
    settings = config()
    one, same, other = (block(("noon",), settings, seed=seed) for seed in (3, 3, 4))
    with torch.no_grad():
        for name, table in other.field.sparse_tables().items():
            if name != "proposal":
                table.rows.mul_(-3.0)
    rays = camera_rays(scene_of().cameras["0"], scene_of().images[0].world_from_cam, 16, 12)
    agreed, apart = seen_by_both(one, same, rays), seen_by_both(one, other, rays)
    torch.testing.assert_close(agreed, one.render(rays).opacity ** 2)
    assert float(apart.mean()) < float(agreed.mean())


def test_a_place_counts_where_both_call_it_visible(monkeypatch):
    rays = camera_rays(scene_of().cameras["0"], scene_of().images[0].world_from_cam, 16, 12)
    seeing = [block(("noon",), config("training.use_visibility_network=true")) for _ in range(2)]
    blind = block(("noon",), config())
    unasked = seen_by_both(blind, seeing[1], rays)
    for model, visible in zip(seeing, (0.9, 0.125), strict=True):
        monkeypatch.setattr(
            model, "visibility_along", lambda rays, distances_m, v=visible: torch.full_like(distances_m, v)
        )
    torch.testing.assert_close(seen_by_both(*seeing, rays), 0.25 * seen_by_both(seeing[0], seeing[0], rays))
    torch.testing.assert_close(seen_by_both(blind, seeing[1], rays), unasked)


def test_what_a_user_can_mend_is_said(tmp_path):
    links = write_city(tmp_path / "one", {"a": block(("noon",), config())})
    with pytest.raises(UserError, match=r"has one trained block \(a\)"):
        align_city(City.open(tmp_path / "one"), links, scene_of(), seed=0)
    settings = config("training.use_appearance_embedding=false")
    links = write_city(tmp_path / "plain", {name: block(DRIVES[name], settings) for name in "ab"})
    with pytest.raises(UserError, match="Block a, b was trained without appearance codes"):
        align_city(City.open(tmp_path / "plain"), links, scene_of(), seed=0)
    path = tmp_path / "alignment.json"
    for content, message in [
        ("{", "damaged"),
        ('{"version": 99}', f"version 99; this program reads version {ALIGNMENT_VERSION}"),
        (json.dumps({"version": ALIGNMENT_VERSION, "blocks": {"a": 1}}), "damaged .*Delete it"),
    ]:
        path.write_text(content)
        with pytest.raises(UserError, match=message):
            read_alignment(tmp_path)
    path.unlink()
    assert read_alignment(tmp_path) == Alignment()
