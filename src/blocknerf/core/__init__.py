"""What all rooms share: types, errors, configuration, seeds, files, logging."""
