"""The package's face: `load`, and nothing heavy before it is asked for."""

from __future__ import annotations

import subprocess
import sys

import pytest


def test_load_is_the_way_in() -> None:
    from clipmill.clipmodel import load
    from clipmill.clipmodel.models import load as same

    assert load is same


def test_errors_and_variants_need_no_torch() -> None:
    """They are what the command line needs for its help and its complaints."""
    code = "import sys, clipmill.clipmodel.config, clipmill.clipmodel.errors; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 0


def test_other_names_are_refused_as_by_any_module() -> None:
    import clipmill.clipmodel

    name = "lode"
    with pytest.raises(AttributeError, match=r"module 'clipmill\.clipmodel' has no attribute 'lode'"):
        getattr(clipmill.clipmodel, name)
