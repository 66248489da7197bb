"""Writes again what the repository keeps of rendered examples."""

from __future__ import annotations

from . import FOLDER, made

for path, text in made().items():
    (FOLDER.parents[1] / path).write_text(text, encoding="utf-8")
