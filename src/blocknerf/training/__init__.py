"""Training: one block, neighbours that learn jointly, a run over many blocks, and the launchers."""
