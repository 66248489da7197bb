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
from ..dataset.totals import Totals
from .against import Against
from .charts import bar_chart, share_chart
from .comparing import against_rows, grouped_rows
from .groups import Grouped
from .labels import LabelNumbers
from .numbers import Captions, Counts, Numbers, Sizes
from .samples import Group, Row
from .similarity import Similarity
from .words import bytes_text, decimal_text, percent_text, ratio_text, share_row, whole_text

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
    numbers: Numbers
    labels: LabelNumbers | None
    grouped: Sequence[Grouped]
    against: Against | None
    ladders: Mapping[str, Sequence[Row]]  # by model's alias: rows along its similarities
    groups: Sequence[Group]
    pictures: Mapping[tuple[str, int], bytes]  # by shard and row: JPEG


def page_of(contents: Contents) -> str:
    numbers = contents.numbers
    page = _TEMPLATES.get_template("report.html")
    return page.render(
        name=contents.url.rstrip("/").rpartition("/")[2] or contents.url,
        url=contents.url,
        within=contents.within,
        version=metadata.version("clipmill"),
        dataset_version=contents.version[:12],
        tiles=_tiles(numbers.counts, contents.status),
        ledger=_ledger(numbers.counts),
        notes=_notes(contents),
        similarities=[
            _similarity(similarity, contents.url)
            | {"along": _rows(contents.ladders[similarity.alias], contents.pictures)}
            for similarity in numbers.similarities
        ],
        grouped=[grouped_rows(found, numbers) for found in contents.grouped],
        against=against_rows(contents) if contents.against else None,
        labels=_labels(contents.labels) if contents.labels and contents.labels.images else None,
        charts=[*_size_charts(numbers.sizes), *_caption_charts(numbers.captions, numbers.counts)],
        groups=[_group(group, contents.pictures) for group in contents.groups if group.rows],
        failures=_failures(numbers),
        half_pairs=_half_pairs(contents.status.dataset, contents.within),
        failed_shards=[f"{url}: {why}" for url, why in list(contents.status.failed_shards.items())[:_MOST_SHARDS]],
        facts=_facts(contents.settings),
        stages=_stages(contents.status.dataset, contents.within),
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
    if not contents.numbers.counts.rows:
        notes.append("There are no rows.")
    elif not contents.numbers.counts.embedded:
        notes.append("No row was embedded.")
    every = [group.rows for group in contents.groups] + list(contents.ladders.values())
    shown = {(row.shard, row.row) for rows in every for row in rows}
    if missing := len(shown - contents.pictures.keys()):
        notes.append(
            f"{missing} of {len(shown)} pictures cannot be shown: their shards are gone, or are no tars or folders: "
            "single images are fetched from these alone."
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


def _labels(labels: LabelNumbers) -> dict[str, Any]:
    largest = max((count.images for count in labels.most), default=1)
    most = [share_row(c.label, c.images, largest, f"{c.images:,}", f"{c.probability:.2f}") for c in labels.most]
    shown = len(labels.most)
    title = f"The {shown} most frequent of {labels.classes:,} classes" if labels.classes > shown else "Images by class"
    unsure = f", {labels.none:,} of them too unsure to be labelled" if labels.none else ""
    return {
        "lead": f"{labels.images:,} images looked at{unsure}; {labels.classes:,} classes were found.",
        "title": title,
        "classes": most,
        "probabilities": bar_chart("Images by the probability of their best label", labels.probabilities, decimal_text),
    }


# --- tables ----------------------------------------------------------------------------------------------------------


def _failures(numbers: Numbers) -> dict[str, Any] | None:
    counts = numbers.counts
    if not counts.failed:
        return None
    reasons = [share_row(reason, times, counts.failed, f"{times:,}") for reason, times in numbers.failures.items()]
    return {
        "lead": f"{counts.failed:,} of {counts.rows:,} rows, {percent_text(counts.failed, counts.rows)}; each is in "
        "the dataset with its reason in the column error.",
        "reasons": reasons,
    }


def _half_pairs(totals: Totals, within: str | None) -> dict[str, Any] | None:
    """Embedded rows without an image or a caption, by cause."""
    rows = totals.half_pairs.total()
    if not rows:
        return None
    causes = []
    for side_and_cause, times in totals.half_pairs.most_common():
        side, _, cause = side_and_cause.partition(": ")
        causes.append(share_row(f"no {side}: {cause}", times, rows, f"{times:,}"))
    scope = " Of the whole dataset, not of the subset alone." if within else ""
    return {
        "lead": f"{rows:,} of {totals.embedded:,} embedded rows, {percent_text(rows, totals.embedded)}, have only an "
        f"image or only a caption, and no similarity.{scope}",
        "causes": causes,
    }


def _facts(settings: Fingerprint) -> list[dict[str, str]]:
    values = {**asdict(settings), "fingerprint": settings.digest}
    return [{"name": name.replace("_", " "), "value": str(value)} for name, value in values.items()]


def _stages(totals: Totals, within: str | None) -> dict[str, Any] | None:
    if not totals.bottleneck:
        return None
    rows = [
        share_row(stage, share, 1, f"{share:.0%}", f"{totals.seconds[stage]:,.1f} s")
        | {"strong": stage == totals.bottleneck}
        for stage, share in totals.utilisation.items()
        if totals.seconds[stage]
    ]
    speed = totals.rows / totals.seconds["worker"]
    scope = " Of the whole dataset, not of the subset alone." if within else ""
    return {
        "rows": rows,
        "note": f"Share of a worker's time that each stage was busy; they overlap. The bottleneck is "
        f"{totals.bottleneck}. {speed:,.1f} samples a second and worker, {totals.seconds['worker']:,.0f} worker "
        f"seconds in all.{scope}",
    }


def _group(group: Group, pictures: Mapping[tuple[str, int], bytes]) -> dict[str, Any]:
    return {"title": group.title, "rows": _rows(group.rows, pictures)}


def _rows(rows: Sequence[Row], pictures: Mapping[tuple[str, int], bytes]) -> list[dict[str, Any]]:
    return [
        asdict(row)
        | {
            "figure": None if row.figure is None else f"{row.figure:.3f}",
            "picture": _data_url(pictures.get((row.shard, row.row))),
        }
        for row in rows
    ]


def _data_url(jpeg: bytes | None) -> str | None:
    return f"data:image/jpeg;base64,{base64.b64encode(jpeg).decode()}" if jpeg else None
