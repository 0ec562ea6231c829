"""What the examples that learn to write share.

Files and how they are split, batches in which every token is to be told from those before it, the
training, and texts written and scored. What makes a task stands in the examples themselves.
"""

from pathlib import Path

import keras
import numpy as np
from labeling import read_splits, straight_down
from trials import KeepBest

from bert4keras_lite import load_tokenizer
from bert4keras_lite.data import Batches, pad_samples, sequence_padding
from bert4keras_lite.generation import generate
from bert4keras_lite.losses import sequence_crossentropy
from bert4keras_lite.metrics import bleu, rouge
from bert4keras_lite.optimizers import AdamW

# --- the vocabulary --------------------------------------------------------------------------------


def simplified(checkpoint, **options):
    """`(tokenizer, keep_tokens)`: without the third of the vocabulary that no Chinese text needs.

    Args:
        checkpoint: a directory with the files of a tokenizer.
        **options: of the tokenizer.
    """
    return load_tokenizer(checkpoint, **options).simplified()


# --- the files -------------------------------------------------------------------------------------


def read_or_cut(path, read):
    """The samples for `"train"`, `"valid"` and `"test"`.

    Args:
        path: a directory with files for them (see `labeling.read_splits`). Of what `read` finds in
            a file, or in a directory without a file for training, the first eight tenths are for
            training, and one each for the others.
        read: reads the samples of a file, or of a directory.
    """
    path = Path(path)
    if not path.exists():
        raise SystemExit(f"{path}: there is no such file or directory.")
    if path.is_dir() and any("train" in file.name for file in path.iterdir() if file.is_file()):
        return read_splits(path, read)
    try:
        samples = read(path)
    except IsADirectoryError:
        raise SystemExit(
            f"{path}: expected a file, or a directory whose files have train and valid (or dev) in "
            "their names."
        ) from None
    if len(samples) < 10:
        raise SystemExit(f"{path}: expected at least ten samples, found {len(samples)}.")
    first, second = (len(samples) * tenths // 10 for tenths in (8, 9))
    return {"train": samples[:first], "valid": samples[first:second], "test": samples[second:]}


# --- batches ---------------------------------------------------------------------------------------

BUCKETS = 4  # so many lengths of batches


def next_tokens(ids, counted):
    """Labels: at each place the token after it, or -1 where that does not count.

    Args:
        ids: token ids `(batch, length)`.
        counted: which of them are to be told, booleans of the same shape.
    """
    labels = np.full_like(ids, -1)
    labels[:, :-1] = np.where(counted, ids, -1)[:, 1:]
    return labels


def text_batches(rows, args, **options):
    """For a language model: every token is told.

    Args:
        rows: lists of token ids.
        **options: of `Batches`.
    """

    def collate(rows, length):
        ids = sequence_padding(rows, length).astype("int32")
        return (ids, np.zeros_like(ids)), next_tokens(ids, ids > 0)

    return Batches(rows, args.batch_size, collate, buckets=BUCKETS, length=len, **options)


def unilm_batches(pairs, args, **options):
    """For `application="unilm"`: source and answer in one row, only the answer is told.

    Args:
        pairs: `(source, answer)`, lists of token ids with start and end tokens.
        **options: of `Batches`.

    Reference:
        Dong et al., "Unified Language Model Pre-training", arXiv 1905.03197.
    """
    rows = [
        (source + answer[1:], [0] * len(source) + [1] * (len(answer) - 1))
        for source, answer in pairs
    ]

    def collate(rows, length):
        ids, segments = pad_samples(rows, length)
        return (ids, segments), next_tokens(ids, segments == 1)

    return Batches(rows, args.batch_size, collate, buckets=BUCKETS, **options)


def encode_pairs(pairs, tokenizer, args):
    """Texts `(source, answer)` as token ids, of at most `args.maxlen` and `args.max_new_tokens`."""
    return [
        (
            tokenizer.encode(source, maxlen=args.maxlen)[0],
            tokenizer.encode(answer, maxlen=args.max_new_tokens + 1)[0],
        )
        for source, answer in pairs
    ]


# --- training --------------------------------------------------------------------------------------


def train(model, batches, args, score, name, **options):
    """Trains, scores each epoch, and leaves the model with the weights of the best one.

    Args:
        score: see `trials.KeepBest`.
        name: of the file of the weights, in `examples/output`.
        **options: of the optimizer.
    """
    schedule = straight_down(args.epochs, batches)
    optimizer = AdamW(args.learning_rate, weight_decay=0.01, lr_schedule=schedule, **options)
    model.compile(optimizer, sequence_crossentropy, jit_compile=args.jit_compile)
    model.optimizer.build(model.trainable_variables)  # one trace
    model.fit(batches, epochs=args.epochs, callbacks=[KeepBest(score, name)])


def log_likelihoods(model, batches):
    """What a model thinks of texts: for each `(log-probability, number of tokens)`, in order."""
    rows = []
    for i in range(len(batches)):
        inputs, labels = batches[i]
        losses = sequence_crossentropy(labels, model.predict_on_batch(inputs))
        losses = keras.ops.convert_to_numpy(losses)
        rows += zip(-losses.sum(axis=1), (labels >= 0).sum(axis=1), strict=True)
    return np.array(batches.restore(rows))


# --- writing ---------------------------------------------------------------------------------------


def generate_all(model, prompts, args, allowed_tokens=None, more_inputs=(), **options):
    """`generate` in batches of prompts that are alike in length.

    Args:
        prompts: lists of token ids.
        allowed_tokens: for each prompt a function, or None.
        more_inputs: arrays with a row for each prompt.
        **options: of `generate`.

    Returns:
        For each prompt a list of `Generated`, the best first.
    """
    found = [None] * len(prompts)
    order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
    for first in range(0, len(order), args.batch_size):
        chosen = order[first:][: args.batch_size]
        filled = chosen + chosen[:1] * (args.batch_size - len(chosen))  # one compiled program
        rows = generate(
            model,
            [prompts[i] for i in filled],
            args.max_new_tokens,
            allowed_tokens=allowed_tokens and [allowed_tokens[i] for i in filled],
            more_inputs=[array[filled] for array in more_inputs],
            **options,
        )
        for i, row in zip(chosen, rows, strict=False):
            found[i] = row
    return found


def write(model, prompts, tokenizer, args, **options):
    """The text a model writes to each prompt: the best. See `write_several`."""
    return [texts[0] for texts in write_several(model, prompts, tokenizer, args, **options)]


def write_several(model, prompts, tokenizer, args, **options):
    """The texts a model writes to each prompt, the best first; `""` where none is allowed.

    Args:
        **options: of `generate_all`.
    """
    rows = generate_all(model, prompts, args, stop_ids=tokenizer.token_end_id, **options)
    return [[tokenizer.decode(one.ids) for one in row] or [""] for row in rows]


def text_scores(true, written):
    """ROUGE-L, ROUGE-1, ROUGE-2 and BLEU on characters, all from 0 to 1."""
    scores = rouge(true, written)
    return {
        "rougeL": scores["rougeL"],
        "rouge1": scores["rouge1"],
        "rouge2": scores["rouge2"],
        "bleu": bleu(true, written) / 100,
    }


def show(*rows):
    """Prints rows of (what it is, text)."""
    for name, text in rows:
        print(f"  {name}  {text}")
    print()
