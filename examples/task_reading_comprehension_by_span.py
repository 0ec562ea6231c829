"""Answers questions about a passage by predicting where the answer starts and where it ends.

    python examples/task_reading_comprehension_by_span.py [--checkpoint DIR] [--data PATH]

Question and passage are one row; two logits for each token of the passage say whether the answer
starts or ends there. Long passages are read in overlapping windows. If the answer is not in a
window, start and end are its last token, [SEP]; answers of different windows are compared by their
logits minus those of [SEP].

--checkpoint: a Chinese BERT: a directory of Google's or Hugging Face's files, or a name on a hub.
--data: CMRC 2018 or another data set in SQuAD's form: a directory with train, dev (and test) files,
    or one file.
--scored: number of questions for the scores of an epoch.

Reference: Devlin et al., "BERT", arXiv 1810.04805, section 4.3.
"""

import argparse
from collections import namedtuple

import keras
import numpy as np
from keras import ops
from sample import DATA, OUTPUT

from bert4keras_lite import build_transformer_model, load_tokenizer
from bert4keras_lite.data import Batches, read_splits, read_squad
from bert4keras_lite.losses import sequence_crossentropy
from bert4keras_lite.metrics import cmrc_scores
from bert4keras_lite.optimizers import AdamW, linear_decay
from bert4keras_lite.spans import sliding_windows
from bert4keras_lite.training import BestEpoch

parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
)
parser.add_argument("--checkpoint", default="tiny-zh")
parser.add_argument("--data", default=DATA / "reading")
parser.add_argument("--maxlen", type=int, help="384, or 128 for tiny-zh")
parser.add_argument("--maxquestion", type=int, default=64)
parser.add_argument("--maxanswer", type=int, default=48)
parser.add_argument("--batch-size", type=int, default=16)
parser.add_argument("--epochs", type=int, help="3, or 6 for tiny-zh")
parser.add_argument("--learning-rate", type=float, help="3e-5, or 1e-3 for tiny-zh")
parser.add_argument("--scored", type=int, default=500)
parser.add_argument("--seed", type=int, default=0)
args = parser.parse_args()
is_small = args.checkpoint == "tiny-zh"
args.maxlen = args.maxlen or (128 if is_small else 384)
args.epochs = args.epochs or (6 if is_small else 3)
args.learning_rate = args.learning_rate or (1e-3 if is_small else 3e-5)
keras.utils.set_random_seed(args.seed)
# without the third of the vocabulary that Chinese texts do not need
tokenizer, keep_tokens = load_tokenizer(args.checkpoint).simplified()
ROOM = 1  # tokens in a row besides question and passage: [SEP]


# the data
Window = namedtuple("Window", "number question passage offsets answer")  # number: of the question


def windows_of(questions):
    """Windows over each passage that fit into a row with the question, as token ids."""
    windows = []
    for number, question in enumerate(questions):
        ids, _, offsets = tokenizer.encode(question.passage, return_offsets=True)
        ids, offsets = ids[1:-1], offsets[1:-1]
        asked = tokenizer.encode(question.text, maxlen=args.maxquestion)[0]
        width = args.maxlen - len(asked) - ROOM
        for start, end in sliding_windows(len(ids), width):  # they overlap by half
            answer = answer_tokens(question, offsets[start:end])
            windows.append(Window(number, asked, ids[start:end], offsets[start:end], answer))
    return windows


def answer_tokens(question, offsets):
    """The tokens of the first answer, (start, end); None if it is not in the window."""
    answer = question.answers[0]
    start = question.start + len(answer) - len(answer.lstrip())
    end = question.start + len(answer.rstrip())
    if question.start < 0 or not offsets or start < offsets[0][0] or end > offsets[-1][1]:
        return None
    inside = [i for i, (a, b) in enumerate(offsets) if b > start and a < end]
    return (inside[0], inside[-1] + 1) if inside else None


def best_answers(questions, windows, spans):
    """For each question the text of the best span (score, start, end) of its windows."""
    answers, scores = [""] * len(questions), [-np.inf] * len(questions)
    for window, (score, start, end) in zip(windows, spans, strict=True):
        if end > start and score > scores[window.number]:
            passage = questions[window.number].passage
            first, last = window.offsets[start], window.offsets[end - 1]
            answers[window.number] = passage[first[0] : last[1]]
            scores[window.number] = score
    return answers


def row(window):
    """Token ids and segment ids; labels are the positions of the answer's first and last token."""
    ids = [*window.question, *window.passage, tokenizer.token_end_id]
    segments = [0] * len(window.question) + [1] * (len(window.passage) + 1)
    start, end = window.answer or (len(window.passage), len(window.passage) + 1)
    return (ids, segments), [len(window.question) + start, len(window.question) + end - 1]


samples = read_splits(args.data, read_squad)
last = "valid" if samples["test"] is samples["valid"] else "test"

# the model: logits (batch, 2, length), of which those of the passage count
bert = build_transformer_model(args.checkpoint, keep_tokens=keep_tokens, dropout_rate=0.1)
logits = ops.transpose(keras.layers.Dense(2, name="pointers")(bert.output), (0, 2, 1))
in_passage = ops.equal(ops.expand_dims(bert.inputs[1], 1), 1)
model = keras.Model(bert.inputs, ops.where(in_passage, logits, -np.inf))


def best_span(window, logits):
    """The best span of a window, (score, start, end); the score of [SEP] is 0."""
    first, end = len(window.question), len(window.question) + len(window.passage)
    starts, ends = logits[:, first:end] - logits[:, end, None]
    sums = starts[:, None] + ends[None, :]
    in_order = np.triu(np.tri(len(starts), k=args.maxanswer - 1, dtype=bool))
    start, last = np.unravel_index(np.where(in_order, sums, -np.inf).argmax(), sums.shape)
    return sums[start, last], start, last + 1


def answers_to(questions):
    windows = windows_of(questions)
    batches, logits = Batches([row(window) for window in windows], args.batch_size, buckets=4), []
    for inputs, _ in batches:
        logits += list(model.predict_on_batch(inputs))
    spans = [best_span(*pair) for pair in zip(windows, batches.restore(logits), strict=True)]
    return best_answers(questions, windows, spans)


def evaluate(questions):
    """F1 and exact match of CMRC 2018, 0 to 1."""
    return cmrc_scores([question.answers for question in questions], answers_to(questions))


# the training
train = Batches(
    [row(window) for window in windows_of(samples["train"])],
    args.batch_size,
    shuffle=True,
    buckets=4,
)
schedule = linear_decay(args.epochs * len(train))
optimizer = AdamW(args.learning_rate, weight_decay=0.01, lr_schedule=schedule)
model.compile(optimizer, sequence_crossentropy)
model.optimizer.build(model.trainable_variables)  # one trace
best = BestEpoch(
    lambda: evaluate(samples["valid"][: args.scored]), OUTPUT / "reading_span.weights.h5"
)
model.fit(train, epochs=args.epochs, callbacks=[best])

# the result
few = samples["test"][:5]
for question, answer in zip(few, answers_to(few), strict=True):
    print(f"  passage   {question.passage[:80]}\n  question  {question.text}")
    true = " / ".join(dict.fromkeys(question.answers))
    print(f"  answer    {true}\n  predicted {answer}\n")
scores = evaluate(samples["test"])
print(f"{last}:", "  ".join(f"{name} {value:.4f}" for name, value in scores.items()))
