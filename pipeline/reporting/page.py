"""A report's numbers and pictures as one HTML page that needs nothing else: templates/report.html, filled in."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib import metadata
from typing import Any

import jinja2

from ..dataset.plan import Fingerprint
from ..dataset.summary import Status
from .charts import bar_chart, share_chart
from .column_tables import column_table
from .columns import ReportedColumn
from .comparing import against_rows, grouped_rows
from .duplicates import Duplicates
from .frame import TOP
from .measured import Measured
from .numbers import Captions, Counts, Sizes
from .pictures import MOST
from .samples import Group
from .shown_rows import Row
from .similarity import Similarity
from .tables import (
    duplicates_lead,
    facts_table,
    failures_table,
    half_pairs_table,
    labels_table,
    recipes_table,
    stages_table,
)
from .words import bytes_text, decimal_text, percent_text, ratio_text, whole_text

MARK = '<meta name="generator" content="clipmill report">'  # tells a report from other files
_MARKED = (0.1, 0.3, 0.5)  # fractions, on the curve
_MOST_SHARDS = 20  # listed of those that could not be read

_TEMPLATES = jinja2.Environment(
    loader=jinja2.PackageLoader("clipmill.pipeline.reporting"), autoescape=True, undefined=jinja2.StrictUndefined
)
_TEMPLATES.filters["place"] = lambda percent: f"{percent:.3f}".rstrip("0").rstrip(".")


@dataclass(frozen=True)
class Contents:
    """What goes on the page."""

    url: str
    version: str  # the dataset's
    within: str | None  # a subset's URL
    settings: Fingerprint
    cards: Any  # the models'
    status: Status  # of the whole dataset
    measured: Measured
    columns: Sequence[ReportedColumn]
    pictures: Mapping[tuple[str, int], bytes]  # by shard and row: JPEG


def page_of(contents: Contents) -> str:
    measured, pictures = contents.measured, contents.pictures
    numbers = measured.numbers
    page = _TEMPLATES.get_template("report.html")
    return page.render(
        mark=MARK,
        name=contents.url.rstrip("/").rpartition("/")[2] or contents.url,
        url=contents.url,
        within=contents.within,
        version=metadata.version("clipmill"),
        dataset_version=contents.version[:12],
        tiles=_tiles(numbers.counts, contents.status),
        ledger=_ledger(numbers.counts),
        notes=_notes(contents),
        similarities=[
            _similarity(similarity, contents.url) | {"along": _rows(measured.ladders[similarity.alias], pictures)}
            for similarity in numbers.similarities
        ],
        grouped=[grouped_rows(found, numbers) for found in measured.grouped],
        against=against_rows(contents) if measured.against else None,
        recipes=recipes_table(measured.recipes, numbers.counts.rows),
        columns=list(map(column_table, contents.columns)),
        duplicates=_duplicates(measured.duplicates, pictures, numbers.counts.images) if measured.duplicates else None,
        labels=labels_table(measured.labels) if measured.labels and measured.labels.images else None,
        charts=[*_size_charts(numbers.sizes), *_caption_charts(numbers.captions, numbers.counts)],
        groups=[_group(group, pictures) for group in measured.groups if group.rows],
        failures=failures_table(numbers),
        half_pairs=half_pairs_table(contents.status.dataset, contents.within),
        failed_shards=[f"{url}: {why}" for url, why in list(contents.status.failed_shards.items())[:_MOST_SHARDS]],
        facts=facts_table(contents.settings),
        stages=stages_table(contents.status.dataset, contents.within),
        card=json.dumps(contents.cards, indent=2),
    )


# --- the head --------------------------------------------------------------------------------------------------------


def _tiles(counts: Counts, status: Status) -> list[dict[str, str]]:
    def tile(name: str, value: str, note: str = "") -> dict[str, str]:
        return {"name": name, "value": value, "note": note}

    dataset = status.dataset
    return [
        tile("Rows", f"{counts.rows:,}"),
        tile("Embedded", f"{counts.embedded:,}", percent_text(counts.embedded, counts.rows)),
        tile("Failed", f"{counts.failed:,}", percent_text(counts.failed, counts.rows)),
        tile("Pairs", f"{counts.pairs:,}", "image and caption"),
        tile("Shards", f"{dataset.shards:,}", f"of {status.planned:,} planned, {bytes_text(dataset.part_bytes)}"),
    ]


def _ledger(counts: Counts) -> dict[str, Any] | None:
    if not counts.rows:
        return None
    says = f"{counts.embedded:,} rows embedded, {counts.failed:,} failed"
    return {"embedded": 100 * counts.embedded / counts.rows, "says": says}


def _notes(contents: Contents) -> list[str]:
    notes = []
    if left := contents.status.left:
        notes.append(f"{left:,} planned shards are not embedded yet: run the same clipmill embed again.")
    if not contents.measured.numbers.counts.rows:
        notes.append("There are no rows.")
    elif not contents.measured.numbers.counts.embedded:
        notes.append("No row was embedded.")
    shown = {row.place for row in contents.measured.shown}
    if missing := len(shown - contents.pictures.keys()):
        notes.append(
            f"{missing} of {len(shown)} pictures cannot be shown: their shards are gone, or hold them where getting a "
            f"single one takes too long (compressed tars; Parquet where more than {MOST >> 20} MiB come before it in a "
            "row group)."
        )
    return notes


# --- charts ----------------------------------------------------------------------------------------------------------


def _similarity(similarity: Similarity, url: str) -> dict[str, Any]:
    edges = similarity.histogram.edges
    shares = [(threshold, rows / similarity.scored) for threshold, rows in similarity.curve]
    marked = [(cut.threshold, cut.fraction) for cut in similarity.cuts if cut.fraction in _MARKED]
    column = f"{similarity.alias}_similarity" if similarity.alias else "similarity"
    return {
        "alias": similarity.alias,
        "lead": f"{similarity.scored:,} pairs, from {similarity.least:.3f} to {similarity.greatest:.3f}; "
        f"mean {similarity.mean:.3f}, standard deviation {similarity.deviation:.3f}.",
        "histogram": bar_chart("Pairs by similarity", similarity.histogram, decimal_text),
        "curve": share_chart("Share of pairs at or above a similarity", shares, marked, edges),
        "cuts": [
            {"fraction": f"{cut.fraction:.0%}", "threshold": f"{cut.threshold:.4f}", "rows": f"{cut.rows:,}"}
            for cut in similarity.cuts
        ],
        "points": json.dumps(similarity.curve),
        "command": f'clipmill filter {url} -o SUBSET --where "{column} >= {{}}"',
        "start": similarity.threshold_of(TOP),
        "low": edges[0],
        "high": edges[-1],
        "scored": similarity.scored,
    }


def _size_charts(sizes: Sizes | None) -> list[dict[str, Any]]:
    if sizes is None:
        return []
    sides = bar_chart("Shorter side, pixels", sizes.sides, whole_text, even=True)
    aspects = bar_chart("Width : height", sizes.aspects, ratio_text, even=True)
    return [
        {"title": sides.title, "chart": sides, "note": f"Median {sizes.median:,.0f} pixels."},
        {"title": aspects.title, "chart": aspects, "note": "Squares are in the bar around 1.0."},
    ]


def _caption_charts(captions: Captions | None, counts: Counts) -> list[dict[str, Any]]:
    if captions is None:
        return []
    chart = bar_chart("Caption length, tokens", captions.tokens, whole_text, even=True)
    cut = f"{counts.truncated:,} are longer than the model reads." if counts.truncated else "None is cut off."
    return [{"title": chart.title, "chart": chart, "note": f"Median {captions.median:,.0f}. {cut}"}]


# --- pictures --------------------------------------------------------------------------------------------------------


def _group(group: Group, pictures: Mapping[tuple[str, int], bytes]) -> dict[str, Any]:
    return {"title": group.title, "rows": _rows(group.rows, pictures)}


def _duplicates(found: Duplicates, pictures: Mapping[tuple[str, int], bytes], images: int) -> dict[str, Any]:
    return {
        "lead": duplicates_lead(found, images),
        "groups": [
            {
                "title": f"{group.size:,} alike",
                "rows": _rows(group.rows, pictures),
                "more": group.size - len(group.rows),
            }
            for group in found.largest
        ],
    }


def _rows(rows: Sequence[Row], pictures: Mapping[tuple[str, int], bytes]) -> list[dict[str, Any]]:
    return [
        asdict(row)
        | {
            "figure": None if row.figure is None else f"{row.figure:.3f}",
            "picture": _data_url(pictures.get(row.place)),
        }
        for row in rows
    ]


def _data_url(jpeg: bytes | None) -> str | None:
    return f"data:image/jpeg;base64,{base64.b64encode(jpeg).decode()}" if jpeg else None
