"""Deprecated import paths and names of version 0.1; they go with version 0.3."""

import warnings
from importlib import import_module

__all__ = ["moved"]


def moved(module, paths):
    """Makes the `__getattr__` of a module whose names have moved, or were renamed.

    Args:
        module: its `__name__`.
        paths: dict of old name -> new path in the package, as `models.Transformer`.
    """

    def __getattr__(name):
        if name not in paths:
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        home, _, new = f"{__package__}.{paths[name]}".rpartition(".")
        warnings.warn(
            f"{module}.{name} is deprecated. Import {new} from {home}.",
            DeprecationWarning,
            stacklevel=2,
        )
        return getattr(import_module(home), new)

    return __getattr__
