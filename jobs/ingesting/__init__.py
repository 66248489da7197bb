"""URLs in, image-text shards out, through img2dataset."""
