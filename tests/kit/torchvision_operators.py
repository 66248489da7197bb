"""Imported, or as an environment's sitecustomize.py: declares what torchvision expects of its compiled library where
that cannot be loaded beside a CPU torch. Done as torchvision is first imported, so that other programs start no slower.
"""

import importlib.abc
import sys


class _Declare(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name == "torchvision":
            sys.meta_path.remove(self)
            import torch

            library = torch.library.Library("torchvision", "DEF")
            library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
            library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
            torch.torchvision_operators = library  # which undefines them when it is collected
        return


sys.meta_path.insert(0, _Declare())
