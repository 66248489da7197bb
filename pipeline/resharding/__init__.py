"""New WebDataset shards of a dataset's samples, read again out of the shards they came from."""
