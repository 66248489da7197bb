"""The classes that images are labelled with: one a line, or CSV, JSON or YAML with ids and prompts."""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

import yaml

from ...clipmodel.templates import TEMPLATES
from ..errors import ClipmillError, InputError
from ..inputs.text_file import lines_of, read_text

NONE = "none"  # the label of images whose best one is below the threshold
_FIELDS = ("name", "id", "prompts")
_BAR = "|"  # between the prompts of one CSV cell


@dataclass(frozen=True)
class LabelClass:
    """prompts: its own, in place of the templates; `{}` in them stands for the name, too."""

    name: str
    id: int | str | None = None
    prompts: tuple[str, ...] = ()

    def prompted(self, templates: Sequence[str]) -> list[str]:
        return [prompt.replace("{}", self.name) for prompt in self.prompts or templates]


@dataclass(frozen=True)
class Classes:
    """In the order of the file. Every one has an id: all whole numbers, or all texts."""

    every: tuple[LabelClass, ...]

    @property
    def names(self) -> list[str]:
        return [each.name for each in self.every]

    @property
    def ids(self) -> list[Any]:
        return [each.id for each in self.every]

    @property
    def digest(self) -> str:
        said = json.dumps([[each.name, each.id, each.prompts] for each in self.every])
        return hashlib.sha256(said.encode()).hexdigest()

    def prompts(self, templates: Sequence[str]) -> Iterator[list[str]]:
        return (each.prompted(templates) for each in self.every)


def read_classes(path: str, storage_options: Mapping[str, Any] | None = None) -> Classes:
    """By the file's ending: .csv with a header (`name`, perhaps `id`, perhaps `prompts` with `|` between them), .json
    or .yaml with a list (of names, or of objects with these fields), anything else one name a line. Without ids a
    class's place from 0 is its id. InputError for what is wrong, with the file and the place in it."""
    text = read_text(path, storage_options)
    parse = _PARSERS.get(PurePosixPath(path).suffix.lower(), _from_lines)
    try:
        every = list(parse(text))
    except ClipmillError as error:
        raise InputError(f"{path}: {error}") from error
    if not every:
        raise InputError(f"{path}: no class in it; write one name a line")
    return _with_ids(path, every)


def read_templates(wanted: str, storage_options: Mapping[str, Any] | None = None) -> tuple[str, ...]:
    """A built-in set's name, a text with `{}`, or a file with one template a line. InputError for what is none."""
    if wanted in TEMPLATES:
        return TEMPLATES[wanted]
    if "{}" in wanted:
        return (wanted,)
    try:
        templates = tuple(lines_of(read_text(wanted, storage_options)))
    except InputError as error:
        raise InputError(
            f"--templates {wanted}: no built-in set ({', '.join(TEMPLATES)}), no text with {{}} for the name, and no "
            f"such file ({error})"
        ) from error
    if not templates:
        raise InputError(f"{wanted}: no template in it; write one a line, with {{}} for the name")
    for template in templates:
        if "{}" not in template:
            raise InputError(f"{wanted}: template {template!r} has no {{}} for the class name")
    return templates


def _from_lines(text: str) -> Iterator[LabelClass]:
    return (LabelClass(line) for line in lines_of(text))


def _from_csv(text: str) -> Iterator[LabelClass]:
    # strict: a quote that is never closed would else swallow every class after it
    rows = csv.DictReader(io.StringIO(text), skipinitialspace=True, strict=True)
    try:
        yield from _from_rows(rows)
    except csv.Error as error:
        raise InputError(f"no CSV: line {rows.reader.line_num}: {error}; is every quote closed?") from error


def _from_rows(rows: csv.DictReader[str]) -> Iterator[LabelClass]:
    header = [name.strip().lower() for name in rows.fieldnames or ()]
    if "name" not in header or set(header) - set(_FIELDS):
        raise InputError(f"the header must be name, and perhaps id and prompts; it is {', '.join(header) or 'missing'}")
    rows.fieldnames = header
    for row in rows:
        if None in row:
            raise InputError(f"line {rows.line_num}: more cells than the header has; put quotes around a comma")
        if name := (row["name"] or "").strip():
            prompts = [each.strip() for each in (row.get("prompts") or "").split(_BAR)]
            id = (row.get("id") or "").strip() or None
            yield LabelClass(name, id, tuple(filter(None, prompts)))


