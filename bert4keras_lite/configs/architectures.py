"""The table of model families: each as its differences from BERT, and as it is published."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from ..mappings import (
    BART_KEYS,
    BERT_KEYS,
    BIASES,
    BLOCK_PARTS,
    DISTIL_KEYS,
    GPT_KEYS,
    LLAMA_KEYS,
    OF_ONE_STACK,
    T5_KEYS,
)

__all__ = [
    "APPLICATIONS",
    "ARCHITECTURES",
    "CLASSES",
    "FAMILIES",
    "FINGERPRINTS",
    "HUGGING_FACE",
    "KINDS",
    "MODEL_TYPES",
    "Head",
]


@dataclass(frozen=True)
class HuggingFace:
    """How transformers publishes a family.

    Attributes:
        model_type: in its configs.
        classes: without a head, with the language-model head, with all heads.
        keys: field of `Config` -> key of the config.
        constants: keys and values that each config of the family has.
        copies: key -> the key whose value it repeats.
        head_act: the activation of the language-model head, whatever `hidden_act` is; None: that.
        computed: field of `Config` -> pairs of a key and a function of the `Config`, which returns
            its value; None: the key is left out.
        nulls: keys that are null in the file instead, as a missing one means something else.
        unties_stacks: whether, with an untied head, each stack reads a copy of the token table.
    """

    model_type: str
    classes: list
    keys: dict
    constants: dict = field(default_factory=dict)
    copies: dict = field(default_factory=dict)
    head_act: str | None = None
    computed: dict = field(default_factory=dict)
    nulls: Sequence = ()
    unties_stacks: bool = False


def _layer_types(config):
    """Returns transformers' names of the kinds of all layers."""
    return [f"{config.kind_of(i)}_attention" for i in range(config.num_hidden_layers)]


def _full_every(config):
    """Returns `n` if layers 0, n, 2n, ... are the full ones, as transformers 4 has it; or None."""
    first, *others = config.layer_kinds
    return len(config.layer_kinds) if first == "full" and "full" not in others else None


def _rope(config):
    """Returns transformers' `rope_parameters`."""
    rope = {"rope_type": "default", "rope_theta": config.rotary_base}
    return rope | (config.rotary_scaling or {})


_ROPE = {"rotary_base": [("rope_parameters", _rope)], "rotary_scaling": []}


def _sliding_window(config):
    """Returns transformers' size of a window, which includes the query; None: no layer has one."""
    return config.window + 1 if config.window and "sliding" in config.layer_kinds else None


def _rope_by_kind(config):
    """Returns transformers' `rope_parameters`, by the kind of layers."""
    sliding = {"rope_type": "default", "rope_theta": config.sliding_rotary_base}
    return {
        "full_attention": _rope(config),
        "sliding_attention": sliding if config.sliding_rotary_base else _rope(config),
    }


def _biases(model_type):
    """Returns the pairs of `HuggingFace.computed` for the keys that say which layers have a bias.

    The functions of these raise `ValueError` if no values of the keys say it.
    """

    def has_bias(key, keys):
        def has(config):
            biased = set(BLOCK_PARTS) - {*config.without_bias} if config.use_bias else set()
            true = [key for key in keys if biased >= {*keys[key]}]
            if biased - {part for key in true for part in keys[key]}:
                raise ValueError(
                    f"use_bias=True, without_bias={config.without_bias}: Hugging Face's "
                    f"{model_type} says by {' and '.join(keys)} which layers have a bias; expected "
                    f"one for {' or for '.join(', '.join(parts) for parts in keys.values())}. "
                    "Correct without_bias=, or use format='keras'."
                )
            return key in true

        return has

    keys = BIASES[model_type]
    return {"use_bias": [(key, has_bias(key, keys)) for key in keys], "without_bias": []}


