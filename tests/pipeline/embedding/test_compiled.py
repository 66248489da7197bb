"""What torch.compile makes outlives the machine's temporary files."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from clipmill.pipeline.embedding import compiled
from clipmill.pipeline.embedding.compiled import keep_compiled

_FOLDER = "TORCHINDUCTOR_CACHE_DIR"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CLIPMILL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv(_FOLDER, "before")  # so that what the test sets is undone
    monkeypatch.delenv(_FOLDER)
    return tmp_path / "cache"


def test_torch_is_given_a_folder_for_its_release_and_the_device(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "NVIDIA H200/141 GB")
    keep_compiled(torch.device("cuda"))
    folder = Path(os.environ[_FOLDER])
    assert folder.is_dir() and folder.parent == cache / "compiled"
    assert folder.name == f"torch-{torch.__version__}-NVIDIA-H200-141-GB"


def test_the_compiler_takes_it() -> None:
    from torch._inductor.runtime.cache_dir_utils import cache_dir

    keep_compiled(torch.device("cpu"))
    assert cache_dir() == os.environ[_FOLDER]


def test_the_users_own_folder_is_left(monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    monkeypatch.setenv(_FOLDER, "/mine")
    keep_compiled(torch.device("cpu"))
    assert os.environ[_FOLDER] == "/mine" and not cache.exists()


def test_where_none_can_be_made_torch_keeps_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("CLIPMILL_CACHE", str(tmp_path / "file"))
    keep_compiled(torch.device("cpu"))
    assert _FOLDER not in os.environ


def test_the_compiler_is_imported_while_others_work(monkeypatch: pytest.MonkeyPatch) -> None:
    imported: list[str] = []
    monkeypatch.setattr(compiled.importlib, "import_module", imported.append)
    compiled.import_compiler().join(10)
    assert imported == ["torch._inductor.compile_fx"]
