"""Deprecated: the doctor is in `applications.doctor`."""

from .deprecated import moved

_NAMES = ("SENTENCES", "Reading", "Report", "examine")
_PATHS = {name: f"applications.doctor.{name}" for name in _NAMES}
__all__ = sorted(_PATHS)
__getattr__ = moved(__name__, _PATHS)
