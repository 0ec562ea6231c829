"""Text generation with a key/value cache, compiled, on every backend."""

from .autoregressive import AutoRegressiveDecoder
from .constraints import Substrings, Trie
from .generate import Generated, generate, generate_text, stream
from .gibbs import gibbs_sample
from .onnx import OnnxWriter, export_writer

__all__ = [
    "AutoRegressiveDecoder",
    "Generated",
    "OnnxWriter",
    "Substrings",
    "Trie",
    "export_writer",
    "generate",
    "generate_text",
    "gibbs_sample",
    "stream",
]
