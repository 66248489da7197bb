"""A report's tables, in words: labels, recipes, what failed, how it was made."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from ..dataset.plan import Fingerprint
from ..dataset.totals import Totals
from .charts import bar_chart
from .duplicates import Duplicates
from .labels import LabelNumbers
from .numbers import Numbers
from .recipes import RecipeCounts, RecipeNumbers
from .words import decimal_text, percent_text, share_row


def labels_table(labels: LabelNumbers) -> dict[str, Any]:
    none = {
        "none (background)": labels.none_by_background,
        "none (too unsure)": labels.none - labels.none_by_background,
    }
    largest = max([*(count.images for count in labels.most), *none.values(), 1])
    most = [share_row(c.label, c.images, largest, f"{c.images:,}", f"{c.probability:.2f}") for c in labels.most]
    most += [share_row(name, n, largest, f"{n:,}", "") | {"strong": False} for name, n in none.items() if n]
    shown = len(labels.most)
    title = f"The {shown} most frequent of {labels.classes:,} classes" if labels.classes > shown else "Images by class"
    return {
        "lead": f"{labels.images:,} images looked at; {labels.classes:,} classes were found.{_uncovered(labels)}",
        "title": title,
        "classes": most,
        "probabilities": bar_chart("Images by the probability of their best label", labels.probabilities, decimal_text),
    }


def _uncovered(labels: LabelNumbers) -> str:
    """How many images show something else than the classes, whether they are labelled none for it or not."""
    if labels.uncovered is None:
        return ""
    names = f"The background ({', '.join(labels.background)}) fits" if labels.background else "General words fit"
    share = percent_text(labels.uncovered, labels.images)
    return f" {names} {labels.uncovered:,} of them ({share}) better than any class does."


def failures_table(numbers: Numbers) -> dict[str, Any] | None:
    counts = numbers.counts
    if not counts.failed:
        return None
    reasons = [share_row(reason, times, counts.failed, f"{times:,}") for reason, times in numbers.failures.items()]
    return {
        "lead": f"{counts.failed:,} of {counts.rows:,} rows, {percent_text(counts.failed, counts.rows)}; each is in "
        "the dataset with its reason in the column error.",
        "reasons": reasons,
    }


def half_pairs_table(totals: Totals, within: str | None) -> dict[str, Any] | None:
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


def facts_table(settings: Fingerprint) -> list[dict[str, str]]:
    values = {**asdict(settings), "fingerprint": settings.digest}
    del values["digest_has_columns"]
    return [{"name": name.replace("_", " "), "value": str(value)} for name, value in values.items()]


def stages_table(totals: Totals, within: str | None) -> dict[str, Any] | None:
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


def recipes_table(numbers: RecipeNumbers, rows: int) -> dict[str, Any] | None:
    """rows: of all that is reported on, of which the recipes may have judged a sample."""
    judged = max((counts.rows for counts in numbers.counts), default=0)
    if not judged:
        return None
    about = f" Judged on {judged:,} of {rows:,} rows, chosen at random." if numbers.is_sample else ""
    return {
        "lead": f"DataComp's baselines, as clipmill filter --recipe NAME has them; whether a caption is English is a "
        f"rough guess.{about}",
        "rows": [_recipe_row(counts, rows) for counts in numbers.counts],
        "lacking": [f"{name} {why}" for name, why in numbers.lacking.items()],
    }


def _recipe_row(counts: RecipeCounts, rows: int) -> dict[str, Any]:
    """A sample's counts are scaled up to all rows, to three digits."""
    kept = counts.kept if counts.rows == rows else float(f"{counts.kept * rows / counts.rows:.3g}")
    worst = max(counts.dropped, key=lambda reason: counts.dropped[reason], default=None)
    reason = f"{worst} ({percent_text(counts.dropped[worst], counts.rows)})" if worst and counts.dropped[worst] else ""
    row = share_row(counts.recipe, counts.kept, counts.rows, f"{kept:,.0f}", percent_text(counts.kept, counts.rows))
    return row | {"note": " · ".join(filter(None, [counts.options, reason and f"dropped most: {reason}"]))}


def duplicates_lead(found: Duplicates, images: int) -> str:
    """images: all of those that the report is on."""
    how = f"with a cosine of {found.threshold:g} or more" if found.threshold is not None else "with the same bytes"
    groups = f"{found.groups:,} {'group' if found.groups == 1 else 'groups'} of {found.rows:,} rows {how}"
    if found.source is not None:
        return f"{groups}, as clipmill dedup found them ({found.source}). The first of each is the one that stays."
    compared = found.compared or 0
    is_all = compared >= images
    among = f"{compared:,} images" if is_all else f"{compared:,} of {images:,} images"
    if not found.groups:
        return f"None among {among}, each compared with each."
    rest = "" if is_all else " clipmill dedup finds those of all."
    return f"{groups} among {among}, each compared with each.{rest}"