# what a missing number means differs among the kin of Llama: it is always written
_LLAMA_COMPUTED = _ROPE | {"num_key_value_heads": [("num_key_value_heads", lambda c: c.kv_heads)]}
_HEAD_DIM: dict = {"attention_head_size": [("head_dim", lambda c: c.head_size)]}
_WINDOW = {"window": [("sliding_window", _sliding_window)]}
_SLIDING: dict = {"layer_kinds": []}  # all layers, if there is a window
_LAYER_TYPES = _WINDOW | {
    "layer_kinds": [
        ("layer_types", _layer_types),
        ("use_sliding_window", lambda c: "sliding" in c.layer_kinds),
    ]
}


class Head(NamedTuple):
    """What a classifier computes from the last hidden states, before its last dense layer.

    Attributes:
        position: of the hidden state: "first", "last" (of the tokens that are not padding), "mean"
            (over them), "late" (the mean over them of what the layers before the last one give);
            None: each.
        dense: name of a dense layer that is applied to it; None: there is none.
        activation: of that layer; None: `hidden_act`.
        norm: name of the normalization after that layer; None: there is none.
        use_bias: whether the last dense layer has a bias.
        dense_bias: whether `dense` has one; None: if the layers of the model have.
    """

    position: str | None = None
    dense: str | None = None
    activation: str | None = None
    norm: str | None = None
    use_bias: bool = True
    dense_bias: bool | None = None


# kind of a classifier -> how the names of transformers' classes end
KINDS = {
    "text": "ForSequenceClassification",
    "tokens": "ForTokenClassification",
    "spans": "ForQuestionAnswering",
    "choice": "ForMultipleChoice",
}


@dataclass(frozen=True)
class Family:
    """A family: what it computes, and how its files are recognized and written.

    Attributes:
        fields: fields of `Config` that differ from BERT's.
        fingerprints: how weight names tell the family, pairs of patterns: a name matches the first
            (one each, if it is several), and none the second. Families with the same fingerprint
            are listed from most to least likely; of two that match, that of the later family
            counts.
        hugging_face: a `HuggingFace`; None: transformers has no such family.
        model_types: `model_type` of configs that may mean the family, the most likely first;
            default: that of `hugging_face`. Our own configs name the family.
        gelu: what published configs mean by "gelu", if transformers has not written them.
        heads: kind of a classifier (a key of `KINDS`) -> its `Head`.
    """

    fields: dict = field(default_factory=dict)
    fingerprints: Sequence = ()
    hugging_face: HuggingFace | None = None
    model_types: Sequence = ()
    gelu: str = "gelu"
    heads: dict = field(default_factory=dict)


_PLAIN = {"norm": "plain_rms", "use_bias": False, "position": "rotary"}

_LANGUAGE_MODEL = {"with_lm": True, "lm_transform": False, "lm_bias": False}

_GPT = _LANGUAGE_MODEL | {
    "hidden_act": "gelu_tanh",
    "norm_epsilon": 1e-5,
    "embedding_norm": False,
    "segment_vocab_size": 0,
    "pad_token_id": -1,
    "attend": "lm",
}

_GPT2 = _GPT | {"norm_at": "pre", "final_norm": True, "max_position": 1024}

_GPT2_ML = _GPT2 | {
    "hidden_act": "gelu",
    "norm_at": "gpt2_ml",
    "embedding_norm": True,
    "final_norm": False,
    "pad_token_id": 0,
}

# Llama's graph, which sees all tokens in EuroBERT
_LLAMA_GRAPH = {
    "position": "rotary",
    "rotary_halves": True,
    "segment_vocab_size": 0,
    "hidden_act": "silu",
    "norm": "rms",
    "norm_at": "pre",
    "norm_epsilon": 1e-6,
    "embedding_norm": False,
    "final_norm": True,
    "use_bias": False,
    "gated": True,
    "lm_transform": False,
    "lm_bias": False,
    "tie_word_embeddings": False,
}
_LLAMA = _LLAMA_GRAPH | {"with_lm": True, "attend": "lm", "pad_token_id": -1}
_QWEN2 = _LLAMA | {"use_bias": True, "without_bias": BLOCK_PARTS[3:]}
_GLM = _QWEN2 | {"rotary_halves": False, "rotary_share": 0.5, "norm_epsilon": 1.5625e-7}
_GLM_COMPUTED: dict = _HEAD_DIM | {
    "rotary_base": [
        ("rope_parameters", lambda c: _rope(c) | {"partial_rotary_factor": c.rotary_share})
    ],
    "rotary_share": [],
    # a missing one means a row that a small vocabulary lacks
    "pad_token_id": [("pad_token_id", lambda c: None)],
}
_GEMMA3 = _LLAMA | {
    "hidden_act": "gelu_pytorch_tanh",
    "norm": "rms_plus_one",
    "norm_at": "sandwich",
    "head_norm": True,
    "scale_embeddings": True,
    "tie_word_embeddings": True,
    "attention_scalar": 256,
    "layer_kinds": (*["sliding"] * 5, "full"),
    "window": 4095,
    "rotary_base": 1e6,
    "sliding_rotary_base": 1e4,
}

