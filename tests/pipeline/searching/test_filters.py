"""Filters of strangers: stopped by their process's limits, refused where too many wait, evaluated once for all."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import duckdb
import pytest
from clipmill.pipeline.errors import UserError
from clipmill.pipeline.searching import filters as module
from clipmill.pipeline.searching.filters import BusyError, Filters
from unchecked import ENDLESS, UNCHECKED

ROWS = 1000


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("rows") / "rows.duckdb"
    with duckdb.connect(str(path)) as connection:
        connection.execute(
            f"CREATE TABLE pairs AS SELECT range::BIGINT AS _place, range % 7 AS width, 'caption ' || range AS caption "
            f"FROM range({ROWS})"
        )
    return path


@pytest.fixture
def filters(database: Path) -> Iterator[Filters]:
    with Filters(database, ROWS) as opened:
        yield opened
    assert all(process.returncode is not None for process in opened._processes)


@pytest.fixture
def unchecked(database: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Filters]:
    monkeypatch.setattr(Filters, "command", UNCHECKED)
    with Filters(database, ROWS) as opened:
        assert opened.mask("true").all()  # its processes have started
        yield opened
    assert all(process.returncode is not None for process in opened._processes)


def until(is_so: Callable[[], bool]) -> None:
    end = time.monotonic() + 20
    while not is_so():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_a_mask_has_a_bit_for_each_row(filters: Filters) -> None:
    assert filters.mask("width = 3 -- threes").nonzero()[0].tolist() == list(range(3, ROWS, 7))
    assert not filters.mask("caption IS NULL").any()


HOSTILE = [
    "regexp_matches(repeat(caption, 100000000), 'x+y')",
    "length(repeat(repeat('a', 100000), 100000)) > 0",
    "list_sum(range(1000000000)) > 0",
    "error((SELECT string_agg(name || value) FROM duckdb_settings()))",
    "(SELECT count(*) FROM pairs a, pairs b, pairs c, pairs d) > 0",
    "caption IN (SELECT value FROM duckdb_settings())",
    "current_setting('temp_directory') <> ''",
    "getenv('HOME') <> ''",
    "(" * 900,
]


@pytest.mark.parametrize("where", HOSTILE)
def test_what_is_not_a_condition_on_rows_is_refused_in_one_line(filters: Filters, where: str) -> None:
    with pytest.raises(UserError, match=r"^filter: ") as caught:
        filters.mask(where)
    assert "\n" not in str(caught.value) and str(filters._database.parent) not in str(caught.value)
    assert filters.mask("width = 3").any()


@pytest.mark.parametrize(
    "where",
    [
        "length(repeat(caption, 300000000)) > 0",
        "regexp_matches(repeat(caption, 100000000), 'x+y')",
        "list_sum(range(1000000000)) > 0",
        "caption IN (SELECT repeat('x', 100000000) || range FROM range(100))",
    ],
)
def test_memory_is_bounded_whatever_is_asked(unchecked: Filters, where: str) -> None:
    with pytest.raises(UserError, match=r"^filter: takes more than 1.1 GB of memory: make it simpler$"):
        unchecked.mask(where)
    assert unchecked.mask("width = 3").any()


def test_what_takes_too_long_is_killed(unchecked: Filters, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PATIENCE", 1.0)
    began = time.monotonic()
    with pytest.raises(UserError, match=r"^filter: takes longer than 1 s: make it simpler$"):
        unchecked.mask(ENDLESS.format(0))
    assert time.monotonic() - began < 5
    monkeypatch.undo()
    assert unchecked.mask("width = 3").any()


def test_beyond_those_that_wait_others_are_refused_at_once(unchecked: Filters) -> None:
    waiting = [unchecked.submit(ENDLESS.format(number)) for number in range(8)]
    assert unchecked.submit(ENDLESS.format(0)) is waiting[0]  # which is evaluated once for all
    with pytest.raises(BusyError, match="busy with other filters: try again in a few seconds"):
        unchecked.submit("width = 3")
    assert unchecked.mask("true").all()  # known already


def test_a_failure_is_not_remembered(unchecked: Filters, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PATIENCE", 0.0)
    with pytest.raises(UserError, match="takes longer"):
        unchecked.mask("width = 3")
    monkeypatch.undo()
    assert unchecked.mask("width = 3").any()


def test_processes_that_somebody_ended_are_made_up_for(filters: Filters) -> None:
    for process in list(filters._processes):
        process.kill()
        process.wait()
    for _ in range(2):
        with pytest.raises(UserError, match="takes more than"):
            filters.mask("width = 3")
    assert filters.mask("width = 3").any()


def test_no_process_outlives_the_one_that_started_it(unchecked: Filters) -> None:
    """A kill closes the pipes, which is all that a process hears of it."""
    unchecked.submit(ENDLESS.format(0))
    until(lambda: any(_is_busy(process.pid) for process in unchecked._processes))
    processes = list(unchecked._processes)
    for process in processes:
        assert process.stdin is not None
        process.stdin.close()
    until(lambda: all(process.poll() is not None for process in processes))
    assert signal.SIGKILL not in {-(process.returncode or 0) for process in processes}


def test_processes_open_the_tables_before_they_are_asked(filters: Filters, database: Path) -> None:
    def opened(pid: int) -> bool:
        return str(database) in {str(link.resolve()) for link in Path(f"/proc/{pid}/fd").iterdir()}

    until(lambda: all(opened(process.pid) for process in filters._processes))


def test_a_copy_that_is_gone_is_told(database: Path, tmp_path: Path) -> None:
    told = pytest.raises(UserError, match="the page's copy of the rows has been removed")
    with Filters(tmp_path / "rows.duckdb", ROWS) as opened, told:
        opened.mask("width = 3")


def test_a_filter_that_takes_long_steps_behind_the_page(unchecked: Filters) -> None:
    """In all of its threads, and nobody else does."""
    own = os.getpriority(os.PRIO_PROCESS, 0)
    assert all(set(_niceness(process.pid)) == {own} for process in unchecked._processes)
    unchecked.submit(ENDLESS.format(0))
    until(lambda: any(set(_niceness(process.pid)) == {max(own, 10)} for process in unchecked._processes))
    assert os.getpriority(os.PRIO_PROCESS, 0) == own


def _niceness(pid: int) -> list[int]:
    """Of each thread."""
    stats = [path.read_text().rpartition(")")[2].split() for path in Path(f"/proc/{pid}/task").glob("*/stat")]
    return [int(fields[16]) for fields in stats]


def _is_busy(pid: int) -> bool:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) / os.sysconf("SC_CLK_TCK") > 1.5  # seconds of work
