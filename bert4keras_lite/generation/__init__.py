"""Text generation with a key/value cache, compiled, on every backend."""

from .autoregressive import AutoRegressiveDecoder
from .constraints import Substrings, Trie
from .generate import generate, generate_all, generate_text, stream
from .gibbs import gibbs_sample
from .onnx import OnnxWriter, export_writer
from .request import Generated

__all__ = [
    "AutoRegressiveDecoder",
    "Generated",
    "OnnxWriter",
    "Substrings",
    "Trie",
    "export_writer",
    "generate",
    "generate_all",
    "generate_text",
    "gibbs_sample",
    "stream",
]
