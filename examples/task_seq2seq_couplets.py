"""Answers the first line of a couplet with a second: a Chinese BERT as a UniLM, held to the form.

    python examples/task_seq2seq_couplets.py [--checkpoint DIR] [--data DIR] [--lines 春风迎客]

A second line has as many characters as the first, its punctuation at the same places, repeats where
the first repeats and nowhere else, and takes no character from it. The model learns most of that;
while writing it is enforced by a function that gives the tokens which may follow (`allowed_tokens`).
Lines are scored with and without it: BLEU on characters, and the share that keep the form.

--checkpoint: a Chinese BERT: a directory of Google's or Hugging Face's files, or a name on a hub (tiny-zh).
--data: a directory with in.txt and out.txt, whose lines answer each other, characters parted by
    spaces; or with two such directories, train and test. Without it, the sample in examples/data.
"""

import re
from pathlib import Path

from seq2seq import encode_pairs, read_or_cut, show, simplified, train, unilm_batches, write
from trials import DATA, arguments, show_scores

from bert4keras_lite import build_transformer_model
from bert4keras_lite.metrics import bleu

args = arguments(
    __doc__,
    data=f"{DATA}/couplets",
    maxlen=34,
    max_new_tokens=33,
    batch_size=(64, 32),
    epochs=(5, 4),
    learning_rate=(2e-5, 1e-3),
    num_beams=4,
    scored=500,
    lines="春风迎客,明月照千家",
)
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
                f"{directory}, line {number}: {first!r} and {second!r}: expected lines of one length."
            )
    return list(zip(*columns, strict=True))


directory = Path(args.data)
if (directory / "train").is_dir():
    train_and_valid = read_couplets(directory / "train")
    cut = len(train_and_valid) // 20
    samples = {"train": train_and_valid[cut:], "valid": train_and_valid[:cut]}
    samples["test"] = read_couplets(directory / "test")
else:
    samples = read_or_cut(directory, read_couplets)
tokenizer, keep_tokens = simplified(args.checkpoint, pre_tokenize=list)
batches = unilm_batches(encode_pairs(samples["train"], tokenizer, args), args, shuffle=True)


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
        place = len(second)
        if place >= len(self.ids):  # asked again of beams that ended
            return [tokenizer.token_end_id]
        if MARK.match(self.characters[place]):
            return [self.ids[place]]
        earlier = self.characters.index(self.characters[place])
        if earlier < place:
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
    prompts = [tokenizer.encode(line, maxlen=args.maxlen)[0] for line in lines]
    forms = [Form(line[: args.maxlen - 2]) for line in lines] if in_form else None
    return write(model, prompts, tokenizer, args, num_beams=args.num_beams, allowed_tokens=forms)


def score(rows, in_form=False):
    first, second = zip(*rows, strict=True)
    written = answers(first, in_form)
    kept = [keeps_form(*pair) for pair in zip(first, written, strict=True)]
    return {"bleu": bleu(second, written) / 100, "in_form": sum(kept) / len(kept)}


train(model, batches, args, lambda: score(samples["valid"][: args.scored]), "couplets")

# the result
for in_form in (False, True):
    scores = score(samples["test"][: args.scored], in_form)
    show_scores(scores, "held to the form" if in_form else "free")
lines = args.lines.split(",")
for first, second in zip(lines, answers(lines, in_form=True), strict=True):
    show(("first ", first), ("second", second))
