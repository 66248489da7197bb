"""Run as a script: a process of a run that reads objects as workers do, as fast as it may.

readers.py PROCESSES THREADS SECONDS OPTIONS URL…: how many such processes there are, its threads, and storage options
as JSON. Begins with a line of input; prints as JSON how many objects it got, and what failed.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import cycle
from typing import Any

from clipmill.pipeline.storage.pace import Share, settle
from clipmill.pipeline.storage.retry import retry
from clipmill.pipeline.storage.urls import open_storage


@dataclass(frozen=True)
class Read:
    objects: int
    failures: list[str]


def read_together(
    processes: int, threads: int, seconds: float, options: Mapping[str, Any], urls: Sequence[str]
) -> list[Read]:
    """So many processes at once; what each of them read."""
    command = [sys.executable, __file__, *map(str, (processes, threads, seconds)), json.dumps(options), *urls]
    pipe = subprocess.PIPE
    running = [subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) for _ in range(processes)]
    for process in running:
        assert process.stdout and process.stdout.readline() == "ready\n"
    for process in running:
        assert process.stdin
        process.stdin.write("\n")
        process.stdin.flush()
    answers = [process.communicate(timeout=seconds + 300)[0] for process in running]
    return [Read(**json.loads(answer)) for answer in answers]


def main(processes: int, threads: int, seconds: float, options: Mapping[str, Any], urls: Sequence[str]) -> None:
    settle(Share(processes))
    storage = open_storage(urls[0], options)

    def read(number: int) -> Read:
        objects, failures = 0, []
        for url in cycle(urls[number % len(urls) :] + urls[: number % len(urls)]):
            if time.monotonic() > end:
                break
            try:
                retry(lambda url=url: storage.cat_file(url))
                objects += 1
            except Exception as error:
                failures.append(repr(error))
        return Read(objects, failures)

    print("ready", flush=True)
    sys.stdin.readline()
    end = time.monotonic() + seconds
    with ThreadPoolExecutor(threads) as pool:
        reads = list(pool.map(read, range(threads)))
    failures = [failure for each in reads for failure in each.failures]
    print(json.dumps({"objects": sum(each.objects for each in reads), "failures": failures}))


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]), json.loads(sys.argv[4]), sys.argv[5:])
