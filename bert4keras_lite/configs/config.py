"""The fields that define the shape of a model, and their values in published config files."""

import numbers
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields, replace
from typing import Any, get_args

import numpy as np

from .. import mappings
from ..checkpoints.matching import MOST_BLOCKS
from ..parsing import shown
from .architectures import FAMILIES, HUGGING_FACE, KINDS, Head
from .rope import attention_factor, expected_scaling

__all__ = [
    "EACH",
    "FIELDS",
    "FILE_PADDING",
    "OF_TRAINING",
    "OF_USE",
    "SOURCE_KEYS",
    "SUMMARY",
    "UNKNOWN_KEYS",
    "Config",
    "check_field",
    "expected_value",
    "is_one_of",
    "key_of",
    "to_field_names",
    "unsupported_value",
]

# keys that `read_config` adds to the values of a config
UNKNOWN_KEYS = "keys that are not understood"

SOURCE_KEYS = "keys of the values"  # field -> (its key in the file, value)

FILE_PADDING = "pad_token_id of the file"

# keys of ELECTRA's classifier of choices -> what it computes; other families may have them, too
SUMMARY = {"summary_type": "first", "summary_use_proj": True, "summary_activation": "gelu"}

MOST_LABELS = 1 << 20  # of a classifier

# fields of `Config` whose values are names
CHOICES = {
    "family": tuple(mappings.WEIGHTS),
    "position": ("learned", "sinusoidal", "rotary", "relative", "buckets", "none"),
    "stacks": ("one", "both", "encoder", "decoder"),
    "norm": ("layer", "rms", "rms_plus_one", "plain_rms", "bias_free"),
    "norm_at": ("post", "pre", "pre_ffn", "gpt2_ml", "sandwich"),
    "attention": ("full", "nystrom", "gau", "disentangled"),
    "attend": ("all", "lm", "unilm"),
    "scale_decoder_outputs": (False, True, "tied"),
    "with_classifier": (False, *KINDS),
    "classifier_pooling": (None, "cls", "mean", "bos", "late"),
    "problem_type": (
        None,
        "single_label_classification",
        "multi_label_classification",
        "regression",
    ),
}

# fields of `Config` whose values are tuples of names
EACH = {
    "layer_kinds": ("full", "sliding"),
    "without_bias": mappings.BLOCK_PARTS,
}

# what an application makes of attention, in words
_ATTENTION = {
    "lm": "causal attention",
    "unilm": "causal attention after the first text",
}

# types of values in a config, in words
_KINDS = {
    bool: "true or false",
    dict: "an object",
    int: "a whole number",
    list: "a list",
    str: "a name",
}

# ranges of numbers, where they are not 1 to 2**31 - 1 for integers, and 0 to 1e30 for floats
_RANGES = {
    "num_hidden_layers": (1, MOST_BLOCKS),
    "num_decoder_layers": (1, MOST_BLOCKS),
    "position_offset": (0, 1024),
    "decoder_start_id": (0, 2**31 - 1),
    "decoder_position_offset": (0, 1024),
    "fixed_segment": (0, 2**31 - 1),
    "forced_start_id": (0, 2**31 - 1),
    "forced_end_id": (0, 2**31 - 1),
    "segment_vocab_size": (0, 2**31 - 1),
    "pad_token_id": (-1, 2**31 - 1),
    "first_position": (0, 2**31 - 1),
    "task_vocab_size": (0, 2**31 - 1),
    "dropout_rate": (0, 1),
    "attention_dropout_rate": (0, 1),
    "classifier_dropout": (0, 1),
    "filler_id": (-1, 2**31 - 1),
    "hierarchical_position": (0, 0.999),
    "rotary_base": (1, 1e30),
    "rotary_share": (1e-4, 1),
    "sliding_rotary_base": (1, 1e30),
    "convolution": (1, 255),
    "relative_max_distance": (1, 65_536),
    "relative_buckets": (4, 131_071),
}


# field for the decoder of an encoder-decoder -> the field that it replaces there
_OF_DECODER = {
    "num_decoder_attention_heads": "num_attention_heads",
    "decoder_intermediate_size": "intermediate_size",
    "decoder_norm_epsilon": "norm_epsilon",
    "decoder_position_offset": "position_offset",
}


