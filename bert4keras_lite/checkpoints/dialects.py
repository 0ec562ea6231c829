"""Dialects: checkpoints with other weight names, translated to the names of the tables.

A dialect has a sign (a name that only its files have) and rules: a pattern of names, the new name,
and the change of the array. No rule drops an array: one that may be a copy gets the name of a copy,
and is compared. Arrays are read on access.
"""

import math
import re
from collections import Counter
from functools import partial
from typing import NamedTuple

import numpy as np

from ..parsing import FREE
from .base import Checkpoint, CheckpointError, Entry

__all__ = ["adapt"]


def _last_joined(shape):
    return (*shape[:-2], shape[-2] * shape[-1])


def _first_joined(shape):
    return (shape[0] * shape[1], *shape[2:])


# change -> (allowed lengths of the first axis, function of the shape, function of the array)
CHANGES = {
    "same": (None, lambda shape: shape, lambda array: array),
    "transpose": (None, lambda shape: shape[::-1], lambda array: array.T),
    "squeeze": (range(1, 2), lambda shape: shape[1:], lambda array: array[0]),
    "without row 0": (
        range(1, 1 << 60),
        lambda shape: (shape[0] - 1, *shape[1:]),
        lambda array: array[1:],
    ),
    "join last axes": (None, _last_joined, lambda array: array.reshape(_last_joined(array.shape))),
    "join first axes": (
        None,
        _first_joined,
        lambda array: array.reshape(_first_joined(array.shape)),
    ),
}


# prefix of the names in a file saved by a wrapper of the model: PyTorch's DataParallel and
# torch.compile, Lightning, TensorFlow Hub, transformers' class around the encoder of a T5
WRAPPERS = (
    r"^(((module|_orig_mod|model)\.)*transformer\."
    r"(?=(shared|encoder\.(embed_tokens|block|final_layer_norm))\.)"
    r"|((module|_orig_mod|model)\.)+|module/)"
)


# endings of names next to a quantized weight: bitsandbytes' 4 and 8 bits, fp8, GPTQ and AWQ
QUANTIZED = (
    r"(?s)\.(absmax|quant_map|quant_state\..*|SCB|weight_scale(_inv)?"
    r"|qweight|qzeros|weight_packed)$"
)


class Dialect(NamedTuple):
    """Weight names of one group of files.

    Attributes:
        name: of the publisher and model.
        sign: pattern of a name that only its files have.
        rules: list of (pattern, new name, key of `CHANGES`).
        outdated: keys of its configs that describe the layout in the file, not the translated one.
    """

    name: str
    sign: str
    rules: list
    outdated: tuple = ()


def _uer_block(prefix):
    """Returns the rules for the dense layers of a block, to TensorFlow names with this prefix."""
    return [
        (rf"{_UER_BLOCK}{theirs}\.weight$", f"{prefix}{ours}/kernel", "transpose")
        for theirs, ours in _UER_INNER.items()
    ] + [
        (rf"{_UER_BLOCK}{theirs}\.bias$", f"{prefix}{ours}/bias", "same")
        for theirs, ours in _UER_INNER.items()
    ]


_UER_INNER = {
    r"self_attn\.linear_layers\.0": "attention/self/query",
    r"self_attn\.linear_layers\.1": "attention/self/key",
    r"self_attn\.linear_layers\.2": "attention/self/value",
    r"self_attn\.final_linear": "attention/output/dense",
    r"feed_forward\.linear_1": "intermediate/dense",
    r"feed_forward\.linear_2": "output/dense",
}
_UER_BLOCK = r"encoder\.transformer\.(\d+)\."
_WORD = r"embedding\.(word\.embedding|word_embedding)\.weight$"
_POSITION = r"embedding\.(pos\.embedding|position_embedding)\.weight$"
_SEGMENT = r"embedding\.(seg\.embedding|segment_embedding)\.weight$"

