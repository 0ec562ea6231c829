"""Deprecated: the doctor is in `applications.doctor`."""

from .deprecated import moved

_NAMES = ("SENTENCES", "Reading", "Report", "examine")
__getattr__ = moved(__name__, dict.fromkeys(_NAMES, "applications.doctor"))
