"""Losses, schedule, optimiser, the loop of one block, the run over many."""