UER_BERT = Dialect(
    "UER's BERT",
    r"embedding\.layer_norm\.gamma$",
    [
        (_WORD, "bert/embeddings/word_embeddings", "same"),
        (_POSITION, "bert/embeddings/position_embeddings", "same"),
        (_SEGMENT, "bert/embeddings/token_type_embeddings", "without row 0"),
        (r"embedding\.layer_norm\.(gamma|beta)$", r"bert/embeddings/LayerNorm/\1", "same"),
        *_uer_block(r"bert/encoder/layer_\1/"),
        (
            _UER_BLOCK + r"layer_norm_1\.(gamma|beta)$",
            r"bert/encoder/layer_\1/attention/output/LayerNorm/\2",
            "same",
        ),
        (
            _UER_BLOCK + r"layer_norm_2\.(gamma|beta)$",
            r"bert/encoder/layer_\1/output/LayerNorm/\2",
            "same",
        ),
        (
            r"target\.(mlm\.linear_1|mlm_linear_1)\.weight$",
            "cls/predictions/transform/dense/kernel",
            "transpose",
        ),
        (
            r"target\.(mlm\.linear_1|mlm_linear_1)\.bias$",
            "cls/predictions/transform/dense/bias",
            "same",
        ),
        (
            r"target\.(mlm\.layer_norm|layer_norm)\.(gamma|beta)$",
            r"cls/predictions/transform/LayerNorm/\2",
            "same",
        ),
        (r"target\.(mlm\.linear_2|mlm_linear_2)\.bias$", "cls/predictions/output_bias", "same"),
        (
            r"target\.(mlm\.linear_2|mlm_linear_2)\.weight$",
            "cls/predictions/decoder/kernel",
            "transpose",
        ),
        (r"target\.(sp\.linear_1|nsp_linear_1)\.weight$", "bert/pooler/dense/kernel", "transpose"),
        (r"target\.(sp\.linear_1|nsp_linear_1)\.bias$", "bert/pooler/dense/bias", "same"),
        (
            r"target\.(sp\.linear_2|nsp_linear_2)\.weight$",
            "cls/seq_relationship/output_weights",
            "same",
        ),
        (r"target\.(sp\.linear_2|nsp_linear_2)\.bias$", "cls/seq_relationship/output_bias", "same"),
        # classifiers of texts have a layer 1 and a layer 2, taggers one layer
        (r"output_layer_1\.weight$", "bert/pooler/dense/kernel", "transpose"),
        (r"output_layer_1\.bias$", "bert/pooler/dense/bias", "same"),
        (r"output_layer(_2)?\.weight$", "output_weights", "same"),
        (r"output_layer(_2)?\.bias$", "output_bias", "same"),
    ],
)  # fmt: skip

UER_GPT2 = Dialect(
    "UER's GPT-2",
    r"encoder\.layer_norm\.gamma$",
    [
        (_WORD, "gpt/embeddings/word_embeddings", "same"),
        (_POSITION, "gpt/embeddings/position_embeddings", "same"),
        *_uer_block(r"gpt/transformer/layer_\1/"),
        (
            _UER_BLOCK + r"layer_norm_1\.(gamma|beta)$",
            r"gpt/transformer/layer_\1/attention/input/LayerNorm/\2",
            "same",
        ),
        (
            _UER_BLOCK + r"layer_norm_2\.(gamma|beta)$",
            r"gpt/transformer/layer_\1/input/LayerNorm/\2",
            "same",
        ),
        (r"encoder\.layer_norm\.(gamma|beta)$", r"gpt/output/LayerNorm/\1", "same"),
        (r"target\.(lm\.)?output_layer\.weight$", "gpt/lm_head/kernel", "transpose"),
    ],
)


def _uer_t5_attention(prefix, theirs, ours):
    """Returns the rules for an attention layer of UER's T5, to Hugging Face's names."""
    linears = ["linear_layers.0", "linear_layers.1", "linear_layers.2", "final_linear"]
    return [
        (
            prefix + re.escape(f"{theirs}.{linear}.weight") + "$",
            f"{ours}.{letter}.weight",
            "same",
        )
        for linear, letter in zip(linears, "qkvo", strict=True)
    ]


