"""Measurements of which docs/results.md and docs/performance.md have their tables. Run them on a quiet machine."""
