"""Chinese Transformer checkpoints in Keras 3: load, use and fine-tune them on three backends.

Submodules are imported lazily: `bert4keras_lite.tokenizers` and `.checkpoints` work without
Keras, which is imported at the first use of `build_transformer_model`.
"""

import os
import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # the same as `_HOME`, for tools that read types
    from .checkpoints import CheckpointError as CheckpointError
    from .checkpoints import open_checkpoint as open_checkpoint
    from .checkpoints import save_checkpoint as save_checkpoint
    from .generation import AutoRegressiveDecoder as AutoRegressiveDecoder
    from .generation import generate_text as generate_text
    from .generation import gibbs_sample as gibbs_sample
    from .generation import stream as stream
    from .generation.generate import generate as generate
    from .loading import load_model as load_model
    from .models import Config as Config
    from .models import Transformer as Transformer
    from .models import build_transformer_model as build_transformer_model
    from .pipelines import ChatSession as ChatSession
    from .pipelines import SentenceEncoder as SentenceEncoder
    from .pipelines import classify as classify
    from .pipelines import extract_entities as extract_entities
    from .pipelines import extract_features as extract_features
    from .pipelines import extract_information as extract_information
    from .pipelines import fill_mask as fill_mask
    from .pipelines import load_classifier as load_classifier
    from .pipelines import load_tagger as load_tagger
    from .pipelines import rerank as rerank
    from .pipelines import save_classifier as save_classifier
    from .pipelines import save_tagger as save_tagger
    from .pipelines import tag as tag
    from .pipelines.chat import chat as chat
    from .tokenizers import ByteBPETokenizer as ByteBPETokenizer
    from .tokenizers import CpmTokenizer as CpmTokenizer
    from .tokenizers import SpTokenizer as SpTokenizer
    from .tokenizers import Tokenizer as Tokenizer
    from .tokenizers import load_tokenizer as load_tokenizer
    from .tokenizers import load_vocab as load_vocab
    from .tokenizers import save_vocab as save_vocab

__version__ = "0.1.0"

_HOME = {
    "build_transformer_model": "models",
    "load_model": "loading",
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
    "SentenceEncoder": "pipelines",
    "chat": "pipelines",
    "ChatSession": "pipelines",
    "fill_mask": "pipelines",
    "extract_features": "pipelines",
    "extract_information": "pipelines",
    "extract_entities": "pipelines",
    "classify": "pipelines",
    "tag": "pipelines",
    "save_classifier": "pipelines",
    "load_classifier": "pipelines",
    "save_tagger": "pipelines",
    "load_tagger": "pipelines",
    "rerank": "pipelines",
    "gibbs_sample": "generation",
    "open_checkpoint": "checkpoints",
    "save_checkpoint": "checkpoints",
    "CheckpointError": "checkpoints",
}
__all__ = sorted(_HOME)


BACKENDS = ("tensorflow", "jax", "torch")  # names in Keras, which are also those of the packages


def _choose_backend() -> None:
    """Sets `KERAS_BACKEND` if one backend only is installed and none is configured."""
    home = Path(os.environ.get("KERAS_HOME") or Path.home() / ".keras")
    is_configured = "KERAS_BACKEND" in os.environ or (home / "keras.json").exists()
    if is_configured or "keras" in sys.modules:
        return
    installed = [name for name in BACKENDS if find_spec(name)]
    if len(installed) == 1:
        os.environ["KERAS_BACKEND"] = installed[0]


_choose_backend()


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*globals(), *_HOME]