def _uer_t5_stack(name, transformer, sublayers):
    """Returns the rules for the encoder or decoder of UER's T5, to Hugging Face's names."""
    prefix, our_prefix = rf"{name}\.{transformer}\.(\d+)\.", rf"{name}.block.\1.layer."
    rules = []
    for n, (attention, norm, ours) in enumerate(sublayers):
        rules += _uer_t5_attention(prefix, attention, f"{our_prefix}{n}.{ours}")
        rules.append((prefix + norm + r"\.weight$", f"{our_prefix}{n}.layer_norm.weight", "same"))
    last = len(sublayers)
    for theirs, ours in (
        ("linear_gate", "wi_0"), ("linear_1", "wi_1"), ("linear_2", "wo"),
    ):  # fmt: skip
        rules.append(
            (
                prefix + rf"feed_forward\.{theirs}\.weight$",
                f"{our_prefix}{last}.DenseReluDense.{ours}.weight",
                "same",
            )
        )
    norm = rf"layer_norm_{last + 1}\.weight$"
    return [
        *rules,
        (prefix + norm, f"{our_prefix}{last}.layer_norm.weight", "same"),
        (
            rf"{name}\.(self_pos_emb|relative_pos_emb)\.relative_attention_bias\.weight$",
            f"{name}.block.0.layer.0.SelfAttention.relative_attention_bias.weight",
            "same",
        ),
        (rf"{name}\.layer_norm\.weight$", f"{name}.final_layer_norm.weight", "same"),
    ]


UER_T5 = Dialect(
    "UER's T5",
    r"decoder\.transformer_decoder\.\d+\.context_attn\.",
    [
        (_WORD, "shared.weight", "same"),
        (rf"tgt_{_WORD}", "decoder.embed_tokens.weight", "same"),
        *_uer_t5_stack("encoder", "transformer", [("self_attn", "layer_norm_1", "SelfAttention")]),
        *_uer_t5_stack(
            "decoder",
            "transformer_decoder",
            [
                ("self_attn", "layer_norm_1", "SelfAttention"),
                ("context_attn", "layer_norm_2", "EncDecAttention"),
            ],
        ),
        (r"target\.(lm\.)?output_layer\.weight$", "lm_head.weight", "same"),
    ],
)

OPENAI_GPT2 = Dialect(
    "OpenAI's GPT-2",
    r"model/h0/attn/c_attn/w$",
    [
        (r"model/(wte|wpe)$", r"transformer.\1.weight", "same"),
        (r"model/h(\d+)/(ln_1|ln_2)/g$", r"transformer.h.\1.\2.weight", "same"),
        (r"model/h(\d+)/(ln_1|ln_2)/b$", r"transformer.h.\1.\2.bias", "same"),
        (r"model/h(\d+)/(attn|mlp)/(c_\w+)/w$", r"transformer.h.\1.\2.\3.weight", "squeeze"),
        (r"model/h(\d+)/(attn|mlp)/(c_\w+)/b$", r"transformer.h.\1.\2.\3.bias", "same"),
        (r"model/ln_f/g$", "transformer.ln_f.weight", "same"),
        (r"model/ln_f/b$", "transformer.ln_f.bias", "same"),
    ],
)

_MEGATRON = r"transformer\.layers\.(\d+)\."
MEGATRON_GPT2 = Dialect(
    "Megatron's GPT-2",
    r"transformer\.layers\.0\.attention\.query_key_value\.query\.weight$",
    [
        (r"(word_embeddings|position_embeddings)\.weight$", r"gpt/embeddings/\1", "same"),
        (
            _MEGATRON + r"attention\.query_key_value\.(query|key|value)\.weight$",
            r"gpt/transformer/layer_\1/attention/self/\2/kernel",
            "transpose",
        ),
        (
            _MEGATRON + r"attention\.query_key_value\.(query|key|value)\.bias$",
            r"gpt/transformer/layer_\1/attention/self/\2/bias",
            "same",
        ),
        *(
            rule
            for theirs, ours in (
                (r"attention\.dense", "attention/output/dense"),
                (r"mlp\.dense_h_to_4h", "intermediate/dense"),
                (r"mlp\.dense_4h_to_h", "output/dense"),
            )
            for rule in (
                (
                    _MEGATRON + theirs + r"\.weight$",
                    rf"gpt/transformer/layer_\1/{ours}/kernel",
                    "transpose",
                ),
                (_MEGATRON + theirs + r"\.bias$", rf"gpt/transformer/layer_\1/{ours}/bias", "same"),
            )
        ),
        *(
            rule
            for theirs, ours in (
                (_MEGATRON + "input_layernorm", r"gpt/transformer/layer_\1/attention/input"),
                (_MEGATRON + "post_attention_layernorm", r"gpt/transformer/layer_\1/input"),
                (r"transformer\.final_layernorm", "gpt/output"),
            )
            for rule in (
                (theirs + r"\.weight$", f"{ours}/LayerNorm/gamma", "same"),
                (theirs + r"\.bias$", f"{ours}/LayerNorm/beta", "same"),
            )
        ),
    ],
)  # fmt: skip

