"""The weighted total: the sum of its parts, a weight of zero silences each; and what becomes of a broken one."""

import json
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from blocknerf.blocks.output import plan_scene
from blocknerf.core.config.load import load_config
from blocknerf.core.errors import UserError
from blocknerf.core.seeds import generator
from blocknerf.models.block_file import has_block
from blocknerf.models.block_nerf import BlockNeRF
from blocknerf.rendering.volume import expected_distance
from blocknerf.scene.sampler import PixelBatch, PointSights
from blocknerf.scene.store import ImageStore
from blocknerf.training.block.inputs import BlockFolders, BlockInputs
from blocknerf.training.block.losses.block_nerf_loss import BlockNeRFLoss, SharedRays
from blocknerf.training.block.losses.regularization import STENCIL_STEP, density_stencils
from blocknerf.training.block.losses.terms import consistency_loss
from blocknerf.training.block.trainer import BlockNeRFTrainer
from blocknerf.training.launchers.sequential import SequentialLauncher
from blocknerf.training.run.run import Run
from blocknerf.training.train_blocks import train_blocks
from tests.support.loss_terms import EVERY_TERM
from tests.support.room import write_room

SMALL = (
    "block_manager.max_blocks=1",
    "block_nerf.num_samples_coarse=24",
    "block_nerf.num_samples_fine=16",
    "block_nerf.hidden_dim=32",
    "dataset.batch_size=512",
    "training.num_epochs=5",
    "training.lr_warmup_steps=10",
    "training.consistency_loss_weight=0.5",
    "validation.num_val_images=0",
    "logging.use_tensorboard=false",
)
HASH = (
    "block_nerf.hash_grid.num_levels=4",
    "block_nerf.hash_grid.log2_table_rows=12",
    "block_nerf.hash_grid.finest_resolution=64",
    "block_nerf.proposal_resolution=24",
)
MLP = (
    "block_nerf.backbone=mlp",
    "block_nerf.num_layers=3",
    "block_nerf.skip_connections=[1]",
    "block_nerf.pos_encoding_levels=5",
)


@pytest.fixture(scope="module")
def room(tmp_path_factory) -> Path:
    return write_room(tmp_path_factory.mktemp("room"), depth=True)


def _run(room: Path, out: Path, *overrides: str) -> Run:
    backbone = () if MLP[0] in overrides else HASH
    return Run(*plan_scene(load_config(None, [*SMALL, *backbone, *overrides]), room, out), out)


def _trainer(room: Path, out: Path, *overrides: str) -> BlockNeRFTrainer:
    run = _run(room, out, *overrides)
    store = ImageStore.open(run.scene, 1, out / "store", progress=False)
    return BlockNeRFTrainer(
        BlockInputs(run.config, run.plan.blocks[0], store, run.plan.scene_hash), BlockFolders(out / "blocks" / "000")
    )


def _border(model: BlockNeRF, batch: PixelBatch) -> SharedRays:
    """As if a neighbour had rendered the first rays of a batch grey, 2 m before everything."""
    rays = batch.rays[:40]
    weights = torch.rand(40, generator=generator(0, "weights"))
    return SharedRays(rays, torch.full((40, 3), 0.5), torch.full((40,), 2.0), weights)


def _with_sights(batch: PixelBatch) -> PixelBatch:
    """As if its first rays ended in sparse points, where its depth says."""
    assert batch.distance_m is not None
    distance_m = torch.where(torch.arange(len(batch.rays)) < 20, batch.distance_m, 0.0)
    return replace(batch, sights=PointSights(distance_m, torch.full_like(distance_m, 0.05)))


def _gradients(model: BlockNeRF, total: torch.Tensor) -> dict[str, torch.Tensor]:
    model.zero_grad(set_to_none=True)
    for table in model.field.sparse_tables().values():
        table.gradient = None
    total.backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("backbone", [(), MLP], ids=["hash", "mlp"])
