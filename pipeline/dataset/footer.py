"""A part's footer: the key-value metadata at the end of the Parquet file. Only this file knows its keys.

The footer holds what the part was made with (version, fingerprint, model card), which shard it is of, and what became
of the shard: counts and times. Values are JSON. A part may lack times of waiting, FLOP, and counts of later versions.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from importlib import metadata
from typing import TYPE_CHECKING, Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from ..errors import InfrastructureError, one_line
from ..records import Shard, ShardStats

if TYPE_CHECKING:  # torch takes a second
    from ...clipmodel.seams import Card

Footer = Mapping[bytes, bytes]

_VERSION, _FINGERPRINT, _CARD = "clipmill.version", "clipmill.fingerprint", "clipmill.model_card"
_SHARD, _COUNTS, _SECONDS = "clipmill.shard", "clipmill.counts", "clipmill.seconds"
_WAITS, _COMPUTE = "clipmill.waits", "clipmill.compute"


def provenance(fingerprint: str, cards: Mapping[str, Card], precision: str) -> dict[str, str]:
    """What all parts of a dataset have in common. cards: by alias; the only model's alias is empty."""
    models = {alias: {**card.as_json(), "precision": precision} for alias, card in cards.items()}
    return {
        _VERSION: metadata.version("clipmill"),
        _FINGERPRINT: fingerprint,
        _CARD: json.dumps(models.get("", models)),
    }


def of_shard(shard: Shard, stats: ShardStats) -> dict[str, str]:
    """What became of the shard. Times are up to here: the commit's own cannot be in what is committed."""
    counts = {
        "rows": stats.rows,
        "embedded": stats.embedded,
        "failures": stats.failures,
        "half_pairs": stats.half_pairs,
        "notes": stats.notes,
    }
    return {
        _SHARD: json.dumps({"url": shard.url, "size": shard.size, "etag": shard.etag}),
        _COUNTS: json.dumps(counts),
        _SECONDS: json.dumps(_rounded(stats.seconds)),
        _WAITS: json.dumps({"starved": _rounded(stats.starved), "blocked": _rounded(stats.blocked)}),
        _COMPUTE: json.dumps({"flop": stats.flop, "peak": stats.peak}),
    }


def read_footer(file: BinaryIO, name: str) -> Footer:
    """As `opened_part`."""
    return opened_part(file, name).metadata.metadata or {}


def opened_part(file: BinaryIO, name: str) -> pq.ParquetFile:
    """name: what errors call the file. InfrastructureError for a file that is no Parquet, or cannot be read."""
    try:
        return pq.ParquetFile(file)
    except OSError as error:  # the footer is broken, or the storage fails
        reason = f"cannot be read: {one_line(error)}; if it never can, move it out of the folder"
        raise InfrastructureError(f"{name}: {reason}") from error
    except (pa.ArrowException, ValueError) as error:
        raise InfrastructureError(not_a_part(name)) from error


def is_of_a_part(footer: Footer) -> bool:
    return _SHARD.encode() in footer


def model_cards(footer: Footer, name: str) -> dict[str, Any]:
    """One card's fields, or the cards by alias. InfrastructureError where the footer has none."""
    cards: dict[str, Any] = _value(footer, _CARD, name)
    return cards


def shard_of(footer: Footer, name: str) -> Shard:
    """The shard that the part was made from. InfrastructureError where the footer names none."""
    try:
        return Shard(**_value(footer, _SHARD, name))
    except TypeError as error:
        raise InfrastructureError(not_a_part(name)) from error


def embedded_rows(footer: Footer, name: str) -> int:
    """Rows with an embedding."""
    return int(_value(footer, _COUNTS, name)["embedded"])


def stats_of(footer: Footer, shard: Shard, size: int, name: str) -> ShardStats:
    """What became of the shard. size: of the part, bytes."""
    try:
        counts = _value(footer, _COUNTS, name)
        return ShardStats(
            shard.url,
            counts["rows"],
            counts["embedded"],
            Counter(counts["failures"]),
            _value(footer, _SECONDS, name),
            size,
            **_value(footer, _WAITS, name, {}),
            **_value(footer, _COMPUTE, name, {}),
            half_pairs=Counter(counts.get("half_pairs", {})),
            notes=Counter(counts.get("notes", {})),
        )
    except (KeyError, TypeError) as error:
        raise InfrastructureError(not_a_part(name)) from error


def not_a_part(name: str) -> str:
    return f"{name} is not a clipmill part: move it out of the folder"


def _value(footer: Footer, key: str, name: str, default: Any = None) -> Any:
    try:
        return json.loads(footer[key.encode()])
    except KeyError as error:
        if default is None:
            raise InfrastructureError(not_a_part(name)) from error
        return default
    except ValueError as error:
        raise InfrastructureError(not_a_part(name)) from error


def _rounded(seconds: Mapping[str, float]) -> dict[str, float]:
    return {stage: round(value, 4) for stage, value in seconds.items()}