def _from_json(text: str) -> Iterator[LabelClass]:
    try:
        return _from_items(json.loads(text))
    except ValueError as error:
        raise InputError(f"no JSON: {error}") from error


def _from_yaml(text: str) -> Iterator[LabelClass]:
    try:
        return _from_items(yaml.safe_load(text))
    except yaml.YAMLError as error:
        raise InputError(f"no YAML: {' '.join(str(error).split())}") from error
    except ValueError as error:  # 2024-13-45 is taken for a date, which it is not
        raise InputError(f"no YAML: {error}; put names that look like a date or a number in quotes") from error


def _from_items(items: Any) -> Iterator[LabelClass]:
    if not isinstance(items, list):
        raise InputError("must be a list: of names, or of objects with name, and perhaps id and prompts")
    return (_from_item(place, item) for place, item in enumerate(items, start=1))


def _from_item(place: int, item: Any) -> LabelClass:
    fields = {"name": item} if isinstance(item, str) else item
    if not isinstance(fields, dict):
        raise InputError(f"item {place}: {item!r} is no name; put it in quotes")
    if unknown := [key for key in fields if key not in _FIELDS]:
        raise InputError(f"item {place}: unknown field {unknown[0]!r}; there are {', '.join(_FIELDS)}")
    name, id, prompts = fields.get("name"), fields.get("id"), fields.get("prompts") or []
    if not isinstance(name, str) or not name.strip():
        raise InputError(f"item {place}: name is {name!r}; it must be a text")
    if isinstance(id, bool) or not isinstance(id, (int, str, type(None))):
        raise InputError(f"item {place}: id is {id!r}; it must be a whole number or a text")
    prompts = [prompts] if isinstance(prompts, str) else prompts
    if not isinstance(prompts, list) or not all(isinstance(each, str) and each.strip() for each in prompts):
        raise InputError(f"item {place}: prompts must be a list of texts")
    if halves := [each for each in (name, id, *prompts) if isinstance(each, str) and not _is_unicode(each)]:
        raise InputError(f"item {place}: {halves[0]!r} has half of a surrogate pair, which no text can hold")
    return LabelClass(name.strip(), id, tuple(prompts))


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


_PARSERS: dict[str, Callable[[str], Iterable[LabelClass]]] = {
    ".csv": _from_csv,
    ".json": _from_json,
    ".yaml": _from_yaml,
    ".yml": _from_yaml,
}


def _with_ids(path: str, every: Sequence[LabelClass]) -> Classes:
    """Ids that are all whole numbers become such, however they were written."""
    if any(each.name == NONE for each in every):
        raise InputError(f"{path}: a class cannot be called {NONE}, the label of images that fit none; rename it")
    given = [each.id for each in every]
    without = given.count(None)
    if 0 < without < len(given):
        name = every[given.index(None)].name
        raise InputError(f"{path}: class {name!r} has no id, but others have; give all of them one, or none")
    ids: list[Any] = list(range(len(every))) if without else given
    with_numbers = all(map(_is_number, ids))
    ids = [int(id) if with_numbers else str(id) for id in ids]
    _refuse_twice(path, "id", ids)
    if without:
        _refuse_twice(path, "name", [each.name for each in every])
    return Classes(tuple(LabelClass(each.name, id, each.prompts) for each, id in zip(every, ids, strict=True)))


def _is_number(id: int | str) -> bool:
    """Of 64 bits, and written without leading zeros, which would be lost."""
    text = str(id)
    return text.removeprefix("-").isdecimal() and text.isascii() and len(text) < 19 and str(int(text)) == text


def _refuse_twice(path: str, what: str, values: Sequence[Any]) -> None:
    value, count = Counter(values).most_common(1)[0]
    if count > 1:
        raise InputError(f"{path}: {what} {value!r} is there {count} times; labels could not be told apart")
