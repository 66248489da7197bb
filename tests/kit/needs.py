"""Programs that some tests need beside Python's packages, and the Debian packages that bring them.

Where a program is missing, the tests that need it are skipped, and one line at the end of the run says so. With
CLIPMILL_TESTS_NEED_ALL=1, as in CI, they fail instead. Run as a script this prints the packages that are missing, a
line for each program; `make programs` installs them.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NoReturn


@dataclass(frozen=True)
class Need:
    """`programs` lists alternatives: one of each must be on the PATH."""

    name: str
    programs: tuple[tuple[str, ...], ...]
    packages: tuple[str, ...]
    without: str = ""  # what the tests do that are not skipped

    @property
    def is_missing(self) -> bool:
        return not all(any(map(shutil.which, alternatives)) for alternatives in self.programs)

    @property
    def reason(self) -> str:
        return f"needs {self.name}: apt-get install {' '.join(self.packages)}"

    def require(self) -> None:
        if self.is_missing:
            self.skip()

    def skip(self) -> NoReturn:
        """As `skip_for`."""
        skip_for(self.reason)


def skip_for(reason: str) -> NoReturn:
    """Ends the test that calls this: as skipped, or as failed where nothing may be skipped."""
    import pytest  # not at the top: the Makefile runs this file

    if may_skip():
        pytest.skip(reason)
    pytest.fail(reason, pytrace=False)


CHROMIUM = Need("Chromium", (("chromium", "google-chrome"), ("chromedriver",)), ("chromium", "chromium-driver"))
CEPH = Need(
    "Ceph",
    (("ceph",), ("ceph-authtool",), ("ceph-mon",), ("ceph-osd",), ("monmaptool",), ("radosgw",), ("radosgw-admin",)),
    ("ceph-mon", "ceph-osd", "radosgw"),
    without="other tests of object storage ran on moto, a mock",
)
GIT = Need("git", (("git",),), ("git",))
NEEDS = (CHROMIUM, CEPH, GIT)


def hugging_face_datasets() -> Any:
    """Hugging Face's library, which a few tests read with; they are skipped where it is not installed."""
    try:
        import datasets
    except ImportError:
        skip_for("needs Hugging Face datasets: pip install datasets")
    datasets.config.HF_ENDPOINT = "http://127.0.0.1:9"  # nobody's
    datasets.disable_progress_bars()
    return datasets


def may_skip() -> bool:
    return os.environ.get("CLIPMILL_TESTS_NEED_ALL", "") in ("", "0")


def summary(skip_reasons: Iterable[str]) -> str:
    """The one line about the tests that were skipped for these reasons; empty where none missed a program."""
    reasons = list(skip_reasons)
    counts = {need: sum(need.reason in reason for reason in reasons) for need in NEEDS}
    parts = [
        f"{count} that need{'s' * (count == 1)} {need.name}" + (f" ({need.without})" if need.without else "")
        for need, count in counts.items()
        if count
    ]
    packages = " ".join(package for need, count in counts.items() if count for package in need.packages)
    return f"tests skipped: {', '.join(parts)}; to run them: apt-get install {packages}" if parts else ""


if __name__ == "__main__":
    for need in NEEDS:
        if need.is_missing:
            print(*need.packages)
