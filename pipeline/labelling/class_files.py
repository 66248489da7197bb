"""Files of class names: one name a line, CSV, JSON or YAML. Whatever is wrong with one is an InputError of one line."""

from __future__ import annotations

import csv
import io
import json
import reprlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import yaml

from ..errors import InputError, one_line

_FIELDS = ("name", "id", "prompts")
_BAR = "|"  # between the prompts of one CSV cell
_LONGEST = 4096  # characters of a name, an id or a prompt: CLIP reads some 77 tokens, and each row repeats its label
_MOST_PROMPTS = 5_000_000  # of all classes: YAML's aliases can repeat a list for each of them
_MOST_DIGITS = 50_000  # of a YAML number
_MOST_FIELDS = 1000  # of one YAML mapping: merges of merges (`<<`) double it each time

_short = reprlib.Repr()
_short.maxlevel, _short.maxlist, _short.maxdict, _short.maxstring = 2, 3, 3, 100


@dataclass(frozen=True)
class LabelClass:
    """prompts: the class's own, in place of the templates; `{}` in them stands for the name, too."""

    name: str
    id: int | str | None = None
    prompts: tuple[str, ...] = ()

    def prompted(self, templates: Iterable[str]) -> list[str]:
        return [prompt.replace("{}", self.name) for prompt in self.prompts or templates]


def parse_classes(text: str, suffix: str) -> list[LabelClass]:
    """The classes of a file's text, in order. suffix: the file's, such as `.csv`; unknown ones mean one name a line."""
    check_no_nul(text)
    classes, prompts = [], 0
    for label_class in _PARSERS.get(suffix, _from_lines)(text):
        classes.append(label_class)
        prompts += len(label_class.prompts)
        if prompts > _MOST_PROMPTS:
            raise InputError(f"class {label_class.name!r}: more than {_MOST_PROMPTS:,} prompts so far; use fewer")
    return classes


def numbered_lines(text: str) -> Iterator[tuple[str, str]]:
    """`line N`, counted from 1, and its text without blanks around it; blank lines are left out."""
    for number, line in enumerate(text.splitlines(), start=1):
        if stripped := line.strip():
            yield f"line {number}", stripped


def check_no_nul(text: str) -> None:
    """InputError for a file with NUL, which is binary, or UTF-16 without its mark."""
    position = text.find("\0")
    if position >= 0:
        line = text.count("\n", 0, position) + 1
        raise InputError(f"line {line}: holds a NUL character, so this is not UTF-8 text; save the file as UTF-8")


def check_text(position: str, field: str, text: str) -> None:
    """InputError for a text that no label or prompt can be."""
    if len(text) > _LONGEST:
        raise InputError(f"{position}: the {field} has {len(text):,} characters; shorten it to {_LONGEST:,}")
    if "\0" in text:
        raise InputError(f"{position}: the {field} {_shown(text)} holds a NUL character; remove it")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InputError(
            f"{position}: the {field} {_shown(text)} holds half of a surrogate pair, which is no character; remove it"
        ) from error


def _from_lines(text: str) -> Iterator[LabelClass]:
    return (_checked(position, LabelClass(line)) for position, line in numbered_lines(text))


def _from_csv(text: str) -> Iterator[LabelClass]:
    # strict: otherwise a quote that is never closed swallows every class after it
    rows = csv.DictReader(io.StringIO(text), skipinitialspace=True, strict=True)
    try:
        yield from _from_rows(rows)
    except csv.Error as error:
        raise InputError(f"not valid CSV: line {rows.reader.line_num}: {one_line(error)}; close every quote") from error


def _from_rows(rows: csv.DictReader[str]) -> Iterator[LabelClass]:
    header = [name.strip().lower() for name in rows.fieldnames or ()]
    if "name" not in header or set(header) - set(_FIELDS) or len(set(header)) < len(header):
        columns = _shown(", ".join(header)) if header else "missing"
        raise InputError(f"the header must be name, and perhaps id and prompts, once each; it is {columns}")
    rows.fieldnames = header
    for row in rows:
        position = f"line {rows.line_num}"
        if None in row:
            raise InputError(f"{position}: more cells than the header has; put quotes around a text with a comma")
        cells = {name: (cell or "").strip() for name, cell in row.items()}
        if not any(cells.values()):
            continue
        if not cells["name"]:
            raise InputError(f"{position}: no name; write one, or remove the line")
        prompts = [prompt.strip() for prompt in cells.get("prompts", "").split(_BAR)]
        yield _checked(position, LabelClass(cells["name"], cells.get("id") or None, tuple(filter(None, prompts))))


