"""Labels compared with a column that holds the truth: accuracy, and what each class is mistaken for."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ..dataset.dataset import Dataset
from ..dataset.layout import part_path
from ..dataset.output import Output
from ..errors import UserError
from .classes import NONE, Classes


@dataclass(frozen=True)
class ClassScore:
    """Among the images whose truth is known."""

    name: str
    precision: float | None  # right / labelled so; None where nothing is
    recall: float | None  # right / support; None where nothing is of the class
    support: int  # images that are of the class
    mistaken_for: str | None  # the label that most of its wrongly labelled images got
    mistakes: int  # how many of them did


@dataclass(frozen=True)
class Accuracy:
    """images: with an embedding, and with one of the classes as truth. unknown: with another truth, or with null."""

    truth: str
    images: int
    unknown: int
    top1: float | None
    top_k: float | None  # the truth is among the first k labels
    k: int
    classes: tuple[ClassScore, ...]  # in the classes' order


@dataclass
class Confusion:
    """Counts of (truth, label); they add up over parts."""

    pairs: Counter[tuple[str, str]] = field(default_factory=Counter)
    among_top: int = 0
    unknown: int = 0

    def add(self, other: Confusion) -> None:
        self.pairs.update(other.pairs)
        self.among_top += other.among_top
        self.unknown += other.unknown


@dataclass(frozen=True)
class ConfusePart:
    """Compares a part's labels with the truth."""

    dataset: Dataset
    labels: Output
    classes: Classes
    truth: str
    k: int

    def __call__(self, part: str) -> Confusion:
        with self.labels.open(part_path(part)) as file:
            labels = pq.ParquetFile(file).read(["row", "label", "labels"])
        rows = self.dataset.read(part, ["row", self.truth])
        names = self._names(rows[self.truth].take(pc.index_in(labels["row"], value_set=rows["row"].combine_chunks())))
        confusion = Confusion()
        for truth, label, top in zip(names, labels["label"].to_pylist(), labels["labels"].to_pylist(), strict=True):
            if label is None:
                continue
            if truth is None:
                confusion.unknown += 1
                continue
            confusion.pairs[truth, label] += 1
            confusion.among_top += truth in top[: self.k]
        return confusion

    def _names(self, values: pa.ChunkedArray) -> list[str | None]:
        """The classes that values name, by name or else by id; None for values that name none."""
        by_id = {str(label_class.id): label_class.name for label_class in self.classes.every}
        by_name = {name: name for name in self.classes.names}
        known = by_id | by_name if pa.types.is_string(values.type) else by_id
        return [known.get(str(value)) for value in values.to_pylist()]


def check_truth(dataset: Dataset, column: str) -> None:
    """UserError for a column that does not exist, or that holds neither texts nor whole numbers."""
    if column not in dataset.schema.names:
        raise UserError(
            f"--truth {column}: {dataset.url} has no such column; name another, or run `clipmill embed` "
            f"with --column {column}"
        )
    kind = dataset.schema.field(column).type
    if not (pa.types.is_string(kind) or pa.types.is_integer(kind)):
        raise UserError(f"--truth {column}: the column holds {kind}; name one that holds class names or whole numbers")


def accuracy_of(confusion: Confusion, classes: Classes, truth: str, k: int) -> Accuracy:
    support: Counter[str] = Counter()
    labelled: Counter[str] = Counter()
    wrong: dict[str, Counter[str]] = {}
    for (true, label), count in confusion.pairs.items():
        support[true] += count
        labelled[label] += count
        if label != true:
            wrong.setdefault(true, Counter())[label] += count
    right = {name: confusion.pairs[name, name] for name in classes.names}
    scores = []
    for name in dict.fromkeys(classes.names):
        mistaken_for, mistakes = max(wrong.get(name, {}).items(), key=_most, default=(None, 0))
        precision, recall = _share(right[name], labelled[name]), _share(right[name], support[name])
        scores.append(ClassScore(name, precision, recall, support[name], mistaken_for, mistakes))
    images = support.total()
    return Accuracy(
        truth,
        images,
        confusion.unknown,
        _share(sum(right.values()), images),
        _share(confusion.among_top, images),
        k,
        tuple(scores),
    )


def _most(item: tuple[str, int]) -> Any:
    """The most frequent; of equals the first by name, and `none` only where there is no other."""
    label, count = item
    return count, label != NONE, [-ord(letter) for letter in label]


def _share(count: int, total: int) -> float | None:
    return count / total if total else None
