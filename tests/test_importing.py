"""What importing the product does: nothing that anybody would notice."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.parametrize("module", ["clipmill.clipmodel.config", "clipmill.pipeline.records"])
def test_importing_does_nothing(module: str, tmp_path: Path) -> None:
    """Elsewhere than in the checkout, so that it is the installed package that is imported."""
    script = f"""
import json, logging, sys
import {module}
loggers = [logging.getLogger(), *(logging.getLogger(n) for n in logging.root.manager.loggerDict if "clipmill" in n)]
handlers = [repr(h) for l in loggers for h in l.handlers if not isinstance(h, logging.NullHandler)]
print(json.dumps({{"handlers": handlers, "ray": "ray" in sys.modules}}))
"""
    command = [sys.executable, "-c", script]
    ran = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False)
    assert ran.returncode == 0, ran.stderr
    assert ran.stderr == ""
    assert json.loads(ran.stdout) == {"handlers": [], "ray": False}
    assert list(tmp_path.iterdir()) == []
