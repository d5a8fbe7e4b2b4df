"""Fields that are small enough to learn within a test, one of each backbone."""

SMALL_HASH = (
    "block_nerf.hash_grid.num_levels=3",
    "block_nerf.hash_grid.log2_table_rows=10",
    "block_nerf.hash_grid.finest_resolution=64",
    "block_nerf.proposal_resolution=16",
    "block_nerf.hidden_dim=16",
    "block_nerf.num_samples_coarse=16",
    "block_nerf.num_samples_fine=8",
)
SMALL_MLP = (
    "block_nerf.backbone=mlp",
    "block_nerf.num_layers=4",
    "block_nerf.skip_connections=[1]",
    "block_nerf.pos_encoding_levels=6",
    "block_nerf.hidden_dim=32",
    "block_nerf.num_samples_coarse=16",
    "block_nerf.num_samples_fine=16",
)
SMALL = {"hash": SMALL_HASH, "mlp": SMALL_MLP}
