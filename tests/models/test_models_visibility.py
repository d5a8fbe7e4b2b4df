"""What a block sees: counts of its rays, the network's inputs, and a room with a wall through its middle."""

import math
from unittest import mock

import pytest
import torch
from torch import nn

from blocknerf.core.config.load import load_config
from blocknerf.core.config.visibility_network import VisibilityConfig
from blocknerf.core.errors import UserError
from blocknerf.core.seeds import generator
from blocknerf.core.types import RayBatch
from blocknerf.kernels.compositing.ops import render_weights
from blocknerf.models.block_nerf import BlockNeRF
from blocknerf.models.visibility import PRIOR_STOPPED, PRIOR_TRAVELLED, RayCountGrid, VisibilityNetwork
from blocknerf.rendering.volume import RaySamplingConfig, composite_rays
from blocknerf.scene.sampler import PixelBatch
from blocknerf.training.block.losses.block_nerf_loss import BlockNeRFLoss
from blocknerf.training.block.losses.visibility import SAMPLES, TRAINING_RAYS, visibility_loss
from tests.support.small_field import SMALL_HASH

SMALL = (
    *SMALL_HASH,
    "training.use_appearance_embedding=false",
)
HALF_ROOM_M, HALF_WALL_M = 4.0, 0.3
UNKNOWN = PRIOR_STOPPED / PRIOR_TRAVELLED


def _directions(count: int, name: str) -> torch.Tensor:
    return nn.functional.normalize(torch.randn(count, 3, generator=generator(0, name)), dim=-1)


def _rays(origins: torch.Tensor, directions: torch.Tensor) -> RayBatch:
    count = len(origins)
    return RayBatch(origins, directions, torch.full((count,), -1), torch.full((count,), 1e-3))


def _fog(grid: RayCountGrid, density: float, batches: int) -> None:
    """Rays from the middle through even fog, their intervals of uneven length."""
    rng = generator(0, "fog")
    for _ in range(batches):
        directions = nn.functional.normalize(torch.randn(500, 3, generator=rng), dim=-1)
        edges = torch.cat([torch.zeros(500, 1), (0.01 + 0.1 * torch.rand(500, 20, generator=rng)).cumsum(-1)], 1)
        weights = render_weights(torch.full((500, 20), density), edges)
        grid.add(0.2 * torch.randn(500, 3, generator=rng), directions, edges, weights, rng)


@pytest.mark.parametrize("density", [0.3, 3.0])
def test_what_rays_met_is_the_density_of_the_fog(density):
    grid = RayCountGrid(resolution=12)
    _fog(grid, density, 60)
    directions = _directions(50, "looks")
    depths = grid.depths(torch.zeros(50, 3), directions, torch.full((50,), 0.8))
    assert torch.allclose(depths, torch.full((50,), 0.8 * density), rtol=0.2)


def test_cells_that_no_ray_met_are_opaque_and_not_seen():
    grid = RayCountGrid(resolution=12)
    away = torch.tensor([[0.0, 0.0, 1.0]])
    assert grid.depths(torch.zeros(1, 3), away, torch.ones(1)) == pytest.approx(UNKNOWN, rel=1e-3)
    edges = torch.linspace(0, 1, 33)[None]
    grid.add(torch.zeros(1, 3), away, edges, torch.zeros(1, 32), generator(0, "add"))
    assert grid.seen(torch.tensor([[0.0, 0, 0.5], [0, 0, -0.5], [0.5, 0.5, 0]])).tolist() == [True, False, False]
    assert grid.depths(torch.zeros(1, 3), away, torch.ones(1)) < UNKNOWN


def test_old_counts_are_forgotten():
    grid = RayCountGrid(resolution=12)
    _fog(grid, 5.0, 20)
    _fog(grid, 0.1, 300)
    assert grid.depths(torch.zeros(20, 3), _directions(20, "looks"), torch.ones(20)).mean() < 0.3


def test_counts_come_back_from_a_file_with_what_follows_from_them():
    grid, again = RayCountGrid(resolution=8), RayCountGrid(resolution=8)
    _fog(grid, 1.0, 3)
    again.load_state_dict(grid.state_dict())
    assert torch.equal(grid.log_extinction, again.log_extinction)
    assert "log_extinction" not in grid.state_dict()


