"""Codes of images: what they are made of, that tables grow without harm, and the way from one look to another."""

import pytest
import torch

from blocknerf.core.config.load import load_config
from blocknerf.core.errors import UserError
from blocknerf.core.seeds import generator
from blocknerf.core.types import Appearance, Exposures, TrajectoryPoint
from blocknerf.models.appearance import AppearanceEmbedding
from blocknerf.models.block_nerf import BlockNeRF
from blocknerf.training.block.losses.block_nerf_loss import BlockNeRFLoss
from blocknerf.training.block.optimizer import BlockOptimizer
from tests.support.small_field import SMALL_HASH

SMALL = (
    *SMALL_HASH,
    "appearance_embedding.embedding_dim=5",
)
IDS, DRIVES = ("a", "b", "c"), ("dawn", "dawn", "dusk")
EXPOSURES = Exposures(125.0, (-2.0, 2.0), {"dawn": -0.5, "dusk": 1.0}, {"a": -1.0, "c": 1.0})


def embedding(*overrides: str, ids=IDS, drives=DRIVES) -> AppearanceEmbedding:
    table = AppearanceEmbedding(load_config(None, [*SMALL, *overrides]).appearance_embedding, ids, drives, seed=7)
    if table.residuals is not None:
        with torch.no_grad():
            table.residuals[:3].normal_(generator=generator(0, "residuals"))
    return table


def block(*overrides: str) -> BlockNeRF:
    model = BlockNeRF(
        load_config(None, [*SMALL, *overrides]), (0.0, 0.0, 0.0), 2.0, IDS, DRIVES, generator(0, "block"), EXPOSURES
    )
    assert model.appearance is not None
    assert model.appearance.residuals is not None
    with torch.no_grad():
        model.appearance.residuals[:3].normal_(generator=generator(0, "residuals"))
    return model


NO_GLOBAL = "appearance_embedding.use_global_appearance=false"
NO_BLOCK = "appearance_embedding.use_block_appearance=false"


def test_a_code_is_the_global_one_plus_the_residual_and_either_may_be_missing():
    both, alone, fixed = embedding(), embedding(NO_GLOBAL), embedding(NO_BLOCK)
    assert fixed.global_codes is not None
    assert torch.equal(fixed.codes, fixed.global_codes)
    assert list(fixed.parameters()) == []
    slots = torch.tensor([0, 1, 2, 1])
    assert float(fixed.penalty(slots)) == 0
    assert torch.allclose(both.codes, alone.codes + fixed.codes)
    assert torch.allclose(both.penalty(slots), alone.codes[slots].square().mean())
    assert torch.allclose(both.penalty(torch.tensor([2, -1])), 0.5 * alone.codes[2].square().mean())


def test_global_codes_are_those_of_the_drive_in_every_block():
    """Other images, another order, a drive that joins later: the same code, and far from every other drive's."""
    first = embedding(NO_BLOCK)
    second = embedding(NO_BLOCK, ids=("z", "b"), drives=("dusk", "noon"))
    second.grow(("a",), ("dawn",))
    assert torch.equal(first.code_for("a", None), first.code_for("b", None))
    assert torch.equal(first.code_for("a", None), second.code_for("a", None))
    assert torch.equal(first.code_for("c", None), second.code_for("z", None))
    assert first.codes.norm(dim=1).tolist() == pytest.approx([2**0.5] * 3)
    many = embedding(
        NO_BLOCK,
        "appearance_embedding.embedding_dim=32",
        ids=tuple(map(str, range(40))),
        drives=tuple(map(str, range(40))),
    )
    assert 1.2 < float(torch.pdist(many.codes).min()) < 2 < float(torch.pdist(many.codes).max())


