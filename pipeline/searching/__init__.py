"""Which rows fit a text, an image or another row, exactly or by an index; and their pictures, for a page."""