def test_what_a_block_knows_has_no_steps_between_cells():
    """Along a line across many cells, and at the cells' own corners as counted."""
    grid = RayCountGrid(resolution=12)
    _fog(grid, 3.0, 20)
    steps = torch.linspace(-0.9, 0.9, 20_001)
    line = torch.stack([steps, 0.3 * steps, -0.7 * steps], -1)
    for know in (grid.hit_count, grid.known):
        values = know(line)
        assert values.diff().abs().max() < 0.01 * (values.max() - values.min())
    corner = torch.tensor([[1 / 3, 0.0, -1 / 3]])  # in the cube of 12 cells from -2 to 2
    assert float(grid.hit_count(corner)) == pytest.approx(float(grid.stopped[5, 6, 7]), rel=1e-3)


def test_an_untrained_network_says_what_the_rays_met():
    network = VisibilityNetwork(VisibilityConfig(), generator(0, "network"))
    _fog(network.sights, 1.5, 30)
    points, directions, distances = torch.zeros(20, 3), _directions(20, "d"), torch.linspace(0.1, 0.9, 20)
    depths = network.sights.depths(-distances[:, None] * directions, directions, distances)
    assert torch.allclose(network(points, directions, distances), torch.exp(-depths), atol=1e-3)


def _learned(**keys) -> VisibilityNetwork:
    network = VisibilityNetwork(VisibilityConfig(**keys), generator(0, "network"))
    with torch.no_grad():
        network.last.weight.normal_(generator=generator(0, "last"))
    return network


def test_every_input_and_every_key_matters():
    points, directions, distances = _directions(30, "p"), _directions(30, "d"), torch.linspace(0.1, 2, 30)
    network = _learned()
    plain = network(points, directions, distances)
    assert bool(((plain >= 0) & (plain <= 1)).all())
    assert not torch.allclose(plain, network(0.5 * points, directions, distances), atol=1e-3)
    assert not torch.allclose(plain, network(points, -directions, distances), atol=1e-3)
    assert not torch.allclose(plain, network(points, directions, 2 * distances), atol=1e-3)
    wider = _learned(hidden_dims=(32, 16, 8))
    assert [layer.out_features for layer in wider.hidden] == [32, 16, 8]

    blind = _learned(use_camera_features=False)
    assert torch.equal(blind(points, directions, distances), blind(points, directions, 2 * distances))
    for keys, changes in (({}, True), ({"use_block_features": False}, False)):
        network = _learned(**keys)
        before = network(points, directions, distances)
        _fog(network.sights, 0.5, 5)
        assert torch.equal(before, network(points, directions, distances)) is not changes


def test_units_drop_out_in_training_only_and_as_the_generator_says():
    network = _learned(dropout=0.5)
    inputs = _directions(30, "p"), _directions(30, "d"), torch.ones(30)
    one, same, other = (network(*inputs, generator(seed, "drop")) for seed in (1, 1, 2))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
    assert torch.equal(network(*inputs), network(*inputs))


class WalledRoom(nn.Module):
    """A backbone that knows the truth: a room in world metres, cut in two by a wall at x = 0."""

    rays_at_once, recomputes, stands_with_encoder = 4096, False, False
    spacing = RaySamplingConfig(0.01, 2.0, 64, 24)

    def __init__(self, center_world: torch.Tensor, radius_m: float):
        super().__init__()
        self.center, self.radius = center_world, radius_m

    def composite(self, origins, directions, radii, codes, rng):
        def density(points):
            world = points * self.radius + self.center
            solid = (world.abs().amax(-1) > HALF_ROOM_M) | (world[..., 0].abs() < HALF_WALL_M)
            return 100.0 * solid

        def proposal(origins, directions, edges):
            middles = 0.5 * (edges[:, 1:] + edges[:, :-1])
            return density(origins[:, None] + middles[..., None] * directions[:, None])

        def field(points):
            cube = 4 * points - 2  # the room lies within the cube that contraction leaves as it is
            return density(cube), torch.ones(*points.shape[:-1], 3)

        composited = composite_rays(origins, directions, self.spacing, proposal, field, rng)
        return composited.features, composited

    def _unknown(self, *arguments):
        raise NotImplementedError

    query = query_intervals = density_at = set_encoding_progress = move = _unknown
    sparse_tables = code_layer = networks = _unknown


