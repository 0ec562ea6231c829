"""Saves and loads fine-tuned taggers: a model, its labels, and the files of its tokenizer."""

import json
from collections.abc import Sequence
from os.path import lexists
from pathlib import Path

import keras

from ..configs import config_in
from ..files import complete, saving, write_text
from ..hub import local_directory
from ..layers import Dropout
from ..layers.crf import Tagger
from ..loading import read_keras_model, transformer_of
from ..metrics import bio_spans
from ..models import build_transformer_model
from ..parsing import SURROGATES, read_json, shown
from ..tokenizers import load_tokenizer
from ..tokenizers.base import TokenizerBase
from ..types import PathLike
from .base import UnsupportedTask

__all__ = [
    "LABELS",
    "MODEL",
    "TOKENS",
    "are_logits",
    "check_names",
    "check_outputs",
    "classifier_of",
    "decoder_of",
    "is_tag",
    "load_tagger",
    "output_shapes",
    "published_classifier",
    "save_tagger",
    "unchanged_input",
]

MODEL, LABELS = "model.keras", "labels.json"
# layers that change no values in inference, except perhaps their dtype
PASSING = (Dropout, keras.layers.Dropout, keras.layers.Identity, keras.layers.SpatialDropout1D)
TOKENS = 5  # length of the text for which the shape of a model's output is computed


def save_tagger(
    directory: PathLike, model: keras.Model, labels: Sequence[str], tokenizer: TokenizerBase
) -> None:
    """Saves a tagger for `load_tagger` and the server's `--ner`.

    Args:
        directory: directory for `model.keras`, `labels.json` and the tokenizer's files, which are
            written atomically (see `files.saving`); created if missing.
        model: a `keras.Model` from token ids and segment ids to logits of tags `(batch, length,
            tags)`, which a `ConditionalRandomField` or `MaximumEntropyMarkovModel` may decode; or
            to logits of spans `(batch, kinds, length, length)`, above 0 for spans.
        labels: the tags, such as `["O", "B-name", "I-name"]`; or the kinds of spans.
        tokenizer: the `Tokenizer` of the model.

    Raises:
        ValueError: the number of labels differs from the model's output, tags are not BIO, BIOES
            or BMES, or the model does not output the logits of its CRF or MEMM layer.
        TypeError: the labels are not strings, or the tokenizer is not one of this toolkit.
        OSError: a file cannot be written; existing files are unchanged.
    """
    check_names(labels, tokenizer)
    check_labels(model, labels, "labels")
    with saving(directory) as stage:
        write_text(stage / LABELS, json.dumps(list(labels), ensure_ascii=False))
        tokenizer.save(stage)
        model.save(stage / MODEL)


def check_names(labels, tokenizer):
    """Checks arguments of a save.

    Raises:
        TypeError: labels are not a list of strings (sets have no order), or the tokenizer is not
            one of this toolkit.
        ValueError: a label cannot be written as UTF-8.
    """
    is_list = hasattr(labels, "__getitem__") and not isinstance(labels, str | dict)
    if not is_list or not all(isinstance(label, str) for label in labels):
        raise TypeError(f"labels: expected a list of strings, got {repr(labels)[:200]}.")
    for label in labels:
        if SURROGATES.search(label):
            raise ValueError(f"labels: {shown(label)} has half of a character; expected text.")
    if not isinstance(tokenizer, TokenizerBase):
        raise TypeError(f"tokenizer: expected a Tokenizer, got {repr(tokenizer)[:200]}.")


def load_tagger(directory: PathLike) -> tuple[keras.Model, Sequence[str], TokenizerBase]:
    """Loads a tagger: one of `save_tagger`, or Hugging Face's files of a classifier of tokens.

    Args:
        directory: its directory, or a name on a hub.

    Returns:
        `(model, labels, tokenizer)`.

    Raises:
        FileNotFoundError, ValueError: a file is missing, or does not match the others.
    """
    directory = Path(local_directory(directory))
    complete(directory)
    if not lexists(directory / LABELS) and config_in(directory):
        return published_classifier(directory, "tokens")[:3]
    for name in (MODEL, LABELS):
        if not lexists(directory / name):
            raise FileNotFoundError(
                f"{directory}: there is no {name}; expected {MODEL}, {LABELS} and vocab.txt, as "
                "written by save_tagger."
            )
    labels = read_json(directory / LABELS)
    if not isinstance(labels, list) or not all(isinstance(label, str) for label in labels):
        raise ValueError(
            f"{directory / LABELS}: expected a JSON list of names, got {shown(labels)}."
        )
    model = read_keras_model(directory / MODEL, compile=False)
    check_labels(model, labels, directory / LABELS)
    return model, labels, load_tokenizer(directory)


