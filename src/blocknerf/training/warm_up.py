"""Compiles the kernels before the clock starts."""

import time

from blocknerf.core.config import load_config
from blocknerf.core.logging import log
from blocknerf.core.seeds import generator
from blocknerf.models.block_nerf import BlockNeRF
from blocknerf.scene.sampler import PixelSampler
from blocknerf.training.losses import BlockNeRFLoss
from blocknerf.training.optimizer import BlockOptimizer

LONG_S = 2.0


def warm_up(sampler: PixelSampler, backbone: str) -> None:
    """Takes one step of a field too small to matter on a batch of `sampler`, which is then of no use.

    The first time on a machine this takes a minute or less.
    """
    begin = time.perf_counter()
    rng = generator(0, "warm up")
    tiny = ("hidden_dim=8", "num_samples_fine=4", "hash_grid.log2_table_rows=8", "proposal_resolution=8")
    field = [f"block_nerf.{override}" for override in (f"backbone={backbone}", *tiny)]
    without = ("use_appearance_embedding=false", "rgb_ssim_share=0", "depth_loss_weight=0")
    config = load_config(None, [*field, *(f"training.{override}" for override in without)])
    sampler.next_patches(1, 1)
    batch = sampler.next()
    model = BlockNeRF(config, (0.0, 0.0, 0.0), 1.0, (), (), rng)
    optimizer = BlockOptimizer(model, config.training)
    batch.rays.origins.requires_grad_()  # pose refinement asks kernels for more
    total, _ = BlockNeRFLoss(config.training)(model, batch, rng)
    total.backward()
    optimizer.step({"nerf": 1e-3, "visibility": 1e-3})
    spent_s = time.perf_counter() - begin
    if spent_s > LONG_S:
        log.info("Kernels compiled in %.0f s; the next run on this machine finds them ready.", spent_s)