_T5 = _LANGUAGE_MODEL | {
    "stacks": "both",
    "hidden_act": "relu",
    "position": "buckets",
    "relative_max_distance": 128,
    "segment_vocab_size": 0,
    "norm": "rms",
    "norm_at": "pre",
    "norm_epsilon": 1e-6,
    "embedding_norm": False,
    "final_norm": True,
    "use_bias": False,
    "attention_scale": False,
    "scale_decoder_outputs": "tied",
}

# special ids are those of the published English models; Chinese ones have BERT's
_BART = {
    "stacks": "both",
    "stack_dropout": False,
    "max_position": 1024,
    "position_offset": 2,
    "segment_vocab_size": 0,
    "norm_epsilon": 1e-5,
    "pad_token_id": 1,
    "decoder_start_id": 2,
    "with_lm": True,
    "lm_transform": False,
}
_PEGASUS = _BART | {
    "position": "sinusoidal",
    "position_offset": 0,
    "norm_at": "pre",
    "embedding_norm": False,
    "final_norm": True,
    "pad_token_id": 0,
    "decoder_start_id": 0,
}

# the authors' code has these whatever the config says; segments are those of pretraining
_CPT = _BART | {
    "position_offset": 0,
    "decoder_position_offset": 2,
    "segment_vocab_size": 2,
    "fixed_segment": 1,
    "norm_epsilon": 1e-12,
    "decoder_norm_epsilon": 1e-5,
    "parallel_decoder": True,
}

_T5_1_1 = _T5 | {
    "hidden_act": "gelu_tanh",
    "gated": True,
    "tie_word_embeddings": False,
}

# positions are counted from 2, segments have one row; the first two positions are never tokens
_ROBERTA = {"max_position": 514, "first_position": 2, "pad_token_id": 1, "segment_vocab_size": 1}
_EACH, _POOLED = Head(), Head("first", "pooler", "tanh")
_BERT_HEADS = {"text": _POOLED, "tokens": _EACH, "spans": _EACH, "choice": _POOLED}
_ROBERTA_HEADS = _BERT_HEADS | {"text": Head("first", "classifier_dense", "tanh")}
# transformers' RoFormerForMultipleChoice reads the last column of a row, padding included
_ROFORMER_HEADS = {"text": Head("first", "classifier_dense"), "tokens": _EACH, "spans": _EACH}
_ELECTRA_HEADS = _BERT_HEADS | {
    "text": Head("first", "classifier_dense", "gelu"),
    "choice": Head("first", "choice_dense", "gelu"),
}
_MODERNBERT_HEADS = {
    kind: Head(head.position, "lm_dense", None, "lm_norm") for kind, head in _BERT_HEADS.items()
}
_DEBERTA_DENSE = Head("first", "classifier_dense", "gelu")
_DISTILBERT_DENSE = Head("first", "classifier_dense", "relu")
_GPT_HEADS = {"text": Head("last", use_bias=False)}
_GPT2_HEADS = _GPT_HEADS | {"tokens": _EACH, "spans": _EACH}
_LLAMA_HEADS = _GPT_HEADS | {"tokens": _EACH}
_T5_HEADS = {"tokens": _EACH}  # of an encoder

