"""One appearance across blocks that were trained separately: their overlaps, the fit in them, and its file."""
