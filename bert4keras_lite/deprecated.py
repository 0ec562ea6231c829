"""Names that have moved, under the import paths of version 0.1; they go with version 0.3."""

import warnings
from importlib import import_module

__all__ = ["moved"]


def moved(module, homes):
    """Makes the `__getattr__` of a module whose names have moved.

    Args:
        module: its `__name__`.
        homes: dict of name -> the module that has it now, relative to the package; with a colon and
            its new name, if that is another.
    """

    def __getattr__(name):
        if name not in homes:
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        home, _, new_name = homes[name].partition(":")
        home, new_name = f"{__package__}.{home}", new_name or name
        warnings.warn(
            f"{module}.{name} is deprecated. Import {new_name} from {home}.",
            DeprecationWarning,
            stacklevel=2,
        )
        return getattr(import_module(home), new_name)

    return __getattr__