@dataclass(frozen=True)
class Config:
    """Configuration of a model, with BERT's defaults.

    The first five fields have no default. Names are those of Google's `bert_config.json` where it
    has the field.
    """

    vocab_size: int
    hidden_size: int
    num_hidden_layers: int
    num_attention_heads: int
    intermediate_size: int
    family: str = "bert"  # names of the weights in a checkpoint: a key of mappings.WEIGHTS
    hidden_act: str = "gelu"
    embedding_size: int | None = None  # hidden_size
    attention_head_size: int | None = None  # hidden_size / num_attention_heads
    attention_key_size: int | None = None  # attention_head_size
    dropout_rate: float = 0.0
    attention_dropout_rate: float = 0.0
    initializer_range: float = 0.02
    # inputs
    max_position: int = 512
    position_offset: int = 0  # rows of the table of learned positions before that of position 0
    segment_vocab_size: int = 2  # 0: no segments
    fixed_segment: int | None = None  # of each token; None: the ids are an input, if they differ
    sequence_length: int | None = None  # None: any length
    hierarchical_position: bool | float | None = None
    custom_position_ids: bool = False
    shared_segment_embeddings: bool = False  # segment ids are looked up in the token table
    pad_token_id: int = 0  # masked in attention; -1: no token is
    # position of the first token; above 0, only tokens that are not padding are counted (RoBERTa)
    first_position: int = 0
    task_vocab_size: int = 0  # rows of a table whose row 0 each token gets (ERNIE's task types)
    # position encoding: "learned" or "sinusoidal" vectors, "rotary" angles, "relative" vectors
    # (NEZHA), a bias for "buckets" of distances (T5), "none" but what the attention has
    position: str = "learned"
    rotate_values: bool = False
    rotary_halves: bool = False  # which pairs of entries are rotated: see layers.rotate
    rotary_base: float = 10000.0
    rotary_share: float = 1.0  # of each head that is rotated: its first entries
    rotary_scaling: dict | None = None  # for longer texts; see layers.RotaryAngles
    sliding_rotary_base: float | None = None  # rotary_base; of sliding layers
    relative_max_distance: int = 64
    relative_buckets: int = 32
    # blocks
    stacks: str = "one"  # "both": an encoder and a decoder; "encoder", "decoder": only that one
    num_decoder_layers: int | None = None  # num_hidden_layers
    num_decoder_attention_heads: int | None = None  # num_attention_heads
    decoder_intermediate_size: int | None = None  # intermediate_size
    decoder_norm_epsilon: float | None = None  # norm_epsilon
    decoder_position_offset: int | None = None  # position_offset
    # whether the decoder is next to as many last blocks of the encoder, and reads what they read
    parallel_decoder: bool = False
    stack_dropout: bool = True  # whether dropout follows each stack of an encoder-decoder (T5)
    decoder_start_id: int | None = None  # first input of a decoder; None: what `generate` says
    forced_start_id: int | None = None  # first token that is generated, whatever the logits are
    forced_end_id: int | None = None  # last one, if no end token comes before
    share_blocks: bool = False  # every block has the same weights
    norm: str = "layer"  # a key of layers.NORMS
    norm_at: str = "post"  # a key of layers.NORM_SLOTS
    first_norm: bool = True  # whether block 0 also normalizes the input of its attention ("pre")
    norm_epsilon: float = 1e-12
    embedding_norm: bool = True
    embedding_projection: bool = False  # to hidden_size, even if embedding_size equals it
    scale_embeddings: bool = False  # token embeddings times hidden_size ** 0.5
    final_norm: bool = False
    use_bias: bool = True
    without_bias: tuple = ()  # dense layers of a block without a bias, such as "ffn/gate"
    gated: bool = False  # gated feed-forward layer
    # kinds of the layers, repeated over the blocks: "sliding" ones see `window` tokens on each side
    layer_kinds: tuple = ("full",)
    window: int | None = None
    convolution: int | None = None  # kernel size of a convolution next to block 0 (DeBERTa)
    convolution_act: str = "tanh"
    # attention
    attention: str = "full"  # a key of layers.ATTENTIONS
    num_landmarks: int = 64  # for attention="nystrom"
    num_key_value_heads: int | None = None  # num_attention_heads; if fewer, queries share them
    attention_scale: bool = True
    attention_scalar: int | None = None  # key_size; scores are multiplied by its power -0.5
    head_norm: bool = False  # each head's queries and keys are normalized, as `norm` says
    attend: str = "all"
    residual_attention_scores: bool = False
    cross_position_bias: bool = False  # add the position bias in a decoder's cross-attention too
    # heads: False, True (the default activation) or the name of an activation
    with_pool: bool | str = False
    with_nsp: bool | str = False
    with_lm: bool | str = False
    with_discriminator: bool | str = False
    lm_transform: bool = True  # a dense layer and a normalization before the logits
    lm_bias: bool = True
    tie_word_embeddings: bool = True  # the logits are computed with the token table
    # multiply by hidden_size ** -0.5; "tied": only before a tied head
    scale_decoder_outputs: bool | str = False
    # classifier
    with_classifier: bool | str = False  # False, or its kind: a key of KINDS
    labels: tuple[str, ...] | None = None  # of a classifier of texts or tokens
    problem_type: str | None = None  # None: one label of several
    classifier_pooling: str | None = None  # "cls" or "bos", "mean", "late"; None: of the family
    classifier_dropout: float | None = None  # dropout_rate
    filler_id: int | None = None  # pads rows, for a classifier of the last token; -1: none does

    def __post_init__(self):
        for field in fields(self):
            value = getattr(self, field.name)
            check_field(field, value, field.name)
            if isinstance(value, list):  # of a JSON file
                object.__setattr__(self, field.name, tuple(value))
            if isinstance(value, np.generic):
                object.__setattr__(self, field.name, value.item())
        if self.attention_head_size is None and self.hidden_size % self.num_attention_heads:
            raise ValueError(
                f"hidden_size={self.hidden_size} is not a multiple of num_attention_heads="
                f"{self.num_attention_heads}. Correct one of them, or pass attention_head_size."
            )
        if self.pad_token_id >= self.vocab_size:
            raise ValueError(
                f"pad_token_id={self.pad_token_id}: expected an id of the vocabulary, at most "
                f"{self.vocab_size - 1}, or -1 for no padding token."
            )
        if self.with_lm and not self.lm_transform and self.token_size != self.hidden_size:
            raise ValueError(
                f"embedding_size={self.embedding_size}: a language-model head without lm_transform "
                f"needs embeddings of hidden_size={self.hidden_size}."
            )
        _check_segments(self)
        if self.stacks != "one" and self.attend != "all":
            raise ValueError(
                f"application={self.attend!r:.200} is for models of one stack; {self.family} is an "
                "encoder-decoder. Generate with it directly, without application=."
            )
        self._check_stacks()
        _check_positions(self)
        if self.attention != "full" and (
            (self.attention == "nystrom" and self.attend != "all")
            or self.stacks != "one"
            or self.position not in self._positions_of_attention
            or self.residual_attention_scores
            or {*self.layer_kinds} != {"full"}
            or self.kv_heads != self.num_attention_heads
            or self.attention_scalar
            or self.rotary_share != 1
        ):
            models = "encoders" if self.attention == "nystrom" else "models of one stack"
            positions = "no" if self.attention == "disentangled" else "rotary"
            raise ValueError(
                f"attention={self.attention!r} is for {models} with absolute or {positions} "
                "positions and full layers, without residual attention scores, shared keys, an "
                "attention_scalar or a rotary_share. Use attention='full' for this model."
            )
        self._check_layers()
        self._check_classifier()

    def _check_stacks(self):
        """Checks what only an encoder-decoder has; raises `ValueError`."""
        heads = self.num_decoder_attention_heads
        of_decoder = {name: getattr(self, name) for name in (*_OF_DECODER, "parallel_decoder")}
        given = [f"{name}={value}" for name, value in of_decoder.items() if value]
        if self.stacks == "one" and given:
            raise ValueError(f"{', '.join(given)}: {self.family} has no decoder. Omit this.")
        if self.parallel_decoder and (
            self.memory_blocks < 0
            or self.share_blocks
            or self.final_norm
            or self.residual_attention_scores
        ):
            raise ValueError(
                "parallel_decoder=True is for an encoder with at least as many blocks as the "
                "decoder, which do not share weights, without final_norm and residual attention "
                f"scores; got num_hidden_layers={self.num_hidden_layers} and num_decoder_layers="
                f"{self.num_decoder_layers}. Correct one of them."
            )
        if heads and self.attention_head_size is None and self.hidden_size % heads:
            raise ValueError(
                f"num_decoder_attention_heads={heads}: expected a divisor of hidden_size="
                f"{self.hidden_size}. Correct one of them, or pass attention_head_size."
            )
        for name in ("decoder_start_id", "forced_start_id", "forced_end_id"):
            if (value := getattr(self, name)) is not None and value >= self.vocab_size:
                raise ValueError(
                    f"{name}={value}: expected an id of the vocabulary, at most "
                    f"{self.vocab_size - 1}. Correct it."
                )

    def of_stack(self, stack: str) -> "Config":
        """Returns the config whose fields are those of a stack, such as the number of heads.

        Args:
            stack: prefix of the names of its layers: `""`, `"encoder_"` or `"decoder_"`.
        """
        if stack != "decoder_":
            return self
        values = {field: getattr(self, name) for name, field in _OF_DECODER.items()}
        given = {field: value for field, value in values.items() if value is not None}
        if self.segment_vocab_size:  # of the source alone
            given["segment_vocab_size"] = 0
        taken: dict[str, Any] = dict.fromkeys(_OF_DECODER)
        return replace(self, **(given | taken)) if given else self

    @property
    def memory_blocks(self) -> int:
        """Number of blocks of the encoder before the outputs that the decoder attends to."""
        counts = self.block_counts
        return counts["i"] - (counts["j"] if self.parallel_decoder else 0)

    def _check_classifier(self):
        """Checks the classifier of the config; raises `ValueError`."""
        kind, heads = self.with_classifier, FAMILIES[self.family].heads
        if not kind:
            return
        if kind not in heads:
            raise ValueError(
                f"with_classifier={kind!r}: {self.family} has no classifier of this kind, only "
                f"{' or '.join(map(repr, heads)) or 'False'}. Build the model without it, and add "
                "a layer."
            )
        if self.stacks in ("both", "decoder"):
            raise ValueError(
                f"with_classifier={kind!r} is for an encoder alone, got stacks={self.stacks!r}. "
                f"Pass model='{self.family}_encoder'."
            )
        if kind in ("text", "tokens") and not self.labels:
            raise ValueError(
                f"with_classifier={kind!r}: the labels are unknown; expected their names. Pass "
                "them as labels=."
            )
        if self.classifier_pooling == "late" and heads[kind].position == "first":
            raise ValueError(
                f"classifier_pooling='late': {self.family} pools before its dense layer; expected "
                "'cls' or 'mean'. Correct it."
            )
        if heads[kind].position == "last" and self.filler_id is None:
            raise ValueError(
                f"with_classifier={kind!r} of {self.family} reads the last token of each row, so "
                "it must know which id is padding. Pass it as filler_id=, or -1 if rows are never "
                "padded."
            )

    @property
    def head(self) -> Head | None:
        """What the classifier computes before its last layer; None if there is no classifier."""
        head = FAMILIES[self.family].heads.get(self.with_classifier)
        pooling = self.classifier_pooling
        pooling = "first" if pooling in ("cls", "bos") else pooling
        if head and pooling and head.position in ("first", "late"):
            return head._replace(position=pooling)
        return head

    @property
    def num_labels(self) -> int:
        """Number of outputs of the classifier."""
        counts: dict[Any, int] = {"spans": 2, "choice": 1}
        return counts.get(self.with_classifier, len(self.labels or ()))

    def _check_layers(self):
        """Checks the kinds of the layers, shared keys, the convolution and disentangled attention.

        Raises:
            ValueError: some of them contradict each other.
        """
        if self.num_attention_heads % self.kv_heads:
            raise ValueError(
                f"num_key_value_heads={self.num_key_value_heads}: expected a divisor of "
                f"num_attention_heads={self.num_attention_heads}."
            )
        if "sliding" in self.layer_kinds and self.window is None:
            raise ValueError(
                "layer_kinds has sliding layers; expected a window, the number of tokens that they "
                "see on each side. Pass window=."
            )
        if self.rotary_scaling and self.position != "rotary":
            raise ValueError(
                f"rotary_scaling={self.rotary_scaling}: {self.family} has no rotary positions, "
                "which it scales. Pass the right model=, or leave it out."
            )
        if self.convolution and (self.convolution % 2 == 0 or self.attend != "all"):
            raise ValueError(
                f"convolution={self.convolution}: it sees as many tokens on both sides; expected "
                "an odd kernel size, and a model without application='lm' or 'unilm'."
            )
        if self.attention != "disentangled":
            return
        if self.token_size != self.hidden_size:
            raise ValueError(
                f"embedding_size={self.embedding_size}: models with disentangled attention project "
                f"before they normalize, which is not implemented; expected {self.hidden_size}."
            )
        if self.relative_max_distance <= self.relative_buckets // 2 + 1:
            raise ValueError(
                f"relative_max_distance={self.relative_max_distance}: half of the buckets hold one "
                f"distance each; expected more than {self.relative_buckets // 2 + 1}, half of "
                "relative_buckets and one. Correct one of them."
            )

    @property
    def _positions_of_attention(self):
        """The position encodings that go with an attention other than the full one."""
        return ("learned", "none" if self.attention == "disentangled" else "rotary")

    @property
    def kv_heads(self) -> int:
        """Number of heads of the keys and values."""
        return self.num_key_value_heads or self.num_attention_heads

    def kind_of(self, i: int) -> str:
        """Returns the kind of block `i`, a name in `layer_kinds`."""
        return self.layer_kinds[i % len(self.layer_kinds)]

    @property
    def head_size(self) -> int:
        """Size of the values of a head."""
        return self.attention_head_size or self.hidden_size // self.num_attention_heads

    @property
    def key_size(self) -> int:
        """Size of the queries and keys of a head."""
        return self.attention_key_size or self.head_size

    @property
    def score_factor(self) -> float:
        """Factor of the attention scores, next to `1 / sqrt(key_size)`."""
        scalar = self.attention_scalar or self.key_size
        return attention_factor(self.rotary_scaling) ** 2 * (self.key_size / scalar) ** 0.5

    @property
    def rotary_size(self) -> int:
        """Number of entries of a head's queries and keys that are rotated."""
        return int(self.key_size * self.rotary_share)

    @property
    def token_size(self) -> int:
        """Size of the token embeddings."""
        return self.embedding_size or self.hidden_size

    @property
    def filler(self) -> int | None:
        """The id that pads rows on the right; None if other tokens would attend to any id."""
        if self.head and self.head.position == "last":
            return None if self.filler_id == -1 else self.filler_id
        if self.pad_token_id < 0 and self.attend != "lm":
            return None
        return max(self.pad_token_id, 0)

    @property
    def has_segments(self) -> bool:
        """Whether the model has segment ids as an input: with one segment, there is no choice."""
        if self.fixed_segment is not None:
            return False
        return self.segment_vocab_size > 1 or self.shared_segment_embeddings

    @property
    def constant_tables(self) -> dict[str, tuple[int, int]]:
        """Tables of which each token gets one row: layer -> number of rows, and which one."""
        segments = 0 if self.has_segments else self.segment_vocab_size
        tables = {
            "segment_embedding": (segments, self.fixed_segment or 0),
            "task_embedding": (self.task_vocab_size, 0),
        }
        return {name: table for name, table in tables.items() if table[0]}

    @property
    def most_tokens(self) -> int | None:
        """Maximum number of tokens that have positions; None: no maximum."""
        if self.position not in ("learned", "sinusoidal"):
            return None
        return (self.max_position - self.first_position) ** (2 if self.hierarchical_position else 1)

    @property
    def block_counts(self) -> dict[str, int]:
        """Number of blocks, for each counter of the tables in `mappings.py`."""
        return {"i": self.num_hidden_layers, "j": self.num_decoder_layers or self.num_hidden_layers}

    @property
    def fits_head_hf(self) -> bool:
        """Whether transformers computes the language-model head with this model's activation."""
        row = HUGGING_FACE.get(self.family)
        is_fixed = row and row.head_act and self.with_lm
        return not is_fixed or self.hidden_act in ("gelu", "gelu_erf")

    @property
    def rescales(self) -> bool:
        """Whether the outputs of the decoder are multiplied by `hidden_size ** -0.5`."""
        if self.scale_decoder_outputs == "tied":
            return bool(self.with_lm) and self.tie_word_embeddings
        return bool(self.scale_decoder_outputs)

    @classmethod
    def from_values(cls, values: Mapping[str, Any], where: str = "the options") -> "Config":
        """Makes a config from a dict, which may have other keys as well.

        Args:
            values: field -> value; None counts as missing.
            where: name of the config in error messages.

        Raises:
            ValueError: a field is missing or has a wrong value.
        """
        given = {name: value for name, value in values.items() if value is not None}
        for field in fields(cls):
            if field.name in given:
                check_field(field, given[field.name], f"{where}: {key_of(values, field.name)}")
        missing = [f.name for f in fields(cls) if f.default is MISSING and f.name not in given]
        if missing:
            raise ValueError(
                f"{where}: no {', '.join(missing)}. Pass the config file of the checkpoint, or "
                "pass these as options."
            )
        try:
            config = cls(**{f.name: given[f.name] for f in fields(cls) if f.name in given})
        except ValueError as error:
            raise ValueError(f"{where}: {error}") from None
        _check_use(config, values, where)
        defaults = {
            "embedding_size": config.hidden_size,
            "attention_head_size": config.hidden_size / config.num_attention_heads,
            "attention_key_size": config.head_size,
            "num_decoder_layers": config.num_hidden_layers,
            "num_decoder_attention_heads": config.num_attention_heads,
            "decoder_intermediate_size": config.intermediate_size,
            "decoder_norm_epsilon": config.norm_epsilon,
            "decoder_position_offset": config.position_offset,
            "num_key_value_heads": config.num_attention_heads,
            "attention_scalar": config.key_size,
            # with a base of their own, sliding layers are not scaled
            "sliding_rotary_base": None if config.rotary_scaling else config.rotary_base,
        }
        redundant: dict[str, Any] = {
            name: None for name, value in defaults.items() if given.get(name) == value
        }
        return replace(config, **redundant)


