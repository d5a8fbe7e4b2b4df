"""Kernels on a CUDA device: whether they are right, and how fast they are."""
