"""Pose refinement: bounds, gauge, pivots, gradients through the whole block in float64, what is stored."""

import pytest
import torch

from blocknerf.core.config.config import Config
from blocknerf.core.config.load import load_config
from blocknerf.core.config.pose_refinement import PoseRefinementConfig
from blocknerf.core.errors import UserError
from blocknerf.core.seeds import generator
from blocknerf.core.types import RayBatch
from blocknerf.geometry import so3
from blocknerf.kernels.registry import use_backend
from blocknerf.models.block_nerf import BlockNeRF
from blocknerf.models.encodings import level_weights
from blocknerf.models.poses import PoseGroups, PoseRefinementNetwork, free_groups
from tests.support.small_field import SMALL_HASH

IMAGES = tuple(f"image {n}" for n in range(12))
DRIVES = tuple("abc"[n % 3] for n in range(12))
SEGMENTS = tuple(f"0, from {'ace'[n // 4]}" for n in range(12))
MODES = ["drive", "segment", "image", "features"]
SMALL = (
    *SMALL_HASH,
    "training.use_pose_refinement=true",
)


def _centers(seed: int = 0) -> torch.Tensor:
    return 20 * torch.randn(12, 3, generator=generator(seed, "centres"), dtype=torch.float64) + 50


def _groups(mode: str) -> PoseGroups:
    """Of three drives or, where segments are meant, of one drive in three segments."""
    return free_groups(mode, IMAGES, ("0",) * 12 if mode == "segment" else DRIVES, SEGMENTS)


def _poses(mode: str = "drive", scale: float = 0.0, **settings) -> PoseRefinementNetwork:
    config = PoseRefinementConfig.model_validate({"mode": mode, **settings})
    poses = PoseRefinementNetwork(config, IMAGES, DRIVES, generator(0, "poses"), _groups(mode))
    poses.place(_centers(), 25.0)
    if mode == "features":
        poses.features.normal_(generator=generator(2, "features"))
    with torch.no_grad():
        for parameter in poses.parameters():
            parameter.normal_(0, scale, generator=generator(1, "shares"))
    return poses


def _rays(count: int = 24, dtype=torch.float32) -> RayBatch:
    rng = generator(0, "rays")
    directions = torch.nn.functional.normalize(torch.randn(count, 3, generator=rng), dim=-1)
    slots = torch.arange(count) % 12
    origins = _centers()[slots].float() + torch.randn(count, 3, generator=rng)
    rays = RayBatch(origins, directions, slots, torch.full((count,), 1e-3))
    return RayBatch(rays.origins.to(dtype), rays.directions.to(dtype), slots, rays.radii.to(dtype))


def _common(poses: PoseRefinementNetwork, twist: torch.Tensor) -> torch.Tensor:
    """The shares of one rigid motion of all groups: exp of the rotation vector about the images' centroid."""
    lever = poses.pivots_world.double() - _centers().mean(0)
    move = twist[:3] + ((so3.exp(twist[3:]) - torch.eye(3).double()) @ lever[..., None])[..., 0]
    bounds = torch.tensor([poses.config.max_translation] * 3 + [poses.config.max_rotation] * 3).double()
    return (torch.cat([move, twist[3:].expand(len(lever), 3)], -1) / bounds).float()


@pytest.mark.parametrize("mode", MODES)
def test_poses_begin_as_captured(mode):
    config = PoseRefinementConfig.model_validate({"mode": mode})
    poses = PoseRefinementNetwork(config, IMAGES, DRIVES, generator(0, "poses"), _groups(mode))
    rays = _rays()
    poses.place(_centers(), 25.0)
    refined = poses.refine(rays)
    assert torch.allclose(refined.origins, rays.origins, atol=1e-5)
    assert torch.allclose(refined.directions, rays.directions, atol=1e-7)
    assert float(poses.penalty().detach()) == 0


