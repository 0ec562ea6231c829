"""Solves word problems: a Chinese BERT as a UniLM generates an equation, which is computed exactly.

    python examples/task_seq2seq_ape210k_math_word_problem.py [--checkpoint DIR] [--data PATH]

A letter is put before each number of a problem, and the equation is written in these letters:

    学校把a135本练习本平均分给b3个班，每班多少本？    a/b

So the model predicts which numbers to combine and how; it need not copy digits, but can see how
large the numbers are. The equation is evaluated by arithmetic.py, never by Python. Of the beams,
the first that is an expression counts; it is correct if its value is the answer.

--checkpoint: a Chinese BERT: a directory of Google's or Hugging Face's files, or a name on a hub.
--data: Ape210K: a directory with its train.ape.json, valid.ape.json and test.ape.json, or one of
    these files.
--scored: number of problems for the accuracy of an epoch.

Reference: Zhao et al., "Ape210K", arXiv 2009.11506; for the numbers, Wang et al., "Deep Neural
Solver for Math Word Problems", EMNLP 2017.
"""

import argparse
import re
from string import ascii_lowercase

import keras
from arithmetic import NotArithmetic, value
from sample import DATA, OUTPUT

from bert4keras_lite import build_transformer_model, load_tokenizer
from bert4keras_lite.data import (
    Batches,
    next_token_labels,
    pad_samples,
    read_json_lines,
    read_splits,
)
from bert4keras_lite.generation import generate_all
from bert4keras_lite.losses import sequence_crossentropy
from bert4keras_lite.optimizers import AdamW, linear_decay
from bert4keras_lite.training import BestEpoch

parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
)
parser.add_argument("--checkpoint", default="tiny-zh")
parser.add_argument("--data", default=DATA / "problems")
parser.add_argument("--maxlen", type=int, help="192, or 96 for tiny-zh")
parser.add_argument("--max-new-tokens", type=int, help="64, or 24 for tiny-zh")
parser.add_argument("--batch-size", type=int, help="32, or 16 for tiny-zh")
parser.add_argument("--epochs", type=int, help="10, or 8 for tiny-zh")
parser.add_argument("--learning-rate", type=float, help="2e-5, or 1e-3 for tiny-zh")
parser.add_argument("--num-beams", type=int, default=3)
parser.add_argument("--scored", type=int, default=500)
parser.add_argument("--seed", type=int, default=0)
args = parser.parse_args()
is_small = args.checkpoint == "tiny-zh"
args.maxlen = args.maxlen or (96 if is_small else 192)
args.max_new_tokens = args.max_new_tokens or (24 if is_small else 64)
args.batch_size = args.batch_size or (16 if is_small else 32)
args.epochs = args.epochs or (8 if is_small else 10)
args.learning_rate = args.learning_rate or (1e-3 if is_small else 2e-5)
keras.utils.set_random_seed(args.seed)
# without the third of the vocabulary that Chinese texts do not need; digits and letters are tokens
tokenizer, keep_tokens = load_tokenizer(
    args.checkpoint, pre_tokenize=list, do_lower_case=False
).simplified()


# the data
NUMBER = re.compile(r"\d+\(\d+/\d+\)|\(\d+/\d+\)|\d+(?:\.\d+)?%?")


def close(x, y):
    return x is not None and abs(x - y) <= 1e-5 * max(1, abs(y))


def lettered(text):
    """The text with a letter before each number, and the numbers: letter -> as it is written."""
    numbers = {}

    def with_letter(match):
        if len(numbers) == len(ascii_lowercase):
            return match[0]
        letter = ascii_lowercase[len(numbers)]
        numbers[letter] = match[0]
        return letter + match[0]

    return NUMBER.sub(with_letter, text.upper()), numbers  # so its own letters are not lower case


def in_letters(equation, numbers):
    """An equation with letters for the numbers of the problem; others stay."""
    letters = {number: letter for letter, number in reversed(numbers.items())}
    return NUMBER.sub(lambda match: letters.get(match[0], match[0]), equation.removeprefix("x="))


