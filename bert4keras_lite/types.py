"""Types of arguments and results, for annotations; shapes are in the docstrings."""

import os
from typing import Any, TypeAlias

__all__ = ["PathLike", "Shape", "Tensor"]

Tensor: TypeAlias = Any  # of the backend, of Keras or of NumPy: they have no common type
Shape: TypeAlias = tuple[int | None, ...]
PathLike: TypeAlias = str | os.PathLike[str]