@pytest.mark.parametrize("mode", ["drive", "segment", "image"])
def test_offsets_stay_within_their_bounds_however_hard_they_are_pulled(mode):
    offsets = _poses(mode, scale=1e4, max_translation=0.5, max_rotation=0.02).offsets().detach()
    assert float(offsets[:, :3].norm(dim=-1).max()) == pytest.approx(0.5, rel=1e-4)
    assert float(offsets[:, 3:].norm(dim=-1).max()) == pytest.approx(0.02, rel=1e-4)


def test_small_offsets_are_what_is_asked_for():
    poses = _poses("image", scale=1e-3)
    gauge_free = poses.offsets()
    with torch.no_grad():
        bounds = torch.tensor([1.0] * 3 + [0.1] * 3)
        poses.shares.copy_(gauge_free / bounds)
    assert torch.allclose(poses.offsets(), gauge_free, atol=1e-7)


@pytest.mark.parametrize("mode", ["drive", "segment", "image"])
def test_a_motion_that_all_share_is_no_refinement(mode):
    """Exactly to first order: what is left of a finite motion falls with the square of its turn."""
    twist = torch.tensor([0.3, -0.2, 0.1, 0.01, 0.02, -0.01], dtype=torch.float64)
    left = []
    for scale in (1.0, 0.5, 0.25):
        poses = _poses(mode, max_translation=10.0)
        with torch.no_grad():
            poses.shares.copy_(_common(poses, scale * twist))
        left.append(float(poses.offsets().detach().abs().max()))
    assert left[0] < 0.02 * float(twist[3:].norm()) * 25
    assert left[1] / left[0] == pytest.approx(0.25, rel=0.05)
    assert left[2] / left[1] == pytest.approx(0.25, rel=0.05)


def test_a_common_motion_on_top_changes_nothing_and_has_no_gradient():
    poses = _poses("drive", scale=0.1)
    before = poses.offsets()
    direction = torch.cat([torch.tensor([[0.2, 0.1, -0.3]]).expand(3, 3), torch.zeros(3, 3)], -1)
    cotangent = torch.randn(3, 6, generator=generator(0, "cotangent"))
    (gradient,) = torch.autograd.grad((before * cotangent).sum(), poses.shares)
    assert float((gradient * direction).sum().abs()) < 1e-5 * float(gradient.norm())
    with torch.no_grad():
        poses.shares.add_(direction)
    assert torch.allclose(poses.offsets(), before, atol=1e-6)


def test_one_drive_alone_is_all_gauge():
    poses = PoseRefinementNetwork(PoseRefinementConfig(), IMAGES, ("0",) * 12)
    poses.place(_centers(), 25.0)
    with torch.no_grad():
        poses.shares.normal_(generator=generator(0, "shares"))
    assert float(poses.offsets().detach().abs().max()) < 1e-5


def test_the_gauge_weighs_images_not_drives():
    """The mean over images of what each camera moves is zero."""
    drives = ("a",) * 9 + ("b", "b", "c")
    poses = PoseRefinementNetwork(PoseRefinementConfig(), IMAGES, drives)
    poses.place(_centers(), 25.0)
    with torch.no_grad():
        poses.shares.normal_(0, 1e-3, generator=generator(0, "shares"))
    moves = poses.offsets().detach()[poses.slot_groups, :3]
    assert float(moves.mean(0).abs().max()) < 1e-6
    assert float(moves.abs().max()) > 1e-4


@pytest.mark.parametrize("mode", ["drive", "segment", "image"])
def test_a_turn_leaves_the_centroid_of_its_cameras_where_it_was(mode):
    poses = _poses(mode, scale=0.3)
    slots = torch.tensor([poses.slot_groups.tolist().index(group) for group in range(len(poses.groups))])
    forward = torch.tensor([[0.0, 0.0, 1.0]]).repeat(len(slots), 1)
    rays = RayBatch(poses.pivots_world.clone(), forward, slots, torch.full((len(slots),), 1e-3))
    refined = poses.refine(rays)
    assert torch.allclose(refined.origins - rays.origins, poses.offsets()[:, :3], atol=1e-4)
    assert not torch.allclose(refined.directions, rays.directions, atol=1e-3)