def in_numbers(equation, numbers):
    """A generated equation, with numbers in place of the letters."""
    equation = equation.replace(" ", "")
    return re.sub("[a-z]", lambda letter: numbers.get(letter[0], letter[0]), equation)


def read_problems(path):
    """(text with letters, equation in letters, numbers, answer); those that fit the answer."""
    rows = read_json_lines(path, problem)
    problems = [row for row in rows if row]
    lost = len(rows) - len(problems)
    print(f"{path}: {len(problems)} problems; {lost} left out, whose equation is not the answer")
    return problems


def problem(row):
    """A problem as in `read_problems`, or () if the equation is not the answer."""
    text, numbers = lettered(row["original_text"])
    try:
        answer = value(row["ans"])
        fits = close(value(row["equation"]), answer)
    except NotArithmetic:
        fits = False
    return (text, in_letters(row["equation"], numbers), numbers, answer) if fits else ()


def batches(pairs, **options):
    """Batches of a problem and its equation in one row; the equation is to be predicted."""
    rows = []
    for source, answer in pairs:
        source = tokenizer.encode(source, maxlen=args.maxlen)[0]
        answer = tokenizer.encode(answer, maxlen=args.max_new_tokens + 1)[0][1:]
        rows.append((source + answer, [0] * len(source) + [1] * len(answer)))
    return Batches(rows, args.batch_size, collate, buckets=4, **options)


def collate(rows, length):
    ids, segments = pad_samples(rows, length)
    return (ids, segments), next_token_labels(ids, segments == 1)


samples = read_splits(args.data, read_problems)
last = "valid" if samples["test"] is samples["valid"] else "test"

# the model
model = build_transformer_model(
    args.checkpoint,
    application="unilm",
    with_lm="linear",
    keep_tokens=keep_tokens,
    dropout_rate=0.1,
)


def solve(problems):
    """For each problem the equation and its value, or None if no beam has one."""
    rows = generate_all(
        model,
        [tokenizer.encode(text, maxlen=args.maxlen)[0] for text, *_ in problems],
        args.max_new_tokens,
        args.batch_size,
        num_beams=args.num_beams,
        num_return_sequences=args.num_beams,
        stop_ids=tokenizer.token_end_id,
    )
    return [
        first_value([tokenizer.decode(beam.ids) for beam in row], numbers)
        for row, (_, _, numbers, _) in zip(rows, problems, strict=True)
    ]


def first_value(texts, numbers):
    for text in texts:
        equation = in_numbers(text, numbers)
        try:
            return equation, value(equation)
        except NotArithmetic:
            continue
    return texts[0] if texts else "", None


def accuracy(problems):
    pairs = zip(problems, solve(problems), strict=True)
    correct = [close(result, answer) for (*_, answer), (_, result) in pairs]
    return {"accuracy": sum(correct) / len(correct)}


# the training
train = batches([problem[:2] for problem in samples["train"]], shuffle=True)
schedule = linear_decay(args.epochs * len(train))
optimizer = AdamW(args.learning_rate, weight_decay=0.01, lr_schedule=schedule)
model.compile(optimizer, sequence_crossentropy)
model.optimizer.build(model.trainable_variables)  # one trace
best = BestEpoch(lambda: accuracy(samples["valid"][: args.scored]), OUTPUT / "problems.weights.h5")
model.fit(train, epochs=args.epochs, callbacks=[best])

# the result
few = samples["test"][:6]
for (text, _, _, answer), (equation, result) in zip(few, solve(few), strict=True):
    shown = "no value" if result is None else f"{float(result):g}"
    verdict = "correct" if close(result, answer) else f"the answer is {answer}"
    print(f"  problem   {text}\n  generated {equation} = {shown}  ({verdict})\n")
print(f"{last} accuracy: {accuracy(samples['test'])['accuracy']:.4f}")
