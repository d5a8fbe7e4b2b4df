"""A run over many blocks: its folders, what is left to do, order, updates, resuming, and one block of it."""
