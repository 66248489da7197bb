"""The layout's rules, read from the source: who may import whom, sizes, and what importing does."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterator
from fnmatch import fnmatch
from functools import cache
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]
TREES = ("clipmodel", "pipeline", "jobs")  # a tree imports itself and those to its left
MAX_FILE_LINES = 300
MAX_FUNCTION_LINES = 50
MAX_PARAMETERS = 7
MAX_FILES_AT_THE_TOP = 6

# The rooms from the ground up. A file imports from its own room and from rooms on floors below; rooms on one floor do
# not know each other, but for what STEPS_THAT_SHARE names. A tree's own name stands for the files at its top.
FLOORS: tuple[tuple[str, ...], ...] = (
    ("clipmodel", "pipeline/package"),
    ("pipeline",),
    ("pipeline/storage", "pipeline/job"),
    ("pipeline/inputs", "pipeline/dataset"),
    ("pipeline/embedding",),
    ("pipeline/running",),
    (
        "pipeline/training",
        "pipeline/labelling",
        "pipeline/scoring",
        "pipeline/copying",
        "pipeline/filtering",
        "pipeline/deduplication",
        "pipeline/searching",
        "pipeline/resharding",
        "pipeline/exporting",
        "pipeline/reporting",
        "pipeline/forgetting",
    ),
    ("jobs/showing", "jobs/drawn", "jobs/web"),
    ("jobs/ingesting", "jobs/specifications"),
    ("jobs/clusters",),
    ("jobs/examples",),
    ("jobs",),
    ("jobs/cli",),
)
# A step that uses another step's public function: (who, whose).
STEPS_THAT_SHARE = {
    ("pipeline/filtering", "pipeline/deduplication"),  # k-means
    ("pipeline/reporting", "pipeline/labelling"),  # the classes of labels
    ("pipeline/reporting", "pipeline/filtering"),  # the recipes
    ("pipeline/reporting", "pipeline/deduplication"),  # the groups of duplicates
}

# Where a dependency's only seams are; `*` also crosses folders.
SEAMS = {
    "ray": (
        "pipeline/running/autoscaler.py",
        "pipeline/running/cluster.py",
        "pipeline/running/worker_handle.py",
        "pipeline/running/reader_handle.py",
        "pipeline/running/reader_processes.py",  # what a worker asks of Ray, where the others are what the driver does
        "pipeline/running/scatter.py",
        "pipeline/running/broadcast.py",
        "pipeline/running/metrics.py",
        "jobs/clusters/submit.py",
    ),
    "faiss": ("pipeline/searching/faiss_library.py", "pipeline/deduplication/kmeans.py"),
    "fastapi": ("jobs/web/*.py",),
    "typer": ("jobs/cli/*.py",),
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
    yield from imports_of(tree(path), path)


def imports_of(module: ast.AST, path: Path) -> Iterator[tuple[int, int, str]]:
    """The same, of code that lies at this path or could."""
    package = ("clipmill", *path.relative_to(ROOT).parent.parts)
    for node in ast.walk(module):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, 0, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            stem = ".".join((*base, *filter(None, [node.module])))
            yield from ((node.lineno, node.level, f"{stem}.{alias.name}") for alias in node.names)


def module_name(path: Path) -> str:
    return ("clipmill." + name(path).removesuffix(".py").replace("/", ".")).removesuffix(".__init__")


def without_type_checking(module: ast.Module) -> ast.Module:
    """A copy without `if TYPE_CHECKING:` at the top of the file."""
    is_for_types = [
        isinstance(n, ast.If) and isinstance(n.test, ast.Name) and n.test.id == "TYPE_CHECKING" for n in module.body
    ]
    return ast.Module([n for n, skip in zip(module.body, is_for_types, strict=True) if not skip], [])


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


def room(path: Path) -> str:
    folder = path.parent.relative_to(ROOT)
    return "clipmodel" if folder.parts[0] == "clipmodel" else folder.as_posix()  # one room, whose files are sorted


def room_of(module: list[str]) -> str | None:
    """The room of a module's full name; None for modules of others. The tables at the top of `pipeline` import a room
    only when they are asked for a name, as a string."""
    if module[0] != "clipmill" or module[1:2] == []:
        return None
    folder = "/".join(module[1:3]) if module[1] != "clipmodel" else "clipmodel"
    return folder if folder in FLOOR else module[1]


FLOOR = {name: number for number, floor in enumerate(FLOORS) for name in floor}


def is_upward(own: str, other: str) -> bool:
    """Whether a room may not import another: one on a floor above, or on its own floor."""
    return own != other and FLOOR[other] >= FLOOR[own] and (own, other) not in STEPS_THAT_SHARE


def test_every_room_has_a_floor() -> None:
    assert sorted({room(path) for path in PRODUCT}) == sorted(FLOOR)


def test_a_room_imports_only_from_floors_below() -> None:
    def upwards(path: Path, dots: int, module: list[str]) -> bool:
        other = room_of(module)
        return other is not None and is_upward(room(path), other)

    assert broken(PRODUCT, upwards) == []


@pytest.mark.parametrize(
    ("source", "statement", "is_refused"),
    [
        ("pipeline/dataset/plan.py", "from ..embedding.encoder import Encoder", True),
        ("pipeline/dataset/plan.py", "from ..inputs.listing import list_shards", True),
        ("pipeline/dataset/plan.py", "from ...jobs.cli import main", True),
        ("pipeline/embedding/encoder.py", "from ..dataset.plan import Plan", False),
        ("pipeline/filtering/filter.py", "from ..searching import ann", True),
        ("pipeline/filtering/rows.py", "from ..deduplication import kmeans", False),
        ("jobs/specifications/run.py", "from ..cli import commands", True),
        ("clipmodel/text.py", "from ..pipeline.errors import UserError", True),
    ],
)
def test_an_upward_import_is_seen(source: str, statement: str, is_refused: bool) -> None:
    path = ROOT / source
    modules = [module.split(".") for _, _, module in imports_of(ast.parse(statement), path)]
    others = [other for module in modules if (other := room_of(module)) is not None]
    assert any(is_upward(room(path), other) for other in others) == is_refused


def test_files_import_each_other_in_no_circle() -> None:
    """Within a room, too. What is imported for type checkers only does not count."""
    names = {
        ("clipmill." + name(path).removesuffix(".py").replace("/", ".")).removesuffix(".__init__") for path in PRODUCT
    }
    arrows: dict[str, set[str]] = {}
    for path in PRODUCT:
        own = module_name(path)
        modules = [module for _, _, module in imports_of(without_type_checking(tree(path)), path)]
        arrows[own] = {m if m in names else m.rpartition(".")[0] for m in modules} & names - {own}
    while ends := [module for module, others in arrows.items() if not others & arrows.keys()]:
        for module in ends:
            del arrows[module]
    assert arrows == {}


@pytest.mark.parametrize("top", ["pipeline", "jobs"])
def test_few_files_lie_at_the_top(top: str) -> None:
    assert len(list((ROOT / top).glob("*.py"))) <= MAX_FILES_AT_THE_TOP


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
    lines = {name(path): len(path.read_text(encoding="utf-8").splitlines()) for path in EVERYTHING}
    assert {path: count for path, count in lines.items() if count > MAX_FILE_LINES} == {}


def functions(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    yield from (n for n in ast.walk(tree(path)) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef))


def test_functions_fit_a_screen() -> None:
    too_long = [
        f"{name(path)}:{node.lineno} {node.name} has {length} lines"
        for path in PRODUCT
        for node in functions(path)
        if (length := (node.end_lineno or node.lineno) - node.lineno + 1) > MAX_FUNCTION_LINES
    ]
    assert too_long == []


def test_functions_take_few_parameters() -> None:
    """`self` and `cls` do not count; configuration is in dataclasses, whose fields are no function's parameters."""
    too_many = [
        f"{name(path)}:{node.lineno} {node.name} has {count} parameters"
        for path in PRODUCT
        for node in functions(path)
        if (count := parameters(node)) > MAX_PARAMETERS
    ]
    assert too_many == []


def parameters(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    every = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
    return len(every) - (bool(every) and every[0].arg in ("self", "cls"))


def test_every_folder_of_the_product_is_a_package() -> None:
    folders = {path.parent for path in PRODUCT}
    assert [name(folder) for folder in sorted(folders) if not (folder / "__init__.py").is_file()] == []
    tomllib = pytest.importorskip("tomllib")  # from Python 3.11
    setuptools = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]
    assert setuptools["package-dir"] == {f"clipmill.{t}": t for t in TREES} | {"clipmill": "pipeline/package"}
    assert sorted(setuptools["packages"]) == sorted(setuptools["package-dir"])


def test_no_two_files_of_tests_have_a_name() -> None:
    """pytest imports them by their names, and refuses the second one only where it is asked for both."""
    names = Counter(path.name for path in (ROOT / "tests").rglob("test_*.py"))
    assert [name for name, count in names.items() if count > 1] == []
