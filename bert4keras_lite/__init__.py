"""Chinese Transformer checkpoints in Keras 3: load, use, fine-tune, on three backends.

Nothing heavy is imported here: `bert4keras_lite.tokenizers` and `.checkpoints` work without
Keras, and `build_transformer_model` brings Keras in when it is first asked for.
"""

__version__ = "0.1.0"

_HOME = {
    "build_transformer_model": "models",
    "Transformer": "models",
    "Config": "models",
    "Tokenizer": "tokenizers",
    "SpTokenizer": "tokenizers",
    "CpmTokenizer": "tokenizers",
    "ByteBPETokenizer": "tokenizers",
    "load_tokenizer": "tokenizers",
    "load_vocab": "tokenizers",
    "save_vocab": "tokenizers",
    "generate": "generation",
    "generate_text": "generation",
    "stream": "generation",
    "AutoRegressiveDecoder": "generation",
    "gibbs_sample": "generation",
    "open_checkpoint": "checkpoints",
    "save_checkpoint": "checkpoints",
    "CheckpointError": "checkpoints",
}
__all__ = sorted(_HOME)


def __getattr__(name):
    from importlib import import_module

    if name in _HOME:
        return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__():
    return [*globals(), *_HOME]
