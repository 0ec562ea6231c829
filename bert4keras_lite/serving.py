"""Deprecated: the server is in `applications.serving`; taggers and attention are in `pipelines`."""

from .deprecated import moved

_HOMES = dict.fromkeys(("Limits", "create_app", "load", "run"), "applications.serving")
_HOMES |= dict.fromkeys(("attention_model", "save_tagger"), "pipelines")
__all__ = sorted(_HOMES)
__getattr__ = moved(__name__, _HOMES)
