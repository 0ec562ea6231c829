"""Deprecated: the doctor is in `applications.doctor`."""

from .deprecated import moved

_NAMES = ("SENTENCES", "Reading", "Report", "examine")
__getattr__ = moved(__name__, {name: f"applications.doctor.{name}" for name in _NAMES})
