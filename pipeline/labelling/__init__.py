"""Zero-shot labels for a dataset's images, from their embeddings."""
