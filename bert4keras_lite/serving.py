"""Deprecated: the server is in `applications.serving`; taggers and attention are in `pipelines`."""

from .deprecated import moved

_SERVER = ("Limits", "create_app", "load", "run")
_PATHS = {name: f"applications.serving.{name}" for name in _SERVER}
_PATHS |= {name: f"pipelines.{name}" for name in ("attention_model", "save_tagger")}
__all__ = sorted(_PATHS)
__getattr__ = moved(__name__, _PATHS)
