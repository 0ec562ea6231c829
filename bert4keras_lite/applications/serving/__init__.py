"""HTTP server for a checkpoint: typed JSON endpoints, dynamic batching, and a web page.

    python -m bert4keras_lite serve chinese_L-12_H-768_A-12

`abilities.py` has what a checkpoint supports, `worker.py` batches requests, and `page/` is the web
page. The other modules need `pip install "bert4keras_lite[serve]"`: `app.py` has the endpoints,
`bodies.py` parses request bodies by `schemas.py`, `answers.py` makes JSON, `following.py` waits for
results, `guards.py` is the middleware, `metrics.py` counts, `server.py` handles connections, and
`reading.py` parses HTTP requests.
"""

_HOME = {
    "load": "abilities",
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
            raise ImportError(
                f'{error}. Install it: pip install "bert4keras_lite[serve]".'
            ) from None
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
