"""Measurements for the tables of docs/results.md and docs/performance.md. Run them on a quiet machine."""
