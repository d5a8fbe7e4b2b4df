"""What the kernels of a training step cost, on the processor and on a CUDA device."""
