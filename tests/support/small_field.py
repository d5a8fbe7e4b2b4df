"""The settings of a field that is small enough to learn within a test."""

SMALL_HASH = (
    "block_nerf.hash_grid.num_levels=3",
    "block_nerf.hash_grid.log2_table_rows=10",
    "block_nerf.hash_grid.finest_resolution=64",
    "block_nerf.proposal_resolution=16",
    "block_nerf.hidden_dim=16",
)
