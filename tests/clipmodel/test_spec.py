"""A model's name is checked in milliseconds, with the words that loading it would use."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from clipmill.clipmodel import formats
from clipmill.clipmodel.errors import ModelError
from clipmill.clipmodel.formats import check_file
from clipmill.clipmodel.spec import check_spec, parse_spec, spec_of
from clipmill.clipmodel.weights import load
from hypothesis import given
from hypothesis import strategies as st


@pytest.mark.parametrize(
    "spec",
    [
        *(
            "tinny",
            "ViT-B33=x.pt",
            "ViT-B-32=",
            "ViT-B-32=laion2b_s34b_b79",
            "tiny=random:x",
            "tiny=openai",
            "x" * 3000,
        ),
        *("open_clip:", "open_clip:ViT-B-32=", "open_clip:=openai", "open_clip:hf-hub:"),
    ],
)
def test_what_loading_would_refuse_by_name_is_refused_with_the_same_words(spec: str) -> None:
    with pytest.raises(ModelError) as checked:
        check_spec(spec)
    with pytest.raises(ModelError) as loaded:
        load(spec)
    assert str(checked.value) == str(loaded.value)


ELSEWHERE = "/elsewhere/w.pt"
BUCKET = "s3://bucket/w.pt"


@pytest.mark.parametrize(
    ("spec", "variant", "weights", "path"),
    [
        ("tiny", "tiny", None, None),
        ("ViT-B/32", "ViT-B/32", None, None),
        ("ViT-B-32=laion2b_s34b_b79k", "ViT-B-32", "laion2b_s34b_b79k", None),
        ("ViT-B-32=LAION2B-s34B-b79K", "ViT-B-32", "LAION2B-s34B-b79K", None),
        ("tiny=random", "tiny", "random", None),
        ("tiny=random:3", "tiny", "random:3", None),
        (f"tiny={ELSEWHERE}", "tiny", ELSEWHERE, ELSEWHERE),
        (ELSEWHERE, None, ELSEWHERE, ELSEWHERE),
        (BUCKET, None, BUCKET, BUCKET),
        (f"tiny={BUCKET}", "tiny", BUCKET, BUCKET),
        ("open_clip:ViT-B-32=openai", "open_clip:ViT-B-32", "openai", None),
        (f"open_clip:ViT-B-32={ELSEWHERE}", "open_clip:ViT-B-32", ELSEWHERE, ELSEWHERE),
        (f"open_clip:ViT-B-32={BUCKET}", "open_clip:ViT-B-32", BUCKET, BUCKET),
        ("open_clip:ViT-B-32=random:3", "open_clip:ViT-B-32", "random:3", None),
        ("open_clip:org/repo", "open_clip:org/repo", None, None),
        ("open_clip:local-dir:/elsewhere", "open_clip:/elsewhere", None, "/elsewhere"),
    ],
)
def test_names_and_files_of_other_machines_pass_and_are_understood(
    spec: str, variant: str | None, weights: str | None, path: str | None
) -> None:
    check_spec(spec)
    parsed = parse_spec(spec)
    assert (parsed.variant, parsed.weights, parsed.path) == (variant, weights, path)


@given(name=st.text(max_size=12), weights=st.text(max_size=12))
def test_open_clip_names_are_taken_apart_at_the_first_equals_sign(name: str, weights: str) -> None:
    try:
        spec = parse_spec(f"open_clip:{name}={weights}")
    except ModelError as error:
        assert not weights or not name or "=" in name or ":" in name, error
    else:
        assert spec.library == "open_clip" and spec.variant is not None
        assert f"{spec.variant}={spec.weights}" == f"open_clip:{name}={weights}" or ":" in name


def test_a_folder_of_open_clips_may_have_an_equals_sign(tmp_path: Path) -> None:
    (tmp_path / "lr=1").mkdir()
    for words in ("", "local-dir:"):
        spec = parse_spec(f"open_clip:{words}{tmp_path}/lr=1")
        assert (spec.variant, spec.weights, spec.path) == (f"open_clip:{tmp_path}/lr=1", None, f"{tmp_path}/lr=1")


@pytest.mark.parametrize(
    ("variant", "weights", "spec"),
    [
        ("hf:AlignModel", "org/align", "hf:org/align"),
        ("open_clip:RN50", "mine (hf:org/small)", "open_clip:RN50=mine"),
        ("open_clip:CLIP", "org/small", "open_clip:org/small"),
        ("ViT-B-32", "laion (hf:org/small)", "ViT-B-32=laion"),
    ],
)
def test_what_a_dataset_records_names_its_model_again(variant: str, weights: str, spec: str) -> None:
    assert spec_of(variant, weights) == spec


def test_a_url_under_an_unknown_name_is_refused() -> None:
    with pytest.raises(ModelError, match="unknown model 'tinny': did you mean tiny"):
        check_spec("tinny=s3://bucket/weights.pt")


def test_a_folder_is_a_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mymodel").mkdir()
    monkeypatch.chdir(tmp_path)
    for spec in ("mymodel", "tiny=mymodel"):
        check_spec(spec)
        assert parse_spec(spec).path == "mymodel"


def test_checking_imports_neither_torch_nor_a_hub() -> None:
    script = """
import sys
from clipmill.clipmodel.spec import check_spec
check_spec("ViT-B-32=laion2b_s34b_b79k")
print(sorted({"torch", "numpy", "huggingface_hub", "safetensors", "PIL"} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("model.pt", b"", "an empty file"),
        ("model.pt", b"GGUF\x03", "a GGUF file"),
        ("model.bin", b"words and words", "not a checkpoint"),
        ("model.safetensors", b"cut off, and judged when it is read", None),
        ("model.pt", b"PK\x03\x04", None),
    ],
)
def test_a_file_that_is_no_checkpoint_is_told_by_its_first_bytes(
    name: str, content: bytes, says: str | None, tmp_path: Path
) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    for spec in (str(path), f"ViT-B/32={path}"):
        if says is None:
            check_file(spec)
        else:
            with pytest.raises(ModelError, match=rf"^{path}: {says}"):
                check_file(spec)


@pytest.mark.parametrize("spec", ["tiny", "ViT-B/32", "tiny=random:3", "tiny=s3://bucket/a.pt", "tiny=./nowhere.pt"])
def test_what_is_no_file_here_is_left_to_others(spec: str, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[Path] = []
    monkeypatch.setattr(formats, "format_of", read.append)
    check_file(spec)
    assert not read