@pytest.mark.parametrize("mode", MODES)
def test_motions_of_images_are_those_of_their_rays(mode):
    poses, rays = _poses(mode, scale=0.1), _rays()
    refined = poses.refine(rays)
    for row in range(12):
        motion = poses.motion(IMAGES[row], DRIVES[row], SEGMENTS[row])
        assert motion is not None
        assert torch.allclose(
            motion[:, :3] @ rays.origins[row].double() + motion[:, 3], refined.origins[row].double(), atol=2e-5
        )
        assert torch.allclose(
            motion[:, :3] @ rays.directions[row].double(), refined.directions[row].double(), atol=1e-6
        )


def test_strangers_stay_and_a_drive_speaks_for_its_new_images():
    drives, images = _poses("drive", scale=0.1), _poses("image", scale=0.1)
    assert torch.equal(drives.motion("new", "b"), drives.motion(IMAGES[1], "b"))
    assert drives.motion(IMAGES[0], "never driven") is None
    assert images.motion("new", "b") is None
    segments = _poses("segment", scale=0.1)
    assert torch.equal(segments.motion("new", "0", SEGMENTS[5]), segments.motion(IMAGES[5], "0", SEGMENTS[5]))
    assert segments.motion(IMAGES[0], "0", "0, from z") is None
    rays = _rays()
    rays = RayBatch(rays.origins, rays.directions, torch.full_like(rays.image_slots, -1), rays.radii)
    assert torch.equal(drives.refine(rays).origins, rays.origins)


def test_what_all_is_gauge_is_taken_in_smaller_parts():
    one, segment = ("0",) * 12, ("0",) * 12
    assert free_groups("drive", IMAGES, DRIVES, SEGMENTS) == PoseGroups("drive", DRIVES)
    assert free_groups("drive", IMAGES, one, SEGMENTS) == PoseGroups("segment", SEGMENTS)
    assert free_groups("drive", IMAGES, one, segment) == PoseGroups("image", IMAGES)
    assert free_groups("segment", IMAGES, DRIVES, SEGMENTS) == PoseGroups("segment", SEGMENTS)
    assert free_groups("segment", IMAGES, one, segment) == PoseGroups("image", IMAGES)
    assert free_groups("features", IMAGES, DRIVES, SEGMENTS) == PoseGroups("image", IMAGES)
    assert free_groups("drive", IMAGES, DRIVES, SEGMENTS).are_free
    assert not free_groups("drive", IMAGES[:1], one[:1], segment[:1]).are_free


def test_segments_of_one_drive_can_move_apart_and_the_drive_as_a_whole_cannot():
    """Mean over images of what each camera moves is zero, and offsets that differ stay what they are."""
    poses = _poses("segment", scale=1e-3)
    moves = poses.offsets().detach()[poses.slot_groups, :3]
    assert float(moves.mean(0).abs().max()) < 1e-6
    assert float(moves.abs().max()) > 1e-4
    assert len(moves.unique(dim=0)) == 3


def test_levels_come_late_only_where_a_pose_can_move():
    model = _block(_config())
    model.set_progress(0.0)
    assert model.field.grid.active_levels < 6
    alone = BlockNeRF(_config(), (50.0,) * 3, 25.0, IMAGES[:1], DRIVES[:1], generator(1, "model"))
    stages = "training.stage_training={enable: true, stages: [{name: all, epochs: 5, components: [nerf]}]}"
    frozen = BlockNeRF(_config(stages), (50.0,) * 3, 25.0, IMAGES, DRIVES, generator(1, "model"))
    for model in (alone, frozen):
        model.set_progress(0.0)
        assert model.field.grid.active_levels == 6


def test_the_penalty_is_strong_first():
    poses = _poses(regularization_start=100.0, regularization_end=1e-2, regularization_share=0.2)
    weights = [poses.penalty_weight(progress) for progress in (0.0, 0.1, 0.2, 1.0)]
    assert weights == pytest.approx([100.0, 1.0, 0.01, 0.01])


