"""A run over many blocks: its folders, which blocks to train, their order, updates, resuming, and one block of it."""
