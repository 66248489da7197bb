"""A filter's process that evaluates whatever it is given, so that only its limits are left."""

from __future__ import annotations

import sys

UNCHECKED = (
    sys.executable,
    "-c",
    "from clipmill.pipeline.searching import filter_process; "
    "filter_process.check_condition_of_others = lambda *_: None; filter_process.main()",
)
ENDLESS = "(SELECT count(*) FROM range(1000000000) a, range(1000) b) > {}"
