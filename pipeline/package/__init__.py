"""CLIP embeddings of image-text pairs: `clipmill.pipeline` has the functions behind the commands, `clipmill.clipmodel`
the model.

This folder is the package `clipmill` itself (see pyproject.toml): its parts lie beside each other in the repository.
"""

from importlib import metadata

__version__ = metadata.version("clipmill")
