"""Telling model families apart, and resolving what their configs leave open."""

import numbers
import re

import numpy as np

from .. import mappings
from ..checkpoints import CheckpointError
from ..checkpoints.matching import is_copy, locate, unknown_names
from ..parsing import shown
from .architectures import ARCHITECTURES, CLASSES, FAMILIES, FINGERPRINTS, MODEL_TYPES
from .config import key_of

__all__ = [
    "MEASURED",
    "check_family",
    "check_not_roberta",
    "check_stacks",
    "families_of",
    "infer_from_weights",
    "is_initial_norm",
    "known_issues",
    "recognize",
    "resolve_ambiguities",
    "unmatched_names",
]


def recognize(values, names=()):
    """Recognizes the family of a checkpoint, by its config and the names of its weights.

    Args:
        values: from `read_config`.
        names: of the arrays; empty: the config alone decides.

    Returns:
        A key of `ARCHITECTURES`.

    Raises:
        ValueError: config and names contradict each other, or are not enough to decide.
    """
    model_type = values.get("model_type") or _model_type_of_classes(values)
    allowed = MODEL_TYPES.get(model_type)
    if model_type in mappings.WEIGHTS and model_type not in MODEL_TYPES:
        allowed = [model_type]
    if model_type and not allowed:
        raise ValueError(
            f"model_type is {model_type!r:.200}; expected one of "
            f"{', '.join(sorted({*MODEL_TYPES, *mappings.WEIGHTS}))}. If the architecture "
            "is one of these, pass it as model=."
        )
    families = families_of(names)
    if not model_type and (sign := _other_architecture(values, names, families)):
        raise ValueError(
            f"{sign}, whose architecture differs from BERT's and GPT-2's; expected a known "
            "model_type. If the architecture is a known one after all, pass it as model=."
        )
    if not names:
        return allowed[0] if allowed else "bert"
    family = _by_names(allowed, families, model_type)
    if ARCHITECTURES[family].get("stacks") == "both":
        if not any(re.match(r"(model\.)?decoder[./]", name) for name in names):
            return f"{family}_encoder"
        if not any(re.match(r"(model\.)?encoder[./]", name) for name in names):
            return f"{family}_decoder"
    return family


def _model_type_of_classes(values):
    """Returns the model_type of the classes in `architectures`, if one with BERT's names is."""
    for name in map(str, values.get("architectures") or ()):
        for stem, model_type in CLASSES.items():
            if re.fullmatch(rf"(TF|Flax)?{stem}(Model|For[A-Z]\w*|LMHead\w*)", name):
                return model_type
    return None


def _other_architecture(values, names, families):
    """Describes a sign that a model is one of `mappings.OTHER_ARCHITECTURES`, or returns None."""
    for name in map(str, values.get("architectures", ())):
        if re.fullmatch(mappings.OTHER_CLASS, name):
            return f"architectures has {shown(name)}"
    for name in names:
        prefix, dot, _ = name.partition(".")
        if (
            not families
            and dot
            and re.fullmatch(mappings.OTHER_ARCHITECTURES, prefix.replace("_", "").lower())
        ):
            return f"the weight names begin with {prefix!r}"
        if re.match(mappings.LLAMA_NAMES, name):
            return f"{shown(name)} is a layer of Llama and its kin"
        if families[:1] == ["bert"] and re.fullmatch(mappings.ROBERTA_HEAD, name, re.DOTALL):
            return f"{shown(name)} is the head of a RoBERTa"
    return None


def _by_names(allowed, families, model_type):
    """Returns the first family that both the config (None: any) and the weight names allow."""
    if not families:
        return allowed[0] if allowed else "bert"
    if allowed is None:
        if len(families) > 1 and families[0] == "nezha":
            raise ValueError(
                f"the weight names match both {' and '.join(families)}, and the config has no "
                f"model_type. Pass model={families[0]!r:.200} or model={families[1]!r:.200}."
            )
        return families[0]
    both = [family for family in allowed if family in families]
    if not both:
        raise ValueError(
            f"the config has model_type={model_type!r:.200}, but the weight names are those of "
            f"{' or '.join(families)}; expected files of one model. Correct one of them, or pass "
            "model= to decide."
        )
    return both[0]


