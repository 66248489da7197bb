"""The GPU's resize equals the CPU's to the last bit: its kernels run here in Triton's interpreter."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from clipmill.clipmodel.config import PreprocessConfig
from clipmill.clipmodel.exact_resize import resize_and_crop
from clipmill.clipmodel.gpu_resize import launch, resize_batch

CPU = torch.device("cpu")
SHAPES = [(1, 1), (200, 1), (1, 200), (32, 32), (33, 32), (32, 90), (700, 33), (33, 700), (400, 300), (31, 31)]
CONFIGS = {
    "torchvision": PreprocessConfig(),
    "transformers": PreprocessConfig(steps="transformers"),
    "both sides": PreprocessConfig(resize="squash"),
    "larger than the crop": PreprocessConfig(steps="transformers", resize_to=40),
}
INTERPRETED = "from test_gpu_resize import compare; compare()"

needs_triton = pytest.mark.skipif(find_spec("triton") is None, reason="Triton is not installed")


def images(count: int) -> list[np.ndarray]:
    """Black and white, so that the filter overshoots and each pass clips."""
    random = np.random.default_rng(5)
    shapes = [*SHAPES, *random.integers(1, 120, (count, 2)).tolist()]
    return [(random.integers(0, 2, (height, width, 3)) * 255).astype(np.uint8) for width, height in shapes]


def compare() -> None:
    """In a process whose Triton interprets."""
    for config in CONFIGS.values():
        batch = images(12)
        for square, image in zip(launch(batch, 32, config, CPU), batch, strict=True):
            assert torch.equal(square, resize_and_crop(torch.from_numpy(image), 32, config)), image.shape
    print("equal")


@needs_triton
def test_kernels_equal_the_integer_resize_to_the_last_bit() -> None:
    """Images of many sizes in one batch, of both orders of the passes."""
    path = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "TRITON_INTERPRET": "1", "PYTHONPATH": path}
    done = subprocess.run([sys.executable, "-c", INTERPRETED], capture_output=True, text=True, env=environment)
    assert done.stdout == "equal\n", done.stderr


@needs_triton
def test_kernels_compile_for_a_gpu_and_keep_to_the_order_of_roundings() -> None:
    """A product and a sum fused into one rounding would give weights other last bits."""
    import triton
    from clipmill.clipmodel import gpu_kernels
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    tables = dict.fromkeys(("axes", "first_to", "weights_to"), "*i32") | {"axes": "*i64", "size": "i32", "most": "i32"}
    weigh = ASTSource(gpu_kernels._weigh, {**tables, "BLOCK": "constexpr"}, {(5,): 256})
    tables = {"tasks": "*i64", "axes": "*i64", "first_from": "*i32", "weights_from": "*i32", "size": "i32"}
    resample = ASTSource(gpu_kernels._resample, {**tables, "most": "i32", "BLOCK": "constexpr"}, {(6,): 1024})
    for source in (weigh, resample):
        target, options = GPUTarget("cuda", 90, 32), {"enable_fp_fusion": False}
        assembly = triton.compile(source, target=target, options=options).asm["ptx"]
        assert "st.global" in assembly and "fma.rn.f64" not in assembly and "div.full" not in assembly


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_without_kernels_images_are_resized_one_by_one(config: PreprocessConfig) -> None:
    batch = images(4)
    squares = resize_batch(batch, 32, config, CPU)
    for square, image in zip(squares, batch, strict=True):
        assert torch.equal(square, resize_and_crop(torch.from_numpy(image), 32, config))
    assert resize_batch([], 32, config, CPU).shape == (0, 32, 32, 3)


def test_an_image_that_is_not_contiguous_is_refused() -> None:
    with pytest.raises(ValueError, match="contiguous"):
        launch([np.zeros((9, 9, 3), np.uint8)[::2]], 8, PreprocessConfig(), CPU)
