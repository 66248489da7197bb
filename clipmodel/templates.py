"""Prompt templates for class names, by kind of picture. Our own wording; `{}` is where the name goes."""

from __future__ import annotations

TEMPLATES: dict[str, tuple[str, ...]] = {
    "simple": ("{}",),
    "photo": (
        "a photo of a {}.",
        "a photograph of the {}.",
        "a close photo of a {}.",
        "a photo of a {} from afar.",
        "a photo of a small {}.",
        "a photo of a large {}.",
        "a sharp photo of a {}.",
        "a blurred photo of a {}.",
        "a bright photo of a {}.",
        "a photo of a {} in the dark.",
        "a black and white photo of a {}.",
        "a photo of one {} among other things.",
        "a photo of many {}.",
        "part of a {} in a photo.",
        "a {} seen through a camera.",
        "a picture showing a {}.",
        "a picture of my {}.",
        "an image with a {} in it.",
        "a snapshot of a {} outdoors.",
        "a photo of a {} indoors.",
        "a drawing of a {}.",
        "a painting of the {}.",
        "a {} made of plastic.",
        "{}",
    ),
    "drawing": ("{}", "a {}", "a picture of a {}", "an image of a {}", "a drawing of a {}"),
}
