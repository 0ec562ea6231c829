"""Types of arguments and results, for annotations; shapes are in the docstrings."""

import os
from collections.abc import Callable
from typing import Any, TypeAlias, TypeVar

__all__ = ["Function", "PathLike", "Shape", "Tensor"]

Function = TypeVar("Function", bound=Callable)  # that a decorator returns as it is
Tensor: TypeAlias = Any  # of the backend, of Keras or of NumPy: they have no common type
Shape: TypeAlias = tuple[int | None, ...]
PathLike: TypeAlias = str | os.PathLike[str]
