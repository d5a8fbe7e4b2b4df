"""One look across blocks that were trained apart: where neighbours see the same, what is fitted there, its file."""