def test_slots_images_drives_and_strangers():
    table = embedding()
    codes = table.codes.detach()
    assert torch.equal(table(torch.tensor([2, 0, -1])), torch.stack([codes[2], codes[0], codes.mean(0)]))
    assert torch.equal(table.code_for("b", "dusk"), codes[1])
    assert torch.allclose(table.code_for("new", "dawn"), codes[:2].mean(0))
    assert torch.allclose(table.code_for(None, "never driven"), codes.mean(0))


def test_a_table_without_any_codes_is_refused():
    with pytest.raises(UserError, match=r"both false.*training\.use_appearance_embedding"):
        load_config(None, [NO_BLOCK, NO_GLOBAL])


@pytest.mark.parametrize("reserve", [1, 4, 100])
def test_growth_leaves_old_codes_bit_for_bit(reserve):
    """Whether the reserve is large enough or not; an update then trains as if the old images were alone."""
    overrides = (f"appearance_embedding.num_images={reserve}", "training.appearance_loss_weight=0")
    grown, as_it_was = block(*overrides), block(*overrides)
    for model in (grown, as_it_was):
        step(model, BlockOptimizer(model, model.config.training), seed=1)
    grown.grow(("d", "e"), ("dusk", "never driven"), (8.0, None))
    assert grown.appearance is not None
    assert as_it_was.appearance is not None
    old = as_it_was.appearance.codes.detach()
    codes = grown.appearance.codes.detach()
    assert torch.equal(codes[:3], old)
    assert torch.equal(codes[3], old[2])
    assert grown.appearance.residuals is not None
    assert torch.allclose(grown.appearance.residuals[4], grown.appearance.residuals[:3].mean(0))
    for model in (grown, as_it_was):
        step(model, BlockOptimizer(model, model.config.training), seed=2)
    assert torch.equal(grown.appearance.codes[:3], as_it_was.appearance.codes)
    assert not torch.equal(as_it_was.appearance.codes, old)


def step(model: BlockNeRF, optimizer: BlockOptimizer, seed: int) -> None:
    """One training step on rays of the first three images."""
    from blocknerf.core.camera import Camera
    from blocknerf.scene.rays import camera_rays
    from blocknerf.scene.sampler import PixelBatch

    pose = torch.eye(4)[:3].double().numpy()
    rays = camera_rays(Camera("SIMPLE_PINHOLE", 6, 5, (5.0, 3.0, 2.5)), pose, 6, 5)
    rays.image_slots.copy_(torch.arange(30) % 3)
    truth = torch.rand(30, 3, generator=generator(seed, "truth"))
    batch = PixelBatch(rays, truth, torch.zeros(30, 2), torch.ones(30, dtype=torch.bool), None)
    total, _ = BlockNeRFLoss(model.config.training)(model, batch, None)
    total.backward()
    optimizer.step({"nerf": 1e-2, "appearance": 1e-2, "visibility": 1e-2})


def test_a_grown_block_comes_back_from_its_state():
    model = block("appearance_embedding.num_images=1")
    model.grow(("d", "e"), ("dusk", "noon"), (8.0, None))
    again = BlockNeRF.from_state(model.description(), model.state_dict())
    assert model.state_dict().keys() == again.state_dict().keys()
    for image_id in (*model.image_ids, None):
        one, other = model.code_for(Appearance(image_id, "noon")), again.code_for(Appearance(image_id, "noon"))
        assert one is not None
        assert other is not None
        assert torch.equal(one, other)


def test_an_image_joins_once():
    model = block()
    with pytest.raises(ValueError, match="have a code already: b"):
        model.grow(("d", "b"), ("dusk", "dusk"), (None, None))
    with pytest.raises(ValueError, match="can be added once"):
        model.grow(("d", "d"), ("dusk", "dusk"), (None, None))


