"""Imported, or as an environment's sitecustomize.py: declares what torchvision expects of its compiled library where
that cannot be loaded beside a CPU torch. Done as torchvision is first imported, so that other programs start no slower.
"""

import importlib.abc
import importlib.machinery
import sys
from pathlib import Path


class _Declare(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name == "torchvision":
            spec = importlib.machinery.PathFinder.find_spec(name, path)
            if spec and spec.origin:  # it is asked for where there is none, too
                sys.meta_path.remove(self)
                _load(Path(spec.origin).with_name("_C.so"))
        return


def _load(compiled):
    import torch

    try:
        torch.ops.load_library(str(compiled))  # as torchvision itself will
    except (ImportError, OSError):
        library = torch.library.Library("torchvision", "DEF")
        library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        torch.torchvision_operators = library  # which undefines them when it is collected


sys.meta_path.insert(0, _Declare())
