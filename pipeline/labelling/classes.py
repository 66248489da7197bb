"""The classes that images are labelled with, and the templates that make prompts of their names."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import Any

from ...clipmodel.templates import TEMPLATES
from ..errors import InputError
from ..inputs.text_file import read_text
from .class_files import LabelClass, check_no_nul, check_text, numbered_lines, parse_classes

NONE = "none"  # the label of images whose best one is below the threshold


@dataclass(frozen=True)
class Classes:
    """In the order of the file. Every one has an id: all whole numbers, or all texts."""

    every: tuple[LabelClass, ...]

    @property
    def names(self) -> list[str]:
        return [label_class.name for label_class in self.every]

    @property
    def ids(self) -> list[Any]:
        return [label_class.id for label_class in self.every]

    @property
    def digest(self) -> str:
        """sha256, hexadecimal, of all that labels depend on."""
        content = json.dumps([[label_class.name, label_class.id, label_class.prompts] for label_class in self.every])
        return hashlib.sha256(content.encode()).hexdigest()

    def prompts(self, templates: Sequence[str]) -> Iterator[list[str]]:
        return (label_class.prompted(templates) for label_class in self.every)


def read_classes(path: str, storage_options: Mapping[str, Any] | None = None) -> Classes:
    """By the file's ending: .csv with a header (`name`, perhaps `id`, perhaps `prompts` with `|` between them), .json
    or .yaml with a list (of names, or of objects with these fields), anything else one name a line. Without ids, the
    classes are numbered from 0. InputError for what is wrong, with the file and the line or item."""
    text = read_text(path, storage_options)
    try:
        classes = parse_classes(text, PurePosixPath(path).suffix.lower())
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    if not classes:
        raise InputError(f"{path}: no class in it; write one name a line")
    return _with_ids(path, classes)


def read_templates(name: str, storage_options: Mapping[str, Any] | None = None) -> tuple[str, ...]:
    """name: a built-in set, a text with `{}`, or a file with one template a line. InputError for anything else."""
    if name in TEMPLATES:
        return TEMPLATES[name]
    if "{}" in name:
        return (name,)
    try:
        text = read_text(name, storage_options)
    except InputError as error:
        raise InputError(
            f"--templates {name}: not a built-in set ({', '.join(TEMPLATES)}), not a text with {{}} for the class "
            f"name, and not a file that can be read ({error})"
        ) from error
    try:
        templates = _templates_in(text)
    except InputError as error:
        raise InputError(f"{name}: {error}") from error
    if not templates:
        raise InputError(f"{name}: no template in it; write one a line, with {{}} for the class name")
    return templates


def _templates_in(text: str) -> tuple[str, ...]:
    check_no_nul(text)
    templates = list(numbered_lines(text))
    for position, template in templates:
        check_text(position, "template", template)
        if "{}" not in template:
            raise InputError(f"{position}: template {template!r} has no {{}} for the class name; add it")
    return tuple(template for _, template in templates)


def _with_ids(path: str, classes: Sequence[LabelClass]) -> Classes:
    """Ids that are all whole numbers become such, however they were written."""
    if any(label_class.name == NONE for label_class in classes):
        raise InputError(f"{path}: a class cannot be called {NONE}, the label of images that fit none; rename it")
    written = [label_class.id for label_class in classes]
    missing = written.count(None)
    if 0 < missing < len(written):
        name = classes[written.index(None)].name
        raise InputError(f"{path}: class {name!r} has no id, but others have; give all of them one, or none")
    ids: list[Any] = list(range(len(classes))) if missing else written
    are_numbers = all(map(_is_number, ids))
    ids = [int(id) if are_numbers else str(id) for id in ids]
    _refuse_twice(path, "id", ids)
    if missing:
        _refuse_twice(path, "name", [label_class.name for label_class in classes])
    return Classes(tuple(replace(label_class, id=id) for label_class, id in zip(classes, ids, strict=True)))


def _is_number(id: int | str) -> bool:
    """Of 64 bits, and written without leading zeros, which would be lost."""
    text = str(id)
    return text.removeprefix("-").isdecimal() and text.isascii() and len(text) < 19 and str(int(text)) == text


def _refuse_twice(path: str, field: str, values: Sequence[Any]) -> None:
    value, count = Counter(values).most_common(1)[0]
    if count > 1:
        raise InputError(f"{path}: {field} {value!r} is there {count} times; keep one, or labels would be ambiguous")
