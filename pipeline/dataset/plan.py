"""The settings of a dataset, frozen in `.clipmill/plan.json`: every later run must have the same ones."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq

from ..choices import Decoding, Precision, SampleKeys
from ..errors import InputError, OutputError, PlanMismatchError
from ..job.embed import EmbedJob
from ..records import Shard
from .columns import check_columns, listed, parse_listed
from .layout import OWN
from .memory import give_back
from .output import Output
from .part import SCHEMA_VERSION, PartLayout, unpacked

if TYPE_CHECKING:  # torch takes a second, and every step reads plans
    from ...clipmodel.seams import Card

PLAN = f"{OWN}/plan.json"
SHARDS = f"{OWN}/shards.parquet"
_USUAL_KEYS = "the usual ones"
_WAYS: dict[Decoding, str] = {
    "exact": "",
    "close": "; within 1 of 255",
    "fast": "; large JPEGs decoded smaller",
}
_TURNED = "; turned as EXIF says"
_TRIES = 3  # to write it so that what was read again is what was written

_SHARDS_SCHEMA = pa.schema([("url", pa.string()), ("size", pa.int64()), ("etag", pa.string()), ("part", pa.string())])


@dataclass(frozen=True)
class Fingerprint:
    """Everything that the values in a part depend on, in words, and which columns are copied. Two datasets of equal
    digest are comparable."""

    model: str
    weights: str
    weights_sha256: str
    preprocessing: str
    precision: Precision
    embedding_type: str
    text: str
    columns: str  # copied from the samples: of every part, but no part of the digest
    embeds: str  # images, texts or both
    schema_version: int = SCHEMA_VERSION
    keys: str = _USUAL_KEYS  # names under which images and captions are looked for
    digest_has_columns: bool = False  # as in datasets that were begun when columns were part of it

    @classmethod
    def of(cls, cards: Mapping[str, Card], precision: Precision, layout: PartLayout, job: EmbedJob) -> Fingerprint:
        """cards: by alias, which is empty for the only model of a run. precision: the job's, `auto` decided."""

        def of_all(words: Callable[[Card], str]) -> str:
            return "; ".join(f"{alias}: {words(card)}" if alias else words(card) for alias, card in cards.items())

        keys = (("image", job.image_keys), ("caption", job.caption_keys))
        return cls(
            model=of_all(lambda card: card.words()[0]),
            weights=of_all(lambda card: card.weights),
            weights_sha256=of_all(lambda card: card.weights_sha256),
            preprocessing=of_all(lambda card: card.words()[1]) + _decoding(job),
            precision=precision,
            embedding_type=layout.embedding_type,
            text=of_all(lambda card: card.words()[2]),
            columns=listed(layout.columns),
            embeds=" and ".join(job.embeds),
            keys="; ".join(f"{side} from {', '.join(names)}" for side, names in keys if names) or _USUAL_KEYS,
        )

    @property
    def sample_keys(self) -> SampleKeys:
        """The same as names."""
        sides = {} if self.keys == _USUAL_KEYS else dict(side.split(" from ", 1) for side in self.keys.split("; "))
        names = {side: tuple(text.split(", ")) for side, text in sides.items()}
        return SampleKeys(**names)

    @property
    def decoding(self) -> tuple[Decoding, bool]:
        """How images were decoded, and whether they were turned the way EXIF says."""
        others = (way for way, words in _WAYS.items() if words and words in self.preprocessing)
        return next(others, "exact"), _TURNED in self.preprocessing

    @property
    def digest(self) -> str:
        """sha256, hexadecimal. What the weights are called does not count, only what they are."""
        values = {name: value for name, value in asdict(self).items() if name not in ("weights", "digest_has_columns")}
        if self.keys == _USUAL_KEYS:  # the digest of datasets that were begun before there was this field
            del values["keys"]
        if not self.digest_has_columns:
            del values["columns"]
        return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()

    def going_on(self, begun: Fingerprint | None) -> Fingerprint:
        """The same settings with the digest's rule of the dataset that goes on: what was made of it names its digest,
        which therefore stays as it was. The one place where datasets of both rules meet."""
        return self if begun is None else replace(self, digest_has_columns=begun.digest_has_columns)

    def differences(self, other: Fingerprint) -> list[str]:
        """`precision is bf16, not fp32` for each field in which `self` differs from `other`, columns aside."""
        mine, theirs = asdict(self), asdict(other)
        aside = ("weights", "columns", "digest_has_columns")
        names = [name for name in mine if mine[name] != theirs[name] and name not in aside]
        if "model" in names:  # another model has other preprocessing and text anyway
            names = [n for n in names if n not in ("weights_sha256", "preprocessing", "text")]
        return [self._difference(name, other) for name in names]

    def _difference(self, name: str, other: Fingerprint) -> str:
        return f"{name.replace('_', ' ')} is {self._in_words(name)}, not {other._in_words(name)}"

    def _in_words(self, name: str) -> str:
        value = str(getattr(self, name))
        return f"{value[:12]}… ({self.weights})" if name == "weights_sha256" else value


def _decoding(job: EmbedJob) -> str:
    return _WAYS[job.decoding] + (_TURNED if job.exif else "")


def read_plan(output: Output) -> Fingerprint | None:
    """The output's fingerprint; None where no dataset was begun."""
    content = output.read(PLAN)
    if content is None:
        output.refuse_earlier()
        return None
    try:
        return Fingerprint(**{"digest_has_columns": True} | json.loads(content)["settings"])  # older plans lack it
    except (ValueError, TypeError, KeyError) as error:
        raise OutputError(f"{output.url}/{PLAN} is not a plan of this version: choose another output folder") from error