def _side(sign: float, steps: int = 100) -> BlockNeRF:
    """A block whose cameras all stand on one side of the wall."""
    center = (sign * 2.0, 0.0, 0.0)
    model = BlockNeRF(load_config(None, SMALL), center, 8.0, (), (), generator(0, "model"))
    model.field = WalledRoom(torch.tensor(center), 8.0)
    network = model.visibility_network()
    optimizer = torch.optim.Adam(network.parameters_to_learn(), lr=4e-3)
    rng = generator(0, "train")
    for _ in range(steps):
        rays = _rays(*_looks(sign, 600, rng))
        loss = visibility_loss(model, rays, model(rays, rng)[1], rng)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model


def _looks(sign: float, count: int, rng: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    origins = torch.rand(count, 3, generator=rng) * torch.tensor([2.0, 4.0, 4.0]) - torch.tensor([0.0, 2.0, 2.0])
    origins = (origins + torch.tensor([1.0, 0, 0])) * torch.tensor([sign, 1, 1])
    return origins, nn.functional.normalize(torch.randn(count, 3, generator=rng), dim=-1)


@pytest.fixture(scope="module")
def left() -> BlockNeRF:
    return _side(-1.0)


def test_a_block_sees_its_side_of_the_wall_and_not_the_other(left):
    rng = generator(5, "looks")
    near_side, far_side = (left.mean_visibility(_rays(*_looks(sign, 300, rng))) for sign in (-1.0, 1.0))
    assert near_side is not None
    assert far_side is not None
    assert near_side > 0.35
    assert far_side < 0.05


def test_a_place_behind_the_wall_is_hidden_from_the_cameras_before_it(left):
    """The same place, the same direction: only the camera's distance says on which side of the wall it stands."""
    points, along = torch.tensor([[-3.8, 0.0, 0.0]]), torch.tensor([[-1.0, 0.0, 0.0]])
    near, far = (float(left.visibility_at(points, along, torch.tensor([metres]))) for metres in (2.0, 6.0))
    assert near > 5 * far
    assert far < 0.1


def test_it_ranks_seen_before_unseen_pairs(left):
    rng = generator(7, "pairs")
    cameras, _ = _looks(-1.0, 2000, rng)
    points = 3.9 * (2 * torch.rand(2000, 3, generator=rng) - 1)
    points = points[points[:, 0].abs() > HALF_WALL_M + 0.1]
    ways = points - cameras[: len(points)]
    distances_m = ways.norm(dim=-1)
    visible = left.visibility_at(points, ways / distances_m[:, None], distances_m)
    seen = points[:, 0] < 0
    order = visible[seen][:, None] > visible[~seen][None]
    assert float(order.float().mean()) > 0.98  # the area under the curve


def test_a_block_knows_the_surfaces_of_its_side(monkeypatch):
    left, rng = _side(-1.0), generator(0, "ask")
    near_side, far_side = (_rays(*_looks(sign, 300, rng)) for sign in (-1.0, 1.0))
    known = {}
    for name, rays in (("own", near_side), ("other", far_side)):
        known[name] = left.view_confidence(rays, left.render(rays).distance_m)
        assert known[name] is not None
        assert float(known[name].min()) > 0
    assert float(known["own"].median()) > 5 * float(known["other"].median())
    monkeypatch.setattr(left.field, "rays_at_once", 7)
    again = left.view_confidence(far_side, left.render(far_side).distance_m)
    assert again is not None
    torch.testing.assert_close(again, known["other"])


def _model() -> BlockNeRF:
    return BlockNeRF(load_config(None, SMALL), (1.0, 2.0, 3.0), 4.0, (), (), generator(0, "model"))


def test_the_loss_reaches_the_network_alone_and_counts_only_its_rays():
    model = _model()
    rays = _rays(torch.tensor([[1.0, 2.0, 3.0]]).expand(64, 3), _directions(64, "d").abs())
    rng = generator(0, "loss")
    with torch.no_grad():
        model.visibility_network().last.weight.fill_(0.1)
    visibility_loss(model, rays, model(rays, rng)[1], rng).backward()
    for name, parameter in model.named_parameters():
        reached = parameter.grad is not None and bool((parameter.grad != 0).any())
        assert reached is name.startswith("visibility"), name
    behind = -0.5 * _directions(200, "d").abs() - 0.1
    assert not bool(model.visibility_network().sights.seen(behind).any())  # where no ray of the batch went


def test_its_weight_scales_its_term_and_zero_silences_it():
    rays = _rays(torch.tensor([[1.0, 2.0, 3.0]]).expand(64, 3), _directions(64, "d"))
    totals = []
    for weight in (0.0, 1.0):
        model = _model()
        config = load_config(None, [*SMALL, f"training.visibility_loss_weight={weight}"]).training
        batch = PixelBatch(rays, torch.zeros(64, 3), torch.zeros(64, 2), torch.ones(64, dtype=torch.bool), None)
        total, terms = BlockNeRFLoss(config)(model, batch, generator(0, "loss"))
        totals.append(float(total.detach()))
    assert totals[1] - totals[0] == pytest.approx(float(terms["visibility"]), rel=1e-3)
    assert math.isfinite(totals[0])


def test_without_a_network():
    config = load_config(None, [*SMALL, "training.use_visibility_network=false"])
    model = BlockNeRF(config, (0.0, 0.0, 0.0), 1.0, (), (), generator(0, "model"))
    assert model.mean_visibility(_rays(torch.zeros(5, 3), _directions(5, "d"))) is None
    assert model.view_confidence(_rays(torch.zeros(5, 3), _directions(5, "d")), torch.ones(5)) is None
    with pytest.raises(UserError, match="without a visibility network"):
        model.visibility_at(torch.zeros(1, 3), _directions(1, "d"))


def test_a_place_drawn_at_the_end_of_space_is_no_error(monkeypatch):
    """A corner of the contracted cube, where infinity is, comes once in some tens of thousands of steps."""
    model, rng = _model(), generator(0, "loss")
    rays = _rays(torch.zeros(64, 3), _directions(64, "d"))
    composited = model(rays, rng)[1]
    monkeypatch.setattr(torch, "rand", lambda *shape, generator: torch.zeros(*shape))
    assert visibility_loss(model, rays, composited, rng).isfinite()


def _paper(*overrides: str) -> BlockNeRF:
    """The paper's network of visibility, in front of the wall."""
    settings = ("use_camera_features=false", "use_block_features=false", "use_random_pairs=false", "loss=squared")
    config = load_config(None, [*SMALL, *(f"visibility_network.{line}" for line in settings), *overrides])
    model = BlockNeRF(config, (-2.0, 0.0, 0.0), 8.0, (), (), generator(0, "model"))
    model.field = WalledRoom(torch.tensor((-2.0, 0.0, 0.0)), 8.0)
    return model


def test_the_papers_loss_is_the_squared_error_of_the_transmittance_on_samples_of_training_rays():
    model, rng = _paper(), generator(3, "train")
    network, rays = model.visibility_network(), _rays(*_looks(-1.0, TRAINING_RAYS, rng))
    with torch.no_grad():
        network.last.weight.normal_(generator=rng)
        network.last.bias.fill_(1.5)
    composited = model(rays, None)[1]
    asked = []
    with mock.patch.object(
        network, "logits", side_effect=lambda *a: asked.append(a) or type(network).logits(network, *a)
    ):
        loss = visibility_loss(model, rays, composited, rng)
    points, directions, distances, _ = asked[0]
    assert len(points) == TRAINING_RAYS * (SAMPLES + 1)
    predicted = torch.sigmoid(network.logits(points, directions, distances)).detach()
    ray = torch.arange(TRAINING_RAYS).repeat_interleave(SAMPLES + 1)
    edges = composited.edges[ray]
    interval = (torch.searchsorted(edges.contiguous(), distances[:, None].contiguous()) - 1).clamp(
        0, edges.shape[1] - 2
    )
    arriving = 1 - composited.weights.cumsum(-1) + composited.weights
    truth = arriving[ray].gather(1, interval)[:, 0]
    assert float(loss.detach()) == pytest.approx(float((predicted - truth).square().mean()), rel=1e-4)


def test_the_papers_visibility_learns_its_own_side_of_the_wall():
    model, rng = _paper(), generator(0, "train")
    network = model.visibility_network()
    optimizer = torch.optim.Adam(network.parameters_to_learn(), lr=4e-3)
    losses = []
    for _ in range(100):
        rays = _rays(*_looks(-1.0, 600, rng))
        losses.append(visibility_loss(model, rays, model(rays, rng)[1], rng))
        optimizer.zero_grad()
        losses[-1].backward()
        optimizer.step()
    assert float(losses[-1].detach()) < 0.5 * float(losses[0].detach())
