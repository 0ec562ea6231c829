"""Answers questions about a passage by filling masks: all tokens of the answer at once.

    python examples/task_reading_comprehension_by_mlm.py [--checkpoint DIR] [--data PATH]

A row is [CLS], as many [MASK] as an answer may have tokens, question and passage. At the masks the
answer is predicted, then [SEP]. So a BERT uses its own masked language model head, and needs no new
weights. Of all substrings of the passage the most likely one is the answer.

--checkpoint: a Chinese BERT: a directory of Google's or Hugging Face's files, or a name on a hub.
--data: CMRC 2018 or another data set in SQuAD's form: a directory with train, dev (and test) files,
    or one file.
--scored: number of questions for the scores of an epoch.

Reference: https://kexue.fm/archives/7148.
"""

import argparse
from collections import namedtuple

import keras
import numpy as np
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
parser.add_argument("--maxanswer", type=int, help="32, or 8 for tiny-zh")
parser.add_argument("--batch-size", type=int, default=16)
parser.add_argument("--epochs", type=int, help="5, or 8 for tiny-zh")
parser.add_argument("--learning-rate", type=float, help="2e-5, or 1e-3 for tiny-zh")
parser.add_argument("--scored", type=int, default=500)
parser.add_argument("--seed", type=int, default=0)
args = parser.parse_args()
is_small = args.checkpoint == "tiny-zh"
args.maxlen = args.maxlen or (128 if is_small else 384)
args.maxanswer = args.maxanswer or (8 if is_small else 32)
args.epochs = args.epochs or (8 if is_small else 5)
args.learning_rate = args.learning_rate or (1e-3 if is_small else 2e-5)
keras.utils.set_random_seed(args.seed)
# without the third of the vocabulary that Chinese texts do not need
tokenizer, keep_tokens = load_tokenizer(args.checkpoint).simplified()
start_id, end_id = tokenizer.token_start_id, tokenizer.token_end_id
ROOM = args.maxanswer + 2  # tokens in a row besides question and passage


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
    """Token ids and segment ids; labels are the tokens at the masks."""
    masks = [start_id] + [tokenizer.token_mask_id] * args.maxanswer
    question = [end_id, *window.question[1:]]
    ids = [*masks, *question, *window.passage, end_id]
    segments = [0] * (len(masks) + len(question)) + [1] * (len(window.passage) + 1)
    start, end = window.answer or (0, 0)
    answer = window.passage[start:end][: args.maxanswer]
    return (ids, segments), answer + [end_id] * (args.maxanswer - len(answer))


samples = read_splits(args.data, read_squad)
last = "valid" if samples["test"] is samples["valid"] else "test"

# the model: logits of the vocabulary, at the masks alone
transformer = build_transformer_model(
    args.checkpoint,
    with_mlm="linear",
    keep_tokens=keep_tokens,
    dropout_rate=0.1,
    return_keras_model=False,
)
masks = transformer.hidden_states[-1][:, 1 : 1 + args.maxanswer]
model = keras.Model(transformer.inputs, transformer.output_heads(masks))


def best_span(window, logits):
    """The most likely span of a window, (score, start, end); the score of no answer is 0."""
    log_probs = logits - np.logaddexp.reduce(logits, axis=1, keepdims=True)
    rest = np.append(np.cumsum(log_probs[::-1, end_id])[::-1], 0.0)  # [SEP] from here on
    best, span = (-np.inf, 0, 0), np.zeros(len(window.passage))
    for size in range(1, min(args.maxanswer, len(window.passage)) + 1):
        # span[i]: log-probability of the `size` tokens from i on
        following = log_probs[size - 1, window.passage[size - 1 :]]
        span = span[: len(window.passage) - size + 1] + following
        start = span.argmax()
        best = max(best, (span[start] + rest[size] - rest[0], start, start + size))
    return best


def answers_to(questions):
    windows = windows_of(questions)
    batches = Batches([row(window) for window in windows], args.batch_size)
    # batch by batch, as the logits of the vocabulary for all windows take much memory
    logits = (row for inputs, _ in batches for row in model.predict_on_batch(inputs))
    spans = [best_span(*pair) for pair in zip(windows, logits, strict=True)]
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
    lambda: evaluate(samples["valid"][: args.scored]), OUTPUT / "reading_mlm.weights.h5"
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