def test_the_total_is_the_sum_of_its_weighted_parts_and_a_weight_of_zero_takes_its_part_away(room, tmp_path, backbone):
    """But visibility, which counts what it is shown; its tests are in test_models_visibility."""
    options = ("dataset.batch_size=192", "training.use_visibility_network=false")
    trainer = _trainer(room, tmp_path, *EVERY_TERM, *backbone, *options)
    model, batch = trainer.model, _with_sights(trainer.sampler.next())
    with torch.no_grad():
        model.appearance.residuals.normal_(generator=generator(0, "codes"))  # pyright: ignore[reportOptionalMemberAccess]
    border = _border(model, batch)

    def learn(**changes: float) -> tuple[torch.Tensor, dict[str, torch.Tensor], dict[str, torch.Tensor]]:
        loss = BlockNeRFLoss(trainer.config.training.model_copy(update=changes))
        total, terms = loss(model, batch, None, [border])
        parts = [loss.weights[name] * float(term) for name, term in terms.items() if name in loss.weights]
        assert float(total.detach()) == pytest.approx(sum(parts), rel=1e-5)
        return total.detach(), terms, _gradients(model, total)

    _, terms, whole = learn()
    backbone_terms = {"interlevel"} if not backbone else {"coarse_rgb"}
    everything = {"rgb", "distortion", "depth", "points", "consistency", "regularization", "appearance", "mse"}
    assert set(terms) == everything | backbone_terms
    keys = {
        "rgb": "rgb_loss_weight",
        "distortion": "distortion_loss_weight",
        "depth": "depth_loss_weight",
        "points": "point_loss_weight",
        "consistency": "consistency_loss_weight",
        "regularization": "regularization_weight",
        "appearance": "appearance_loss_weight",
        "interlevel": "interlevel_loss_weight",
        "coarse_rgb": "coarse_loss_weight",
    }
    for term in set(terms) - {"mse"}:
        _, _, without = learn(**{keys[term]: 0.0})
        _, _, alone = learn(**{keys[other]: 0.0 for other in keys if other != term})
        assert any(bool((gradient != 0).any()) for gradient in alone.values()), term
        for name, gradient in whole.items():
            rest = without.get(name, torch.zeros_like(gradient)) + alone.get(name, torch.zeros_like(gradient))
            assert torch.allclose(gradient, rest, rtol=1e-3, atol=1e-6 * float(gradient.abs().max() + 1e-6)), (
                term,
                name,
            )


def test_shares_mix_the_rgb_term(room, tmp_path):
    trainer = _trainer(room, tmp_path, *EVERY_TERM)
    batch = trainer.sampler.next()

    def rgb(l1: float, ssim: float) -> float:
        settings = trainer.config.training.model_copy(update={"rgb_l1_share": l1, "rgb_ssim_share": ssim})
        _, terms = BlockNeRFLoss(settings)(trainer.model, batch, None)
        if l1 == ssim == 0:
            assert torch.equal(terms["rgb"], terms["mse"])
        return float(terms["rgb"])

    l2, l1, ssim = rgb(0, 0), rgb(1, 0), rgb(0, 1)
    assert len({l2, l1, ssim}) == 3
    assert rgb(0.1, 0.1) == pytest.approx(0.8 * l2 + 0.1 * l1 + 0.1 * ssim, rel=1e-5)


@pytest.mark.parametrize("backbone", [(), MLP], ids=["hash", "mlp"])
def test_a_short_training_logs_every_term_by_name(room, tmp_path, backbone):
    overrides = (*EVERY_TERM, *backbone, "training.max_steps=3", "logging.use_tensorboard=true", "logging.log_freq=1")
    run = _run(room, tmp_path, *overrides, "training.use_pose_refinement=true")
    train_blocks(run, launcher=SequentialLauncher())
    curves = EventAccumulator(str(tmp_path / "tensorboard" / "000")).Reload()
    names = {tag.removeprefix("loss/") for tag in curves.Tags()["scalars"] if tag.startswith("loss/")}
    expected = {"rgb", "mse", "distortion", "depth", "regularization", "appearance", "visibility", "pose"}
    assert names == expected | ({"coarse_rgb"} if backbone else {"interlevel"})
    assert {event.step for event in curves.Scalars("loss/depth")} == {1, 2, 3}


def test_depth_makes_depth_right(room, tmp_path):
    """Two pictures of a wall leave depth open; maps of it do not."""
    errors = []
    for used in ("false", "true"):
        options = ("training.max_steps=40", "training.num_epochs=1000", "training.use_visibility_network=false")
        trainer = _trainer(room, tmp_path / used, f"dataset.use_depth={used}", *options)
        trainer.train()
        truth = _trainer(room, tmp_path / "truth", "dataset.use_depth=true").sampler.next()
        distance_m = trainer.model.render(truth.rays).distance_m
        errors.append(float((torch.log(distance_m) - torch.log(truth.distance_m)).abs().mean()))  # pyright: ignore[reportArgumentType]
    assert errors[1] < 0.5 * errors[0]


