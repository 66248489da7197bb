"""Deadlines as people write them."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest
from clipmill.pipeline.errors import UserError
from clipmill.pipeline.job.moments import duration, seconds_until
from hypothesis import given
from hypothesis import strategies as st

NOW = datetime(2026, 12, 1, 5, 0, tzinfo=timezone.utc)
LOCAL = NOW.astimezone().strftime("%Y-%m-%dT%H:%M")


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("6h", 21_600), ("1h30m", 5_400), ("90m", 5_400), ("2d", 172_800), ("1.5h", 5_400), ("45s", 45),
        ("2026-12-01T06:00Z", 3_600), ("2026-12-01T06:00:30+00:00", 3_630), ("2026-12-01 07:00+01:00", 3_600),
        ("2026-12-01T04:59:00Z", -60), (LOCAL, 0),
    ],
)  # fmt: skip
def test_a_deadline_is_a_duration_or_a_time(text: str, seconds: float) -> None:
    assert seconds_until(text, NOW) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "soon", "6", "6 hours", "h", "1m1h", "-6h", "2026-13-01T06:00", "9999999999d1"])
def test_anything_else_is_refused_with_examples(text: str) -> None:
    with pytest.raises(UserError, match=r"^--deadline .*: must be a duration, such as 6h"):
        seconds_until(text, NOW)


@given(st.text())
def test_no_text_is_worse_than_refused(text: str) -> None:
    try:
        seconds_until(text, NOW)
    except UserError as error:
        assert str(error).startswith("--deadline ")


@given(st.datetimes(datetime(2020, 1, 1), datetime(2100, 1, 1), timezones=st.just(timezone.utc)))
def test_any_time_that_python_writes_is_read(time: datetime) -> None:
    assert seconds_until(time.isoformat(), NOW) == pytest.approx((time - NOW) / timedelta(seconds=1))


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(45.4, "45 s"), (600, "10 min"), (5_400, "90 min"), (9_000, "2 h 30 min"), (7_200, "2 h"), (270_000, "3 d 3 h")],
)
def test_a_duration_is_told_in_two_units(seconds: float, text: str) -> None:
    assert duration(seconds) == text
