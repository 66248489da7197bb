"""Training a CLIP on the shards that `embed` reads, and measuring what it can do."""