# brightmart's albert_zh before it used Google's layout; its two word tables are multiplied
ALBERT_ZH = Dialect(
    "albert_zh",
    r"bert/embeddings/word_embeddings_2$",
    [
        (
            r"bert/encoder/layer_shared/attention/self/(.*)",
            r"bert/encoder/transformer/group_0/inner_group_0/attention_1/self/\1",
            "same",
        ),
        (
            r"bert/encoder/layer_shared/attention/output/LayerNorm/(.*)",
            r"bert/encoder/transformer/group_0/inner_group_0/LayerNorm/\1",
            "same",
        ),
        (
            r"bert/encoder/layer_shared/attention/output/dense/(.*)",
            r"bert/encoder/transformer/group_0/inner_group_0/attention_1/output/dense/\1",
            "same",
        ),
        (
            r"bert/encoder/layer_shared/intermediate/dense/(.*)",
            r"bert/encoder/transformer/group_0/inner_group_0/ffn_1/intermediate/dense/\1",
            "same",
        ),
        (
            r"bert/encoder/layer_shared/output/dense/(.*)",
            r"bert/encoder/transformer/group_0/inner_group_0/ffn_1/intermediate/output/dense/\1",
            "same",
        ),
        (
            r"bert/encoder/layer_shared/output/LayerNorm/(.*)",
            r"bert/encoder/transformer/group_0/inner_group_0/LayerNorm_1/\1",
            "same",
        ),
    ],
    outdated=("embedding_size",),
)

# HFL's RBT3: a head in two stages; the first one is the masked-language-model head
TWO_STAGE_HEAD = Dialect(
    "a two-stage MLM head",
    r"cls/predictions/output_prev_bias$",
    [
        (r"cls/predictions/output_prev_bias$", "cls/predictions/output_bias", "same"),
        (r"cls/predictions/output_bias$", "cls/predictions/second_stage/output_bias", "same"),
    ],
)

# TensorFlow 2's official BERT (LaBSE on TensorFlow Hub). Names of weights with other endings are
# slots of an optimizer.
_STORED = r"(?::0|/\.ATTRIBUTES/VARIABLE_VALUE)?$"
OFFICIAL_BERT = Dialect(
    "TensorFlow 2's official BERT",
    r"(?:.*/)?transformer/layer_0/self_attention/query/kernel" + _STORED,
    [
        (rf"(?:.*/)?{theirs}{_STORED}", ours, "same")
        for theirs, ours in (
            ("word_embeddings/embeddings", "bert/embeddings/word_embeddings"),
            ("position_embedding/(?:position_)?embeddings", "bert/embeddings/position_embeddings"),
            ("type_embeddings/embeddings", "bert/embeddings/token_type_embeddings"),
            ("embeddings/layer_norm/(gamma|beta)", r"bert/embeddings/LayerNorm/\1"),
            *(
                (rf"transformer/layer_(\d+)/{theirs}/(\w+)", rf"bert/encoder/layer_\1/{ours}/\2")
                for theirs, ours in (
                    ("self_attention/query", "attention/self/query"),
                    ("self_attention/key", "attention/self/key"),
                    ("self_attention/value", "attention/self/value"),
                    ("self_attention/attention_output", "attention/output/dense"),
                    ("self_attention_output", "attention/output/dense"),
                    ("self_attention_layer_norm", "attention/output/LayerNorm"),
                    ("intermediate", "intermediate/dense"),
                    ("output", "output/dense"),
                    ("output_layer_norm", "output/LayerNorm"),
                )
            ),
            (r"pooler_transform/(\w+)", r"bert/pooler/dense/\1"),
        )
    ],
)

