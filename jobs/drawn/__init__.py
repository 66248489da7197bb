"""Drawn scenes and their captions: the world that the shipped `tiny` model knows, and the demo is about."""
