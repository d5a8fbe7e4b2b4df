"""The protocols: what each looks at, what it must not look at, and the laws that its figures obey."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from blocknerf.blocks.plan import BlockSpec, Plan
from blocknerf.city.city import City, composite
from blocknerf.city.manifest import block_folder, manifest_of, write_manifest
from blocknerf.core.config.block_manager import BlockManagerConfig
from blocknerf.core.config.load import load_config
from blocknerf.core.errors import UserError
from blocknerf.core.seeds import generator
from blocknerf.core.types import Appearance, RayBatch, TrajectoryPoint
from blocknerf.evaluation.colour_correction import correct_colours
from blocknerf.evaluation.evaluate import evaluate_city
from blocknerf.evaluation.protocols import PROTOCOLS, default_protocols, left_half, parse_protocols, scored
from blocknerf.evaluation.report import report_page, why_plain_differs
from blocknerf.evaluation.views import HeldOutImage, code_of, picture_under, render_views
from blocknerf.geometry import so3
from blocknerf.models.backbones.hash_grid.field import HashField
from blocknerf.models.block_file import BlockFile, write_block
from blocknerf.models.block_nerf import BlockNeRF
from blocknerf.models.poses import moved_rays
from blocknerf.rendering.quality import psnr
from blocknerf.scene.scene import ImageRecord
from blocknerf.scene.trajectories import Trajectories
from tests.support.block_meta import meta_of
from tests.support.small_field import SMALL_HASH

HEIGHT, WIDTH = 16, 34
SMALL = (
    *SMALL_HASH,
    "appearance_embedding.embedding_dim=3",
    "appearance_embedding.use_global_appearance=false",  # codes begin at zero
)
PLANTED = {"left": torch.tensor([0.6, -0.4, 0.5]), "right": torch.tensor([-0.5, 0.3, 0.4])}


MOTION = torch.cat(
    [so3.exp(torch.tensor([0.010, -0.012, 0.008]).double()), torch.tensor([[0.03], [-0.02], [0.035]]).double()], -1
)


def _make_city(out: Path, places: dict[str, tuple[float, float, float]]) -> City:
    """Blocks with structure and zero codes."""
    config = load_config(None, SMALL)
    specs = tuple(BlockSpec(name, place, 2.0, place, (), ()) for name, place in places.items())
    write_manifest(out, manifest_of(Plan("s", "c", specs), BlockManagerConfig()))
    for spec in specs:
        model = BlockNeRF(config, spec.center_world, spec.radius_m, ("x",), ("0",), generator(1, spec.id))
        with torch.no_grad():
            model.field.grid.table.mul_(5000)
        meta = meta_of(spec.id, model.description(), scene_hash="s")
        write_block(block_folder(out, spec.id), "latest", BlockFile(meta, model.state_dict()))
    return City.open(out)


@pytest.fixture(scope="module")
def city(tmp_path_factory) -> City:
    """Two blocks, one at either side of the camera."""
    return _make_city(tmp_path_factory.mktemp("city"), {"left": (-1.0, 0.0, 0.0), "right": (1.0, 0.0, 0.0)})


@pytest.fixture(scope="module")
def alone(tmp_path_factory) -> City:
    """One block: what it cannot show is its own doing."""
    return _make_city(tmp_path_factory.mktemp("alone"), {"left": (-1.0, 0.0, 0.0)})


def _rays() -> RayBatch:
    v, u = torch.meshgrid(torch.linspace(-0.6, 0.6, HEIGHT), torch.linspace(-1, 1, WIDTH), indexing="ij")
    directions = torch.nn.functional.normalize(torch.stack([u, v, torch.ones_like(u)], -1), dim=-1).reshape(-1, 3)
    count = len(directions)
    return RayBatch(torch.zeros(count, 3), directions, torch.full((count,), -1), torch.full((count,), 1e-2))


def _test(city: City, name: str = "a.png") -> HeldOutImage:
    """A photograph that both blocks can explain, each by a code of its own."""
    record = ImageRecord("a", name, Path("a"), "camera", np.eye(4)[:3])
    pixels = torch.ones(HEIGHT, WIDTH, dtype=torch.bool)
    layers = city.layers(_rays(), torch.zeros(3), codes={block_id: PLANTED[block_id] for block_id in city.ids})
    truth = composite(layers).reshape(HEIGHT, WIDTH).rgb
    return HeldOutImage(record, _rays(), torch.zeros(3, dtype=torch.float64), truth, pixels, pixels)


class Album:
    def __init__(self, test: HeldOutImage):
        self.test = test

    def size(self, image_id):
        return HEIGHT, WIDTH

    def rgb(self, image_id):
        return (self.test.truth * 255).round().to(torch.uint8).numpy()

    def valid(self, image_id):
        return self.test.valid.numpy()

    def reached(self, image_id):
        return self.test.reached.numpy()

    def rays(self, image_id):
        return self.test.rays


def _picture(city: City, test: HeldOutImage, name: str = "half_image") -> torch.Tensor:
    return picture_under(PROTOCOLS[name], city, test, render_views(city, test))


def _evaluate(city: City, test: HeldOutImage, folder: Path, names: str | None = None) -> dict:
    chosen = None if names is None else parse_protocols(names)
    return evaluate_city(city, Album(test), [test.record], folder, protocols=chosen)


def _right_psnr(city: City, test: HeldOutImage, name: str | None) -> float:
    """Of the mean code from the given pose without a `name`, else under that protocol; over the right half."""
    views = render_views(city, test)
    picture = views.composited.rgb if name is None else picture_under(PROTOCOLS[name], city, test, views)
    right = ~left_half(test.valid)
    return psnr(picture[right], test.truth[right])


def test_half_image_finds_a_planted_code_from_the_left_half(alone):
    """The right half, which was not looked at, comes out right."""
    test = _test(alone)
    assert _right_psnr(alone, test, "half_image") > _right_psnr(alone, test, None) + 15


def test_in_a_city_each_block_fits_a_code_of_its_own(city):
    test = _test(city)
    assert _right_psnr(city, test, "half_image") > _right_psnr(city, test, None) + 1


def test_a_refined_pose_undoes_a_small_planted_motion(alone):
    """Turned by a degree and shifted by 5 cm in a block of 2 m; without the pose, the code alone cannot mend it."""
    test = _test(alone)
    displaced = replace(test, rays=moved_rays(test.rays, MOTION))
    refined = _right_psnr(alone, displaced, "refined_poses")
    assert refined > _right_psnr(alone, displaced, "half_image") + 6
    assert refined > _right_psnr(alone, displaced, None) + 10


def test_learned_poses_move_each_block_as_its_drive_was_moved_and_look_at_nothing(city, monkeypatch):
    """A pose that training has learned is put in its place; the picture is that of the true rays."""
    back = torch.linalg.inv(torch.cat([MOTION, torch.tensor([[0, 0, 0, 1.0]])]).double())[:3]
    monkeypatch.setattr(BlockNeRF, "refined_rays", lambda self, rays, drive, segment: moved_rays(rays, back))
    test = _test(city)
    displaced = replace(test, rays=moved_rays(test.rays, MOTION))
    views = render_views(city, test)
    learned = _picture(city, displaced, "learned_poses")
    assert psnr(learned, views.composited.rgb) > 70
    assert psnr(_picture(city, displaced, "masked"), views.composited.rgb) < 50
    noise = replace(displaced, truth=torch.rand(test.truth.shape, generator=generator(0, "noise")))
    assert torch.equal(_picture(city, noise, "learned_poses"), learned)


def test_a_test_image_is_rendered_with_its_own_exposure(city, monkeypatch):
    """Metadata of the camera, asked of the block."""
    test, asked = _test(city), []
    monkeypatch.setattr(BlockNeRF, "code_for", lambda self, appearance: asked.append(appearance))
    point = TrajectoryPoint(("x",), (0.0,), 0.0)
    recorded = replace(test, record=replace(test.record, exposure=0.25), trajectory_point=point)
    code_of("mean", city, "left", recorded)
    code_of("neighbours", city, "left", recorded)
    expected = Appearance(drive="0", exposure=0.25)
    assert asked == [expected, replace(expected, trajectory_point=point)]


def _ramp(city: City, test: HeldOutImage, share: float) -> tuple[HeldOutImage, dict[str, torch.Tensor]]:
    """The test image between x, which blocks know with code 0, and y with `PLANTED`; and the codes it should have."""
    for block_id in city.ids:
        model = city.model(block_id)
        assert isinstance(model, BlockNeRF)
        assert model.appearance is not None
        if "y" not in model.image_ids:
            model.grow(("y",), ("other",), (None,))
        with torch.no_grad():
            model.appearance.residuals[:2] = torch.stack([torch.zeros(3), PLANTED[block_id]])  # pyright: ignore[reportOptionalSubscript]
    point = TrajectoryPoint(("x", test.record.id, "y"), (0.0, share, 1.0), share)
    return replace(test, trajectory_point=point), {name: share * PLANTED[name] for name in city.ids}


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_neighbour_draws_each_block_with_the_code_between_its_neighbours(tmp_path, share):
    places = {"left": (-1.0, 0.0, 0.0), "right": (1.0, 0.0, 0.0)}
    city = _make_city(tmp_path, places)
    test, codes = _ramp(city, _test(city), share)
    expected = composite(city.layers(test.rays, test.center_world.float(), codes=codes)).rgb
    assert torch.allclose(_picture(city, test, "neighbour").reshape(-1, 3), expected, atol=1e-6)
    assert torch.equal(_picture(city, test, "plain"), render_views(city, test).composited.rgb)


def test_neighbour_never_reads_the_pixels_of_the_image_itself(tmp_path):
    city = _make_city(tmp_path, {"left": (-1.0, 0.0, 0.0)})
    test, _ = _ramp(city, _test(city), 0.5)
    noise = replace(test, truth=torch.rand(test.truth.shape, generator=generator(0, "noise")))
    assert torch.equal(_picture(city, test, "neighbour"), _picture(city, noise, "neighbour"))
    assert not torch.equal(_picture(city, test, "neighbour"), _picture(city, test, "plain"))


def test_without_an_order_neighbour_is_the_mean_code(city):
    test = _test(city)
    assert test.trajectory_point is None
    assert torch.equal(_picture(city, test, "neighbour"), _picture(city, test, "masked"))


def test_drives_without_an_order_are_named_in_the_report(city, tmp_path):
    test = _test(city)
    scene = Trajectories({}, {"0": "strangers took them", "another": "nobody asks"})
    metrics = evaluate_city(city, Album(test), [test.record], tmp_path, trajectories=scene)
    assert "neighbour" not in metrics["protocols"]
    assert metrics["without_order"] == scene.without_order(["0"])
    page = (tmp_path / "index.html").read_text()
    assert "strangers took them" in page
    assert "nobody asks" not in page


@pytest.fixture
def short_fits(monkeypatch):
    """For laws that hold after any number of steps."""
    for name in ("CODE_STEPS", "POSE_STEPS"):
        monkeypatch.setattr(f"blocknerf.evaluation.views.{name}", 4)


@pytest.mark.usefixtures("short_fits")
@pytest.mark.parametrize("name", ["half_image", "refined_poses"])
def test_a_fit_looks_at_no_pixel_that_is_scored(city, name):
    test = _test(city)
    seen = left_half(test.valid)
    noise = torch.rand(test.truth.shape, generator=generator(0, "noise"))
    poisoned = replace(test, truth=torch.where(seen[..., None], test.truth, noise))
    assert torch.equal(_picture(city, test, name), _picture(city, poisoned, name))
    other = replace(test, truth=torch.where(seen[..., None], noise, test.truth))
    assert not torch.equal(_picture(city, test, name), _picture(city, other, name))
    both = scored(PROTOCOLS[name], test.truth, torch.where(seen[..., None], 9.0, test.truth), seen, seen)
    assert float(both.truth.max()) <= 1
    assert not bool(both.counts.any())


@pytest.mark.usefixtures("short_fits")
def test_masked_pixels_of_the_left_half_are_not_fitted_to(city):
    test = _test(city)
    mask = test.valid.clone()
    mask[4:9, 2:8] = False
    masked = replace(test, valid=mask)
    spoiled = replace(masked, truth=torch.where(mask[..., None], test.truth, 0.0))
    assert torch.equal(_picture(city, masked), _picture(city, spoiled))


def test_protocols_that_look_at_nothing_draw_the_same_picture_of_any_photograph(city, tmp_path):
    test = _test(city)
    noise = replace(test, truth=torch.rand(test.truth.shape, generator=generator(0, "noise")))
    pictures = []
    for case, name in ((test, "true"), (noise, "noise")):
        metrics = _evaluate(city, case, tmp_path / name, "plain,masked")
        assert metrics["protocols"]["plain"]["gain_db"] == metrics["protocols"]["masked"]["gain_db"] == 0
        pictures.append((tmp_path / name / "images" / metrics["images"][0]["pictures"]["composited"]).read_bytes())
    assert pictures[0] == pictures[1]


def test_masked_is_plain_without_masks_and_leaves_out_what_masks_hide(city, tmp_path):
    test = _test(city)
    same = _evaluate(city, test, tmp_path / "a", "plain,masked")
    assert same["protocols"]["plain"]["psnr"] == same["protocols"]["masked"]["psnr"] == same["composited"]["psnr"]
    assert same["protocols"]["plain"]["ssim"] == same["protocols"]["masked"]["ssim"] == same["composited"]["ssim"]
    mask = test.valid.clone()
    mask[:, 5:12] = False
    spoiled = replace(test, valid=mask, truth=torch.where(mask[..., None], test.truth, 1 - test.truth))
    hidden = _evaluate(city, spoiled, tmp_path / "b", "plain,masked")
    assert hidden["protocols"]["masked"]["psnr"] == hidden["composited"]["psnr"]
    assert hidden["protocols"]["plain"]["psnr"] < hidden["protocols"]["masked"]["psnr"] - 0.5
    clean = _evaluate(city, replace(test, valid=mask), tmp_path / "c", "masked")
    assert clean["protocols"]["masked"]["psnr"] == hidden["protocols"]["masked"]["psnr"]


def test_pixels_that_the_lens_does_not_reach_count_nowhere(city, tmp_path):
    test = _test(city)
    lens = test.valid.clone()
    lens[:3] = False
    outside = torch.where(lens[..., None], test.truth, 1 - test.truth)
    spoiled = _evaluate(city, replace(test, truth=outside, valid=lens, reached=lens), tmp_path / "a", "plain,masked")
    clean = _evaluate(city, replace(test, valid=lens, reached=lens), tmp_path / "b", "plain,masked")
    for name in ("plain", "masked"):
        assert spoiled["protocols"][name]["psnr"] == clean["protocols"][name]["psnr"]


def test_an_affine_change_of_colours_is_undone_exactly():
    rng = generator(0, "colours")
    truth = 0.2 + 0.4 * torch.rand((20, 30, 3), generator=rng)
    mix = torch.eye(3) + 0.3 * (torch.rand((3, 3), generator=rng) - 0.5)
    changed = truth @ mix + torch.tensor([0.05, -0.1, 0.02])
    assert 0 <= float(changed.min()) <= float(changed.max()) <= 1
    all_pixels = torch.ones(20, 30, dtype=torch.bool)
    assert torch.allclose(correct_colours(changed, truth, all_pixels), truth, atol=1e-6)
    assert psnr(changed, truth) < 30


def test_colour_correction_is_the_best_affine_map_and_looks_at_valid_pixels_alone():
    rng = generator(0, "noise")
    truth, render = torch.rand((20, 30, 3), generator=rng), torch.rand((20, 30, 3), generator=rng)
    valid = torch.rand((20, 30), generator=rng) < 0.7
    corrected = correct_colours(render, truth, valid)
    spoiled = correct_colours(render, torch.where(valid[..., None], truth, 9.0), valid)
    assert torch.equal(corrected, spoiled)
    residual = (corrected - truth)[valid].double()
    assert float(residual.sum(0).abs().max()) < 1e-3
    assert float((render[valid].double().T @ residual).abs().max()) < 1e-3


def test_one_gray_is_corrected_to_the_mean_colour():
    truth = torch.rand((12, 12, 3), generator=generator(0, "truth"))
    corrected = correct_colours(torch.full((12, 12, 3), 0.3), truth, torch.ones(12, 12, dtype=torch.bool))
    assert torch.allclose(corrected, truth.mean((0, 1)).expand_as(truth), atol=1e-5)


@pytest.mark.usefixtures("short_fits")
def test_every_protocol_stands_in_the_figures_and_on_the_page(city, tmp_path):
    test = _test(city)
    mask = test.valid.clone()
    mask[0, 0] = False
    metrics = _evaluate(city, replace(test, valid=mask), tmp_path, ",".join(PROTOCOLS))
    assert list(metrics["protocols"]) == list(PROTOCOLS)
    page = report_page(metrics, has_map=False)
    for name, entry in metrics["protocols"].items():
        assert entry["images"] == 1
        assert entry["psnr"] == metrics["images"][0]["protocols"][name]["psnr"]
        assert f"{name} v{entry['version']}" in page
        assert entry["sees"] == PROTOCOLS[name].sees
    assert [name for name, entry in metrics["protocols"].items() if entry["optimistic"]] == ["colour_corrected"]
    assert "colour_corrected v1 (optimistic)" in page
    assert metrics["protocols"]["learned_poses"]["gain_db"] == pytest.approx(0, abs=1e-9), "no pose was learned"
    assert metrics["protocols"]["colour_corrected"]["gain_db"] > 0


@pytest.mark.usefixtures("short_fits")
def test_an_image_whose_right_half_is_hidden_has_no_half_image_figure(city, tmp_path):
    test = _test(city)
    metrics = _evaluate(city, replace(test, valid=left_half(test.valid)), tmp_path, "half_image,plain")
    assert metrics["protocols"]["half_image"]["images"] == 0
    assert "psnr" not in metrics["protocols"]["half_image"]
    assert "psnr" in metrics["protocols"]["plain"]
    assert "half_image" not in metrics["images"][0]["protocols"]
    assert "half_image v1" in (tmp_path / "index.html").read_text()


@pytest.mark.usefixtures("short_fits")
def test_the_seed_of_a_fit_is_the_images_name(city):
    test, renamed = _test(city), _test(city, "b.png")
    assert not torch.equal(_picture(city, test), _picture(city, renamed))


def test_by_default_nothing_is_fitted_and_what_cannot_differ_is_left_out():
    def names(masked, has_codes, has_order):
        return [protocol.name for protocol in default_protocols(masked, has_codes, has_order)]

    assert names(True, True, True) == ["plain", "masked", "neighbour"]
    assert names(False, True, True) == ["plain", "neighbour"]
    assert names(True, True, False) == names(True, False, True) == ["plain", "masked"]
    assert names(False, False, False) == ["plain"]
    assert not any(PROTOCOLS[name].fits_codes or PROTOCOLS[name].optimistic for name in names(True, True, True))


def test_protocols_are_named_once_in_their_order():
    assert [p.name for p in parse_protocols("half_image, plain,half_image")] == ["plain", "half_image"]
    assert parse_protocols("all") == parse_protocols("plain,all") == tuple(PROTOCOLS.values())


def test_one_rendering_of_a_block_serves_all_protocols_that_fit_nothing(tmp_path, monkeypatch):
    """Codes enter after compositing: the second code shades the first one's samples again."""
    city = _make_city(tmp_path / "city", {"left": (-1.0, 0.0, 0.0)})
    test, _ = _ramp(city, _test(city), 0.5)
    counted, composite_rays = [], HashField.composite

    def count(field, origins, *others):
        counted.append(len(origins))
        return composite_rays(field, origins, *others)

    monkeypatch.setattr(HashField, "composite", count)
    render_views(city, test, ["mean"])
    alone = sum(counted)
    counted.clear()
    views = render_views(city, test)
    assert sum(counted) == alone
    assert not torch.equal(views.pictures["mean"].rgb, views.pictures["neighbours"].rgb)
    assert torch.equal(views.pictures["mean"].distance_m, views.pictures["neighbours"].distance_m)


def test_where_plain_differs_from_the_heading_the_report_says_why(city, tmp_path):
    test = _test(city)
    mask = test.valid.clone()
    mask[:, 5:12] = False
    spoiled = replace(test, valid=mask, truth=torch.where(mask[..., None], test.truth, 1 - test.truth))
    for name, case, differs in (("masks", spoiled, True), ("none", test, False)):
        metrics = _evaluate(city, case, tmp_path / name, "plain")
        assert metrics["heading"] == "masked v1"
        assert bool(why_plain_differs(metrics)) == differs
        assert ("plain counts pixels" in (tmp_path / name / "index.html").read_text()) == differs


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("half_imge", "no protocol 'half_imge'. Did you mean 'half_image'.*There are: plain, masked"),
        ("plain,best", "no protocol 'best'"),
        (" , ", "No protocol was named"),
    ],
)
def test_unknown_protocols_are_refused(text, message):
    with pytest.raises(UserError, match=message):
        parse_protocols(text)


def test_the_document_has_a_row_for_every_protocol():
    text = (Path(__file__).parents[2] / "docs" / "evaluation.md").read_text(encoding="utf-8")
    assert re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE) == list(PROTOCOLS)
