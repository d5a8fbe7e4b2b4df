"""Compiles the kernels before training time is measured."""

import time

from blocknerf.core.config.config import Config
from blocknerf.core.logging import log
from blocknerf.core.seeds import generator
from blocknerf.kernels.jit.precompile import finish_compiling
from blocknerf.models.block_nerf import BlockNeRF
from blocknerf.scene.sampler import PixelSampler
from blocknerf.scene.store import ImageStore
from blocknerf.training.block.losses.block_nerf_loss import BlockNeRFLoss
from blocknerf.training.block.optimizer import BlockOptimizer

LONG_S = 2.0


def warmup(store: ImageStore, image_ids: tuple[str, ...], config: Config) -> None:
    """Takes one step of a very small field on a small batch of the images.

    This compiles what training with `config` will call, which takes half a minute the first time on a machine.
    """
    begin = time.perf_counter()
    sampler = PixelSampler(store, image_ids, batch_size=8, seed=0)
    rng = generator(0, "warm up")
    without = {"use_appearance_embedding": False, "rgb_ssim_share": 0, "depth_loss_weight": 0}
    small = Config.model_validate({"block_nerf": config.block_nerf.for_warmup(), "training": without})
    if config.needs_patches:
        sampler.next_patches(1, 1)
    batch = sampler.next()
    finish_compiling()
    model = BlockNeRF(small, (0.0, 0.0, 0.0), 1.0, (), (), rng)
    optimizer = BlockOptimizer(model, small.training)
    if config.training.use_pose_refinement:
        batch.rays.origins.requires_grad_()  # needs further kernels
    total, _ = BlockNeRFLoss(small.training)(model, batch, rng)
    total.backward()
    optimizer.step({"nerf": 1e-3, "visibility": 1e-3})
    spent_s = time.perf_counter() - begin
    if spent_s > LONG_S:
        log.info("Kernels compiled in %.0f s. The next run on this machine reuses them.", spent_s)
