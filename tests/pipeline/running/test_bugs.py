"""Which errors are mistakes of ours."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from clipmill.pipeline.errors import ShardError
from clipmill.pipeline.records import Shard
from clipmill.pipeline.running.worker_handle import bug
from clipmill.pipeline.storage.retry import retry
from clipmill.pipeline.storage.urls import opening


def caught(call: Callable[[], object]) -> Exception:
    with pytest.raises(Exception) as info:
        call()
    return info.value


def test_a_mistake_in_our_lines_is_named_with_its_place() -> None:
    found = bug(caught(lambda: Shard(None).part_name))  # type: ignore[arg-type]
    assert found is not None
    assert found.startswith("AttributeError: 'NoneType' object has no attribute 'split' (a bug in clipmill.pipeline.")


def test_what_comes_out_of_a_library_or_the_storage_is_none() -> None:
    def fail(error: Exception) -> None:
        raise error

    for error in (TypeError("of a client that lost its connection"), OSError(5, "io"), ValueError("x")):
        assert bug(caught(lambda error=error: retry(lambda: fail(error), attempts=1))) is None


def test_our_own_errors_are_none() -> None:
    def no_file() -> None:
        with opening("/a.tar"):
            raise FileNotFoundError

    error = caught(no_file)
    assert isinstance(error, ShardError) and bug(error) is None


def test_an_error_that_was_never_raised_is_none() -> None:
    assert bug(TypeError()) is None
