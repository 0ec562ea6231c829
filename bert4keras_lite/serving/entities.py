"""A fine-tuned tagger on disk: a model, its tokenizer's files, and what its numbers are called."""

import json
from pathlib import Path

from ..files import complete, saving, write_text
from ..hub import local_directory
from ..loading import read_keras_model
from ..metrics import bio_spans
from ..parsing import read_json, shown
from ..tokenizers import load_tokenizer
from ..tokenizers.base import TokenizerBase

MODEL, LABELS = "model.keras", "labels.json"


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
        ValueError: another number of labels than the model scores, or tags that are not of BIO,
            BIOES or BMES.
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
    """Raises unless a model scores so many labels, and tags among them are of BIO or its kin."""
    if not getattr(model, "outputs", None):
        raise ValueError(
            f"{where}: the model's output has no shape yet; expected a model that begins with "
            "keras.Input."
        )
    shape = tuple(model.outputs[0].shape)
    scored = shape[1] if len(shape) == 4 else shape[-1]
    if len(model.outputs) != 1 or len(shape) not in (3, 4) or scored != len(labels):
        raise ValueError(
            f"{where}: {len(labels)} labels for a model whose output is {shape}; expected scores "
            "(batch, length, tags) or (batch, kinds, length, length)."
        )
    if len(shape) == 3:
        for label in labels:
            try:
                bio_spans([label])
            except ValueError:
                raise ValueError(
                    f"{where}: {shown(label)} is no tag; expected B, I, M, E, S or O, and a type "
                    "after a hyphen, such as 'B-PER'."
                ) from None
