"""A report's columns in words: numbers with a histogram, text with its most frequent values."""

from __future__ import annotations

from typing import Any

from .charts import bar_chart
from .columns import NumberColumn, ReportedColumn, TextColumn
from .words import percent_text, share_row


def column_table(column: ReportedColumn) -> dict[str, Any]:
    of_kind = _of_numbers(column) if isinstance(column, NumberColumn) else _of_text(column)
    return {"name": column.name, "histogram": None, "cuts": [], "most": [], **of_kind}


def _of_numbers(column: NumberColumn) -> dict[str, Any]:
    if column.histogram is None:
        return {"lead": "No row has a number in this column."}
    return {
        "lead": f"{column.rows:,} rows have a number, from {_text(column.least)} to {_text(column.greatest)}; "
        f"mean {_text(column.mean)}, standard deviation {_text(column.deviation)}.",
        "histogram": bar_chart(f"Rows by {column.name}", column.histogram, _text),
        "cuts": [
            {"fraction": f"{cut.fraction:.0%}", "threshold": _text(cut.threshold), "rows": f"{cut.rows:,}"}
            for cut in column.cuts
        ],
    }


def _of_text(column: TextColumn) -> dict[str, Any]:
    if not column.most:
        return {"lead": "No row has a value in this column."}
    most = [
        share_row(
            of.value,
            of.rows,
            column.most[0].rows,
            f"{of.rows:,}",
            percent_text(of.rows, column.rows),
            "" if of.similarity is None else f"{of.similarity:.3f}",
        )
        for of in column.most
    ]
    shown = f", of which the {len(most)} most frequent are shown" if column.count > len(most) else ""
    lead = f"{column.rows:,} rows have one of {column.count:,} values{shown}."
    return {"lead": lead, "most": most}


def _text(value: float | None) -> str:
    return "" if value is None else f"{value:,.6g}"