def test_the_way_from_one_look_to_another():
    """It begins at the one and ends at the other; halfway codes are the mean, and exposure halfway in stops."""
    model = block()
    first, second = model.code_for(Appearance("a")), model.code_for(Appearance("c"))
    assert first is not None
    assert second is not None
    for share, end in ((0.0, first), (1.0, second)):
        code = model.code_for(Appearance("a", blend_towards=Appearance("c"), share=share))
        assert code is not None
        assert torch.allclose(code, end, atol=1e-6)
    middle = model.code_for(Appearance("a", blend_towards=Appearance("c"), share=0.5))
    mean = model.code_for()
    assert middle is not None
    assert mean is not None
    assert torch.allclose(middle[:5], (first[:5] + second[:5]) / 2)
    assert torch.allclose(middle[5:], mean[5:])
    back = model.code_for(Appearance("c", blend_towards=Appearance("a"), share=0.3))
    forth = model.code_for(Appearance("a", blend_towards=Appearance("c"), share=0.7))
    assert back is not None
    assert forth is not None
    assert torch.allclose(back, forth, atol=1e-6)


def between(moment: float, **others) -> Appearance:
    """On the trajectory a, d, b, c, a second from image to image; no block knows d."""
    return Appearance(trajectory_point=TrajectoryPoint(tuple("adbc"), (0.0, 1.0, 2.0, 3.0), moment), **others)


def test_between_images_of_a_trajectory_codes_and_stops_are_linear_and_at_an_image_they_are_its_own():
    """b tells no exposure, so stops are linear from a to c."""
    model = block()
    assert model.appearance is not None
    assert model.exposure is not None
    codes = model.appearance.codes.detach()
    for moment, expected in ((0.0, codes[0]), (2.0, codes[1]), (3.0, codes[2])):
        code = model.code_for(between(moment))
        assert code is not None
        assert torch.allclose(code[:5], expected)
    for moment in (0.5, 1.0, 1.7):
        code = model.code_for(between(moment))
        assert code is not None
        assert torch.allclose(code[:5], codes[0].lerp(codes[1], moment / 2), atol=1e-6)
        assert torch.allclose(code[5:], model.exposure.encode(torch.tensor(-1 + 2 * moment / 3)))


def test_an_image_that_was_trained_and_a_captured_exposure_win_over_neighbours_and_strangers_leave_the_drive():
    model = block()
    for named in (Appearance("c", "dawn"), Appearance("c", "dawn", exposure=3.0)):
        code = model.code_for(named)
        same = model.code_for(between(0.5, image_id="c", drive="dawn", exposure=named.exposure))
        assert code is not None
        assert same is not None
        assert torch.equal(code, same)
    code, captured = model.code_for(between(0.5)), model.code_for(between(0.5, exposure=3.0))
    assert code is not None
    assert captured is not None
    assert torch.equal(code[:5], captured[:5])
    assert not torch.equal(code[5:], captured[5:])
    unknown = Appearance(drive="dusk", trajectory_point=TrajectoryPoint(("x", "y"), (0.0, 1.0), 0.5))
    of_drive, of_strangers = model.code_for(Appearance(drive="dusk")), model.code_for(unknown)
    assert of_drive is not None
    assert of_strangers is not None
    assert torch.equal(of_drive, of_strangers)


def test_roughness_is_the_mean_square_of_steps_and_pulls_neighbours_together_alone():
    table = embedding()
    assert table.residuals is not None
    assert float(table.roughness().detach()) == 0, "nothing is adjacent"
    table.connect([("a", "b"), ("b", "c")])
    residuals = table.residuals.detach()[:3]
    assert float(table.roughness().detach()) == pytest.approx(float(residuals.diff(dim=0).square().mean()))
    table.connect([("c", "a")])
    table.roughness().backward()
    gradient = table.residuals.grad
    assert gradient is not None
    assert torch.allclose(gradient[0], -gradient[2])
    assert float(gradient[0].abs().min()) > 0
    assert not gradient[1].any()
    with torch.no_grad():
        table.residuals[:] = 3.0
    assert float(table.roughness().detach()) == 0, "a common shift is no step"
    assert float(embedding(NO_BLOCK).roughness()) == 0
    assert "adjacent" not in table.state_dict()
