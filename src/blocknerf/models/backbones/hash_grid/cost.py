"""What a training step of the `hash` backbone takes."""

from blocknerf.core.config.backbone import StepCost
from blocknerf.kernels.hash_grid.ops import FEATURES
from blocknerf.models.backbones.hash_grid.keys import HashKeys

RAYS_PER_SECOND_PER_CORE = 16_000.0
"""Training rays of the default field (64 proposal, 16 field samples); other sample counts scale it."""
PROPOSAL_SAMPLE_COST = 0.1
"""A sample of the proposal grid beside one of the field."""
NETWORK_PARAMETERS = 20_000
BYTES_PER_SAMPLE = 1_500
"""Activations and gradients of one field sample in a training step."""


def cost(config: HashKeys) -> StepCost:
    tables = config.hash_grid.num_levels * 2**config.hash_grid.log2_table_rows * FEATURES
    return StepCost(
        parameters=tables + (config.proposal_resolution + 1) ** 3 + NETWORK_PARAMETERS,
        bytes_per_ray=config.num_samples_fine * BYTES_PER_SAMPLE,
        rays_per_second_per_core=RAYS_PER_SECOND_PER_CORE * _work(type(config)()) / _work(config),
    )


def _work(config: HashKeys) -> float:
    return config.num_samples_fine + PROPOSAL_SAMPLE_COST * config.num_samples_coarse
