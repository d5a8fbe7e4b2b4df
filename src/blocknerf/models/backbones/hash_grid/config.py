"""The `hash` backbone: its keys, and what the program asks of it."""

from typing import ClassVar

from blocknerf.core.config.backbone import StepCost, lowered, register_backbone
from blocknerf.models.backbones.hash_grid.keys import HashGridConfig, HashKeys


@register_backbone
class HashConfig(HashKeys):
    """`backbone: hash`: a hash grid with small networks, learned in minutes."""

    worker: ClassVar = "numba"
    losses: ClassVar = ("interlevel",)
    kernels: ClassVar = (
        *("mlp.backward_three", "mlp.backward", "hash_grid.encode", "mlp.forward_three", "mlp.forward"),
        "hash_grid.encode_backward_table",
        *("proposal.density_backward", "sparse_adam.step", "proposal.density", "marching.s_to_t"),
        *("compositing.weights_backward", "compositing.accumulate_backward", "histograms.interlevel"),
        *("compositing.accumulate", "marching.unit_cube_points", "compositing.weights", "histograms.resample"),
        *("histograms.distortion", "log_density.density", "log_density.density_backward"),
    )

    def field(self, code_dim, spacing, white_background, rng):
        from blocknerf.models.backbones.hash_grid.field import HashField

        return HashField(self, code_dim, spacing, white_background, rng)

    def cost(self, code_dim: int) -> StepCost:
        from blocknerf.models.backbones.hash_grid.cost import cost

        return cost(self)

    def for_debug(self) -> "HashConfig":
        grid = lowered(self.hash_grid, num_levels=4, log2_table_rows=10, finest_resolution=128)
        small = lowered(self, hidden_dim=32, num_samples_coarse=16, num_samples_fine=8, proposal_resolution=32)
        return self.model_copy(update={**small, "hash_grid": self.hash_grid.model_copy(update=grid)})

    def for_warmup(self) -> "HashConfig":
        grid = HashGridConfig(log2_table_rows=8)
        return HashConfig(hidden_dim=8, num_samples_fine=4, proposal_resolution=8, hash_grid=grid)