_ALBERT_NAMES = (r"albert\.|.*/inner_group_0/|.*albert_layer_groups", None)
_BERT_NAMES = (
    r"(bert[./])?(encoder[./]layer[_.]\d+[./]|embeddings[./])",
    r".*task_type_embeddings",
)
_ROBERTA_NAMES = (r"(xlm_)?roberta\.", None)
_NO_POSITIONS = (r"bert/embeddings/word_embeddings", r".*(position_embeddings|/inner_group_0/)")
_GATED_NAMES = (r".*(block_000/layer_00.|block\.0\.layer\..)[./]DenseReluDense[./]wi_1", None)
_MT5_NAMES = (r"encoder/block_000/layer_001/DenseReluDense/wi_1", r".*layer_norm/")

_WITH_EMBEDDING_SIZE = BERT_KEYS | {"embedding_size": "embedding_size"}
_CLASSIFIER_KEYS = {"classifier_dropout": "classifier_dropout"}
_T5_CLASSES = ["T5EncoderModel", *["T5ForConditionalGeneration"] * 2]
_MT5_CLASSES = ["MT5EncoderModel", *["MT5ForConditionalGeneration"] * 2]

# Each family is a row here and a table in `mappings.WEIGHTS`.


def _llama_family(model_type, stem, fields, computed, nulls=(), model_types=()):
    """Returns the row of a causal language model with Llama's graph, names and keys.

    Args:
        model_type: of transformers.
        stem: what the names of its classes begin with.
        fields, model_types: see `Family`.
        computed, nulls: see `HuggingFace`.
    """
    classes = [f"{stem}Model", *[f"{stem}ForCausalLM"] * 2]
    names = HuggingFace(
        model_type, classes, LLAMA_KEYS, computed=_LLAMA_COMPUTED | computed, nulls=nulls
    )
    return Family(fields, hugging_face=names, model_types=model_types, heads=_LLAMA_HEADS)


def _bart_family(model_type, stem, fields, keys=BART_KEYS, **others):
    """Returns the row of an encoder-decoder with BART's names.

    Args:
        model_type: of transformers.
        stem: what the names of its classes begin with.
        fields: see `Family`.
        keys: see `HuggingFace`.
        **others: arguments of `Family`.
    """
    names = HuggingFace(
        model_type,
        [f"{stem}Model", *[f"{stem}ForConditionalGeneration"] * 2],
        keys,
        constants={"is_encoder_decoder": True},
        computed={
            "num_decoder_layers": [("decoder_layers", lambda c: c.block_counts["j"])],
            "num_decoder_attention_heads": [
                ("decoder_attention_heads", lambda c: c.of_stack("decoder_").num_attention_heads)
            ],
            "decoder_intermediate_size": [
                ("decoder_ffn_dim", lambda c: c.of_stack("decoder_").intermediate_size)
            ],
        },
        # a missing one is that of the English vocabulary
        nulls=("decoder_start_token_id", "forced_eos_token_id"),
        unties_stacks=True,
    )
    return Family(fields, hugging_face=names, **others)


