"""Scores for a dataset's rows, from their embeddings: heads that others trained, or functions of one's own."""
