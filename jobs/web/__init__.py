"""The web page of `clipmill serve`."""
