"""Checks of a capture, a block or a run, with results as plain sentences, and pictures of one ray."""
