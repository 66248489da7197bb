"""Options of `label`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated

from typing_extensions import Doc

from ..errors import UserError
from .common import Address, Alias, DatasetUrl, Overwrite, StorageOptions, WeightsOf, Within
from .flags import Flag
from .readable import Readable


@dataclass(frozen=True, repr=False)
class LabelJob(Readable):
    """The classes that a dataset's images are labelled with, and where the labels go."""

    dataset: DatasetUrl
    out: Annotated[str, Doc("Folder or prefix for the labels: one file for each part."), Flag(("--out", "-o"))]
    classes: Annotated[
        str,
        Doc(
            "The class names: a text file with one a line; CSV with a header (name, and perhaps id and prompts); JSON "
            "or YAML with a list of names or of objects with these fields."
        ),
        Flag(metavar="FILE"),
    ]
    templates: Annotated[
        str,
        Doc(
            "Prompts, {} for the name: photo, simple or drawing (built in), a language's code for names in it (de, fr, "
            "zh; docs/label.md), a text, or a file with one a line."
        ),
        Flag(metavar="NAME|TEXT|FILE"),
    ] = "photo"
    top_k: Annotated[int, Doc("How many labels an image, best first.")] = 5
    threshold: Annotated[
        float | None, Doc("An image whose best label is less probable is labelled none."), Flag(default="no threshold")
    ] = None
    background: Annotated[
        Sequence[str],
        Doc(
            "The name of something else that images show, such as text or a person: an image that it fits better than "
            "any class is labelled none. Repeatable."
        ),
        Flag(metavar="NAME", default="general words, which are measured and change no label"),
    ] = ()
    truth: Annotated[
        str | None,
        Doc("A column with the right names or ids: tells accuracy, and each class's precision and recall."),
        Flag(metavar="COLUMN", default="unknown"),
    ] = None
    within: Within = None
    alias: Alias = None
    model: WeightsOf = None
    overwrite: Overwrite = False
    address: Address = "auto"
    storage_options: StorageOptions = field(default_factory=dict)

    def check(self) -> None:
        """UserError for values that no run could use."""
        if self.top_k < 1:
            raise UserError(f"--top-k {self.top_k}: must be at least 1")
        if self.threshold is not None and not 0 <= self.threshold <= 1:
            raise UserError(f"--threshold {self.threshold:g}: must be a probability, from 0 to 1")
        if not all(name.strip() for name in self.background):
            raise UserError("--background: the name is empty; name what else the images show, or leave it out")
