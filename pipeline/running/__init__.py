"""Ray: the cluster, its workers, the driver that gives shards to them, and `embed`, which does all of it."""
