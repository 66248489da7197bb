"""What the encoder needs around it: models by name and on every machine, batches, the way to a GPU and back."""
