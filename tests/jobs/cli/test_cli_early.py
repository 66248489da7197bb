"""What is wrong is told before a command imports what it works with, which takes seconds."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from console import console
from embedded import embed_here
from fakes import write_pairs

SCRIPT = """
import json, sys
from clipmill.jobs.cli import main
ran = {}
commands, heavy = json.loads(sys.argv[1]), sys.argv[2:]
for words in commands:
    sys.argv = ["clipmill", *words]
    try:
        main()
    except SystemExit as end:
        loaded = [name for name in heavy if name in sys.modules]
        ran[" ".join(words)] = [end.code, loaded]
print("\\n" + json.dumps(ran))
"""
REFUSED = (
    "status nowhere",
    "search nowhere hello",
    "search nowhere hello -k 0",
    "label nowhere -o out --classes classes.txt",
    "filter nowhere -o out",
    "dedup nowhere -o out",
    "export nowhere -o out --to datacomp",
    "report nowhere -o out.html",
    "index nowhere -o out",
    "serve nowhere",
    "embed nowhere.tar -o out -m tiny --batch-size 0",
    "embed nowhere.tar -o out -m tiny",
    "embed no/*.tar -o out -m tiny",
    "embed @nowhere.txt -o out -m tiny",
    "embed a.tar -o a.tar -m tiny",
    "embed a.tar -o a.tar/out -m tiny",
    "embed a.tar -o out -m ViT-B/33",
    "embed a.tar -o out -m ViT-B/32=nope",
    "embed a.tar -o out -m tiny=nowhere.safetensors",
    "embed a.tar -o out -m a=tiny -m b=tinny",
    "embed a.tar -o out -m tiny --column similarity",
    "embed a.tar -o out -m tiny --column width:int65",
    "search data hello --index nowhere",
    "search data --image nowhere.png",
    "search data hello --within nowhere",
    "search data hello --alias nowhere",
    "search data hello --model tinny",
    "label data -o out --classes nowhere.txt",
    "label data -o out --classes classes.txt --templates nowhere.txt",
    "label data -o out --classes classes.txt --alias nowhere",
    "label data -o out --classes classes.txt --within nowhere",
    "label data -o out --classes classes.txt --model tinny",
    "filter data -o out --within nowhere",
    "filter data -o out --top-fraction 2",
    "dedup data -o out --within nowhere",
    "reshard nowhere -o out",
    "export data -o out --to clip-retrieval --alias nowhere",
    "report data -o out.html --labels nowhere",
    "report data -o out.html --within nowhere",
    "index data -o out --alias nowhere",
    "serve data --labels nowhere",
    "serve data --index nowhere",
    "train nowhere.tar -o out.safetensors -m tiny",
    "train a.tar -o out.safetensors -m tinny",
    "train a.tar -o nowhere/out.safetensors -m tiny",
    "ingest nowhere.parquet -o out",
    "run nowhere.yaml",
    "render nowhere.yaml",
    "submit nowhere.yaml --address http://127.0.0.1:1",
)
HEAVY = ("duckdb", "faiss", "pyarrow.dataset", "ray", "torch")


def test_refusals_come_before_the_heavy_imports(tmp_path: Path) -> None:
    """On a busy machine these take ten seconds and more."""
    write_pairs(tmp_path / "a.tar", 3)
    embed_here([tmp_path / "a.tar"], tmp_path / "data")
    (tmp_path / "classes.txt").write_text("dog\ncat\n")
    before = sorted(tmp_path.rglob("*"))
    commands = [["--help"], *(line.split() for line in REFUSED)]
    script = [sys.executable, "-c", SCRIPT, json.dumps(commands), *HEAVY]
    ran = subprocess.run(script, cwd=tmp_path, capture_output=True, text=True, timeout=240, check=True)
    outcomes = json.loads(ran.stdout.splitlines()[-1])
    assert outcomes == {"--help": [0, []], **{line: [2, []] for line in REFUSED}}
    assert len(ran.stderr.splitlines()) == len(REFUSED)  # a line each
    assert sorted(tmp_path.rglob("*")) == before


def test_status_of_a_store_that_is_not_there_says_so_at_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Storage clients by themselves try for most of a minute."""
    nobody = ("--storage-option", "endpoint_url=http://127.0.0.1:9", "--storage-option", "key=a")
    ran = console(monkeypatch, capsys)("status", "s3://bucket/out", *nobody, "--storage-option", "secret=b")
    assert ran.code == 1
    assert "s3://bucket/out: no answer from http://127.0.0.1:9" in ran.err
