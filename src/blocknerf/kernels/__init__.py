"""The hot loops. Per operation a plain torch twin, which is the truth, and a numba kernel for float32 on a CPU."""