def _from_json(text: str) -> Iterator[LabelClass]:
    try:
        items = json.loads(text)
    except RecursionError as error:
        raise InputError("not valid JSON: nested too deeply; write a list of names or of objects") from error
    except ValueError as error:
        raise InputError(f"not valid JSON: {one_line(error)}") from error
    return _from_items(items)


class _Loader(yaml.SafeLoader):
    """Refuses a mapping that merges have made large, which could fill the memory from a file of 700 bytes, and a number
    of many digits: PyYAML takes quadratic time for 1:1:1:…"""

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        is_text = node.tag == self.DEFAULT_SCALAR_TAG
        if isinstance(node, yaml.ScalarNode) and not is_text and len(node.value) > _MOST_DIGITS:
            message = f"a number of more than {_MOST_DIGITS:,} digits; put it in quotes"
            raise yaml.constructor.ConstructorError(None, None, message, node.start_mark)
        return super().construct_object(node, deep)

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        super().flatten_mapping(node)
        if len(node.value) > _MOST_FIELDS:
            message = f"more than {_MOST_FIELDS:,} fields, merged ones included"
            raise yaml.constructor.ConstructorError(None, None, message, node.start_mark)


def _from_yaml(text: str) -> Iterator[LabelClass]:
    try:
        items = yaml.load(text, _Loader)
    except RecursionError as error:
        raise InputError("not valid YAML: nested too deeply; write a list of names or of mappings") from error
    except yaml.YAMLError as error:
        raise InputError(f"not valid YAML: {one_line(error)}") from error
    # from conversions, such as those of 2024-13-45, !!int "" and !!timestamp x
    except (ValueError, TypeError, LookupError, AttributeError, ArithmeticError) as error:
        raise InputError(
            f"not valid YAML: {one_line(error)[:200]}; put names that look like a date or a number in quotes"
        ) from error
    return _from_items(items)


def _from_items(items: Any) -> Iterator[LabelClass]:
    if not isinstance(items, list):
        raise InputError("must be a list: of names, or of objects with name, and perhaps id and prompts")
    return (_checked(f"item {i}", _from_item(f"item {i}", item)) for i, item in enumerate(items, start=1))


def _from_item(position: str, item: Any) -> LabelClass:
    fields = {"name": item} if isinstance(item, str) else item
    if not isinstance(fields, dict):
        raise InputError(f"{position}: {_shown(item)} is not a name; put it in quotes")
    if unknown := [key for key in fields if key not in _FIELDS]:
        raise InputError(f"{position}: unknown field {_shown(unknown[0])}; the fields are {', '.join(_FIELDS)}")
    name, id, prompts = fields.get("name"), fields.get("id"), fields.get("prompts") or []
    if not isinstance(name, str) or not name.strip():
        raise InputError(f"{position}: name is {_shown(name)}; it must be a text")
    if isinstance(id, bool) or not isinstance(id, (int, str, type(None))):
        raise InputError(f"{position}: id is {_shown(id)}; it must be a whole number or a text")
    if isinstance(id, int) and id.bit_length() > _LONGEST:
        raise InputError(f"{position}: id is too large a number; put it in quotes, or shorten it")
    prompts = [prompts] if isinstance(prompts, str) else prompts
    if not isinstance(prompts, list) or not all(isinstance(prompt, str) and prompt.strip() for prompt in prompts):
        raise InputError(f"{position}: prompts must be a list of texts")
    return LabelClass(name.strip(), id, tuple(prompts))


def _checked(position: str, label_class: LabelClass) -> LabelClass:
    check_text(position, "name", label_class.name)
    if isinstance(label_class.id, str):
        check_text(position, "id", label_class.id)
    for prompt in label_class.prompts:
        check_text(position, "prompt", prompt)
    return label_class


def _shown(value: Any) -> str:
    """A value in a message, however large: cut short."""
    try:
        return _short.repr(value)
    except ValueError:  # Python writes no number of more than 4,300 digits
        return "a number too long to show"


_PARSERS: dict[str, Callable[[str], Iterable[LabelClass]]] = {
    ".csv": _from_csv,
    ".json": _from_json,
    ".yaml": _from_yaml,
    ".yml": _from_yaml,
}
