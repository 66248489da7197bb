"""Which rows of a dataset stay, by conditions in SQL, recipes or the best share, and why the others went."""