FIELDS = {field.name: field for field in fields(Config)}


def _check_use(c, values, where):
    """Checks that the model is used as the config says that it was trained.

    Args:
        c: a `Config`.
        values: of the file that it was read from.
        where: name of the config in messages.

    Raises:
        ValueError: attention, the pooling layer or the language-model head differ.
    """
    uses = []
    if values.get("mask") in ("causal", "causal_with_prefix"):
        uses.append(("mask", values["mask"], "lm" if values["mask"] == "causal" else "unilm"))
    if c.stacks == "one" and values.get("is_decoder"):
        uses.append(("is_decoder", "true", "lm"))
    for key, value, attend in uses:
        if c.attend == "all":
            raise ValueError(
                f"{where}: {key} is {value}, which means {_ATTENTION[attend]}; expected"
                f" application={attend!r}. Pass it, or remove {key} from the file if it is"
                " wrong."
            )
    key, value = values.get(SOURCE_KEYS, {}).get("rotary_base", (None, None))
    if values.get("position_embedding_type") == "rope":
        key, value = "position_embedding_type", "rope"
    if key in ("rope_theta", "position_embedding_type") and c.position != "rotary":
        raise ValueError(
            f"{where}: {key} is {shown(value)}, but {c.family} has no rotary positions. "
            "Pass the right model=, or remove it from the file if it is wrong."
        )
    pooler, head = values.get("pooler_activation"), values.get("classifier_activation")
    pools = c.with_nsp or (c.head and c.head.dense == "pooler")
    has_tanh = c.with_pool is True or (pools and not c.with_pool)
    if has_tanh and pooler not in (None, "tanh"):
        raise ValueError(
            f"{where}: pooler_activation is {shown(pooler)}; expected 'tanh', the default of "
            "with_pool. Pass the activation as with_pool=, or remove it from the file if it is "
            "wrong."
        )
    is_same = head in (c.hidden_act, mappings.ACTIVATIONS_HF.get(c.hidden_act))
    has_head = c.with_lm or c.with_classifier
    if c.family == "modernbert" and has_head and head and not is_same:
        raise ValueError(
            f"{where}: classifier_activation is {shown(head)} (a missing one means gelu), and"
            f" {key_of(values, 'hidden_act')} is {shown(c.hidden_act)}; expected the same,"
            " as the head has no activation of its own. Build it without with_lm and"
            " with_classifier."
        )


