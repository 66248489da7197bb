"""Job specifications: reading YAML strictly, and running the steps it names."""
