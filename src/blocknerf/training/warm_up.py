"""Compiles the kernels before the clock starts."""

import time

import torch

from blocknerf.core.config import load_config
from blocknerf.core.logging import log
from blocknerf.core.seeds import generator
from blocknerf.core.types import RayBatch
from blocknerf.models.block_nerf import BlockNeRF
from blocknerf.training.losses import BlockNeRFLoss
from blocknerf.training.optimizer import BlockOptimizer

LONG_S = 2.0


def warm_up() -> None:
    """Takes one step of a field too small to matter. The first time on a machine this takes a minute or less."""
    begin = time.perf_counter()
    rng = generator(0, "warm up")
    config = load_config(None, ["block_nerf.hash_grid.log2_table_rows=8", "block_nerf.proposal_resolution=8"])
    model = BlockNeRF(config, (0.0, 0.0, 0.0), 1.0, ("none",), ("none",), rng)
    optimizer = BlockOptimizer(model, config.training)
    directions = torch.nn.functional.normalize(torch.randn(8, 3, generator=rng), dim=-1)
    rays = RayBatch(torch.zeros(8, 3), directions, torch.zeros(8, dtype=torch.int64))
    total, _ = BlockNeRFLoss(config.training)(model, rays, torch.zeros(8, 3), rng)
    total.backward()
    optimizer.step({"nerf": 1e-3, "appearance": 1e-3})
    spent_s = time.perf_counter() - begin
    if spent_s > LONG_S:
        log.info("Kernels compiled in %.0f s; the next run on this machine finds them ready.", spent_s)
