"""Numbers in words, and rows of tables with a bar."""

from __future__ import annotations

from typing import Any


def share_row(name: str, value: float, total: float, *texts: str) -> dict[str, Any]:
    return {"name": name, "share": min(100.0, 100 * value / total), "texts": texts, "strong": True, "note": ""}


def percent_text(value: float, total: float) -> str:
    return f"{value / total:.1%}" if total else ""


def decimal_text(value: float) -> str:
    text = f"{value:.3f}".rstrip("0")
    return f"{text}0" if text.endswith(".") else text


def whole_text(value: float) -> str:
    return f"{value:,.0f}"


def ratio_text(value: float) -> str:
    return f"{value:.2f}"


def bytes_text(size: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:,.1f} {unit}" if unit != "B" else f"{size:,.0f} B"
        size /= 1000
    return f"{size:,.1f} TB"