def _check_segments(c):
    """Checks what a `Config` says about segments; raises `ValueError`."""
    if c.fixed_segment is not None and (
        c.shared_segment_embeddings or 0 < c.segment_vocab_size <= c.fixed_segment
    ):
        raise ValueError(
            f"fixed_segment={c.fixed_segment}: expected less than segment_vocab_size="
            f"{c.segment_vocab_size}, and no shared_segment_embeddings. Correct one of them."
        )
    if c.attend == "unilm" and not c.has_segments:
        raise ValueError(
            "application='unilm' distinguishes source and target by the segment ids; expected a "
            f"segment_vocab_size of at least 2 without fixed_segment, got {c.segment_vocab_size} "
            f"and fixed_segment={c.fixed_segment}."
        )


def _check_positions(c):
    """Checks what a `Config` says about positions; raises `ValueError`."""
    if c.first_position and (
        c.position != "learned"
        or c.hierarchical_position
        or c.stacks != "one"
        or not 0 < c.first_position < c.max_position
        or c.pad_token_id < 0
    ):
        raise ValueError(
            f"first_position={c.first_position} is for learned positions of one stack, "
            "without hierarchical_position, and counts the tokens that are not padding; "
            f"expected less than max_position={c.max_position}, and a pad_token_id."
        )
    if c.position_offset and (c.position != "learned" or c.hierarchical_position):
        raise ValueError(
            f"position_offset={c.position_offset} is for a table of learned positions, without "
            "hierarchical_position. Leave it out."
        )
    if c.position == "sinusoidal" and c.token_size % 2:
        raise ValueError(
            f"position='sinusoidal' has a sine and a cosine for each frequency; expected an even "
            f"size of the embeddings, got {c.token_size}."
        )
    size = c.head_size if c.position == "relative" else c.rotary_size
    if c.position in ("rotary", "relative") and (size % 2 or not size):
        part = "head size" if c.rotary_share == 1 else "number of rotated entries of a head"
        raise ValueError(
            f"position={c.position!r} needs pairs of entries; expected an even {part}, "
            f"got {size}. Correct hidden_size, num_attention_heads, attention_head_size, "
            "attention_key_size or rotary_share."
        )
    if c.rotary_share != 1 and (c.position != "rotary" or attention_factor(c.rotary_scaling) != 1):
        raise ValueError(
            f"rotary_share={c.rotary_share}: a part of each head is rotated; expected rotary "
            f"positions, and no scaling that changes the scores of that part alone, got position="
            f"{c.position!r} and rotary_scaling={shown(c.rotary_scaling)}. Correct one of them."
        )
    values_have_positions = c.position == "relative" or (
        c.position == "rotary" and c.rotate_values and c.attention != "gau"
    )
    if values_have_positions and c.key_size != c.head_size:
        raise ValueError(
            f"attention_key_size={c.key_size}: this model encodes positions in the values "
            f"as well; expected the head size, {c.head_size}."
        )
    if c.position == "buckets" and c.relative_max_distance <= c.relative_buckets // 2:
        raise ValueError(
            f"relative_max_distance={c.relative_max_distance}: half of the buckets hold one "
            f"distance each; expected more than {c.relative_buckets // 2}, half of "
            "relative_buckets. Correct one of them."
        )