def families_of(names):
    """Lists the families that have such weight names, the most likely first."""
    plain = [n for n in names if not any(re.match(p, n) for p in mappings.SKIPPABLE)]
    for (pattern, absent), families in FINGERPRINTS.items():
        patterns = [pattern] if isinstance(pattern, str) else pattern
        if all(any(re.match(each, n) for n in plain) for each in patterns):
            body = [n for n in plain if not re.match(mappings.HEAD_NAMES, n)]
            if absent is None or not any(re.match(absent, n) for n in body):
                return families
    return []


def resolve_ambiguities(family, values, checkpoint=None):
    """Resolves config values whose meaning depends on the family or the file.

    Files in bert4keras' form have "gelu" where the published weights were trained with the tanh
    form.

    Args:
        family: a key of `ARCHITECTURES`.
        values: from `read_config`.
        checkpoint: mapping name -> array, or None.

    Returns:
        The values, and a list of warnings about what was decided.
    """
    dialect = getattr(checkpoint, "dialect", None)
    outdated = dialect.outdated if dialect else ()
    values = {name: value for name, value in values.items() if name not in outdated}
    values, warnings = _task_types(values, checkpoint)
    model_type = values.pop("model_type", None)
    base = family.removesuffix("_encoder").removesuffix("_decoder")
    is_exact = model_type in {*MODEL_TYPES, *mappings.WEIGHTS}
    if FAMILIES[base].gelu != "gelu" and not is_exact and values.get("hidden_act") == "gelu":
        values["hidden_act"] = "gelu_tanh"
        warnings.append(
            f"hidden_act is 'gelu', which means the tanh form in published {family} weights: that "
            "is used. Pass hidden_act='gelu_erf' for the exact form (bert4keras' default), or "
            "hidden_act='gelu_tanh' to confirm the tanh form."
        )
    return values, warnings


def _task_types(values, checkpoint):
    """Leaves the number of ERNIE's task types to the weights; returns the values and warnings."""
    rows = values.get("task_vocab_size")
    if not rows or not checkpoint or getattr(checkpoint, "format", None) == "keras":
        return values, []  # variables of Keras are not found by name
    values = {name: value for name, value in values.items() if name != "task_vocab_size"}
    if any("task_type_embeddings" in name for name in checkpoint):
        return values, []
    return values, [
        f"task_type_vocab_size is {rows}, but the weights have no task types: the model is built "
        "without. If it had them, get the file again."
    ]


# fields that are the length of an axis of a variable: the end of its path, the axis, the field
_MEASURES = [
    ("token_embedding/embeddings", 0, "vocab_size"),
    ("token_embedding/embeddings", 1, "embedding_size"),
    ("position_embedding/embeddings", 0, "max_position"),
    ("segment_embedding/embeddings", 0, "segment_vocab_size"),
    ("task_embedding/embeddings", 0, "task_vocab_size"),
    ("attention/output/kernel", 1, "hidden_size"),
    ("ffn/input/kernel", 1, "intermediate_size"),
    ("decoder_block_0/ffn/input/kernel", 1, "decoder_intermediate_size"),
    ("relative_bias/embeddings", 0, "relative_buckets"),
    ("convolution/kernel", 0, "convolution"),
]

MEASURED = [name for *_, name in _MEASURES] + ["num_hidden_layers"]