FAMILIES = {
    "bert": Family(
        fingerprints=[_BERT_NAMES],
        hugging_face=HuggingFace(
            "bert",
            ["BertModel", "BertForMaskedLM", "BertForPreTraining"],
            BERT_KEYS | _CLASSIFIER_KEYS,
        ),
        heads=_BERT_HEADS,
    ),
    "roberta": Family({"family": "bert"}),
    "ernie": Family(
        fingerprints=[(r"ernie\.|(bert\.)?embeddings\.task_type_embeddings", None), _BERT_NAMES],
        hugging_face=HuggingFace(
            "ernie",
            ["ErnieModel", "ErnieForMaskedLM", "ErnieForPreTraining"],
            BERT_KEYS | _CLASSIFIER_KEYS | {"task_vocab_size": "task_type_vocab_size"},
        ),
        model_types=["ernie", "bert"],  # the first revisions say bert: the task types tell
        heads=_BERT_HEADS,
    ),
    "fairseq_roberta": Family(
        _ROBERTA,
        fingerprints=[_ROBERTA_NAMES, _BERT_NAMES],
        hugging_face=HuggingFace(
            "roberta",
            ["RobertaModel", *["RobertaForMaskedLM"] * 2],
            BERT_KEYS | _CLASSIFIER_KEYS,
            head_act="gelu",
        ),
        heads=_ROBERTA_HEADS,
    ),
    "xlm_roberta": Family(
        _ROBERTA,
        fingerprints=[_ROBERTA_NAMES, _BERT_NAMES],
        hugging_face=HuggingFace(
            "xlm-roberta",
            ["XLMRobertaModel", *["XLMRobertaForMaskedLM"] * 2],
            BERT_KEYS | _CLASSIFIER_KEYS,
            head_act="gelu",
        ),
        heads=_ROBERTA_HEADS,
    ),
    "albert": Family(
        {"share_blocks": True, "hidden_act": "gelu_tanh"},
        fingerprints=[_ALBERT_NAMES],
        hugging_face=HuggingFace(
            "albert",
            ["AlbertModel", "AlbertForMaskedLM", "AlbertForPreTraining"],
            _WITH_EMBEDDING_SIZE | {"classifier_dropout": "classifier_dropout_prob"},
        ),
        gelu="gelu_tanh",
        heads=_BERT_HEADS,
    ),
    "albert_unshared": Family(
        {"hidden_act": "gelu_tanh"},
        fingerprints=[_ALBERT_NAMES, _BERT_NAMES],
        model_types=["albert"],
        gelu="gelu_tanh",
        heads=_BERT_HEADS,
    ),
    "nezha": Family(
        {"position": "relative"},
        fingerprints=[(r"nezha\.", None), _NO_POSITIONS],
        hugging_face=HuggingFace(
            "nezha",
            ["NezhaModel", "NezhaForMaskedLM", "NezhaForPreTraining"],
            BERT_KEYS | _CLASSIFIER_KEYS | {"relative_max_distance": "max_relative_position"},
        ),
        heads=_BERT_HEADS,
    ),
    "roformer": Family(
        {"position": "rotary"},
        fingerprints=[(r"roformer\.", None), _NO_POSITIONS],
        hugging_face=HuggingFace(
            "roformer",
            ["RoFormerModel", *["RoFormerForMaskedLM"] * 2],
            _WITH_EMBEDDING_SIZE | {"rotate_values": "rotary_value"},
        ),
        heads=_ROFORMER_HEADS,
    ),
    "roformer_v2": Family(
        _PLAIN | {"hidden_act": "relu", "lm_transform": False, "lm_bias": False},
        fingerprints=[
            (r"roformer\.", r".*(bias|LayerNorm)"),
            (
                r"(bert[./])?embeddings[./]word_embeddings",
                r".*(bias|LayerNorm|position_embeddings)",
            ),
        ],
        model_types=["roformer"],
        heads=_ROFORMER_HEADS,
    ),
    "gau_alpha": Family(
        _PLAIN
        | {
            "attention": "gau",
            "attention_key_size": 128,
            "num_attention_heads": 1,
            "hidden_act": "swish",
            "lm_transform": False,
            "lm_bias": False,
        },
        fingerprints=[(r"GAU_alpha/", None)],
        heads=_BERT_HEADS,
    ),
    "modernbert": Family(
        {
            "position": "rotary",
            "rotary_halves": True,
            "rotary_base": 160_000.0,
            "segment_vocab_size": 0,
            "norm": "bias_free",
            "norm_at": "pre",
            "norm_epsilon": 1e-5,
            "first_norm": False,
            "final_norm": True,
            "use_bias": False,
            "gated": True,
            "layer_kinds": ("full", "sliding", "sliding"),
            "window": 64,
            "sliding_rotary_base": 10_000.0,
        },
        fingerprints=[(r"(model\.)?layers\.\d+\.attn\.Wqkv", None)],
        hugging_face=HuggingFace(
            "modernbert",
            ["ModernBertModel", *["ModernBertForMaskedLM"] * 2],
            {name: key for name, key in BERT_KEYS.items() if name != "segment_vocab_size"}
            | {
                "hidden_act": "hidden_activation",
                "dropout_rate": "mlp_dropout",
                "norm_epsilon": "norm_eps",
                "attention_dropout_rate": "attention_dropout",
                "rotary_base": "global_rope_theta",
                "classifier_pooling": "classifier_pooling",
            }
            | _CLASSIFIER_KEYS,
            copies={
                "embedding_dropout": "mlp_dropout",
                "classifier_activation": "hidden_activation",
            },
            computed={
                "layer_kinds": [
                    ("layer_types", _layer_types),
                    ("global_attn_every_n_layers", _full_every),
                ],
                "window": [("local_attention", lambda c: c.window and 2 * c.window)],
                "sliding_rotary_base": [
                    ("local_rope_theta", lambda c: c.sliding_rotary_base or c.rotary_base)
                ],
            },
        ),
        heads=_MODERNBERT_HEADS,
    ),
    "megatron_bert": Family(
        {"norm_at": "pre", "embedding_norm": False, "final_norm": True},
        fingerprints=[(r"(bert\.)?encoder\.layer\.\d+\.ln\.", None)],
        hugging_face=HuggingFace(
            "megatron-bert",
            ["MegatronBertModel", "MegatronBertForMaskedLM", "MegatronBertForPreTraining"],
            BERT_KEYS,
        ),
        heads=_BERT_HEADS,
    ),
    "deberta_v2": Family(
        {
            "attention": "disentangled",
            "position": "none",
            "relative_buckets": 256,
            "relative_max_distance": 512,
            "segment_vocab_size": 0,
            "norm_epsilon": 1e-7,
        },
        fingerprints=[
            (r"(deberta\.)?encoder\.(rel_embeddings|layer\.\d+\.attention\.self\.query_proj)", None)
        ],
        hugging_face=HuggingFace(
            "deberta-v2",
            ["DebertaV2Model", *["DebertaV2ForMaskedLM"] * 2],
            BERT_KEYS
            | {
                "relative_buckets": "position_buckets",
                "relative_max_distance": "max_relative_positions",
                "attention_head_size": "attention_head_size",
                "convolution": "conv_kernel_size",
                "convolution_act": "conv_act",
            },
            constants={
                "relative_attention": True,
                "share_att_key": True,
                "norm_rel_ebd": "layer_norm",
                "pos_att_type": ["c2p", "p2c"],
                "legacy": True,
            },
            computed={"position": [("position_biased_input", lambda c: c.position == "learned")]},
        ),
        heads=_BERT_HEADS | {"text": _DEBERTA_DENSE, "choice": _DEBERTA_DENSE},
    ),
    "distilbert": Family(
        {"segment_vocab_size": 0},
        fingerprints=[(r"(distilbert\.)?transformer\.layer\.\d+\.attention\.q_lin", None)],
        hugging_face=HuggingFace(
            "distilbert", ["DistilBertModel", *["DistilBertForMaskedLM"] * 2], DISTIL_KEYS
        ),
        heads=_BERT_HEADS | {"text": _DISTILBERT_DENSE, "choice": _DISTILBERT_DENSE},
    ),
    # no fingerprint: the names are those of Llama, whose attention is causal
    "eurobert": Family(
        _LLAMA_GRAPH | {"norm_epsilon": 1e-5},
        hugging_face=HuggingFace(
            "eurobert",
            ["EuroBertModel", *["EuroBertForMaskedLM"] * 2],
            LLAMA_KEYS | {"classifier_pooling": "classifier_pooling"},
            computed=_LLAMA_COMPUTED | _biases("eurobert"),
        ),
        heads={
            "text": Head("late", "classifier_dense", "gelu", dense_bias=True),
            "tokens": _EACH,
        },
    ),
    "gte": Family(
        {
            "position": "rotary",
            "rotary_halves": True,
            "rotary_base": 160_000.0,
            "segment_vocab_size": 1,
            "gated": True,
            "without_bias": ("ffn/input", "ffn/gate"),
            "pad_token_id": 1,
        },
        fingerprints=[(r"((new|gte)\.)?encoder\.layer\.\d+\.attention\.qkv_proj", None)],
        hugging_face=HuggingFace(
            "gte",
            ["GteModel", *["GteForMaskedLM"] * 2],
            BERT_KEYS | _CLASSIFIER_KEYS,
            computed=_ROPE,
            head_act="gelu",
        ),
        heads={"text": _POOLED, "tokens": _EACH},
        model_types=["gte", "new"],
    ),
    "electra": Family(
        fingerprints=[(r"electra[./]|discriminator_predictions", None)],
        hugging_face=HuggingFace(
            "electra",
            [*["ElectraModel"] * 2, "ElectraForPreTraining"],
            _WITH_EMBEDDING_SIZE | _CLASSIFIER_KEYS,
        ),
        heads=_ELECTRA_HEADS,
    ),
    "electra_generator": Family(
        fingerprints=[
            (r"generator_(predictions|lm_head)", r"discriminator_predictions|electra/encoder")
        ],
        hugging_face=HuggingFace(
            "electra",
            ["ElectraModel", *["ElectraForMaskedLM"] * 2],
            _WITH_EMBEDDING_SIZE,
            head_act="gelu",
        ),
    ),
    "gpt": Family(
        _GPT,
        fingerprints=[(r"gpt/|(transformer\.)?tokens_embed", None)],
        hugging_face=HuggingFace(
            "openai-gpt",
            ["OpenAIGPTModel", *["OpenAIGPTLMHeadModel"] * 2],
            GPT_KEYS | {"hidden_act": "afn"},
            copies={"embd_pdrop": "resid_pdrop"},
        ),
        gelu="gelu_tanh",
        heads=_GPT_HEADS,
    ),
    "gpt2": Family(
        _GPT2,
        fingerprints=[
            (r"gpt/.*/attention/input/LayerNorm", None),
            (r"(transformer\.)?h\.\d+\.attn\.", r"gpt/|(transformer\.)?tokens_embed"),
        ],
        hugging_face=HuggingFace(
            "gpt2",
            ["GPT2Model", *["GPT2LMHeadModel"] * 2],
            GPT_KEYS | {"hidden_act": "activation_function", "intermediate_size": "n_inner"},
            copies={"embd_pdrop": "resid_pdrop"},
        ),
        gelu="gelu_tanh",
        heads=_GPT2_HEADS,
    ),
    # no fingerprints: one cannot be told from another by the names of its weights
    "llama": _llama_family(
        "llama", "Llama", _LLAMA, _biases("llama"), model_types=["llama", "internlm3"]
    ),
    "mistral": _llama_family("mistral", "Mistral", _LLAMA, _WINDOW | _SLIDING, ["sliding_window"]),
    "qwen2": _llama_family("qwen2", "Qwen2", _QWEN2, _LAYER_TYPES),
    "qwen3": _llama_family(
        "qwen3",
        "Qwen3",
        _LLAMA | {"head_norm": True},
        _LAYER_TYPES | _HEAD_DIM | _biases("qwen3"),
    ),
    "glm": _llama_family("glm", "Glm", _GLM, _GLM_COMPUTED | _biases("glm"), ["pad_token_id"]),
    "glm4": _llama_family(
        "glm4",
        "Glm4",
        _GLM | {"norm_at": "sandwich"},
        _GLM_COMPUTED | _biases("glm4"),
        ["pad_token_id"],
    ),
    "gemma3_text": Family(
        _GEMMA3,
        hugging_face=HuggingFace(
            "gemma3_text",
            ["Gemma3TextModel", *["Gemma3ForCausalLM"] * 2],
            LLAMA_KEYS | {"hidden_act": "hidden_activation"},
            computed=_LLAMA_COMPUTED
            | _HEAD_DIM
            | _WINDOW
            | _biases("gemma3_text")
            | {
                "attention_scalar": [
                    ("query_pre_attn_scalar", lambda c: c.attention_scalar or c.key_size)
                ],
                "layer_kinds": [("layer_types", _layer_types)],
                "rotary_base": [("rope_parameters", _rope_by_kind)],
                "sliding_rotary_base": [],
            },
            nulls=["sliding_window"],
        ),
        heads=_GPT_HEADS,
    ),
    "gpt2_ml": Family(_GPT2_ML, fingerprints=[(r"newslm/", None)]),
    "t5.1.0": Family(
        _T5,
        fingerprints=[(r".*(block_000/layer_000|block\.0\.layer\.0)[./]SelfAttention", None)],
        hugging_face=HuggingFace("t5", _T5_CLASSES, T5_KEYS),
        model_types=["t5", "mt5"],
        heads=_T5_HEADS,
    ),
    "t5.1.1": Family(
        _T5_1_1,
        fingerprints=[_GATED_NAMES],
        hugging_face=HuggingFace("t5", _T5_CLASSES, T5_KEYS),
        model_types=["t5", "mt5"],
        gelu="gelu_tanh",
        heads=_T5_HEADS,
    ),
    "mt5.1.1": Family(
        _T5_1_1,
        fingerprints=[_MT5_NAMES, _GATED_NAMES],
        hugging_face=HuggingFace("mt5", _MT5_CLASSES, T5_KEYS),
        model_types=["mt5", "t5"],
        gelu="gelu_tanh",
        heads=_T5_HEADS,
    ),
    "t5_pegasus": Family(
        _T5_1_1
        | {"hidden_act": "gelu", "cross_position_bias": True, "scale_decoder_outputs": True},
        fingerprints=[_MT5_NAMES, _GATED_NAMES],
        model_types=["mt5", "t5"],
    ),
    # no fingerprints: mBART, M2M and others have the same names
    "bart": _bart_family("bart", "Bart", _BART),
    "pegasus": _bart_family("pegasus", "Pegasus", _PEGASUS),
    "cpt": _bart_family(
        "bart",
        "CPT",
        _CPT,
        {name: key for name, key in BART_KEYS.items() if key not in OF_ONE_STACK["cpt"]},
        fingerprints=[
            ((r"(model\.)?encoder\.encoder\.layer\.", r"(model\.)?decoder\.layers\."), None)
        ],
        model_types=["cpt", "bart"],
    ),
}