def classifier_of(model, kind):
    """Returns the model, the labels and the problem type of a model with a classifier.

    Raises:
        UnsupportedTask: it has no classifier of this kind.
    """
    transformer = transformer_of(model)
    c = transformer.config
    if c.with_classifier != kind:
        raise UnsupportedTask(
            f"{c.family}: the model has with_classifier={c.with_classifier!r}; expected {kind!r}. "
            "Build it with that."
        )
    return transformer.model, c.labels, c.problem_type


def published_classifier(directory, kind):
    """Loads a classifier from Hugging Face's files.

    Args:
        directory: with the files.
        kind: `"text"` or `"tokens"`.

    Returns:
        `(model, labels, tokenizer, problem_type)`.

    Raises:
        UnsupportedTask: the classifier is of another kind.
    """
    transformer = build_transformer_model(directory, with_classifier=True, return_keras_model=False)
    try:
        model, labels, problem_type = classifier_of(transformer, kind)
    except UnsupportedTask:
        kinds = {"text": "classify", "tokens": "tag"}
        has = transformer.config.with_classifier
        advice = f"Use {kinds[has]}." if has in kinds else "Use build_transformer_model."
        raise UnsupportedTask(
            f"{directory}: its classifier is of the kind {has!r}; expected {kind!r}. {advice}"
        ) from None
    return model, labels, load_tokenizer(directory), problem_type


def check_labels(model, labels, where):
    """Raises if a model's output does not match the labels, or tags are not BIO, BIOES or BMES.

    Args:
        model: a `keras.Model`.
        labels: list of strings.
        where: begins messages: what the labels are from.

    Raises:
        ValueError: see above.
    """
    check_outputs(model, where)
    tokens = model.inputs[0].shape[1] or TOKENS
    shapes = output_shapes(model, tokens)
    if len(shapes) != 1 or not are_logits(shapes[0], len(labels), tokens):
        raise ValueError(
            f"{where}: {len(labels)} labels for a model whose output is "
            f"{', '.join(map(str, shapes)):.200} for {tokens} tokens; expected logits (batch, "
            "tokens, tags) or (batch, kinds, tokens, tokens), with [CLS] and [SEP]."
        )
    if len(shapes[0]) == 3:
        for label in labels:
            if not is_tag(label):
                raise ValueError(
                    f"{where}: {shown(label)} is not a tag; expected O, or B, I, M, E or S, if "
                    "need be with a type after a hyphen, such as 'B-PER'."
                )
        decoder_of(model, where)


def check_outputs(model, where):
    """Raises `ValueError` if a model is none of Keras, or its outputs are not known yet."""
    if not isinstance(model, keras.Model) or not getattr(model, "outputs", None):
        raise ValueError(
            f"{where}: the shape of the model's output is unknown; expected a keras.Model that "
            "begins with keras.Input."
        )


def is_tag(label):
    """Whether a label is a tag of BIO, BIOES or BMES, such as `"B-PER"`."""
    try:
        bio_spans([label])
    except ValueError:
        return False
    return True


def decoder_of(model, where="the model"):
    """Returns the layer that decodes a model's logits; None: each token gets its best tag.

    The layer may be in a nested model, and before layers that change no values.

    Raises:
        ValueError: the model has a CRF or MEMM layer whose logits are not its output.
    """
    layer, output = None, model.outputs[0]
    while output is not None:
        layer, node, index = output._keras_history
        output = unchanged_input(layer, node, index)
    for tagger in model._flatten_layers():
        if isinstance(tagger, Tagger) and tagger is not layer:
            raise ValueError(
                f"{where}: the logits of {shown(tagger.name)} are not the model's output, so they "
                "cannot be decoded; expected this layer at the end of the model."
            )
    return layer if hasattr(layer, "decode") else None


def unchanged_input(layer, node, index):
    """Returns the tensor that is a layer's output `index` unchanged; None if the layer computes."""
    if isinstance(layer, keras.Model) and getattr(layer, "outputs", None):
        return layer.outputs[index]
    linear = getattr(layer, "activation", None) is keras.activations.linear
    if isinstance(layer, PASSING) or (isinstance(layer, keras.layers.Activation) and linear):
        return layer._inbound_nodes[node].input_tensors[0]
    return None


def output_shapes(model, tokens):
    """Returns the shapes of a model's outputs for texts of so many tokens; unknown sizes: None."""
    inputs = [
        keras.KerasTensor((None, *(tokens if n is None else n for n in x.shape[1:])), x.dtype)
        for x in model.inputs
    ]
    return [tuple(x.shape) for x in keras.tree.flatten(model.compute_output_spec(inputs))]


def are_logits(shape, labels, tokens):
    """Returns whether a shape is that of logits of tags, or of spans; unknown sizes are None."""
    return any(
        len(shape) == len(expected)
        and all(n in (None, size) for n, size in zip(shape[1:], expected[1:], strict=True))
        for expected in ((None, tokens, labels), (None, labels, tokens, tokens))
    )
