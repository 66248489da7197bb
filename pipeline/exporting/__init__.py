"""A dataset in layouts that other tools read, one module a layout."""
