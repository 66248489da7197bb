"""DataComp's layout, read as its README has it, equals the dataset."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from clipmill.pipeline import ExportJob, export
from export_kit import Rows, part_of, read_datacomp
from made import make_dataset, unit_vectors


def test_datacomp_has_every_embedded_row(job: Any, embedded: Rows) -> None:
    made = export(job("datacomp"))
    assert (made.rows, made.exported, made.failed, made.incomplete, made.files) == (120, 108, 12, 0, 3)
    found = read_datacomp(Path(made.out))
    assert [(row["shard"], row["row"]) for row in found] == [(row["shard"], row["row"]) for row in embedded]
    for theirs, ours in zip(found, embedded, strict=True):
        assert np.array_equal(theirs["tiny_img"], ours["image_embedding"])
        assert np.array_equal(theirs["tiny_txt"], ours["text_embedding"])
        assert theirs["clip_tiny_similarity_score"] == ours["similarity"]
        assert (theirs["original_width"], theirs["original_height"]) == (ours["width"], ours["height"])
        assert (theirs["text"], theirs["sha256"]) == (ours["caption"], ours["sha256"])


def test_datacomps_models_have_their_names_there(tmp_path: Path) -> None:
    sides = {
        f"{alias}_{side}_embedding": unit_vectors(0, 2) for alias in ("small", "l14") for side in ("image", "text")
    }
    part = part_of(1, 2, small_similarity=[0.1, 0.2], l14_similarity=[0.3, 0.4], original_width=[300, 400], **sides)
    part = {
        name: values for name, values in part.items() if name not in ("image_embedding", "text_embedding", "similarity")
    }
    models = [("small", "ViT-B-32"), ("l14", "ViT-L/14")]
    dataset = make_dataset(tmp_path / "in", [part], models=models, columns=["original_width:int64"])
    assert export(ExportJob(dataset.url, str(tmp_path / "out"), "datacomp")).notes == ()
    found = read_datacomp(tmp_path / "out")
    assert {"b32_img", "b32_txt", "l14_img", "l14_txt"} <= found[0].keys()
    scores = [(row["clip_b32_similarity_score"], row["clip_l14_similarity_score"]) for row in found]
    assert np.allclose(scores, [(0.1, 0.3), (0.2, 0.4)])
    assert [(row["original_width"], row["original_height"]) for row in found] == [(300, 20), (400, 20)]
    uids = np.array([(int(row["uid"][:16], 16), int(row["uid"][16:32], 16)) for row in found], "u8,u8")
    assert uids.tolist() == [(1, 0), (1, 1)]


def test_two_models_of_one_variant_keep_their_aliases(tmp_path: Path) -> None:
    part = part_of(1, 1)
    for name in ("image_embedding", "text_embedding", "similarity"):
        part |= {f"{alias}_{name}": part[name] for alias in ("openai", "laion")}
        del part[name]
    dataset = make_dataset(tmp_path / "in", [part], models=[("openai", "ViT-B/32"), ("laion", "ViT-B-32")])
    export(ExportJob(dataset.url, str(tmp_path / "out"), "datacomp"))
    assert {"openai_img", "laion_txt"} <= read_datacomp(tmp_path / "out")[0].keys()


def test_npz_files_are_as_numpy_writes_them(job: Any) -> None:
    made = export(job("datacomp"))
    path = next(Path(made.out).glob("*.npz"))
    assert zipfile.ZipFile(path).testzip() is None
    assert np.load(path, mmap_mode="r")["tiny_img"].flags.c_contiguous
