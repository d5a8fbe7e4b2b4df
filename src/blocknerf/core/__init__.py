"""Words everyone shares: seams between parts, errors, configuration, seeds, files, logging."""
