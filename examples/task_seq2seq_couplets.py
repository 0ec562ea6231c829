"""Answers the first line of a couplet with a second: a Chinese BERT as a UniLM, with constraints.

    python examples/task_seq2seq_couplets.py [--checkpoint DIR] [--data DIR] [--lines 春风迎客]

A second line has as many characters as the first, punctuation at the same positions, repeats
characters where the first does and nowhere else, and has none of its characters. The model learns
most of that; a function that returns the tokens which may follow (`allowed_tokens`) enforces it.
Lines are scored with and without it: BLEU of characters, and the fraction that have the form.

--checkpoint: a Chinese BERT: a directory of Google's or Hugging Face's files, or a name on a hub.
--data: a directory with in.txt and out.txt, whose lines answer each other, characters separated by
    spaces; or with two such directories, train and test.
--scored: number of lines for the scores.
"""

import argparse
import re
from pathlib import Path

import keras
from sample import DATA, OUTPUT

from bert4keras_lite import build_transformer_model, load_tokenizer
from bert4keras_lite.data import Batches, next_token_labels, pad_samples, read_splits
from bert4keras_lite.generation import generate_all
from bert4keras_lite.losses import sequence_crossentropy
from bert4keras_lite.metrics import bleu
from bert4keras_lite.optimizers import AdamW, linear_decay
from bert4keras_lite.training import BestEpoch

parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
)
parser.add_argument("--checkpoint", default="tiny-zh")
parser.add_argument("--data", default=DATA / "couplets")
parser.add_argument("--maxlen", type=int, default=34)
parser.add_argument("--max-new-tokens", type=int, default=33)
parser.add_argument("--batch-size", type=int, help="64, or 32 for tiny-zh")
parser.add_argument("--epochs", type=int, help="5, or 4 for tiny-zh")
parser.add_argument("--learning-rate", type=float, help="2e-5, or 1e-3 for tiny-zh")
parser.add_argument("--num-beams", type=int, default=4)
parser.add_argument("--scored", type=int, default=500)
parser.add_argument("--lines", default="春风迎客,明月照千家")
parser.add_argument("--seed", type=int, default=0)
args = parser.parse_args()
is_small = args.checkpoint == "tiny-zh"
args.batch_size = args.batch_size or (32 if is_small else 64)
args.epochs = args.epochs or (4 if is_small else 5)
args.learning_rate = args.learning_rate or (1e-3 if is_small else 2e-5)
keras.utils.set_random_seed(args.seed)
# without the third of the vocabulary that Chinese texts do not need; each character is a token
tokenizer, keep_tokens = load_tokenizer(args.checkpoint, pre_tokenize=list).simplified()
MARK = re.compile(r"[^\w\s]")


# the data
def read_couplets(directory):
    """(first line, second line) of a directory's in.txt and out.txt."""
    columns = []
    for name in ("in.txt", "out.txt"):
        path = directory / name
        if not path.is_file():
            raise SystemExit(f"{path}: is missing; in.txt has first lines, out.txt their answers.")
        lines = path.read_text(encoding="utf-8").rstrip("\n").split("\n")
        columns.append(["".join(line.split()) for line in lines])
    if len(columns[0]) != len(columns[1]):
        sizes = " and ".join(str(len(column)) for column in columns)
        raise SystemExit(f"{directory}: in.txt and out.txt have {sizes} lines; expected as many.")
    for number, (first, second) in enumerate(zip(*columns, strict=True), 1):
        if len(first) != len(second) or not first:
            raise SystemExit(
                f"{directory}, line {number}: {first!r} and {second!r}: expected lines of one"
                " length."
            )
    return list(zip(*columns, strict=True))


def batches(pairs, **options):
    """Batches of first and second lines in one row, of which the second is to be predicted."""
    rows = []
    for source, answer in pairs:
        source = tokenizer.encode(source, maxlen=args.maxlen)[0]
        answer = tokenizer.encode(answer, maxlen=args.max_new_tokens + 1)[0][1:]
        rows.append((source + answer, [0] * len(source) + [1] * len(answer)))
    return Batches(rows, args.batch_size, collate, buckets=4, **options)