# start and end pointers, joined by `_join_pointers`; the encoder may have a name of its own
UIE = Dialect(
    "UIE",
    r"linear_(start|end)\.weight$",
    [(r"encoder\.((?:embeddings|encoder|pooler)\..+)", r"\1", "same")],
)

# PaddleNLP's ERNIE and UIE, where the prefix of UIE's encoder is dropped: matrices are stored as
# they are multiplied. (Its RoBERTa counts positions in two ways, depending on the vocabulary.)
_PADDLE = r"(?:encoder\.(?=embeddings|encoder|pooler)|(ernie\.)?)"
_PADDLE_BLOCK = _PADDLE + r"encoder\.layers\.(\d+)\."
_OF_BLOCK = r"\1encoder.layer.\2."


def _paddle_linear(theirs, ours):
    """Returns the rules for a dense layer, to Hugging Face's names."""
    return [
        (rf"{theirs}\.weight$", f"{ours}.weight", "transpose"),
        (rf"{theirs}\.bias$", f"{ours}.bias", "same"),
    ]


PADDLE = Dialect(
    "PaddleNLP's ERNIE",
    _PADDLE_BLOCK + r"linear1\.weight$",
    [
        (_PADDLE + r"embeddings\.layer_norm\.(\w+)$", r"\1embeddings.LayerNorm.\2", "same"),
        *(
            rule
            for theirs, ours in (
                (r"self_attn\.q_proj", "attention.self.query"),
                (r"self_attn\.k_proj", "attention.self.key"),
                (r"self_attn\.v_proj", "attention.self.value"),
                (r"self_attn\.out_proj", "attention.output.dense"),
                ("linear1", "intermediate.dense"),
                ("linear2", "output.dense"),
            )
            for rule in _paddle_linear(_PADDLE_BLOCK + theirs, _OF_BLOCK + ours)
        ),
        *(
            (rf"{_PADDLE_BLOCK}{theirs}\.(\w+)$", rf"{_OF_BLOCK}{ours}.LayerNorm.\3", "same")
            for theirs, ours in (("norm1", "attention.output"), ("norm2", "output"))
        ),
        *_paddle_linear(_PADDLE + r"pooler\.dense", r"\1pooler.dense"),
        *_paddle_linear(r"cls\.predictions\.transform", "cls.predictions.transform.dense"),
        (
            r"cls\.predictions\.layer_norm\.(\w+)$",
            r"cls.predictions.transform.LayerNorm.\1",
            "same",
        ),
        (r"cls\.predictions\.decoder_weight$", "cls.predictions.decoder.weight", "same"),
        (r"cls\.predictions\.decoder_bias$", "cls.predictions.bias", "same"),
        *_paddle_linear(r"(cls\.seq_relationship|classifier|linear_start|linear_end)", r"\1"),
        *UIE.rules,
    ],
)

# Its kernels have an axis for the heads, also under Google's names: (pattern, number of axes, axis
# of the heads, change)
HEADS = [
    (r"bert/encoder/layer_\d+/attention/self/(query|key|value)/kernel", 3, 1, "join last axes"),
    (r"bert/encoder/layer_\d+/attention/self/(query|key|value)/bias", 2, 0, "join last axes"),
    (r"bert/encoder/layer_\d+/attention/output/dense/kernel", 3, 0, "join first axes"),
]

DIALECTS = [
    UER_T5, UER_GPT2, UER_BERT, OPENAI_GPT2, MEGATRON_GPT2, ALBERT_ZH, TWO_STAGE_HEAD,
    OFFICIAL_BERT, PADDLE, UIE,
]  # fmt: skip


def dialect_of(names):
    """Returns the `Dialect` of the names of a checkpoint, or None."""
    return next(
        (d for d in DIALECTS if any(re.match(d.sign, name) for name in names)),
        None,
    )


