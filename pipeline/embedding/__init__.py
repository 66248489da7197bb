"""One shard's way: read, decode, encode, score, write, commit. What runs on CPUs and what on a GPU lies here."""