def infer_from_weights(checkpoint, family, values):
    """Infers missing config fields from the shapes of the weights.

    Args:
        checkpoint: mapping name -> array.
        family: a key of `ARCHITECTURES`.
        values: from `read_config`; fields in it are not inferred.

    Returns:
        A dict of fields of `Config`.

    Raises:
        CheckpointError: an array is not a matrix, or the config has none of its segments.
    """
    row = ARCHITECTURES[family]
    table = mappings.WEIGHTS[row["family"]]
    located, counts = locate(checkpoint, table, mappings.ROLES)
    inferred, is_decoder = {}, row.get("stacks") == "decoder"

    def size(end, axis):
        """Returns the length of an axis of the first variable whose path ends so, or None."""
        array = next((array for path, array in located.items() if path.endswith(end)), None)
        if array is not None and len(array.shape) < 2:
            raise CheckpointError(
                f"{getattr(checkpoint, 'path', 'the checkpoint')}: {array.name!r:.200}: expected "
                f"two axes, got the shape {array.stored}. Get or copy the file again."
            )
        return array and int(array.shape[axis])

    for end, axis, name in _MEASURES:
        if (length := size(end, axis)) is not None:
            inferred[name] = length
    if values.get("segment_vocab_size") == 0 and inferred.get("segment_vocab_size"):
        raise CheckpointError(
            f"{getattr(checkpoint, 'path', 'the checkpoint')}: has vectors of"
            f" {inferred['segment_vocab_size']} segments, and type_vocab_size of the config is 0;"
            " expected the same. Correct the config, or pass"
            " segment_vocab_size=0 for a model without them."
        )
    if "max_position" in inferred:
        offset = row.get("decoder_position_offset") if is_decoder else None
        inferred["max_position"] -= row.get("position_offset", 0) if offset is None else offset
    kind = values.get("with_classifier")
    if kind in ("text", "tokens") and (count := size(f"{kind}_classifier/kernel", 1)):
        inferred["labels"] = tuple(f"LABEL_{i}" for i in range(count))
    has_segments = "segment_vocab_size" in inferred or is_decoder  # which does not tell
    if row.get("position", "learned") == "learned" and not has_segments:
        inferred["segment_vocab_size"] = 0
    if inferred.get("embedding_size") == inferred.get("hidden_size"):
        inferred.pop("embedding_size", None)
        inferred["embedding_projection"] = "embedding_projection/kernel" in located
    if getattr(checkpoint, "num_heads", None):
        inferred["num_attention_heads"] = checkpoint.num_heads
    if counts.get("i"):
        inferred["num_hidden_layers"] = counts["i"]
    if counts.get("j"):
        inferred["num_decoder_layers"] = counts["j"]
    if (rows := size("relative_vectors/embeddings", 0)) is not None:
        inferred["relative_buckets"] = rows // 2
    if row.get("attention") == "gau":
        inner = size("block_0/attention/output/kernel", 0)
        inferred |= {} if inner is None else {"intermediate_size": inner}
    if row.get("stacks"):
        inferred["gated"] = any(path.endswith("ffn/gate/kernel") for path in located)
        heads, query = size("relative_bias/embeddings", 1), size("attention/query/kernel", 1)
        if heads and query:
            inferred |= {"num_attention_heads": heads, "attention_head_size": query // heads}
    inferred = {
        name: value for name, value in inferred.items() if name not in values or name == "gated"
    }
    encoder_only = row.get("stacks") and not counts.get("j")  # which has no head
    if not encoder_only and any(role == "tokens_out" for role, *_ in table):
        head, tokens = (
            located.get(f"{name}/embeddings") for name in ("lm_head", "token_embedding")
        )
        is_untied = head and tokens and not is_copy(checkpoint, head.name, tokens.name)
        inferred["tie_word_embeddings"] = not is_untied
    return inferred


def unmatched_names(checkpoint, row):
    """Lists the names of a checkpoint that a family has no variable for and that are not skippable.

    Args:
        checkpoint: mapping name -> array.
        row: a value of `ARCHITECTURES`.
    """
    table = mappings.WEIGHTS[row["family"]]
    known = [*mappings.SKIPPABLE, *mappings.COPIES, *mappings.TIED_HEADS]
    return unknown_names(checkpoint, table, mappings.ROLES, known)


def check_stacks(family, values, where):
    """Checks that a key of a config that is about one stack alone says the same of the other.

    Args:
        family: a key of `ARCHITECTURES`.
        values: from `read_config`.
        where: name of the config in messages.

    Raises:
        ValueError: it does not.
    """
    keys = mappings.OF_ONE_STACK.get(ARCHITECTURES[family]["family"], {})
    for key, value in keys.items():
        name = mappings.CONFIG_KEYS[key]
        if key_of(values, name) == key and values[name] != value:
            raise ValueError(
                f"{where}: {key} is {shown(values[name])}, which in {family} is about the decoder "
                f"alone; expected {shown(value)}, as its encoder has it. Other values are not "
                "implemented."
            )


def check_not_roberta(family, values, where):
    """Checks that a model that counts positions from 0 does not have the sizes of a RoBERTa.

    Args:
        family: a key of `ARCHITECTURES`.
        values: of the config, with what was inferred from the weights.
        where: name of the config in messages.

    Raises:
        ValueError: it has 1 segment, and 2 positions more than a power of two.
    """
    positions, segments = values.get("max_position", 0), values.get("segment_vocab_size")
    is_integer = isinstance(positions, numbers.Integral)  # other values are another error
    if ARCHITECTURES[family].get("first_position"):
        return
    if segments == 1 and is_integer and positions > 2 and (positions - 2) & (positions - 3) == 0:
        raise ValueError(
            f"{where}: {positions} positions and 1 segment are the sizes of Facebook's RoBERTa, "
            "which counts positions from 2. Pass model='xlm_roberta' or 'fairseq_roberta'. (The "
            "Chinese RoBERTa of HFL and others is a BERT with 512 positions and 2 segments.)"
        )


def known_issues(family, values, checkpoint):
    """Lists warnings about known ambiguities of published checkpoints, and what to do about them.

    Args:
        family: a key of `ARCHITECTURES`.
        values: of the config that is built.
        checkpoint: mapping name -> array, with the names of the tables.
    """
    names = set(checkpoint)
    issues = []
    if family == "gpt" and values.get("vocab_size") == 13088:
        issues.append(
            "CDial's vocabulary comes in two orders: Hugging Face's has [CLS] in row 0 and [PAD] "
            "in row 1, the one for bert4keras has them swapped. Use the vocab.txt that came with "
            "these weights."
        )
    if family.startswith(("mt5.1.1", "t5.1.1")) and values.get("vocab_size") == 50000:
        issues.append(
            "a vocabulary of 50000 is that of T5-PEGASUS, which has the names of mT5 but another "
            "architecture. If this is one, pass model='t5_pegasus'."
        )
    if values.get("with_lm") and _untrained_head(checkpoint, names):
        issues.append(
            "cls/predictions looks never trained (its normalization is exactly 1 and 0): some "
            "publishers put random numbers there. Fine-tune the MLM head before you use it, or "
            "take another checkpoint."
        )
    return issues


def is_initial_norm(gamma, beta=0):
    """Whether a normalization has its initial values: gamma 1, and beta, if it has one, 0."""
    return bool(np.all(gamma == 1) and np.all(beta == 0))


def _untrained_head(checkpoint, names):
    """Whether the normalization of the masked-language-model head has its initial values."""
    for gamma, beta in (
        ("cls/predictions/transform/LayerNorm/gamma", "cls/predictions/transform/LayerNorm/beta"),
        ("cls.predictions.transform.LayerNorm.weight", "cls.predictions.transform.LayerNorm.bias"),
        ("cls.predictions.transform.LayerNorm.gamma", "cls.predictions.transform.LayerNorm.beta"),
    ):
        if gamma in names and beta in names:
            return is_initial_norm(checkpoint[gamma], checkpoint[beta])
    return False


def check_family(model, values, where):
    """Checks that a config does not name another family than `model`.

    Raises:
        ValueError: it does.
    """
    model_type = values.get("model_type")
    if model_type not in {*MODEL_TYPES, *mappings.WEIGHTS}:
        return  # missing or unknown: then model= decides
    base = model.removesuffix("_encoder").removesuffix("_decoder")
    allowed = MODEL_TYPES.get(model_type, [model_type])
    if base == "roberta":
        base = "bert"
    if base not in allowed:
        meaning = " (a BERT, as in bert4keras)" if model == "roberta" else ""
        raise ValueError(
            f"{where}: model_type is {model_type!r:.200}, but model={model!r:.200}{meaning} was "
            "passed. "
            "Leave model= out, or remove model_type from the file if it is wrong."
        )
