"""What compiled functions share: the decorator, the parallel loop, SIMD code, fast functions, precompilation."""