def unwrapped(checkpoint):
    """Removes the prefixes of wrappers of the model from the names of a checkpoint.

    Args:
        checkpoint: mapping name -> array.

    Returns:
        A `Checkpoint` if any name changes, otherwise `checkpoint`.
    """
    plain = {name: re.sub(WRAPPERS, "", name) for name in checkpoint}
    times = Counter(plain.values())
    plain = {name: new if times[new] == 1 else name for name, new in plain.items()}
    if all(name == new for name, new in plain.items()):
        return checkpoint
    entries = {new: _changed(checkpoint, name, "same") for name, new in plain.items()}
    return _presented(checkpoint, entries)


def adapt(checkpoint):
    """Translates a checkpoint to the names of the tables.

    Args:
        checkpoint: mapping name -> array.

    Returns:
        A `Checkpoint` if anything changes, otherwise `checkpoint`.

    Raises:
        CheckpointError: the weights are quantized, or two names of a dialect mean the same weight.
    """
    quantized = next((name for name in checkpoint if re.search(QUANTIZED, name)), None)
    if quantized:
        raise CheckpointError(
            f"{_path(checkpoint)}: its weights are quantized (see {quantized!r:.200}); expected "
            "plain numbers. Take the file that they were made from, or save them with "
            "transformers: model.dequantize(), then model.save_pretrained()."
        )
    checkpoint = unwrapped(checkpoint)
    dialect = dialect_of(checkpoint)
    return _with_joined_heads(checkpoint if dialect is None else _translated(checkpoint, dialect))


def _translated(checkpoint, dialect):
    """Translates a checkpoint of a dialect to the names of the tables."""
    entries, stored = {}, {}

    def add(ours, name, change):
        if ours in stored:
            raise CheckpointError(
                f"{_path(checkpoint)}: {stored[ours]!r:.200} and {name!r:.200} are both read as "
                f"{ours!r:.200}, in the names of {dialect.name}; expected one of them. Leave out "
                "the one that is not the model's weight."
            )
        stored[ours] = name
        entries[ours] = _changed(checkpoint, name, change)

    for name in checkpoint:
        for pattern, ours, change in dialect.rules:
            match = re.fullmatch(pattern, name)
            if match:
                add(match.expand(ours), name, change)
                break
        else:
            add(name, name, "same")
    if dialect is UER_T5:
        _name_plain_feed_forward(entries, _path(checkpoint))
    if dialect in (PADDLE, UIE):
        _join_pointers(entries, _path(checkpoint))
    if dialect is ALBERT_ZH:
        _multiply_tables(entries, _path(checkpoint))
    return _presented(checkpoint, entries, dialect)


def _with_joined_heads(checkpoint):
    """Joins the axes of `HEADS`; the number of heads is kept in `num_heads`.

    Raises:
        CheckpointError: two arrays have different numbers of heads.
    """
    changes, counted = {}, {}  # name -> change, and number of heads -> the first array with it
    for name in checkpoint:
        for pattern, axes, axis, change in HEADS:
            shape = _shape(checkpoint, name)
            if re.fullmatch(pattern, name) and len(shape) == axes:
                changes[name] = change
                counted.setdefault(shape[axis], name)
    if not changes:
        return checkpoint
    if len(counted) > 1:
        (heads, name), (others, other) = list(counted.items())[:2]
        raise CheckpointError(
            f"{_path(checkpoint)}: {name!r:.200} has {heads} heads, {other!r:.200} has {others}; "
            "expected the same. Get or copy the file again."
        )
    entries = {name: _changed(checkpoint, name, changes.get(name, "same")) for name in checkpoint}
    return _presented(checkpoint, entries, getattr(checkpoint, "dialect", None), *counted)


def _presented(checkpoint, entries, dialect=None, num_heads=None):
    """Makes a `Checkpoint` of these entries, with the path and format of another one."""
    format = getattr(checkpoint, "format", "npz")
    return Checkpoint(_path(checkpoint), format, entries, dialect, num_heads=num_heads)


def _path(checkpoint):
    """Returns the name of a checkpoint in messages."""
    return getattr(checkpoint, "path", "the checkpoint")


