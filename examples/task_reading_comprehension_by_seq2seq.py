"""Answers questions about a passage by generation, restricted to what the passage says.

    python examples/task_reading_comprehension_by_seq2seq.py [--checkpoint DIR] [--data PATH]

A Chinese BERT as a UniLM (`application="unilm"`) generates the answer after question and passage.
Only substrings of the passage can be generated (`Substrings`). Of several windows over a long
passage, the answer of the highest probability is taken; if the answer is not in a window, the empty
one is learned.

--checkpoint: a Chinese BERT: a directory of Google's or Hugging Face's files, or a name on a hub.
--data: CMRC 2018 or another data set in SQuAD's form: a directory with train, dev (and test) files,
    or one file.
--scored: number of questions for the scores of an epoch.

Reference: https://kexue.fm/archives/7115.
"""

import argparse
from collections import namedtuple

import keras
import numpy as np
from sample import DATA, OUTPUT

from bert4keras_lite import build_transformer_model, load_tokenizer
from bert4keras_lite.data import Batches, next_token_labels, pad_samples, read_splits, read_squad
from bert4keras_lite.generation import Substrings, generate_all
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
parser.add_argument("--maxlen", type=int, help="320, or 112 for tiny-zh")
parser.add_argument("--maxquestion", type=int, default=64)
parser.add_argument("--max-new-tokens", type=int, help="32, or 12 for tiny-zh")
parser.add_argument("--num-beams", type=int, default=3)
parser.add_argument("--batch-size", type=int, default=16)
parser.add_argument("--epochs", type=int, help="3, or 6 for tiny-zh")
parser.add_argument("--learning-rate", type=float, help="2e-5, or 1e-3 for tiny-zh")
parser.add_argument("--scored", type=int, default=200)
parser.add_argument("--seed", type=int, default=0)
args = parser.parse_args()
is_small = args.checkpoint == "tiny-zh"
args.maxlen = args.maxlen or (112 if is_small else 320)
args.max_new_tokens = args.max_new_tokens or (12 if is_small else 32)
args.epochs = args.epochs or (6 if is_small else 3)
args.learning_rate = args.learning_rate or (1e-3 if is_small else 2e-5)
keras.utils.set_random_seed(args.seed)
# without the third of the vocabulary that Chinese texts do not need
tokenizer, keep_tokens = load_tokenizer(args.checkpoint).simplified()
start_id, end_id = tokenizer.token_start_id, tokenizer.token_end_id
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


def source(window):
    return [*window.question, *window.passage, end_id]


def target(window):
    """The tokens to predict: those of the answer, if it is in the window, and [SEP]."""
    start, end = window.answer or (0, 0)
    return [*window.passage[start:end][: args.max_new_tokens - 1], end_id]


def collate(rows, length):
    ids, segments = pad_samples(rows, length)
    return (ids, segments), next_token_labels(ids, segments == 1)


samples = read_splits(args.data, read_squad)
last = "valid" if samples["test"] is samples["valid"] else "test"
rows = [(source(window), target(window)) for window in windows_of(samples["train"])]
rows = [(first + second, [0] * len(first) + [1] * len(second)) for first, second in rows]
train = Batches(rows, args.batch_size, collate, shuffle=True, buckets=4)

# the model
model = build_transformer_model(
    args.checkpoint,
    application="unilm",
    with_lm="linear",
    keep_tokens=keep_tokens,
    dropout_rate=0.1,
)


def answers_to(questions):
    windows = windows_of(questions)
    substrings = [Substrings(window.passage, stop_id=end_id) for window in windows]
    rows = generate_all(
        model,
        [source(window) for window in windows],
        args.max_new_tokens,
        args.batch_size,
        stop_ids=end_id,
        num_beams=args.num_beams,
        length_penalty=0.0,  # log-probabilities as they are, to compare windows
        allowed_tokens=substrings,
    )
    spans = []
    for allowed, (best, *_) in zip(substrings, rows, strict=True):
        end = allowed.places(tuple(best.ids.tolist()))[0]
        spans.append((best.score, end - len(best.ids), end))
    return best_answers(questions, windows, spans)


def evaluate(questions):
    """F1 and exact match of CMRC 2018, 0 to 1."""
    return cmrc_scores([question.answers for question in questions], answers_to(questions))


# the training
schedule = linear_decay(args.epochs * len(train))
optimizer = AdamW(args.learning_rate, weight_decay=0.01, lr_schedule=schedule)
model.compile(optimizer, sequence_crossentropy)
model.optimizer.build(model.trainable_variables)  # one trace
best = BestEpoch(
    lambda: evaluate(samples["valid"][: args.scored]), OUTPUT / "reading_seq2seq.weights.h5"
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
