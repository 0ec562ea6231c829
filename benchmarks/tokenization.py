"""Tokenization speed beside the Rust library `tokenizers`: one thread each, identical ids.

    python benchmarks/tokenization.py [--data DIR] [--vocab FILE]

Each side runs in a process of its own, in turn with the others, on the same slices of distinct
lines. All slices are timed on the first pass, where no side can profit from having seen a line
before, and again on the second, as in a second epoch; figures are medians over the slices of a
pass. Nothing is reported unless all ids are equal.

The options in which `tokenizers` differs from Google's code by design are set its way
(`word_maxlen=100`, `drop_private_use=True`). One text a call is the contest; the Rust library's
`encode_batch` on one thread is shown as well.
"""

import argparse
import hashlib
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from array import array
from importlib.util import find_spec
from itertools import product
from pathlib import Path
from statistics import median

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared"
SETS = ["sentiment_bert4keras", "chnsenticorp", "lcqmc_dev_test", "lm_laws"]
SLICES, PASSES = 9, 2
BATCH = 64

sys.path.insert(0, str(ROOT))


def read_lines(*paths):
    """The distinct lines, shuffled, of some text files and of all those below some folders."""
    files = []
    for path in paths:
        found = [path] if path.is_file() else sorted(path.rglob("*"))
        files += [p for p in found if p.suffix in (".txt", ".tsv", ".data")]
    lines = dict.fromkeys(line for path in files for line in path.read_text("utf-8").split("\n"))
    lines.pop("", None)
    lines = list(lines)
    random.Random(0).shuffle(lines)
    return lines


def made_up_lines(count=20_000):
    """Stands in where there is no corpus: Chinese words, some Latin ones, numbers, punctuation."""
    rng = random.Random(0)
    chinese = [chr(code) for code in range(0x4E00, 0x4E00 + 3000)]
    words = ["".join(rng.choices(chinese, k=rng.randint(1, 4))) for _ in range(8000)]
    words += ["BERT", "Keras", "hello", "Python3", "2023", "3.14", "  ", "100%", "A4", "OK"] * 40
    return [
        "".join(rng.choice(words) + rng.choice([""] * 5 + ["，"]) for _ in range(length)) + "。"
        for length in rng.choices(range(5, 60), k=count)
    ]


def make_vocab(lines, path):
    """A vocabulary of the characters of `lines`, and of letters and digits within words."""
    seen = {char for line in lines for char in line.lower() if not char.isspace()}
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *sorted(seen)]
    tokens += [f"##{char}" for char in sorted(seen) if char.isascii() and char.isalnum()]
    path.write_text("\n".join(tokens), "utf-8")


# What each process does


def encoder(side, vocab):
    """A function from a list of lines to a list of their ids."""
    if side.startswith("rust"):
        from tokenizers import BertWordPieceTokenizer

        rust = BertWordPieceTokenizer(vocab, lowercase=True)
        if side == "rust batch":
            return lambda lines: [encoding.ids for encoding in rust.encode_batch(lines)]
        return lambda lines: [rust.encode(line).ids for line in lines]

    from bert4keras_lite.tokenizers import Tokenizer

    ours = Tokenizer(vocab, word_maxlen=100, drop_private_use=True)
    if side == "ours with offsets":
        return lambda lines: [ours.encode(line, return_offsets=True)[0] for line in lines]
    return lambda lines: [ours.encode(line)[0] for line in lines]


def work(side, vocab, lines_path):
    """Times one slice for each line on standard input; answers in JSON."""
    lines = json.loads(Path(lines_path).read_text("utf-8"))
    encode = encoder(side, vocab)
    for request in sys.stdin:
        chosen = lines[int(request) :: SLICES]
        digest, seconds = hashlib.sha256(), 0.0
        for start in range(0, len(chosen), BATCH):
            batch = chosen[start : start + BATCH]
            begin = time.perf_counter()
            rows = encode(batch)
            seconds += time.perf_counter() - begin
            for row in rows:
                digest.update(array("i", [len(row), *row]))
        characters = sum(map(len, chosen))
        answer = {"ids": digest.hexdigest(), "speed": characters / seconds}
        print(json.dumps(answer), flush=True)


