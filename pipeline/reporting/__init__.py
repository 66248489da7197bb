"""A dataset on one page: numbers, charts, pictures and the templates that they are filled in."""
