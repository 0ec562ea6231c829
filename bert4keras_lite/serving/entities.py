"""A fine-tuned tagger on disk: a model, its tokenizer's files, and what its numbers are called."""

import json
from pathlib import Path

import keras

from ..files import complete, saving, write_text
from ..hub import local_directory
from ..layers import Dropout
from ..layers.crf import Tagger
from ..loading import read_keras_model
from ..metrics import bio_spans
from ..parsing import read_json, shown
from ..tokenizers import load_tokenizer
from ..tokenizers.base import TokenizerBase

MODEL, LABELS = "model.keras", "labels.json"
# layers that change no number when a model predicts, but perhaps its type
PASSING = (Dropout, keras.layers.Dropout, keras.layers.Identity, keras.layers.SpatialDropout1D)
TOKENS = 5  # of the text for which the shape of a model's output is computed


def save_tagger(directory, model, labels, tokenizer):
    """Saves what finds entities, for `load_tagger` and the server's `--ner`.

    Args:
        directory: is made if missing; gets `model.keras`, `labels.json` and the tokenizer's files,
            together: see `files.saving`.
        model: a `keras.Model` from token ids and segment ids to scores of tags `(batch, length,
            tags)`, which a `ConditionalRandomField` or its kin may decode; or to scores of spans
            `(batch, kinds, length, length)`, above 0 where there is one.
        labels: the tags, such as `["O", "B-name", "I-name"]`; or the kinds of spans.
        tokenizer: of the model.

    Raises:
        ValueError: another number of labels than the model scores, tags that are not of BIO, BIOES
            or BMES, or a `ConditionalRandomField` or its kin whose scores are not what is given.
        TypeError: the labels are not strings, or the tokenizer has no vocabulary of tokens.
        OSError: a file cannot be written; then what was there is unchanged.
    """
    if isinstance(labels, str) or not all(isinstance(label, str) for label in labels):
        raise TypeError(f"labels: expected a list of strings, got {repr(labels)[:200]}.")
    check_labels(model, labels, "labels")
    if not isinstance(tokenizer, TokenizerBase):
        raise TypeError(f"tokenizer: expected a Tokenizer, got {repr(tokenizer)[:200]}.")
    with saving(directory) as stage:
        write_text(stage / LABELS, json.dumps(list(labels), ensure_ascii=False))
        tokenizer.save(stage)
        model.save(stage / MODEL)


def load_tagger(directory):
    """The model, labels and tokenizer that `save_tagger` wrote.

    Raises:
        FileNotFoundError, ValueError: a file is missing, or does not fit the others.
    """
    directory = Path(local_directory(directory))
    complete(directory)
    for name in (MODEL, LABELS):
        if not (directory / name).is_file():
            raise FileNotFoundError(
                f"{directory}: expected {MODEL}, {LABELS} and vocab.txt, as save_tagger writes "
                f"them; there is no {name}."
            )
    labels = read_json(directory / LABELS)
    if not isinstance(labels, list) or not all(isinstance(label, str) for label in labels):
        raise ValueError(f"{directory / LABELS}: expected a JSON list of names.")
    model = read_keras_model(directory / MODEL, compile=False)
    check_labels(model, labels, directory / LABELS)
    return model, labels, load_tokenizer(directory)


def check_labels(model, labels, where):
    """Raises unless a model scores so many labels for each of its tokens, or pairs of them.

    Tags must be of BIO or its kin.
    """
    if not getattr(model, "outputs", None):
        raise ValueError(
            f"{where}: the model's output has no shape yet; expected a model that begins with "
            "keras.Input."
        )
    tokens = model.inputs[0].shape[1] or TOKENS
    shapes = output_shapes(model, tokens)
    if len(shapes) != 1 or not are_logits(shapes[0], len(labels), tokens):
        raise ValueError(
            f"{where}: {len(labels)} labels for a model whose output is "
            f"{', '.join(map(str, shapes)):.200} for {tokens} tokens; expected logits (batch, "
            "tokens, tags) or (batch, kinds, tokens, tokens), of all tokens, [CLS] and [SEP] too."
        )
    if len(shapes[0]) == 3:
        for label in labels:
            try:
                bio_spans([label])
            except ValueError:
                raise ValueError(
                    f"{where}: {shown(label)} is no tag; expected B, I, M, E, S or O, and a type "
                    "after a hyphen, such as 'B-PER'."
                ) from None
        decoder_of(model, where)


def decoder_of(model, where="the model"):
    """The layer whose `decode` gives the tags of a model's scores; None: the likeliest are taken.

    It is looked for in models within the model, too, and before what changes no number.

    Raises:
        ValueError: the model has a tagger which does not give its output.
    """
    layer, output = None, model.outputs[0]
    while output is not None:
        layer, node, place = output._keras_history
        output = passed_on(layer, node, place)
    for tagger in model._flatten_layers():
        if isinstance(tagger, Tagger) and tagger is not layer:
            raise ValueError(
                f"{where}: the scores of {shown(tagger.name)} are not what the model gives, so that "
                "they cannot be decoded; expected this layer at the model's end."
            )
    return layer if hasattr(layer, "decode") else None


def passed_on(layer, node, place):
    """The tensor that a layer gives unchanged as one of its outputs; None if it computes."""
    if isinstance(layer, keras.Model) and getattr(layer, "outputs", None):
        return layer.outputs[place]
    linear = getattr(layer, "activation", None) is keras.activations.linear
    if isinstance(layer, PASSING) or (isinstance(layer, keras.layers.Activation) and linear):
        return layer._inbound_nodes[node].input_tensors[0]
    return None


def output_shapes(model, tokens):
    """The shapes of a model's outputs for texts of so many tokens, as far as they are known."""
    inputs = [
        keras.KerasTensor((None, *(tokens if n is None else n for n in x.shape[1:])), x.dtype)
        for x in model.inputs
    ]
    return [tuple(x.shape) for x in keras.tree.flatten(model.compute_output_spec(inputs))]


def are_logits(shape, labels, tokens):
    """Whether a shape, some of which may be unknown (None), is that of logits.

    Of tags of each token, or of kinds of spans.
    """
    return any(
        len(shape) == len(expected)
        and all(n in (None, wanted) for n, wanted in zip(shape[1:], expected[1:], strict=True))
        for expected in ((None, tokens, labels), (None, labels, tokens, tokens))
    )