# name of a family -> the fields of `Config` in which it differs from BERT
ARCHITECTURES = {name: {"family": name} | family.fields for name, family in FAMILIES.items()}
ARCHITECTURES |= {
    f"{name}_{stack}": row | {"stacks": stack}
    for name, row in ARCHITECTURES.items()
    if row.get("stacks") == "both"
    for stack in ("encoder", "decoder")
}

# As in bert4keras, generative models have the language-model head unless with_lm=False.
APPLICATIONS = {
    "encoder": {},
    "lm": {"attend": "lm", "with_lm": True},
    "unilm": {"attend": "unilm", "with_lm": True},
}

# family -> its `HuggingFace`; other families have no Hugging Face form
HUGGING_FACE = {name: row.hugging_face for name, row in FAMILIES.items() if row.hugging_face}


# class of transformers without its ending -> model_type, for other graphs with BERT's names
CLASSES = {
    row.hugging_face.classes[0].removesuffix("Model"): row.hugging_face.model_type
    for row in FAMILIES.values()
    if row.hugging_face and row.fields and _BERT_NAMES in row.fingerprints
}


def _by_fingerprint():
    """Collects the families of each fingerprint, in the order in which they are compared."""
    families = {}
    for name in reversed(FAMILIES):
        for fingerprint in FAMILIES[name].fingerprints:
            families.setdefault(fingerprint, []).insert(0, name)
    return families


def _by_model_type():
    """Collects the families that each `model_type` of a config may mean."""
    ranks = {}
    for name, row in FAMILIES.items():
        default = (row.hugging_face.model_type,) if row.hugging_face else ()
        for rank, model_type in enumerate(row.model_types or default):
            ranks.setdefault(model_type, {})[name] = rank
    return {
        model_type: sorted(ranks[model_type], key=ranks[model_type].get) for model_type in ranks
    }


FINGERPRINTS = _by_fingerprint()
MODEL_TYPES = _by_model_type()
