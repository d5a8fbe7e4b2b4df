"""The hot loops. Each operation has a reference in plain torch, and kernels for float32 on a CPU and on CUDA."""
