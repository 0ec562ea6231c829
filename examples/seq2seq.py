"""What the examples that learn to write share.

Files and how they are split, batches in which every token is to be told from those before it, the
training, and texts written and scored. What makes a task stands in the examples themselves.
"""

import keras
import numpy as np
from trials import KeepBest

from bert4keras_lite import load_tokenizer
from bert4keras_lite.data import Batches, next_token_labels, pad_samples
from bert4keras_lite.generation import generate_all
from bert4keras_lite.losses import sequence_crossentropy
from bert4keras_lite.metrics import bleu, rouge
from bert4keras_lite.optimizers import AdamW, linear_decay

# --- the vocabulary --------------------------------------------------------------------------------


def simplified(checkpoint, **options):
    """`(tokenizer, keep_tokens)`: without the third of the vocabulary that no Chinese text needs.

    Args:
        checkpoint: a directory with the files of a tokenizer.
        **options: of the tokenizer.
    """
    return load_tokenizer(checkpoint, **options).simplified()


# --- batches ---------------------------------------------------------------------------------------

BUCKETS = 4  # so many lengths of batches


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
        return (ids, segments), next_token_labels(ids, segments == 1)

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
    schedule = linear_decay(args.epochs * len(batches))
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


def write_several(model, prompts, tokenizer, args, **options):
    """The texts a model writes to each prompt, the best first; `""` where none is allowed.

    Args:
        **options: of `generate_all`.
    """
    options = {"stop_ids": tokenizer.token_end_id} | options
    rows = generate_all(model, prompts, args.max_new_tokens, args.batch_size, **options)
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
