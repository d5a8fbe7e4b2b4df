"""The cost of the kernels of a training step, on the processor and on a CUDA device."""
