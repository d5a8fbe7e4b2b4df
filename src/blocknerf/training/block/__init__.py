"""One block: inputs, model, batches, losses, optimiser, checkpoint, validation, and the loop over its steps."""
