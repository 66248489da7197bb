"""What is tried again, and for how long."""

import errno
from collections.abc import Callable

import pytest
from clipmill.pipeline.errors import ShardError
from clipmill.pipeline.storage.retry import ATTEMPTS, already_exists, is_final, retry


@pytest.fixture(autouse=True)
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    waited: list[float] = []
    monkeypatch.setattr("clipmill.pipeline.storage.retry.time.sleep", waited.append)
    return waited


def failing(times: int, error: Exception) -> Callable[[], int]:
    """Raises so many times, then tells how often it was called."""
    calls = 0

    def call() -> int:
        nonlocal calls
        calls += 1
        if calls <= times:
            raise error
        return calls

    return call


class ClientError(Exception):
    """As botocore's."""

    def __init__(self, code: str) -> None:
        self.response = {"Error": {"Code": code}}


class WebError(Exception):
    """As aiohttp's."""

    def __init__(self, status: int) -> None:
        self.status = status


class NoCredentialsError(Exception): ...


def as_s3fs(code: str) -> OSError:
    error = OSError(errno.EINVAL, "translated")
    error.__cause__ = ClientError(code)
    return error


def test_what_succeeds_is_called_once(pauses: list[float]) -> None:
    assert retry(failing(0, OSError())) == 1
    assert pauses == []


@pytest.mark.parametrize("error", [OSError(errno.EBUSY, "SlowDown"), TimeoutError(), RuntimeError(), WebError(503)])
def test_what_may_pass_is_tried_again(error: Exception, pauses: list[float]) -> None:
    assert retry(failing(3, error)) == 4
    assert len(pauses) == 3


def test_the_last_failure_is_raised(pauses: list[float]) -> None:
    with pytest.raises(TimeoutError):
        retry(failing(ATTEMPTS, TimeoutError()))
    assert len(pauses) == ATTEMPTS - 1
    with pytest.raises(TimeoutError):
        retry(failing(2, TimeoutError()), attempts=2)


def test_to_be_told_to_come_back_later_is_no_failed_attempt(
    pauses: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert retry(failing(5 * ATTEMPTS, WebError(429))) == 5 * ATTEMPTS + 1
    with pytest.raises(WebError):  # who allows few attempts wants an answer soon
        retry(failing(3, WebError(429)), attempts=3)
    clock = iter(range(0, 100_000, 100))
    monkeypatch.setattr("clipmill.pipeline.storage.retry.time.monotonic", lambda: next(clock))
    with pytest.raises(WebError):
        retry(failing(10**6, WebError(429)))


def test_pauses_grow_with_jitter_up_to_a_limit(pauses: list[float]) -> None:
    retry(failing(11, OSError()), attempts=12)
    for number, pause in enumerate(pauses):
        longest = min(0.1 * 2**number, 8.0)
        assert longest / 2 <= pause <= longest
    assert len({round(pause / min(0.1 * 2**n, 8.0), 6) for n, pause in enumerate(pauses)}) > 5


@pytest.mark.parametrize(
    "error",
    [
        FileNotFoundError(),
        FileExistsError(),
        PermissionError(),
        IsADirectoryError(),
        NotADirectoryError(),
        MemoryError(),
        NotImplementedError(),
        ShardError("ours"),
        NoCredentialsError(),
        ClientError("PreconditionFailed"),
        as_s3fs("PreconditionFailed"),
        as_s3fs("InvalidRange"),
        WebError(403),
        WebError(404),
    ],
)
def test_final_errors_are_not_tried_again(error: Exception, pauses: list[float]) -> None:
    assert is_final(error)
    with pytest.raises(type(error)):
        retry(failing(1, error))
    assert pauses == []


@pytest.mark.parametrize("error", [OSError(), as_s3fs("SlowDown"), as_s3fs("InternalError"), ClientError("500")])
def test_other_errors_may_pass(error: Exception) -> None:
    assert not is_final(error)
    assert not already_exists(error)


def test_interrupts_go_through() -> None:
    calls = 0

    def interrupted() -> None:
        nonlocal calls
        calls += 1
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        retry(interrupted)
    assert calls == 1


@pytest.mark.parametrize("error", [FileExistsError(), ClientError("PreconditionFailed"), as_s3fs("PreconditionFailed")])
def test_a_lost_race_is_told_apart(error: Exception) -> None:
    assert already_exists(error)
