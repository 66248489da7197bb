"""What the product imports is declared, what is declared is pinned, and what is installed fits together.

Programs that tests need are installed where they may be, and their tests skipped, aloud, where not."""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest
from needs import CEPH, CHROMIUM, NEEDS
from test_layout import PRODUCT, ROOT, imports, name, tree

# modules that another distribution brings, and modules that are used only where they are installed
BROUGHT = {
    "click": "typer",
    "aiohttp": "s3fs",
    "botocore": "s3fs",
    "grpc": "ray",
    "yaml": "pyyaml",
    "PIL": "pillow",
    "nvidia": "nvidia-nvimgcodec-cu13",
    "open_clip": "open-clip-torch",  # which the tests have beside their environment: see the Makefile
    "timm": "open-clip-torch",
}
OPTIONAL = {"lingua", "fasttext", "triton"}  # Triton comes with torch for GPUs


def normalised(distribution: str) -> str:
    return re.sub(r"[-_.]+", "-", distribution).lower()


def declared() -> dict[str, str]:
    """Distribution -> the extra that brings it, or nothing."""
    tomllib = pytest.importorskip("tomllib")  # from Python 3.11
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    groups = {"": project["dependencies"], **project["optional-dependencies"]}
    return {normalised(re.split(r"[\[><=!~; ]", line)[0]): extra for extra, lines in groups.items() for line in lines}


def third_party() -> dict[str, set[str]]:
    """Top-level module -> the product's files that import it."""
    importers: dict[str, set[str]] = {}
    for path in PRODUCT:
        for _, dots, module in imports(path):
            top = module.split(".")[0]
            if not dots and top not in sys.stdlib_module_names and top not in ("clipmill", "__future__"):
                importers.setdefault(top, set()).add(name(path))
    return importers


def test_every_import_is_declared() -> None:
    known, owners = declared(), metadata.packages_distributions()
    undeclared = {}
    for module, files in third_party().items():
        candidates = {normalised(owner) for owner in [*owners.get(module, [module]), BROUGHT.get(module, module)]}
        if module not in OPTIONAL and not candidates & known.keys():
            undeclared[module] = sorted(files)
    assert undeclared == {}


def test_what_is_imported_is_not_for_development_alone() -> None:
    """A module that only the `dev` extra brings would be missing where people install clipmill."""
    known, owners = declared(), metadata.packages_distributions()
    for module in third_party():
        extras = {known[normalised(owner)] for owner in owners.get(module, []) if normalised(owner) in known}
        assert extras != {"dev"}, module


def test_every_dependency_is_pinned() -> None:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = {normalised(line.split("==")[0]) for line in lines if "==" in line and not line.startswith("#")}
    assert declared().keys() - pins - {"clipmill"} == set()
    assert len(pins) == len([line for line in lines if "==" in line and not line.startswith("#")])


def test_what_is_installed_fits_together() -> None:
    """What clip-anytorch, the tests' reference, asks for is left out on purpose: see the Makefile."""
    ran = subprocess.run([sys.executable, "-m", "pip", "check"], capture_output=True, text=True, check=False)
    wrong = [line for line in ran.stdout.splitlines() if line and not line.startswith(("clip-anytorch", "No broken"))]
    assert wrong == [], ran.stdout


def test_nothing_unpickles() -> None:
    """Weights and data come from other people, and unpickling them would run their code."""
    unsafe_calls = []
    for path in PRODUCT:
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.Call):
                called, keywords = ast.unparse(node.func), [ast.unparse(keyword) for keyword in node.keywords]
                unsafe = called in ("pickle.load", "pickle.loads", "torch.jit.load") or "allow_pickle=True" in keywords
                if unsafe or (called == "torch.load" and "weights_only=True" not in keywords):
                    unsafe_calls.append(f"{name(path)}:{node.lineno} {called}")
    assert unsafe_calls == []


# --- programs that tests need ----------------------------------------------------------------------------------------

