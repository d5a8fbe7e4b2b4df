"""What a training step of the `mlp` backbone takes."""

from blocknerf.core.config.backbone import StepCost
from blocknerf.models.backbones.mip_nerf.field import HEAD_WIDTH
from blocknerf.models.backbones.mip_nerf.keys import MipNerfKeys

FLOPS_PER_SECOND_PER_CORE = 50e9
"""Of training steps in float32; measured 37, 53 and 68 x 10^9 at widths of 128, 256 and 512."""


def cost(config: MipNerfKeys, code_dim: int) -> StepCost:
    """Every parameter takes part in 6 operations a sample, 2 forward and 4 backward; of each unit of each layer two
    numbers are kept, and inputs."""
    samples = config.num_samples_coarse + config.num_samples_fine * config.use_hierarchical_sampling
    parameters = _parameters(config, code_dim)
    return StepCost(
        parameters=parameters,
        bytes_per_ray=samples * (8 * config.num_layers * config.hidden_dim + 2_500),
        rays_per_second_per_core=FLOPS_PER_SECOND_PER_CORE / (6 * parameters * samples),
    )


def _parameters(config: MipNerfKeys, code_dim: int) -> int:
    encoded, width, head = 6 * config.pos_encoding_levels, config.hidden_dim, HEAD_WIDTH
    trunk = encoded * (1 + len(config.skip_connections)) * width + (config.num_layers - 1) * width**2
    colour = width**2 + (width + 6 * config.dir_encoding_levels + code_dim) * head + 2 * head**2
    return trunk + colour + (config.num_layers + 2) * width
