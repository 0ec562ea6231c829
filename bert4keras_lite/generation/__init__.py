"""Text from models that can write: cached, compiled, on every backend."""

from .autoregressive import AutoRegressiveDecoder
from .constraints import Substrings, Trie
from .gibbs import gibbs_sample
from .onnx import OnnxWriter, export_writer
from .writing import Generated, generate, generate_text, stream

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
