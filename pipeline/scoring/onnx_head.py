"""Heads as ONNX graphs, run by onnxruntime (`clipmill[onnx]`), on one core each: parts are scored side by side."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import ModelError, one_line
from ..records import Vectors

_TYPES = {"tensor(float)": np.float32, "tensor(double)": np.float64, "tensor(float16)": np.float16}


@dataclass(frozen=True)
class OnnxHead:
    """Cheap to send to workers: each makes a session of the graph once."""

    graph: bytes
    input: str
    output: str
    kind: str  # of the input's numbers
    outputs: int

    @classmethod
    def of(cls, graph: bytes, width: int) -> OnnxHead:
        """width: of the embeddings. ModelError where the graph is damaged, or does not take a batch of them and give
        numbers for each."""
        session = _session(graph)
        inputs = session.get_inputs()
        outputs = [output for output in session.get_outputs() if output.type in _TYPES]
        if len(inputs) != 1 or inputs[0].type not in _TYPES or len(inputs[0].shape) != 2:
            takes = ", ".join(f"{given.name} {given.type} {given.shape}" for given in inputs)
            raise ModelError(f"takes {takes}; a head takes one input, numbers of the shape [batch, {width}]")
        if len(outputs) != 1:
            names = ", ".join(output.name for output in outputs) or "none"
            raise ModelError(f"must have one output of floating-point numbers, and has {names}; export it again")
        batch, takes = inputs[0].shape
        if isinstance(batch, int):
            raise ModelError(f"takes batches of exactly {batch}; export it with a dynamic first axis")
        if isinstance(takes, int) and takes != width:
            raise WrongWidth(takes)
        head = cls(graph, inputs[0].name, outputs[0].name, inputs[0].type, 0)
        try:
            shape = head(np.zeros((2, width), np.float32)).shape
        except Exception as error:  # onnxruntime's own kinds
            raise ModelError(f"fails for embeddings of {width} numbers ({one_line(error)[:200]})") from error
        if shape[0] != 2:
            raise ModelError(f"gives {shape[0]} rows for 2; a head gives a row for each embedding")
        return cls(graph, head.input, head.output, head.kind, shape[1])

    def __call__(self, vectors: Vectors) -> npt.NDArray[np.float32]:
        """float32 [n, in] -> float32 [n, outputs]."""
        (scores,) = _session(self.graph).run([self.output], {self.input: vectors.astype(_TYPES[self.kind])})
        made: npt.NDArray[np.float32] = np.asarray(scores, np.float32)
        return made.reshape(len(made), -1)


class WrongWidth(ModelError):
    """The head takes embeddings of another width."""

    def __init__(self, width: int) -> None:
        super().__init__(f"takes embeddings of {width} numbers")
        self.width = width


@lru_cache(maxsize=16)
def _session(graph: bytes) -> Any:
    try:
        import onnxruntime
    except ImportError as error:
        raise ModelError("ONNX files need onnxruntime: pip install 'clipmill[onnx]'") from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4  # what is wrong is raised, too
    try:
        return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its own kinds
        raise ModelError(f"no ONNX graph that can be run ({one_line(error)[:200]})") from error
