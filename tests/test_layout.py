"""The layout's rules, read from the source: who may import whom, sizes, and what importing does."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from fnmatch import fnmatch
from functools import cache
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]
TREES = ("clipmodel", "pipeline", "jobs")  # a tree imports itself and those to its left
MAX_FILE_LINES = 350
MAX_FUNCTION_LINES = 60

# Where a dependency's only seams are; `*` also crosses folders.
SEAMS = {
    "ray": (
        "pipeline/cluster.py",
        "pipeline/running/decode_actors.py",  # what a worker asks of Ray, where the other is what the driver does
        "pipeline/scatter.py",
        "pipeline/running/metrics.py",
        "jobs/submit.py",
    ),
    "faiss": ("pipeline/searching/ann.py",),
    "fastapi": ("jobs/web/*.py",),
    "typer": ("jobs/cli*.py", "jobs/cli/*.py"),
}


def sources(*folders: str) -> list[Path]:
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


PRODUCT = sources(*TREES)
EVERYTHING = PRODUCT + sources("tests", "infra")


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), filename=name(path))


def imports(path: Path) -> Iterator[tuple[int, int, str]]:
    """(line, dots, module) of each import, wherever in the file; `from x import y` yields x.y, as y may be a module.

    With dots, the module is given in full, as of the distribution: `..clipmodel.text` in pipeline/a.py is
    `clipmill.clipmodel.text`.
    """
    package = ("clipmill", *path.relative_to(ROOT).parent.parts)
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, 0, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            stem = ".".join((*base, *filter(None, [node.module])))
            yield from ((node.lineno, node.level, f"{stem}.{alias.name}") for alias in node.names)


def broken(paths: list[Path], rule: Any) -> list[str]:
    """`file:line imports module` for each import that the rule (path, dots, module parts) forbids."""
    return [
        f"{name(path)}:{line} imports {module}"
        for path in paths
        for line, dots, module in imports(path)
        if rule(path, dots, module.split("."))
    ]


def test_there_is_something_to_check() -> None:
    assert {path.relative_to(ROOT).parts[0] for path in PRODUCT} == set(TREES)


def test_a_tree_imports_only_those_below_it() -> None:
    def upwards(path: Path, dots: int, module: list[str]) -> bool:
        own = TREES.index(path.relative_to(ROOT).parts[0])
        return module[0] == "clipmill" and module[1:2] != [] and module[1] in TREES[own + 1 :]

    assert broken(PRODUCT, upwards) == []


def test_packages_import_each_other_relatively() -> None:
    assert broken(PRODUCT, lambda path, dots, module: not dots and module[0] == "clipmill") == []


def test_nothing_imports_a_second_copy_of_a_module() -> None:
    """`import pipeline` works in a checkout, and makes another module than clipmill.pipeline."""
    assert broken(EVERYTHING, lambda path, dots, module: not dots and module[0] in TREES) == []


@pytest.mark.parametrize("dependency", SEAMS)
def test_a_seam_is_the_only_place_that_imports_its_dependency(dependency: str) -> None:
    outside = [path for path in PRODUCT if not any(fnmatch(name(path), seam) for seam in SEAMS[dependency])]
    assert broken(outside, lambda path, dots, module: not dots and module[0] == dependency) == []


def test_files_are_short() -> None:
    lines = {name(path): len(path.read_text(encoding="utf-8").splitlines()) for path in PRODUCT}
    assert {path: count for path, count in lines.items() if count > MAX_FILE_LINES} == {}


def test_functions_fit_a_screen() -> None:
    too_long = [
        f"{name(path)}:{node.lineno} {node.name} has {length} lines"
        for path in PRODUCT
        for node in ast.walk(tree(path))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (length := (node.end_lineno or node.lineno) - node.lineno + 1) > MAX_FUNCTION_LINES
    ]
    assert too_long == []


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
    ran = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    assert ran.returncode == 0, ran.stderr
    assert ran.stderr == ""
    assert json.loads(ran.stdout) == {"handlers": [], "ray": False}
    assert list(tmp_path.iterdir()) == []


def test_every_package_is_listed_and_exists() -> None:
    tomllib = pytest.importorskip("tomllib")  # from Python 3.11
    setuptools = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]
    found = {path.parent for path in PRODUCT if path.name == "__init__.py"}
    listed = {"clipmill." + name(folder).replace("/", "."): name(folder) for folder in found}
    assert setuptools["package-dir"] == listed
    assert sorted(setuptools["packages"]) == sorted(listed)
