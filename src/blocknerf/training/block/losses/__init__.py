"""Losses: their terms as functions of tensors, and the weighted total of a block."""