NEEDY = """
from browser import browser
from needs import CEPH

def test_a_page(tmp_path):
    with browser(tmp_path):
        pass

def test_a_store(s3_server):
    if not s3_server.is_ceph:
        CEPH.skip()
"""


def run_needy_tests(folder: Path, **environment: str) -> tuple[int, str]:
    """Tests of a page and of a store, where no program is on the PATH."""
    (folder / "test_needy.py").write_text(NEEDY)
    paths = os.pathsep.join([str(ROOT / "tests"), str(ROOT / "tests" / "kit")])
    ended = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "conftest", "-p", "no:cacheprovider", "test_needy.py"],
        cwd=folder,
        env={"HOME": str(folder), "PATH": str(folder), "PYTHONPATH": paths, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    return ended.returncode, ended.stdout


def test_where_programs_are_missing_one_line_says_what_was_skipped_and_what_to_install(tmp_path: Path) -> None:
    code, printed = run_needy_tests(tmp_path)
    lines = [line for line in printed.splitlines() if "skipped" in line]
    assert code == 0
    assert lines[:-1] == [
        "tests skipped: 1 that needs Chromium, 1 that needs Ceph (other tests of object storage ran on moto, a mock); "
        "to run them: apt-get install chromium chromium-driver ceph-mon ceph-osd radosgw"
    ]
    assert lines[-1].startswith("2 skipped")


def test_where_nothing_may_be_skipped_a_missing_program_fails_its_tests(tmp_path: Path) -> None:
    code, printed = run_needy_tests(tmp_path, CLIPMILL_TESTS_NEED_ALL="1")
    assert code == 1
    assert "1 failed, 1 error" in printed and "skipped" not in printed
    for need in (CHROMIUM, CEPH):
        assert need.reason in printed


def make_programs(folder: Path, user: int) -> tuple[str, list[str]]:
    """`make programs` by a user of this number, where no program is installed: what it prints, and its calls of apt-get
    after the update. All of apt-get's installs fail."""
    log = folder / "apt-get.log"
    for tool in ("sh", "make", "sed"):
        (folder / tool).symlink_to(shutil.which(tool) or "")
    for tool, script in {"id": f"echo {user}", "apt-get": f'echo "$@" >> {log}; [ "$1" = update ]'}.items():
        (folder / tool).write_text(f"#!/bin/sh\n{script}\n")
        (folder / tool).chmod(0o755)
    installed = f"{sys.prefix}/.clipmill-dev"  # taken for up to date
    ended = subprocess.run(
        [folder / "make", "-s", "-o", installed, f"VENV={sys.prefix}", "programs"],
        cwd=ROOT,
        env={"PATH": str(folder)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (ended.returncode, ended.stderr.strip()) == (0, "")
    calls = log.read_text().splitlines() if log.exists() else []
    return ended.stdout, [call for call in calls if "install" in call.split()]


def test_make_installs_each_missing_program_as_root_and_goes_on_if_it_cannot(tmp_path: Path) -> None:
    printed, calls = make_programs(tmp_path, user=0)
    assert printed.splitlines() == [f"installing {' '.join(need.packages)}" for need in NEEDS]
    assert [call.endswith(" ".join(need.packages)) for call, need in zip(calls, NEEDS, strict=True)] == [True] * len(
        NEEDS
    )


def test_make_installs_nothing_for_other_users(tmp_path: Path) -> None:
    assert make_programs(tmp_path, user=1000) == ("", [])


def test_packages_are_named_in_one_place() -> None:
    """CI installs them by `make test`, and lets no test be skipped for want of them."""
    for path in (ROOT / "Makefile", ROOT / ".ci" / "run"):
        assert not [package for need in NEEDS for package in need.packages if package in path.read_text().split()]
    ci = (ROOT / ".ci" / "run").read_text()
    assert "CLIPMILL_TESTS_NEED_ALL=1" in ci and re.search(r"for target in .*\btest\b", ci)