def key_of(values, name):
    """Returns the key of a field in the file it was read from, or its name for other values."""
    key, value = values.get(SOURCE_KEYS, {}).get(name, (name, None))
    return key if value is not None and values.get(name) is value else name


def to_field_names(options):
    """Renames options from published keys to fields of `Config`.

    Returns:
        field -> value, and field -> (the key in `options`, value).

    Raises:
        TypeError: two options are the same field.
    """
    ours, source_keys = {}, {}
    for key, value in options.items():
        name = mappings.CONFIG_KEYS.get(key, key)
        if name in ours:
            raise TypeError(
                f"{source_keys[name][0]} and {key} both mean {name}. Pass only one of them."
            )
        ours[name], source_keys[name] = value, (key, value)
    return ours, source_keys


def check_field(field, value, name):
    """Checks the value of a field of `Config`; `name` is that of the field in messages.

    Raises:
        ValueError: the field cannot have that value.
    """
    if expected := expected_value(field, value):
        raise ValueError(f"{name} is {value!r:.200}; expected {expected}.")


def expected_value(field, value):
    """Describes the values that a field of `Config` may have, or returns None if this is one."""
    name, types = field.name, get_args(field.type) or (field.type,)
    if name in CHOICES:
        expected = f"one of {', '.join(map(str, CHOICES[name]))}"
        return None if is_one_of(value, CHOICES[name]) else expected
    if (type(None) in types and value is None) or (bool in types and isinstance(value, bool)):
        return None
    if name == "labels":
        is_list = isinstance(value, list | tuple) and 0 < len(value) <= MOST_LABELS
        named = is_list and all(isinstance(label, str) for label in value)
        return None if named else "a list of names"
    if name == "rotary_scaling":
        return expected_scaling(value)
    if name in EACH:
        is_list = isinstance(value, list | tuple) and len(value) <= MOST_BLOCKS
        known = is_list and all(is_one_of(each, EACH[name]) for each in value)
        can_be_empty = name == "without_bias"
        return None if known and (value or can_be_empty) else f"a list of {', '.join(EACH[name])}"
    for dtype, noun, least, most in (
        (int, "an integer", 1, 2**31 - 1),
        (float, "a number", 0, 1e30),
    ):
        if dtype in types:
            least, most = _RANGES.get(name, (least, most))
            number = numbers.Integral if dtype is int else numbers.Real
            is_number = isinstance(value, number) and not isinstance(value, bool)
            in_range = is_number and least <= value <= most
            return None if in_range else f"{noun} from {least} to {most}"
    if types == (bool,):
        return "True or False"
    flag = "True, False, " if bool in types else ""
    named = isinstance(value, str) or (callable(value) and hasattr(value, "__name__"))
    return None if named else f"{flag}a name or a function"


def is_one_of(value, choices):
    """Whether a value equals one of several and has its type: `1` is not `True`."""
    return any(type(value) is type(choice) and value == choice for choice in choices)


def unsupported_value(value, only):
    """Tells what is wrong with a value of a key of `mappings.CONFIG_ONLY`, or returns None."""
    by_type = isinstance(only, type)
    if value is None or (type(value) is only if by_type else is_one_of(value, only)):
        return None
    if by_type:
        return f"expected {_KINDS[only]}"
    return (
        f"expected {only or 'no value'}. Other values mean an architecture that is not implemented"
    )


# fields that depend on how a model is used, not on its architecture
OF_USE = {
    "family", "attend", "custom_position_ids", "sequence_length", "stacks", "attention",
    "num_landmarks", "with_pool", "with_nsp", "with_lm", "with_discriminator", "pad_token_id",
    "shared_segment_embeddings", "with_classifier", "labels", "problem_type", "classifier_pooling",
    "classifier_dropout", "filler_id",
}  # fmt: skip

# fields that do not change predictions
OF_TRAINING = {"dropout_rate", "attention_dropout_rate", "initializer_range"}
