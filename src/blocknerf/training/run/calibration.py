"""How fast this machine trains: a few steps of the field that will be trained, on rays that no camera took."""

import time
from statistics import median

import torch

from blocknerf.blocks.budget import Machine
from blocknerf.blocks.cost import step_cost
from blocknerf.core.config.config import Config
from blocknerf.core.logging import log
from blocknerf.core.seeds import generator
from blocknerf.core.types import RayBatch, on_device
from blocknerf.kernels.jit.precompile import finish_compiling
from blocknerf.models.block_nerf import BlockNeRF
from blocknerf.runtime.cores import available_cores
from blocknerf.runtime.devices import CPU, default_device
from blocknerf.runtime.threads import use_threads
from blocknerf.scene.sampler import PixelBatch
from blocknerf.training.block.losses.block_nerf_loss import BlockNeRFLoss
from blocknerf.training.block.optimizer import BlockOptimizer

MEASURED_S, STEP_S = 1.5, 0.25
FIRST_STEPS, FEWEST_STEPS = 1, 3
"""The first ones touch memory for the first time and are not counted."""
FEWEST_RAYS = 16
IMAGES = 8
PLAIN = {
    "use_pose_refinement": False,
    "use_exposure_encoding": False,
    "rgb_ssim_share": 0.0,
    "depth_loss_weight": 0.0,
    "consistency_loss_weight": 0.0,
}
"""Parts of training that need photographs."""


def measured(config: Config, devices: tuple[str, ...]) -> Machine:
    """Rays of training per second of the field of `config`, on all cores or on the first of `devices`.

    Takes some seconds, and up to half a minute more the first time on a machine, when kernels are compiled.
    """
    on_cores = devices == (CPU,)
    count, together = (available_cores(), available_cores()) if on_cores else (len(devices), 1)
    log.info("Measuring how fast this machine trains, which takes some seconds.")
    finish_compiling()
    use_threads(available_cores(), config.block_nerf.worker)
    rays = _rays_of_a_step(config, together)
    step_s = _step_s(config, devices[0], rays)
    return Machine(rays / step_s / together, count, "core" if on_cores else "device")


def _rays_of_a_step(config: Config, cores: int) -> int:
    """Those of the configuration, or as many as are expected to take STEP_S."""
    expected = STEP_S * cores * step_cost(config).rays_per_second_per_core
    return max(FEWEST_RAYS, min(config.dataset.batch_size, int(expected)))


def _step_s(config: Config, device: str, rays: int) -> float:
    """Median seconds of a step."""
    config = config.model_copy(update={"training": config.training.model_copy(update=PLAIN)})
    rng = generator(config.training.seed, "calibration")
    names = tuple(f"{number}" for number in range(IMAGES))
    model = BlockNeRF(config, (0.0, 0.0, 0.0), 1.0, names, ("",) * IMAGES, rng).to(device)
    optimizer, loss = BlockOptimizer(model, config.training), BlockNeRFLoss(config.training)
    rates: dict[str, float] = {"nerf": 1e-3, "appearance": 1e-3, "visibility": 1e-3}
    torch_rng = rng if device == CPU else torch.Generator(device).manual_seed(0)
    times_s: list[float] = []
    while len(times_s) < FIRST_STEPS + FEWEST_STEPS or sum(times_s[FIRST_STEPS:]) < MEASURED_S:
        begin = time.perf_counter()
        batch = on_device(_batch(rays, rng), model.device)
        with default_device(model.device):
            total, _ = loss(model, batch, torch_rng)
        total.backward()
        optimizer.step(rates)
        float(total.detach())  # waits for a device
        times_s.append(time.perf_counter() - begin)
    return median(times_s[FIRST_STEPS:])


def _batch(rays: int, rng: torch.Generator) -> PixelBatch:
    """Rays from places in the block, in all directions."""
    directions = torch.randn(rays, 3, generator=rng)
    return PixelBatch(
        RayBatch(
            origins=torch.rand(rays, 3, generator=rng) - 0.5,
            directions=directions / directions.norm(dim=-1, keepdim=True),
            image_slots=torch.randint(IMAGES, (rays,), generator=rng),
            radii=torch.full((rays,), 1e-3),
        ),
        rgb=torch.rand(rays, 3, generator=rng),
        pixels_xy=torch.zeros(rays, 2),
        valid=torch.ones(rays, dtype=torch.bool),
        distance_m=None,
    )
