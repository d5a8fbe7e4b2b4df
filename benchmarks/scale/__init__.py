"""Time and memory of a step, a training, a viewer, many blocks, several machines."""
