"""Deprecated: the doctor is in `applications.doctor`."""

from .deprecated import moved

_HOMES = dict.fromkeys(("SENTENCES", "Reading", "Report", "examine"), "applications.doctor")
__all__ = sorted(_HOMES)
__getattr__ = moved(__name__, _HOMES)
