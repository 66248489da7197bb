"""Every page's commands, run as written and in order in a fresh folder; those that no test can run at least parse."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from clipmill.jobs.cli import app
from clipmill.jobs.drawn.pairs import PairSpec
from clipmill.jobs.drawn.shards import DrawnSpec, write_shards
from clipmill.jobs.specifications.cluster_spec import read_cluster
from clipmill.jobs.specifications.specification import check_specification
from clipmill.jobs.specifications.templates import Values
from clipmill.pipeline import EmbedJob, embed
from clipmill.pipeline.dataset import conditions
from commands import Block, blocks
from console import Console, console

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
COMMANDS: dict[str, Any] = typer.main.get_command(app).commands  # type: ignore[attr-defined]
COLUMNS = ("label", "caption_is_right:bool")


def shells(page: Path) -> list[Block]:
    return [block for block in blocks(page) if block.language in ("console", "sh")]


@pytest.fixture(scope="session")
def given(cluster: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What pages begin with: shards/, classes.txt, and embeddings/ where a page does not make that itself."""
    folder = tmp_path_factory.mktemp("docs")
    write_shards(DrawnSpec(48, 4, PairSpec(seed=3), wrong_captions=0.2, damaged=2), folder / "shards")
    (folder / "classes.txt").write_text("red star\nblue fish\ngreen tree\ngrey crescent\n")
    embed(EmbedJob([str(folder / "shards")], str(folder / "embeddings"), "tiny", COLUMNS, workers=1))
    return folder


@pytest.fixture
def place(given: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = shutil.copytree(given, tmp_path / "page")
    monkeypatch.chdir(folder)
    monkeypatch.setenv("CLIPMILL_CACHE", str(tmp_path / "cache"))
    return folder


@pytest.fixture
def clipmill(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Console:
    return console(monkeypatch, capsys)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_page_does_what_it_says(page: Path, place: Path, clipmill: Console) -> None:
    if any("-o embeddings/ " in block.text for block in shells(page) if block.is_run):
        shutil.rmtree(place / "embeddings")
    for block in blocks(page):
        if block.language == "yaml" and block.about:
            (place / block.about).write_text(block.text, encoding="utf-8")
        if block.language == "python" and block.is_run:
            exec(compile(block.text, page.name, "exec"), {"__name__": "__main__"})
        if block.language not in ("console", "sh") or not block.is_run:
            continue
        for words in block.commands():
            assert words[0] == "clipmill", f"{page.name}: {words}: say no-run"
            end = words.index(">") if ">" in words else len(words)
            ran = clipmill(*words[1:end])
            assert ran.code == 0, f"{words}: {ran.err}"
            if end < len(words):
                (place / words[end + 1]).write_text(ran.out, encoding="utf-8")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_command_and_option_exists(page: Path) -> None:
    for block in shells(page):
        for words in block.commands():
            if words[0] != "clipmill":
                continue
            end = next((place for place, word in enumerate(words) if word in ("|", ">")), len(words))
            told = words[3:end] if words[1] == "--log" else words[1:end]
            assert told[0] in COMMANDS, f"{page.name}: {words}"
            COMMANDS[told[0]].make_context(told[0], told[1:])  # which raises for an option that is none


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_specification_shown_is_valid(page: Path, tmp_path: Path) -> None:
    for number, block in enumerate(block for block in blocks(page) if block.language == "yaml"):
        if "apiVersion: clipmill/v1" in block.text:
            path = tmp_path / f"{number}.yaml"
            path.write_text(block.text, encoding="utf-8")
            check_specification(path, Values.given((), None))
        else:
            content = yaml.safe_load(block.text)
            assert content is not None
            if "cluster" in content:
                read_cluster(content["cluster"], page.name)


def test_links_lead_to_files_that_are_there() -> None:
    links = [
        (page, target)
        for page in [*PAGES, ROOT / "ARCHITECTURE.md", ROOT / "SECURITY.md", ROOT / "CHANGELOG.md"]
        for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text(encoding="utf-8"))
    ]
    assert [(page.name, to) for page, to in links if "://" not in to and not (page.parent / to).exists()] == []


def test_the_readme_is_short_and_no_page_hides_commands_in_indented_blocks() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) < 200
    for page in PAGES:
        assert "\n    clipmill " not in page.read_text(encoding="utf-8"), page.name


def test_the_filter_page_lists_what_a_condition_from_elsewhere_may_call() -> None:
    page = (ROOT / "docs" / "filter.md").read_text(encoding="utf-8")
    section = page.partition("## Conditions from elsewhere")[2].partition("\n## ")[0]
    listed = set(re.findall(r"[a-z]\w+(?=`)", section))
    functions = {name for name in conditions._ALLOWED["function"] if name.isidentifier() and "escape" not in name}
    assert functions - listed == set()


def test_anchors_lead_to_headings_that_are_there() -> None:
    for page in [*PAGES, ROOT / "SECURITY.md"]:
        for target, anchor in re.findall(r"\]\(([^)#\s:]*)#([^)\s]+)\)", page.read_text(encoding="utf-8")):
            text = (page.parent / target if target else page).read_text(encoding="utf-8")
            headings = [re.sub(r"[^\w -]", "", line.lower()) for line in re.findall(r"^#+ (.+)", text, re.MULTILINE)]
            assert anchor in {heading.replace(" ", "-") for heading in headings}, f"{page.name}: {target}#{anchor}"
