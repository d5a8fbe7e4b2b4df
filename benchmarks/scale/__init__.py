"""What is taken of time and memory: by a step, a training, a viewer, many blocks, several machines."""
