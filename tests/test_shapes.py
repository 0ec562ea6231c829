"""`shapes.py` against the models that Keras builds."""

import pytest

from bert4keras_lite.configs import ARCHITECTURES
from bert4keras_lite.models import build_transformer_model
from bert4keras_lite.shapes import shapes_of

SIZES = {
    "vocab_size": 10,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 12,
    "max_position": 14,
}
ALL_HEADS = {"with_lm": True, "with_nsp": True, "with_discriminator": True}
OPTIONS = [
    *({"model": name} for name in ARCHITECTURES),
    *({"norm": norm} for norm in ("rms", "plain_rms", "bias_free")),
    *({"norm_at": norm_at} for norm_at in ("pre", "pre_ffn", "gpt2_ml")),
    ALL_HEADS,
    ALL_HEADS | {"embedding_size": 6, "use_bias": False, "tie_word_embeddings": False},
    {"with_pool": True, "embedding_projection": True, "embedding_norm": False},
    {"attention_head_size": 6, "attention_key_size": 4, "gated": True, "final_norm": True},
    {"share_blocks": True, "segment_vocab_size": 0, "with_lm": True, "lm_bias": False},
    {"position": "rotary", "shared_segment_embeddings": True, "attention": "nystrom"},
    {"model": "modernbert", "with_lm": True},
    {"model": "deberta_v2", "convolution": 3, "with_lm": True},
    {"num_key_value_heads": 1, "position": "rotary"},
    {"gated": True, "without_bias": ("ffn/gate", "attention/output")},
    {"layer_kinds": ("full", "sliding"), "window": 2, "position": "rotary"},
    {"model": "t5.1.1", "num_decoder_layers": 1, "relative_buckets": 8},
    {"model": "gau_alpha", "use_bias": True},
    {"with_classifier": "text", "labels": ["a"]},
    {"with_classifier": "choice", "with_pool": True, "with_lm": True},
    {"model": "modernbert", "with_classifier": "spans"},
    {"model": "electra", "with_classifier": "choice"},
    {"model": "gpt2", "with_classifier": "text", "labels": ["a", "b"], "filler_id": 0},
    {"model": "t5.1.1_encoder", "with_classifier": "tokens", "labels": ["a", "b"]},
]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_shapes_are_those_of_the_model(options):
    transformer = build_transformer_model(**(SIZES | options), return_keras_model=False)
    built = {path: tuple(v.shape) for path, v in transformer.variables.items()}
    assert shapes_of(transformer.config) == built
