"""Forgetting rows of a dataset: what is asked for is remembered, and deleted wherever it lies."""