@dataclass(frozen=True)
class Plan:
    """What is to be embedded, and what ever was."""

    shards: list[Shard]  # all that were ever planned for the output
    listed: list[Shard]  # those of this run, as they are now
    changed: list[Shard]  # those of them whose files have changed since they were embedded


def freeze(
    output: Output,
    fingerprint: Fingerprint,
    shards: Sequence[Shard],
    committed: Collection[str] = (),
) -> Plan:
    """Begin or continue a dataset. PlanMismatchError where the output was begun with other settings.

    A shard keeps the identity it had when its part was committed, until `settle`.
    """
    begun = read_plan(output)
    _compare(output, fingerprint, begun)
    if begun is None and (strangers := output.strangers()):
        raise OutputError(f"{output.url} holds {min(strangers)}, but no {PLAN}: choose an empty folder")
    planned = planned_shards(output) if begun else []
    by_url = {shard.url: shard for shard in planned}
    named = {shard.url: shard.named for shard in planned if shard.named is not None}
    shards = [replace(shard, named=named[shard.url]) if shard.url in named else shard for shard in shards]
    changed = [s for s in shards if s.part_name in committed and s.url in by_url and is_another(by_url[s.url], s)]
    kept = {shard.url for shard in changed}
    by_url |= {shard.url: shard for shard in shards if shard.url not in kept}
    _check_part_names(by_url.values())
    if list(by_url.values()) != planned:
        output.write(SHARDS, _pack(by_url.values()))
    if begun is None:
        settings = {"fingerprint": fingerprint.digest, "settings": asdict(fingerprint)}
        if not output.write_new(PLAN, json.dumps(settings, indent=2).encode()):
            _compare(output, fingerprint, read_plan(output))  # another run began it at the same moment
    plan = Plan(list(by_url.values()), shards, changed)
    del by_url, planned
    give_back()
    return plan


def settle(output: Output, plan: Plan, done: Collection[str]) -> list[Shard]:
    """All shards that are planned by now. Other runs may have added some, or have overwritten those that this one added
    at the same moment: these are added again.

    done: URLs of the shards just embedded. Of the changed ones among them, the new size and ETag are recorded, and not
    before: a run that is killed in between embeds them again.
    """
    now = {shard.url: shard for shard in plan.changed if shard.url in done}
    for _ in range(_TRIES):
        planned = planned_shards(output)
        if planned == plan.shards and not now:
            return plan.shards  # and not the same again: there may be a million
        known = {shard.url: shard for shard in planned}
        added = {shard.url: shard for shard in plan.shards if shard.url not in known}
        shards = list((known | added | now).values())
        if shards == planned:
            break
        output.write(SHARDS, _pack(shards))
    return shards


def _check_part_names(shards: Iterable[Shard]) -> None:
    parts: dict[str, str] = {}
    for shard in shards:
        if (other := parts.setdefault(shard.part_name, shard.url)) != shard.url:
            raise InputError(
                f"{shard.url} and {other} would both become {shard.part_name}: rename one of them, or choose another "
                "output folder for it"
            )


def _compare(output: Output, fingerprint: Fingerprint, begun: Fingerprint | None) -> None:
    if begun is None:
        return
    if differences := fingerprint.differences(begun):
        raise PlanMismatchError(begun_otherwise(output.url, differences))
    check_columns(output.url, parse_listed(begun.columns), parse_listed(fingerprint.columns))


def begun_otherwise(url: str, differences: Sequence[str]) -> str:
    """A message. differences: such as `precision is bf16, not fp32`."""
    return f"{url} was begun with other settings: {'; '.join(differences)}. Use those, or choose another output folder"


def is_another(old: Shard, new: Shard) -> bool:
    """Whether the file has changed, as far as both listings say."""
    pairs = ((old.size, new.size), (old.etag, new.etag))
    return any(a is not None and b is not None and a != b for a, b in pairs)


def planned_shards(output: Output) -> list[Shard]:
    content = output.read(SHARDS)
    if content is None:
        return []
    try:
        table = unpacked(content)
        columns = [table[name].to_pylist() for name in _SHARDS_SCHEMA.names]
    except (pa.ArrowException, OSError, KeyError) as error:
        raise _damaged(output) from error
    return [_planned(Shard(url, size, etag), part) for url, size, etag, part in zip(*columns, strict=True)]


def planned_parts(output: Output) -> pa.ChunkedArray:
    """The names of the planned shards' parts, in the plan's order, without an object for each shard."""
    content = output.read(SHARDS)
    if content is None:
        return pa.chunked_array([], pa.string())
    try:
        return unpacked(content)["part"]
    except (pa.ArrowException, OSError, KeyError) as error:
        raise _damaged(output) from error


def count_planned(output: Output) -> int:
    """How many shards are planned; reads the end of a file."""
    try:
        with output.open(SHARDS) as file:
            return int(pq.ParquetFile(file).metadata.num_rows)
    except FileNotFoundError:
        return 0
    except (pa.ArrowException, OSError) as error:
        raise _damaged(output) from error


def _damaged(output: Output) -> OutputError:
    return OutputError(
        f"{output.url}/{SHARDS} is damaged: delete it and run `clipmill embed` with all the inputs so far"
    )


def _planned(shard: Shard, part: str) -> Shard:
    return shard if shard.part_name == part else replace(shard, named=part)


def _pack(shards: Iterable[Shard]) -> bytes:
    rows = list(shards)  # a table by columns: a million dicts would take a gigabyte
    columns = [[s.url for s in rows], [s.size for s in rows], [s.etag for s in rows], [s.part_name for s in rows]]
    file = io.BytesIO()
    pq.write_table(pa.table(columns, schema=_SHARDS_SCHEMA), file, compression="zstd")
    return file.getvalue()
