"""Campaigns against everything that people bring: the same targets as tests/faults, for minutes or hours."""
