"""Evaluates one condition in SQL, in a process of its own: `python -m clipmill.pipeline.searching.filter_process`.

A line of JSON on stdin says which. On stdout comes a line of JSON with the error or null, and then a bit for each row.
The process cannot take more memory than the request allows, and ends when its stdin does.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import threading
from dataclasses import asdict, dataclass

import duckdb
import numpy as np

from ..dataset.conditions import check_condition_of_others
from ..errors import UserError, one_line

OPTION = "filter"  # what errors call the condition
_ROOM = 1 << 30  # bytes of address space for the program itself
_SPILLED = "2GB"


@dataclass(frozen=True)
class Request:
    database: str
    where: str
    rows: int
    memory: int  # bytes
    seconds: float
    scratch: str  # a folder

    def as_line(self) -> bytes:
        return json.dumps(asdict(self)).encode() + b"\n"


def main() -> None:
    line = sys.stdin.buffer.readline()
    if not line:
        return
    request = Request(**json.loads(line))
    threading.Thread(target=_end_with_stdin, daemon=True).start()
    _limit(request)
    mask, error = np.zeros(request.rows, dtype=np.bool_), None
    try:
        with _connected(request) as connection:
            connection.extract_statements(f"SELECT 1 WHERE {request.where}")  # its error shows the user's own text
            check_condition_of_others(request.where, OPTION)
            mask[connection.execute(_query(connection, request.where)).fetchnumpy()["_place"]] = True
    except (duckdb.OutOfMemoryException, MemoryError):
        error = too_large(request.memory)
    except duckdb.Error as raised:
        error = f"{OPTION}: {one_line(str(raised).partition(chr(10) + 'LINE ')[0])}"
    except UserError as raised:
        error = str(raised)
    sys.stdout.buffer.write(json.dumps({"error": error}).encode() + b"\n")
    if error is None:
        sys.stdout.buffer.write(np.packbits(mask).tobytes())
    sys.stdout.buffer.flush()


def too_large(memory: int) -> str:
    return f"{OPTION}: takes more than {memory / 1e9:.1f} GB of memory: make it simpler"


def _end_with_stdin() -> None:
    sys.stdin.buffer.read()
    os._exit(1)


def _limit(request: Request) -> None:
    """Of memory by the kernel, whatever DuckDB does; behind the page's other answers; no core dumps."""
    os.nice(10)
    resource.setrlimit(resource.RLIMIT_AS, (request.memory + _ROOM,) * 2)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _connected(request: Request) -> duckdb.DuckDBPyConnection:
    connection = duckdb.connect(request.database, read_only=True)
    for setting in (
        f"threads = {max(1, (os.cpu_count() or 1) // 2)}",
        f"memory_limit = '{request.memory}B'",
        f"temp_directory = '{request.scratch}'",
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
