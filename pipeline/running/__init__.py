"""Shards over workers until every one is done or given up, and what a run tells of meanwhile."""
