"""YAML as job specifications have it: read strictly, and in time and memory that the file's size bounds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from ...pipeline.errors import UserError, one_line
from ...pipeline.inputs.entries import asking
from ...pipeline.storage.urls import canonical_url, open_storage

MOST_BYTES = 4 << 20  # of a file; a list of many shards goes into a file of its own, named as @FILE
MOST_VALUES = 100_000  # in a file, those that aliases repeat included
_DEPTH = 64  # of lists and mappings within each other
_LONGEST = 200  # characters of a number or date: PyYAML takes quadratic time for 1:1:1:…


def read_yaml(path: Path | str) -> Any:
    """UserError, which names the file or URL, for one that cannot be read or is not YAML."""
    return parse_yaml(read_text(path), path)


def read_text(path: Path | str) -> str:
    """UserError, which names the file or URL, for one that cannot be read, is too large, or is not UTF-8."""
    content = _from_storage(str(path)) if "://" in str(path) else _from_disk(Path(path))
    if len(content) > MOST_BYTES:
        raise UserError(
            f"{path}: larger than {MOST_BYTES >> 20} MiB, which no job specification needs: list many inputs in a file "
            "of their own, and name that as @FILE"
        )
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 text; a job specification is YAML in UTF-8") from error


def _from_disk(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(MOST_BYTES + 1)
    except OSError as error:
        raise UserError(f"{path}: {error.strerror or error}") from error


def _from_storage(text: str) -> bytes:
    url = canonical_url(text)
    with asking(url), open_storage(url).open(url, "rb") as file:
        content: bytes = file.read(MOST_BYTES + 1)
        return content


def parse_yaml(text: str, path: Path | str) -> Any:
    """UserError, which names the file that the text is of, for what is not YAML."""
    try:
        return yaml.load(text, Loader=_StrictLoader)
    except yaml.YAMLError as error:
        raise UserError(f"{path}: not valid YAML: {one_line(error)}") from error
    except (ValueError, LookupError, ArithmeticError, AttributeError) as error:  # `!!bool x`, 2026-02-31, …
        raise UserError(
            f"{path}: not valid YAML: {one_line(error)[:200]}; put text that looks like a number or a date into quotes"
        ) from error


class _StrictLoader(yaml.SafeLoader):
    """Refuses a key given twice, and what takes a small file to a large result: aliases of aliases, deep nesting."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._depth = self._values = 0
        self._values_in: dict[int, int] = {}  # by the id of a finished node

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        is_alias, mark = self.check_event(yaml.AliasEvent), self.peek_event().start_mark
        if self._depth == _DEPTH:
            raise yaml.composer.ComposerError(None, None, f"nested more than {_DEPTH} deep", mark)
        before, self._depth = self._values, self._depth + 1
        node = super().compose_node(parent, index)
        self._depth -= 1
        if is_alias and id(node) not in self._values_in:
            raise yaml.composer.ComposerError(None, None, "an alias within what it stands for", mark)
        self._values += self._values_in[id(node)] if is_alias else 1
        self._values_in[id(node)] = self._values - before
        if self._values > MOST_VALUES:
            raise yaml.composer.ComposerError(None, None, f"more than {MOST_VALUES:,} values, aliases included", mark)
        if isinstance(node, yaml.ScalarNode) and node.tag != self.DEFAULT_SCALAR_TAG and len(node.value) > _LONGEST:
            raise yaml.composer.ComposerError(None, None, f"a number of more than {_LONGEST} characters", mark)
        return node

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if key.value in seen:
                    message = f"the key {key.value[:100]!r} is given twice"
                    raise yaml.constructor.ConstructorError(None, None, message, key.start_mark)
                seen.add(key.value)
        return super().construct_mapping(node, deep)
