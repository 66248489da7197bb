"""A subset without duplicates: equal files, then embeddings that are near each other, found cell by cell."""