def test_the_papers_penalty_falls_by_equal_steps():
    """Supplement: 1e5 at the start, linearly to 1e-1 after 5,000 of 300,000 iterations."""
    poses = _poses(
        regularization_start=1e5,
        regularization_end=0.1,
        regularization_share=5_000 / 300_000,
        regularization_decay="linear",
    )
    weights = [poses.penalty_weight(step / 300_000) for step in (0, 2_500, 5_000, 300_000)]
    assert weights == pytest.approx([1e5, 0.5 * (1e5 + 0.1), 0.1, 0.1])


def test_levels_are_let_in_coarsest_first():
    assert level_weights(4, 2.0).tolist() == [1, 1, 0, 0]
    assert level_weights(4, 2.5).tolist() == pytest.approx([1, 1, 0.5, 0])
    model = _block(_config())
    levels = []
    for progress in (0.0, 0.25, 0.5, 1.0):
        model.set_progress(progress)
        levels.append(model.field.grid.active_levels)
    assert levels[0] < levels[1] < levels[2] == levels[3] == 6


def _config(*overrides: str) -> Config:
    grid = ("block_nerf.hash_grid.num_levels=6", "pose_refinement.coarse_to_fine_share=0.5")
    return load_config(None, [*SMALL, *grid, *overrides])


def _block(config: Config) -> BlockNeRF:
    groups = _groups(config.pose_refinement.mode)
    rng = generator(1, "model")
    model = BlockNeRF(config, (50.0, 50.0, 50.0), 25.0, IMAGES, DRIVES, rng, pose_groups=groups)
    assert model.poses is not None
    model.poses.place(_centers(), 25.0)
    with torch.no_grad():
        model.field.grid.table.mul_(3000)
        model.poses.shares.normal_(0, 0.1, generator=generator(2, "shares"))
    return model


@pytest.mark.parametrize("mode", ["drive", "segment"])
def test_gradients_of_poses_through_the_whole_block_by_finite_differences(mode):
    """Hash grid, network, harmonics, compositing: float64 references, samples held where they are."""
    small = (*SMALL, f"pose_refinement.mode={mode}")
    model = _block(load_config(None, [*small, "block_nerf.num_samples_fine=4", "block_nerf.num_samples_coarse=8"]))
    model = model.double()
    assert model.poses is not None
    rays = _rays(6, torch.float64)
    start = model.poses.shares.detach().clone()
    with torch.no_grad():
        model.field.base[0].weight.abs_()  # no unit changes sides within a finite difference
        model.field.base[0].bias.fill_(1.0)
        model.field.grid.table.mul_(1e-2)
    samples = _frozen_samples(model, rays)

    def colours(shares):
        return torch.func.functional_call(model, {"poses.shares": shares}, (rays,))[0]

    with use_backend("torch"), pytest.MonkeyPatch.context() as patch:
        patch.setattr("blocknerf.rendering.volume.resample", lambda *_: samples)
        patch.setattr("blocknerf.rendering.volume.s_to_t", _stretched)
        assert torch.autograd.gradcheck(colours, (start.requires_grad_(),), eps=1e-7, atol=1e-6, rtol=1e-3)


@pytest.mark.parametrize("hierarchical", [True, False])
def test_gradients_reach_poses_through_the_papers_network(hierarchical):
    mlp = ("block_nerf.backbone=mlp", "block_nerf.num_layers=3", "block_nerf.hidden_dim=16")
    mlp += ("block_nerf.skip_connections=[1]", "block_nerf.num_samples_coarse=8", "block_nerf.num_samples_fine=8")
    mlp += (f"block_nerf.use_hierarchical_sampling={str(hierarchical).lower()}",)
    config = load_config(None, ["training.use_pose_refinement=true", *mlp])
    model = BlockNeRF(config, (50.0, 50.0, 50.0), 25.0, IMAGES, DRIVES, generator(1, "model"))
    assert model.poses is not None
    model.poses.place(_centers(), 25.0)
    model.set_progress(0.1)
    model(_rays(), generator(0, "jitter"))[0].square().sum().backward()
    assert model.poses.shares.grad is not None
    assert bool((model.poses.shares.grad != 0).all())


