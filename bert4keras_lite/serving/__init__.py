"""A checkpoint behind HTTP: typed JSON endpoints, batching, and a page to look at.

    python -m bert4keras_lite serve chinese_L-12_H-768_A-12

`abilities.py` says what a checkpoint can do and does it, `worker.py` lets requests share forward
passes, `page/` is for people. The rest speaks HTTP (`pip install "bert4keras_lite[serve]"`): `app.py`
has the endpoints, `bodies.py` reads requests, held against `schemas.py`, `answers.py` makes JSON,
`guards.py` stands before all that, `metrics.py` counts, and `server.py` has the connections, from which
`reading.py` takes requests.
"""

_HOME = {
    "attention_model": "attention",
    "load": "abilities",
    "save_tagger": "entities",
    "Limits": "worker",
    "create_app": "app",
    "run": "server",
}
__all__ = sorted(_HOME)


def __getattr__(name):
    from importlib import import_module

    if name in _HOME:
        try:
            return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
        except ModuleNotFoundError as error:
            raise ImportError(f'{error}: pip install "bert4keras_lite[serve]"') from None
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