def _changed(checkpoint, name, change):
    """Makes the `Entry` of a changed array.

    Raises:
        CheckpointError: the array does not have the rows that the change needs.
    """
    first, to_shape, to_array = CHANGES[change]
    lazy = hasattr(checkpoint, "shape")
    shape = _shape(checkpoint, name)
    dtype = checkpoint.dtype(name) if lazy else np.asarray(checkpoint[name]).dtype
    if first and (not shape or shape[0] not in first):
        rows = "1 row" if len(first) == 1 else "1 row or more"
        raise CheckpointError(
            f"{_path(checkpoint)}: {name!r:.200}: expected {rows}, got the shape {shape!s:.200}. "
            "Get or copy the file again."
        )
    return Entry(tuple(to_shape(shape)), dtype, partial(_read, checkpoint, name, to_array))


def _shape(checkpoint, name):
    return tuple(
        checkpoint.shape(name) if hasattr(checkpoint, "shape") else np.shape(checkpoint[name])
    )


def _read(checkpoint, name, to_array):
    return to_array(np.asarray(checkpoint[name]))


def _join_pointers(entries, path):
    """Joins UIE's pointers to the one layer that transformers has for start and end of a span.

    Raises:
        CheckpointError: their shapes are not those of pointers.
    """
    for end in ("weight", "bias"):
        names = [f"linear_{side}.{end}" for side in ("start", "end")]
        parts = [entries.pop(name) for name in names if name in entries]
        if not parts:
            continue
        shapes = {part.shape for part in parts}
        if len(parts) < 2 or len(shapes) > 1 or parts[0].shape[:1] != (1,):
            raise CheckpointError(
                f"{path}: {' and '.join(names)} have the shapes {sorted(shapes)!s:.200}; expected "
                "both, with one row each. Get or copy the file again."
            )
        entries[f"qa_outputs.{end}"] = Entry(
            (2, *parts[0].shape[1:]), parts[0].dtype, partial(_joined, parts)
        )


def _joined(parts):
    return np.concatenate([part.read() for part in parts])


def _name_plain_feed_forward(entries, path):
    """Renames the input projection of an ungated T5, which has the name of a gated one's second."""
    if any("wi_0" in name for name in entries):
        return
    for name in [name for name in entries if "wi_1" in name]:
        plain = name.replace("wi_1", "wi")
        if plain in entries:
            raise CheckpointError(
                f"{path}: holds both {name!r:.200} and {plain!r:.200}; expected one of them in a "
                "model without gates. Leave out the one that is not the model's weight."
            )
        entries[plain] = entries.pop(name)


def _multiply_tables(entries, path):
    """Multiplies the factorized word table of albert_zh to the hidden size.

    Raises:
        CheckpointError: the two factors cannot be multiplied, or the product would take far more
            memory than the weights explain.
    """
    table, second = "bert/embeddings/word_embeddings", "bert/embeddings/word_embeddings_2"
    if table not in entries:
        raise CheckpointError(
            f"{path}: holds {second!r}; expected {table!r} as well. Get the file again."
        )
    total = sum(map(_bytes, entries.values()))
    narrow, wide = entries[table], entries.pop(second)
    shapes = f"the shapes {narrow.shape!s:.200} and {wide.shape!s:.200}"
    where = f"{path}: {table!r} and {second!r}"
    inner = {narrow.shape[1:], wide.shape[:1]}
    if len(wide.shape) != 2 or len(inner) > 1 or narrow.dtype != wide.dtype:
        raise CheckpointError(
            f"{where}: expected matrices to multiply, of one dtype, got {shapes}, {narrow.dtype} "
            f"and {wide.dtype}. Get or copy the file again."
        )
    product = Entry(
        (narrow.shape[0], wide.shape[1]), narrow.dtype, lambda: narrow.read() @ wide.read()
    )
    most = 2 * max(FREE, total)
    if _bytes(product) + _bytes(narrow) + _bytes(wide) > most:
        raise CheckpointError(
            f"{where}: expected a product of at most {most} bytes, for {total} bytes of weights, "
            f"got {shapes}. Get or copy the file again."
        )
    entries[table] = product


def _bytes(entry):
    return math.prod(entry.shape) * entry.dtype.itemsize