def test_hidden_pixels_of_patches_reach_no_term(room, tmp_path):
    trainer = _trainer(room, tmp_path, *EVERY_TERM)
    batch = _with_sights(trainer.sampler.next())
    valid = batch.valid.clone()
    valid[-121:-60] = False
    assert batch.distance_m is not None
    hidden = replace(batch, valid=valid)
    garbage = replace(
        hidden,
        rgb=torch.where(valid[:, None], batch.rgb, torch.tensor(7.0)),
        distance_m=torch.where(valid, batch.distance_m, torch.tensor(900.0)),
        rays=replace(batch.rays, origins=torch.where(valid[:, None], batch.rays.origins, torch.tensor(3.0))),
    )
    totals = [
        trainer.stepper.loss(deepcopy(trainer.model), one, generator(0, "loss"))[
            0
        ]  # the visibility network counts what it saw
        for one in (hidden, garbage, batch)
    ]
    assert torch.equal(*totals[:2])
    assert not torch.equal(*totals[1:])


def test_consistency_of_the_loss_is_that_of_its_renders_and_halves_with_a_perfect_neighbour(room, tmp_path):
    trainer = _trainer(room, tmp_path)
    model, batch = trainer.model, trainer.sampler.next()
    border = _border(model, batch)
    rgb, composited = model(border.rays, None)
    distance = expected_distance(composited.weights, composited.edges)
    expected = consistency_loss(rgb, distance, border.rgb, border.distance_m / model.radius_m, border.weights)
    same = replace(border, rgb=rgb.detach(), distance_m=distance.detach() * model.radius_m)
    _, one = trainer.stepper.loss(model, batch, None, [border])
    _, two = trainer.stepper.loss(model, batch, None, [border, same])
    assert float(one["consistency"]) == pytest.approx(float(expected.detach()), rel=1e-5)
    assert float(two["consistency"]) == pytest.approx(float(expected.detach()) / 2, rel=1e-4)
    assert "consistency" not in trainer.stepper.loss(model, batch, None)[1]


@pytest.mark.parametrize("backbone", [(), MLP], ids=["hash", "mlp"])
def test_stencils_ask_the_density_that_is_rendered(room, tmp_path, backbone):
    model = _trainer(room, tmp_path, *backbone).model
    stencils = density_stencils(model, None)
    side = torch.linspace(-1, 1, 13)[1::2]
    points = model.to_world(torch.cartesian_prod(side, side, side))
    density = model.query_points(points, torch.eye(3)[:1].expand(len(points), -1)).density[:, 0] * model.radius_m
    assert torch.allclose(stencils[:, 0], STENCIL_STEP * density, rtol=1e-4)
    assert stencils.shape == (216, 7)
    drawn = [density_stencils(model, generator(seed, "places")) for seed in (0, 0, 1)]
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])


def test_trained_with_patches_and_resumed_is_never_stopped(room, tmp_path):
    whole = _trainer(room, tmp_path / "whole", *EVERY_TERM)
    for _ in range(6):
        whole.train_step()
    first = _trainer(room, tmp_path / "halves", *EVERY_TERM)
    for _ in range(3):
        first.train_step()
    first.save()
    second = _trainer(room, tmp_path / "halves", *EVERY_TERM)
    assert second.resume()
    for _ in range(3):
        second.train_step()
    for name, tensor in whole.model.state_dict().items():
        assert torch.equal(tensor, second.model.state_dict()[name]), name


def test_a_batch_that_breaks_the_loss_is_kept_and_what_was_learned_is_saved(room, tmp_path, monkeypatch):
    trainer = _trainer(room, tmp_path, *EVERY_TERM)
    trainer.train_step()
    before = {name: tensor.clone() for name, tensor in trainer.model.state_dict().items()}
    batch = trainer.sampler.next()
    batch.rgb[3, 1] = torch.nan
    monkeypatch.setattr(trainer.sampler, "next", lambda central: batch)
    with pytest.raises(UserError, match="broke at step 1: rgb is not finite .* this") as caught:
        trainer.train_step()
    path = tmp_path / "blocks" / "000" / "broken_batch.safetensors"
    assert str(path) in str(caught.value)
    assert trainer.image_ids[int(batch.rays.image_slots.min())] in str(caught.value)
    with safe_open(path, "pt") as kept:
        metadata = kept.metadata()
        assert torch.equal(kept.get_tensor("rgb").nan_to_num(9), batch.rgb.nan_to_num(9))
        assert torch.equal(kept.get_tensor("distance_m"), batch.distance_m)  # pyright: ignore[reportArgumentType]
        assert torch.equal(kept.get_tensor("origins"), batch.rays.origins)
    assert json.loads(metadata["image_ids"]) == list(trainer.image_ids)
    assert json.loads(metadata["terms"])["rgb"] == "nan"
    again = _trainer(room, tmp_path, *EVERY_TERM)
    assert again.resume()
    assert again.step == 1
    for name, tensor in again.model.state_dict().items():
        assert torch.equal(tensor, before[name]), name
    again.train_step()


