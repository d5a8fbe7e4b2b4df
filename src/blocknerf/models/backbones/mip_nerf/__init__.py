"""The `mlp` backbone: the paper's mip-NeRF."""