def _stretched(*arguments) -> torch.Tensor:
    """Distances from 0.5 to 2.5, however the spacing is told."""
    return 0.5 + 2 * next(a for a in arguments if isinstance(a, torch.Tensor) and a.shape[-1] != 3)


def _frozen_samples(model: BlockNeRF, rays: RayBatch) -> torch.Tensor:
    return torch.linspace(0, 1, 5, dtype=torch.float64).expand(len(rays), -1).contiguous()


def test_features_of_images_move_them_alike_where_they_are_alike():
    poses = _poses("features", scale=0.2)
    with torch.no_grad():
        poses.features[3] = poses.features[0]
        poses.gauge.zero_()  # what is common may stay here
    offsets = poses.offsets().detach()
    assert torch.allclose(offsets[3], offsets[0], atol=1e-6)
    assert not torch.allclose(offsets[1], offsets[0], atol=1e-3)


@pytest.mark.parametrize("mode", MODES)
def test_state_round_trip_gives_the_same_poses(mode):
    config, rng = _config(f"pose_refinement.mode={mode}"), generator(1, "model")
    model = BlockNeRF(config, (50.0, 50.0, 50.0), 25.0, IMAGES, DRIVES, rng, pose_groups=_groups(mode))
    assert model.poses is not None
    model.poses.place(_centers(), 25.0)
    with torch.no_grad():
        for parameter in model.poses.parameters():
            parameter.normal_(0, 0.1, generator=generator(2, "shares"))
    again = BlockNeRF.from_state(model.description(), model.state_dict())
    pose = torch.eye(3, 4).double()
    learned = model.refined_pose(pose, IMAGES[5], DRIVES[5], SEGMENTS[5])
    assert torch.equal(again.refined_pose(pose, IMAGES[5], DRIVES[5], SEGMENTS[5]), learned)
    assert not torch.allclose(learned, pose, atol=1e-3)
    assert torch.equal(again.refined_pose(pose, "new", "never driven"), pose)


def test_a_block_from_before_there_were_segments_is_as_it_was():
    one_drive = BlockNeRF(_config(), (50.0,) * 3, 25.0, IMAGES, ("0",) * 12, generator(1, "model"))
    description = one_drive.description().model_copy(update={"pose_groups": None})
    again = BlockNeRF.from_state(description, one_drive.state_dict())
    assert again.poses is not None
    assert again.poses.pose_groups == PoseGroups("drive", ("0",) * 12)


def test_refined_rays_are_the_rays_of_the_refined_pose():
    model = _block(_config())
    rays = _rays()
    pose = torch.cat([torch.eye(3), rays.origins[:1].T], -1).double()
    learned = model.refined_pose(pose, drive="b")
    refined = model.refined_rays(rays, drive="b")
    assert torch.allclose(refined.origins[0].double(), learned[:, 3], atol=1e-5)
    assert torch.allclose(refined.directions.double(), rays.directions.double() @ learned[:, :3].mT, atol=1e-6)
    assert model.refined_rays(rays, drive="never driven") is rays


@pytest.mark.parametrize("mode", ["drive", "segment", "image"])
def test_new_images_leave_old_offsets_bit_for_bit(mode):
    poses = _poses(mode, scale=0.1)
    before = poses.offsets().detach().clone()
    centers = torch.tensor([[1.0, 2, 3], [4, 5, 6], [7, 8, 9]], dtype=torch.float64)
    segments = (SEGMENTS[4], "later", "later")
    poses.grow(("new 1", "new 2", "new 3"), ("b", "d", "d"), centers, segments)
    after = poses.offsets().detach()
    assert torch.equal(after[: len(before)], before)
    assert not bool(after[len(before) :].any())
    assert torch.equal(poses.slot_groups[:12], _poses(mode).slot_groups)
    if mode != "image":
        assert poses.slot_groups[12:].tolist() == [1, 3, 3]
        assert torch.allclose(poses.pivots_world[3].double(), centers[1:].mean(0))
    else:
        assert torch.allclose(poses.pivots_world[12:].double(), centers)


def test_features_take_no_new_images():
    with pytest.raises(UserError, match="cannot take new images"):
        _poses("features").grow(("new",), ("b",))
