"""A folder that a step began with other settings: the difference is told in words."""

from __future__ import annotations

from pathlib import Path

import pytest
from clipmill.pipeline.dataset.derived import begin
from clipmill.pipeline.dataset.output import Output
from clipmill.pipeline.errors import PlanMismatchError


def test_a_setting_within_a_setting_is_named_by_itself(tmp_path: Path) -> None:
    output = Output.at(str(tmp_path)).prepare()
    begin(output, "dedup", {"near": {"threshold": 0.95, "cells": None}, "within": ""})
    with pytest.raises(PlanMismatchError, match=r"near threshold is 0\.9, not 0\.95") as refused:
        begin(output, "dedup", {"near": {"threshold": 0.9, "cells": None}, "within": ""})
    assert "{" not in str(refused.value)
    with pytest.raises(PlanMismatchError, match=r"near is False, not \{'threshold'"):
        begin(output, "dedup", {"near": False, "within": ""})
