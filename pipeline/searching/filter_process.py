"""Evaluates one condition in SQL, in a process of its own:

    python -m clipmill.pipeline.searching.filter_process TABLES

TABLES is JSON, see `Tables`. The process opens them and waits for a line of JSON on stdin: the condition. On stdout
comes a line of JSON with the error or null, and then a bit for each row. The process cannot take more memory than the
tables say, and ends when its stdin does.
"""

from __future__ import annotations

import json
import os
import re
import resource
import sys
import threading
from dataclasses import asdict, dataclass

import duckdb
import numpy as np
import numpy.typing as npt

from ..dataset.conditions import check_condition_of_others
from ..errors import UserError, one_line

Mask = npt.NDArray[np.bool_]

OPTION = "filter"  # what errors call the condition
_GONE = f"{OPTION}: the page's copy of the rows has been removed: stop `clipmill serve` and start it again"
_MISSING = re.compile(r'Binder Error: Referenced column "(.*)" not found in FROM clause! Candidate bindings: (.*)$')
_ROOM = 1 << 30  # bytes of address space for the program itself
_SPILLED = "2GB"
_THREADS = 4  # each takes address space of its own
_QUICK = 1.0  # seconds of a filter at the page's own priority; people wait for quick ones
_NICENESS = 10  # of a filter that takes longer: the page's other answers go first


@dataclass(frozen=True)
class Tables:
    database: str  # that `catalogue` wrote
    rows: int
    memory: int  # bytes that a filter may take for its data
    scratch: str  # a folder for what does not fit

    def as_text(self) -> str:
        return json.dumps(asdict(self))


def main() -> None:
    tables = Tables(**json.loads(sys.argv[1]))
    if os.getpgrp() != os.getpid():
        os.setpgid(0, 0)  # a group of its own, see _step_back
    _limit(tables)
    connection = _connected(tables)
    line = sys.stdin.buffer.readline()
    if not line:
        return
    threading.Thread(target=_end_with_stdin, daemon=True).start()
    threading.Timer(_QUICK, _step_back).start()
    mask, error = _evaluate(connection, json.loads(line), tables) if connection is not None else (None, _GONE)
    sys.stdout.buffer.write(json.dumps({"error": error}).encode() + b"\n")
    if mask is not None:
        sys.stdout.buffer.write(np.packbits(mask).tobytes())
    sys.stdout.buffer.flush()
    os._exit(0)  # at once: without waiting for the timer


def _evaluate(connection: duckdb.DuckDBPyConnection, where: str, tables: Tables) -> tuple[Mask | None, str | None]:
    """A bit for each row, or what is wrong with the condition."""
    try:
        connection.extract_statements(f"SELECT 1 WHERE {where}")  # its error shows the user's own text
        check_condition_of_others(where, OPTION)
        mask = np.zeros(tables.rows, dtype=np.bool_)
        mask[connection.execute(_query(connection, where)).fetchnumpy()["_place"]] = True
        return mask, None
    except (duckdb.OutOfMemoryException, MemoryError):
        return None, too_large(tables.memory)
    except duckdb.Error as raised:
        return None, f"{OPTION}: {_in_words(one_line(str(raised).partition(chr(10) + 'LINE ')[0]))}"
    except UserError as raised:
        return None, str(raised)


def _in_words(message: str) -> str:
    """DuckDB's message; where a column is missing, in plain words."""
    missing = _MISSING.match(message)
    return f"no column is called {missing[1]}; there are {missing[2].replace(chr(34), '')}" if missing else message


def too_large(memory: int) -> str:
    return f"{OPTION}: takes more than {memory / 1e9:.1f} GB of memory: make it simpler"


def _end_with_stdin() -> None:
    sys.stdin.buffer.read()
    os._exit(1)


def _step_back() -> None:
    """In all threads: a priority given to a process is that of one thread, one given to a group is everybody's in it. A
    session of its own would have a share of its own of the processor, whatever the priority."""
    os.setpriority(os.PRIO_PGRP, 0, max(_NICENESS, os.getpriority(os.PRIO_PROCESS, 0)))


def _limit(tables: Tables) -> None:
    """Of memory by the kernel, whatever DuckDB does; no core dumps."""
    resource.setrlimit(resource.RLIMIT_AS, (tables.memory + _ROOM,) * 2)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _connected(tables: Tables) -> duckdb.DuckDBPyConnection | None:
    """None where there is no such database any more."""
    try:
        connection = duckdb.connect(tables.database, read_only=True)
    except duckdb.IOException:
        return None
    for setting in (
        f"threads = {min(os.cpu_count() or 1, _THREADS)}",
        f"memory_limit = '{tables.memory}B'",
        f"temp_directory = '{tables.scratch}'",
        f"max_temp_directory_size = '{_SPILLED}'",
        "python_enable_replacements = false",
        "enable_external_access = false",
        "lock_configuration = true",
    ):
        connection.execute(f"SET {setting}")
    return connection


def _query(connection: duckdb.DuckDBPyConnection, where: str) -> str:
    """The condition stands on lines of its own: it may end in a comment."""
    tables = {name for (name,) in connection.execute("SELECT table_name FROM duckdb_tables()").fetchall()}
    labels = "LEFT JOIN labels USING (_place)" if "labels" in tables else ""
    return f"SELECT pairs._place FROM pairs {labels} WHERE (\n{where}\n)"


if __name__ == "__main__":
    main()
