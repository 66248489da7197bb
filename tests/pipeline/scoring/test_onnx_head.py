"""Heads as ONNX graphs: run, or refused in one line."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from clipmill.pipeline.errors import ModelError
from made import unit_vectors
from onnx import TensorProto, helper, numpy_helper
from score_kit import scorer, values


def graph(weight: Any, *, batch: Any = "n", outputs: tuple[str, ...] = ("y",), width: Any = 4) -> bytes:
    """x @ weight, for each of the outputs."""
    tensor, float_ = numpy_helper.from_array(np.asarray(weight, np.float32), "w"), TensorProto.FLOAT
    made = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], [name]) for name in outputs],
        "head",
        [helper.make_tensor_value_info("x", float_, [batch, width])],
        [helper.make_tensor_value_info(name, float_, [batch, tensor.dims[1]]) for name in outputs],
        [tensor],
    )
    file = io.BytesIO()
    opsets = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(made, opset_imports=opsets, ir_version=8), file)
    return file.getvalue()


def test_an_onnx_graph_is_run(datasets: Any, tmp_path: Path) -> None:
    weight = np.random.default_rng(0).standard_normal((4, 2)).astype(np.float32)
    (path := tmp_path / "head.onnx").write_bytes(graph(weight))
    vectors = unit_vectors(1, 20)
    np.testing.assert_allclose(values(scorer(datasets[4], path), vectors), vectors @ weight, atol=1e-6)


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"nothing", "no ONNX graph that can be run"),
        (graph(np.ones((6, 1)), width=6), "reads embeddings of 6 numbers"),
        (graph(np.ones((6, 1)), width="d"), "fails for embeddings of 4 numbers"),
        (graph(np.ones((4, 1)), batch=1), "takes batches of exactly 1; export it with a dynamic first axis"),
        (graph(np.ones((4, 1)), outputs=("y", "z")), "must have one output of floating-point numbers, and has y, z"),
    ],
)
def test_an_onnx_graph_that_is_no_head_is_refused(
    content: bytes, complaint: str, datasets: Any, tmp_path: Path
) -> None:
    (path := tmp_path / "head.onnx").write_bytes(content)
    with pytest.raises(ModelError, match=complaint):
        scorer(datasets[4], path)


def test_without_onnxruntime_it_says_how_to_get_it(datasets: Any, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setitem(__import__("sys").modules, "onnxruntime", None)
    (path := tmp_path / "head.onnx").write_bytes(graph(np.full((4, 1), 7)))
    with pytest.raises(ModelError, match=r"pip install 'clipmill\[onnx\]'"):
        scorer(datasets[4], path)