def test_broken_weights_are_never_saved_over_whole_ones(room, tmp_path):
    trainer = _trainer(room, tmp_path)
    with torch.no_grad():
        trainer.model.field.head[-1].bias.fill_(float("nan"))  # pyright: ignore[reportAttributeAccessIssue]
    with pytest.raises(UserError, match="resumes from its beginning"):
        trainer.train_step()
    assert not has_block(tmp_path / "blocks" / "000", "checkpoint")


def test_weights_that_grew_too_large_are_not_saved_over_those_of_before(room, tmp_path):
    """They are finite, but whoever goes on from them breaks at once."""
    trainer = _trainer(room, tmp_path)
    trainer.train_step()
    trainer.save()
    with torch.no_grad():
        for parameter in trainer.model.field.networks():
            parameter.mul_(1e36)
    assert all(bool(parameter.isfinite().all()) for parameter in trainer.model.parameters())
    with pytest.raises(UserError, match=r"lower training\.nerf_lr, and run again .* from"):
        trainer.train_step()
    again = _trainer(room, tmp_path)
    assert again.resume()
    assert again.step == 1
    again.train_step()


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ["training.rgb_loss_weight=0"],
            r"weights of all terms that compare .* are zero; give training\.rgb_loss_weight",
        ),
        (["training.rgb_loss_weight=0", *MLP, "training.coarse_loss_weight=0"], "are zero"),
        (["training.rgb_loss_weight=0", "dataset.use_depth=true", "training.depth_loss_weight=0"], "are zero"),
        (["training.rgb_l1_share=0.6", "training.rgb_ssim_share=0.5"], "more than the whole of the rgb term"),
        (
            ["training.rgb_ssim_share=0.1", "dataset.batch_size=120"],
            r"patches of 11 x 11 pixels .*more than the 120 rays",
        ),
        (["dataset.use_depth=true", "dataset.patch_size=33"], r"patches of 33 x 33"),
        (["dataset.patch_size=10"], r"dataset\.patch_size"),
        (["dataset.patch_share=0"], r"dataset\.patch_share"),
    ],
)
def test_weights_that_cannot_be_are_refused(overrides, message):
    with pytest.raises(UserError, match=message):
        load_config(None, overrides)


def test_only_what_compares_neighbours_needs_patches():
    assert not load_config(None).needs_patches
    assert load_config(None, ["training.rgb_ssim_share=0.1"]).needs_patches
    assert not load_config(None, ["dataset.use_depth=true", "training.depth_loss_weight=0"]).needs_patches
    assert load_config(None, ["dataset.use_depth=true", "training.rgb_loss_weight=0"]).needs_patches
    mlp = load_config(None, ["block_nerf.backbone=mlp"])
    assert (mlp.training.rgb_l1_share, mlp.training.rgb_ssim_share, mlp.needs_patches) == (0.1, 0.1, True)


def test_patches_are_drawn_as_the_configuration_says_and_only_where_they_are_needed(room, tmp_path):
    shapes = {}
    for name, overrides in {
        "none": (),
        "default": ("training.rgb_ssim_share=0.1",),
        "large": ("training.rgb_ssim_share=0.1", "dataset.patch_size=16"),
        "many": ("training.rgb_ssim_share=0.1", "dataset.patch_share=0.75"),
    }.items():
        batch = _trainer(room, tmp_path / name, *overrides).sampler.next()
        shapes[name] = (batch.num_patches, batch.patch_size, len(batch.rgb))
    assert shapes == {"none": (0, 0, 512), "default": (1, 11, 512), "large": (1, 16, 512), "many": (3, 11, 512)}
