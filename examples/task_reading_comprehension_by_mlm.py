"""Answers questions about a passage by filling in masks, all at once.

    python examples/task_reading_comprehension_by_mlm.py [--checkpoint DIR] [--data PATH]

    [CLS] [MASK] [MASK] ... [SEP] question [SEP] passage [SEP]

The masks are to be filled with the answer, and those that are left over with [SEP]. The head that
was trained to fill masks does it in one pass. For each run of the passage the probabilities are
multiplied with which the masks hold its tokens; the likeliest run is the answer. A window of a long
passage without the answer has nothing but [SEP] to fill in.

--checkpoint: a Chinese BERT: a directory of Google's or Hugging Face's files, or a name on a hub (tiny-zh).
--data: CMRC 2018 or another set in SQuAD's form: a directory with train, dev (and test) files, or one
    file. Without it, the sample in examples/data.

Reference: https://kexue.fm/archives/7148
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
    maxanswer=(32, 8),
    batch_size=16,
    epochs=(5, 8),
    learning_rate=(2e-5, 1e-3),
    scored=500,
)

# the data
tokenizer, keep_tokens = simplified(args.checkpoint)
samples = read_or_cut(args.data, read_cmrc)
start_id, end_id = tokenizer.token_start_id, tokenizer.token_end_id


def row(window):
    """Token ids and segments, and what is to be filled in."""
    masks = [start_id] + [tokenizer.token_mask_id] * args.maxanswer
    question = [end_id, *window.question[1:]]
    ids = [*masks, *question, *window.passage, end_id]
    segments = [0] * (len(masks) + len(question)) + [1] * (len(window.passage) + 1)
    start, end = window.answer or (0, 0)
    answer = window.passage[start:end][: args.maxanswer]
    return (ids, segments), answer + [end_id] * (args.maxanswer - len(answer))


parts = windows(samples["train"], tokenizer, args, room=args.maxanswer + 1)
batches = row_batches([row(part) for part in parts], args, shuffle=True)

# the model: the vocabulary is scored at the masks alone
transformer = build_transformer_model(
    args.checkpoint,
    with_mlm="linear",
    keep_tokens=keep_tokens,
    dropout_rate=0.1,
    return_keras_model=False,
)
masks = transformer.hidden_states[-1][:, 1 : 1 + args.maxanswer]
model = keras.Model(transformer.inputs, transformer.output_heads(masks))


def likeliest(part, scores):
    """The likeliest run of a window's tokens, `(score, start, end)`; the score is 0 for none."""
    logs = scores - np.logaddexp.reduce(scores, axis=1, keepdims=True)
    rest = np.append(np.cumsum(logs[::-1, end_id])[::-1], 0.0)  # only [SEP] from here on
    best, inside = (-np.inf, 0, 0), np.zeros(len(part.passage))
    for size in range(1, min(args.maxanswer, len(part.passage)) + 1):
        # inside[i]: the run of `size` tokens that starts at i
        inside = inside[: len(part.passage) - size + 1] + logs[size - 1, part.passage[size - 1 :]]
        start = inside.argmax()
        best = max(best, (inside[start] + rest[size] - rest[0], start, start + size))
    return best


def answers(questions):
    parts = windows(questions, tokenizer, args, room=args.maxanswer + 1)
    rows = row_batches([row(part) for part in parts], args)
    scores = [one for i in range(len(rows)) for one in model.predict_on_batch(rows[i][0])]
    found = [likeliest(*pair) for pair in zip(parts, rows.restore(scores), strict=True)]
    return best_answers(questions, parts, found)


def score(questions):
    return cmrc_scores(questions, answers(questions))


train(model, batches, args, lambda: score(samples["valid"][: args.scored]), "reading_mlm")

# the result
show_scores(score(samples["test"]))
show_answers(samples["test"][:5], answers(samples["test"][:5]))
