"""Limits of the proposal grid, apart from its kernels: processes that compile these need no torch."""

MAX_LOG_DENSITY = 12.0
