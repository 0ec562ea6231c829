"""From texts to answers: filled masks, features, sentence vectors, labels and spans.

    model = build_transformer_model("tiny-zh", with_mlm=True)
    fill_mask(model, load_tokenizer("tiny-zh"), "今天[MASK]气真好")

`generation.generate_text` does the same for generated texts. The functions take models as users
build them; each has a class that keeps the compiled model between calls.
"""

from .attention import attention_model
from .base import InvalidOutput, InvalidRequest, UnsupportedTask
from .chat import ChatSession, chat
from .classifiers import (
    Tagger,
    TextClassifier,
    classify,
    load_classifier,
    save_classifier,
    tag,
)
from .entities import EntityExtractor, extract_entities
from .features import FeatureExtractor, extract_features
from .information import InformationExtractor, extract_information
from .m3 import M3Encoder, M3Similarity, M3Vectors
from .masks import FillMask, fill_mask
from .reranking import Ranked, Reranker, rerank
from .sentences import SentenceEncoder
from .taggers import load_tagger, save_tagger

__all__ = [
    "ChatSession",
    "EntityExtractor",
    "FeatureExtractor",
    "FillMask",
    "InformationExtractor",
    "InvalidOutput",
    "InvalidRequest",
    "M3Encoder",
    "M3Similarity",
    "M3Vectors",
    "Ranked",
    "Reranker",
    "SentenceEncoder",
    "Tagger",
    "TextClassifier",
    "UnsupportedTask",
    "attention_model",
    "chat",
    "classify",
    "extract_entities",
    "extract_features",
    "extract_information",
    "fill_mask",
    "load_classifier",
    "load_tagger",
    "rerank",
    "save_classifier",
    "save_tagger",
    "tag",
]
