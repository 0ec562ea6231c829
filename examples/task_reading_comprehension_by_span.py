"""Answers questions about a passage by pointing: where does the answer start, where does it end?

    python examples/task_reading_comprehension_by_span.py [--checkpoint DIR] [--data PATH]

The usual way. Question and passage stand in one row; two scores for each token of the passage say
whether the answer starts or ends there. A long passage is read in windows that overlap; where a
window does not have the answer, both point to its end token, which is what answers of different
windows are held against.

--checkpoint: a Chinese BERT: a directory of Google's or Hugging Face's files, or a name on a hub (tiny-zh).
--data: CMRC 2018 or another set in SQuAD's form: a directory with train, dev (and test) files, or one
    file. Without it, the sample in examples/data.

Reference: Devlin et al., "BERT", arXiv 1810.04805, section 4.3.
"""

import keras
import numpy as np
from reading import best_answers, cmrc_scores, read_cmrc, row_batches, show_answers, windows
from seq2seq import read_or_cut, simplified, train
from trials import DATA, arguments, show_scores

from bert4keras_lite import build_transformer_model

args = arguments(
    __doc__,
    data=f"{DATA}/reading",
    maxlen=(384, 128),
    maxquestion=64,
    maxanswer=48,
    batch_size=16,
    epochs=(3, 6),
    learning_rate=(3e-5, 1e-3),
    scored=500,
)

# the data
tokenizer, keep_tokens = simplified(args.checkpoint)
samples = read_or_cut(args.data, read_cmrc)


def row(window):
    """Token ids and segments; and the places of the answer's first and last token."""
    ids = [*window.question, *window.passage, tokenizer.token_end_id]
    segments = [0] * len(window.question) + [1] * (len(window.passage) + 1)
    start, end = window.answer or (len(window.passage), len(window.passage) + 1)
    return (ids, segments), [len(window.question) + start, len(window.question) + end - 1]


parts = windows(samples["train"], tokenizer, args)
batches = row_batches([row(part) for part in parts], args, shuffle=True)

# the model: scores (batch, 2, length), of which those of the passage count
bert = build_transformer_model(args.checkpoint, keep_tokens=keep_tokens, dropout_rate=0.1)
scores = keras.ops.transpose(keras.layers.Dense(2, name="pointers")(bert.output), (0, 2, 1))
in_passage = keras.ops.equal(keras.ops.expand_dims(bert.inputs[1], 1), 1)
model = keras.Model(bert.inputs, keras.ops.where(in_passage, scores, -1e9))


def point(part, scores):
    """The best span of a window, `(score, start, end)`; the score is 0 for the end token."""
    first, nowhere = len(part.question), len(part.question) + len(part.passage)
    starts, ends = scores[:, first:nowhere] - scores[:, nowhere, None]
    sums = starts[:, None] + ends[None, :]
    in_order = np.triu(np.tri(len(starts), k=args.maxanswer - 1, dtype=bool))
    start, last = np.unravel_index(np.where(in_order, sums, -np.inf).argmax(), sums.shape)
    return sums[start, last], start, last + 1


def answers(questions):
    parts = windows(questions, tokenizer, args)
    rows = row_batches([row(part) for part in parts], args)
    scores = [one for i in range(len(rows)) for one in model.predict_on_batch(rows[i][0])]
    found = [point(*pair) for pair in zip(parts, rows.restore(scores), strict=True)]
    return best_answers(questions, parts, found)


def score(questions):
    return cmrc_scores(questions, answers(questions))


train(model, batches, args, lambda: score(samples["valid"][: args.scored]), "reading_span")

# the result
show_scores(score(samples["test"]))
show_answers(samples["test"][:5], answers(samples["test"][:5]))
