"""Fields of the samples, copied beside a dataset when it is embedded already."""