def collate(rows, length):
    ids, segments = pad_samples(rows, length)
    return (ids, segments), next_token_labels(ids, segments == 1)


directory = Path(args.data)
if (directory / "train").is_dir():
    train_and_valid = read_couplets(directory / "train")
    cut = len(train_and_valid) // 20
    samples = {"train": train_and_valid[cut:], "valid": train_and_valid[:cut]}
    samples["test"] = read_couplets(directory / "test")
else:
    samples = read_splits(directory, read_couplets)


# the form
def keeps_form(first, second):
    """Whether a line has the length, the punctuation and the repeats of the first, and no more."""
    if len(first) != len(second):
        return False
    pairs = set(zip(first, second, strict=True))
    marks = {(a, b) for a, b in pairs if MARK.match(a) or MARK.match(b)}
    words = pairs - marks
    return (
        all(a == b for a, b in marks)
        and len({a for a, _ in words}) == len({b for _, b in words}) == len(words)
        and not {a for a, _ in words} & {b for _, b in words}
    )


characters = [
    i for i in range(tokenizer.vocab_size) if "\u4e00" <= tokenizer.id_to_token(i) <= "\u9fff"
]


class Form:
    """The tokens that may come next in a line that answers `first` (see `keeps_form`)."""

    def __init__(self, first):
        ids, _, offsets = tokenizer.encode(first, return_offsets=True)
        self.ids = ids[1:-1]
        self.characters = [first[start:end] for start, end in offsets[1:-1]]

    def __call__(self, second):
        position = len(second)
        if position >= len(self.ids):  # also called for beams that have ended
            return [tokenizer.token_end_id]
        if MARK.match(self.characters[position]):
            return [self.ids[position]]
        earlier = self.characters.index(self.characters[position])
        if earlier < position:
            return [second[earlier]]
        taken = {*self.ids, *second}
        return [i for i in characters if i not in taken]


# the model
model = build_transformer_model(
    args.checkpoint,
    application="unilm",
    with_lm="linear",
    keep_tokens=keep_tokens,
    dropout_rate=0.1,
)


def answers(lines, in_form):
    """Generates the second line to each first one."""
    prompts = [tokenizer.encode(line, maxlen=args.maxlen)[0] for line in lines]
    rows = generate_all(
        model,
        prompts,
        args.max_new_tokens,
        args.batch_size,
        num_beams=args.num_beams,
        stop_ids=tokenizer.token_end_id,
        allowed_tokens=[Form(line[: args.maxlen - 2]) for line in lines] if in_form else None,
    )
    return [tokenizer.decode(row[0].ids) if row else "" for row in rows]


def evaluate(samples, in_form=False):
    """BLEU, and the fraction of lines that have the form, 0 to 1."""
    first, second = zip(*samples, strict=True)
    generated = answers(first, in_form)
    kept = [keeps_form(*pair) for pair in zip(first, generated, strict=True)]
    return {"bleu": bleu(second, generated) / 100, "in_form": sum(kept) / len(kept)}


# the training
train = batches(samples["train"], shuffle=True)
schedule = linear_decay(args.epochs * len(train))
optimizer = AdamW(args.learning_rate, weight_decay=0.01, lr_schedule=schedule)
model.compile(optimizer, sequence_crossentropy)
model.optimizer.build(model.trainable_variables)  # one trace
best = BestEpoch(lambda: evaluate(samples["valid"][: args.scored]), OUTPUT / "couplets.weights.h5")
model.fit(train, epochs=args.epochs, callbacks=[best])

# the result
lines = args.lines.split(",")
for first, second in zip(lines, answers(lines, in_form=True), strict=True):
    print(f"  first   {first}\n  second  {second}\n")
for in_form in (False, True):
    scores = evaluate(samples["test"][: args.scored], in_form)
    name = "with constraints" if in_form else "without constraints"
    print(f"{name}:", "  ".join(f"{key} {value:.4f}" for key, value in scores.items()))
