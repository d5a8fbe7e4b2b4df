"""Interfaces for other programs that call blocknerf."""
