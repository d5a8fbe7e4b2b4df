"""Kernels on a CUDA device: are they correct, and how fast are they?"""