# What the main process does


def measure(lines, vocab):
    """Characters a second: dict side -> a list for each pass, with a number for each slice."""
    sides = ["ours", "ours with offsets"]
    if find_spec("tokenizers"):
        sides += ["rust", "rust batch"]
    environment = {**os.environ, "TOKENIZERS_PARALLELISM": "false", "RAYON_NUM_THREADS": "1"}
    with tempfile.TemporaryDirectory() as folder:
        lines_path = Path(folder, "lines.json")
        lines_path.write_text(json.dumps(lines), "utf-8")
        workers = {
            side: subprocess.Popen(
                [sys.executable, __file__, "--side", side, "--vocab", vocab, "--lines", lines_path],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                env=environment,
            )
            for side in sides
        }
        try:
            speeds = {side: [[] for _ in range(PASSES)] for side in sides}
            for number, i in product(range(PASSES), range(SLICES)):
                ids = set()
                for side, worker in workers.items():
                    print(i, file=worker.stdin, flush=True)
                    answer = worker.stdout.readline()
                    if not answer:
                        raise RuntimeError(f"the process of {side!r} failed; see its message above")
                    answer = json.loads(answer)
                    speeds[side][number].append(answer["speed"])
                    ids.add(answer["ids"])
                if len(ids) > 1:
                    raise AssertionError(f"slice {i}: the ids of {', '.join(sides)} differ")
        finally:
            for worker in workers.values():
                worker.communicate()
    return speeds


def run(data=None, vocab=None):
    """Measures, and returns the rows of the table.

    Args:
        data: folder or file with texts; by default the shared data sets where they are, else the
            sample corpus.
        vocab: vocabulary file; by default Google's Chinese one where it is, else one made of
            the characters of the texts.

    Returns:
        A list of dicts with keys `figure`, `ours`, `peer` (both characters a second), `ratio`
        and `target` (the least ratio wanted, or None).
    """
    corpus = ROOT / "examples/data/corpus.txt"
    if data:
        lines = read_lines(Path(data))
    elif SHARED.exists():
        lines = read_lines(*(SHARED / "data" / name for name in SETS))
    elif corpus.exists():
        lines = read_lines(corpus)
    else:
        lines = made_up_lines()
    with tempfile.TemporaryDirectory() as folder:
        google = SHARED / "tokenizers/bert_chinese_vocab/vocab.txt"
        if vocab is None and google.exists():
            vocab = google
        elif vocab is None:
            vocab = Path(folder, "vocab.txt")
            make_vocab(lines, vocab)
        speeds = measure(lines, str(vocab))

    figures = [("tokenization with offsets, against without", "ours with offsets", "ours", 0, 0.5)]
    if "rust" in speeds:
        rust = "tokenization, against Rust tokenizers"
        figures = [
            (f"{rust}, first pass", "ours", "rust", 0, 5.0),
            (f"{rust}, second pass", "ours", "rust", 1, 8.0),
            *figures,
            (f"{rust} encode_batch, first pass", "ours", "rust batch", 0, None),
        ]
    rows = []
    for figure, ours, peer, number, target in figures:
        a, b = speeds[ours][number], speeds[peer][number]
        ratio = median(x / y for x, y in zip(a, b, strict=True))
        speed = {"ours": median(a), "peer": median(b)}
        rows.append({"figure": figure, **speed, "ratio": ratio, "target": target})
    return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", help="folder or file with texts, one a line")
    parser.add_argument("--vocab", help="vocabulary file")
    parser.add_argument("--side", help=argparse.SUPPRESS)
    parser.add_argument("--lines", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.side:
        return work(arguments.side, arguments.vocab, arguments.lines)

    if not find_spec("tokenizers"):
        print("The package tokenizers is not installed: nothing to compare with.")
    print(f"{'characters a second':52}{'ours':>12}{'peer':>12}{'ratio':>8}{'at least':>10}")
    for row in run(arguments.data, arguments.vocab):
        print(
            f"{row['figure']:52}{row['ours']:12,.0f}{row['peer']:12,.0f}{row['ratio']:8.2f}"
            f"{row['target'] or '-':>10}"
        )


if __name__ == "__main__":
    main()
