"""Solves word problems: a Chinese BERT as a UniLM writes an equation, which is computed exactly.

    python examples/task_seq2seq_ape210k_math_word_problem.py [--checkpoint DIR] [--data PATH]

A letter is put before each number of a problem, and the equation is written in these letters:

    学校把a135本练习本平均分给b3个班，每班多少本？    a/b

So the model says what is to be done with which number; it need not copy digits, but can see how
large the numbers are. What it writes is read by arithmetic.py, never by Python. Of the beams the
first that is an expression at all counts; it is right if its value is the answer.

--checkpoint: a Chinese BERT: a directory of Google's or Hugging Face's files, or a name on a hub (tiny-zh).
--data: Ape210K: a directory with its train.ape.json, valid.ape.json and test.ape.json, or one of
    these files. Without it, the sample in examples/data.

Reference: Zhao et al., "Ape210K", arXiv 2009.11506; for the numbers, Wang et al., "Deep Neural
Solver for Math Word Problems", EMNLP 2017.
"""

import re
from string import ascii_lowercase

from arithmetic import NotArithmetic, value
from json_lines import read_lines
from seq2seq import encode_pairs, read_or_cut, show, simplified, train, unilm_batches, write_several
from trials import DATA, arguments

from bert4keras_lite import build_transformer_model

args = arguments(
    __doc__,
    data=f"{DATA}/problems",
    maxlen=(192, 96),
    max_new_tokens=(64, 24),
    batch_size=(32, 16),
    epochs=(10, 8),
    learning_rate=(2e-5, 1e-3),
    num_beams=3,
    scored=500,
)
NUMBER = re.compile(r"\d+\(\d+/\d+\)|\(\d+/\d+\)|\d+(?:\.\d+)?%?")


def close(x, y):
    return abs(x - y) <= 1e-5 * max(1, abs(y))


def lettered(text):
    """The text with a letter before each number, and the numbers: letter -> as it is written."""
    numbers = {}

    def with_letter(match):
        if len(numbers) == len(ascii_lowercase):
            return match[0]
        letter = ascii_lowercase[len(numbers)]
        numbers[letter] = match[0]
        return letter + match[0]

    return NUMBER.sub(with_letter, text.upper()), numbers  # its own letters are none of ours


def in_letters(equation, numbers):
    """An equation with letters for the numbers of the problem; others stay."""
    letters = {number: letter for letter, number in reversed(numbers.items())}
    return NUMBER.sub(lambda match: letters.get(match[0], match[0]), equation.removeprefix("x="))


def in_numbers(written, numbers):
    """What was written, with the numbers in the place of the letters."""
    return re.sub(
        "[a-z]", lambda letter: numbers.get(letter[0], letter[0]), written.replace(" ", "")
    )


def read_problems(path):
    """(text with letters, equation in letters, numbers, answer); those that fit the answer."""
    form = '{"original_text": "...", "equation": "x=...", "ans": "..."}'
    rows = read_lines(path, problem, form)
    problems = [row for row in rows if row]
    left_out = len(rows) - len(problems)
    print(
        f"{path}: {len(problems)} problems; {left_out} left out, whose equation is not the answer"
    )
    return problems


def problem(row):
    text, numbers = lettered(row["original_text"])
    try:
        answer = value(row["ans"])
        fits = close(value(row["equation"]), answer)
    except NotArithmetic:
        fits = False
    return [(text, in_letters(row["equation"], numbers), numbers, answer) if fits else None]


# the data; digits and letters are tokens of their own
tokenizer, keep_tokens = simplified(args.checkpoint, pre_tokenize=list, do_lower_case=False)
samples = read_or_cut(args.data, read_problems)
pairs = [(text, equation) for text, equation, *_ in samples["train"]]
batches = unilm_batches(encode_pairs(pairs, tokenizer, args), args, shuffle=True)

# the model
model = build_transformer_model(
    args.checkpoint,
    application="unilm",
    with_lm="linear",
    keep_tokens=keep_tokens,
    dropout_rate=0.1,
)


def solve(problems):
    """For each problem the equation and its value, or None where no beam has one."""
    prompts = [tokenizer.encode(text, maxlen=args.maxlen)[0] for text, *_ in problems]
    beams = write_several(
        model,
        prompts,
        tokenizer,
        args,
        num_beams=args.num_beams,
        num_return_sequences=args.num_beams,
    )
    return [
        first_value(texts, numbers)
        for texts, (_, _, numbers, _) in zip(beams, problems, strict=True)
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
    right = [found is not None and close(found, answer) for (*_, answer), (_, found) in pairs]
    return {"accuracy": sum(right) / len(right)}


train(model, batches, args, lambda: accuracy(samples["valid"][: args.scored]), "problems")

# the result
print(f"test accuracy: {accuracy(samples['test'])['accuracy']:.4f}")
shown = samples["test"][:6]
for (text, _, _, answer), (equation, found) in zip(shown, solve(shown), strict=True):
    result = "no value" if found is None else f"{float(found):g}"
    verdict = "right" if found is not None and close(found, answer) else f"the answer is {answer}"
    show(("problem", text), ("written", f"{equation} = {result}  ({verdict})"))
