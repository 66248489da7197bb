"""Where everything lies in an output: parts in `data/`, all else in `.clipmill/`. No other file knows it.

People point readers at folders. `data/` holds Parquet files and nothing else, and readers pass over hidden folders.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Collection

DATA = "data"
OWN = ".clipmill"
REPORT = f"{OWN}/report"  # what reports keep for the next one: a cache
SUCCESS = f"{OWN}/_SUCCESS"  # the end's mark: all shards are done

EARLIER = "_clipmill"  # the own folder of November 2026, when parts lay in the output itself
_EARLIER_STEPS = (None, "filter", "dedup", "label")  # that wrote parts; None is `embed`
_PART = re.compile(rf"{DATA}/[^/]*-([0-9a-f]{{8}}|[0-9a-f]{{16}})\.parquet")  # as Shard.part_name makes them
_MANY = 5000  # files: a shell cannot name more in one command


def part_path(part: str) -> str:
    """Where a part of that name lies in its output."""
    return f"{DATA}/{part}"


def is_own(path: str) -> bool:
    """Whether clipmill writes such a file into an output."""
    return bool(_PART.fullmatch(path)) or path.startswith(f"{OWN}/")


def is_part(name: str) -> bool:
    """Whether a file of `data/` is a part."""
    return name.endswith(".parquet") and not name.startswith(("_", "."))


def moved(url: str, names: Collection[str], step: bytes | None) -> str:
    """A message: how an output of November 2026 becomes one of today. names: the files in it. step: its step.json."""
    writer = json.loads(step).get("step") if step else None
    parts = [name for name in names if is_part(name)] if writer in _EARLIER_STEPS else []
    told = "was made by an earlier clipmill, whose files lay elsewhere. Nothing is lost: move them once"
    commands = _commands(url, len(parts), "_SUCCESS" in names)
    if commands is None:
        own = f"{EARLIER}/ to {OWN}/" + (f", _SUCCESS to {SUCCESS}" if "_SUCCESS" in names else "")
        return f"{url} {told} ({f'*.parquet to {DATA}/, ' if parts else ''}{own})"
    return f"{url} {told}, then run this again: {' && '.join(commands)}"


def _commands(url: str, parts: int, ended: bool) -> list[str] | None:
    """Shell commands, the one last that makes it an output of today. None for a store whose commands are not known."""
    if url.startswith("s3://"):
        return _commands_for_s3(url, parts, ended)
    if "://" in url:
        return None
    move_parts = (
        "mv *.parquet data/" if parts <= _MANY else "find . -maxdepth 1 -name '*.parquet' -exec mv {} data/ ';'"
    )
    return [
        f"cd {shlex.quote(url)}",
        *([f"mkdir -p {DATA}", move_parts] if parts else []),
        *([f"mv _SUCCESS {EARLIER}/"] if ended else []),
        f"mv {EARLIER} {OWN}",
    ]


def _commands_for_s3(url: str, parts: int, ended: bool) -> list[str]:
    def move(source: str, target: str, *options: str) -> str:
        return shlex.join(["aws", "s3", "mv", f"{url}/{source}", f"{url}/{target}", *options])

    only_parts = ("--recursive", "--exclude", "*", "--include", "*.parquet", "--exclude", "*/*")
    return [
        *([move("", f"{DATA}/", *only_parts)] if parts else []),
        *([move("_SUCCESS", f"{EARLIER}/_SUCCESS")] if ended else []),
        move(f"{EARLIER}/", f"{OWN}/", "--recursive"),
    ]
