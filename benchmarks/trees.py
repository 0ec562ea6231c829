"""The speed of two versions of the package: is a change of the structure free?

    git worktree add ../before 27dc76c
    python benchmarks/trees.py ../before . [--rounds 5]    # on the backend KERAS_BACKEND names

Each version runs in processes of its own, in turn with the other; the second version runs twice a
round, so that the last column shows how much two runs of the same code differ. The table has the
medians of the processor time, and of the ratios of each round; below 1, the second version takes
less.

    encode    20,000 lines, one at a time, by a WordPiece tokenizer: seconds
    step      one training step of benchmarks/training.py: seconds
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

ROOT = Path(__file__).resolve().parents[1]


def encode(vocab):
    """Returns the CPU seconds that it takes to encode lines, each seen for the first time."""
    from tokenization import made_up_lines

    from bert4keras_lite.tokenizers import Tokenizer

    tokenizer, lines = Tokenizer(vocab), made_up_lines()
    start = time.process_time()
    for line in lines:
        tokenizer.encode(line)
    return time.process_time() - start


def step(vocab):
    """Returns the CPU seconds of a training step."""
    from training import main

    return main("plain")["cpu"]


MEASURES = {measure.__name__: measure for measure in (encode, step)}


def measured(name, tree, vocab):
    """Returns what a process of its own measures, in which the package is that of a tree."""
    command = [sys.executable, __file__, "--measure", name, tree, vocab]
    environment = os.environ | {"PYTHONPATH": str(tree), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def compare(name, before, after, vocab, rounds):
    """Prints a row of the table."""
    found = []
    for number in range(rounds):
        print(f"{name}: round {number + 1} of {rounds}", file=sys.stderr, flush=True)
        found.append([measured(name, tree, vocab) for tree in (before, after, after)])
    seconds = [median(column) for column in zip(*found, strict=True)]
    change = median(second / first for first, second, _ in found)
    noise = [third / second for _, second, third in found]
    print(
        f"{name:8}{seconds[0]:10.3f}{seconds[1]:10.3f}{change:10.3f}"
        f"{min(noise):12.3f} to {max(noise):.3f}",
        flush=True,
    )


def main():
    """Measures in a process of its own, or runs these processes."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("before", type=Path, help="directory of the first version")
    parser.add_argument("after", type=Path, help="directory of the second version")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--measure", choices=MEASURES, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        import bert4keras_lite

        tree = arguments.before.resolve()
        if tree not in Path(bert4keras_lite.__file__).resolve().parents:
            raise RuntimeError(f"expected the package of {tree}, got {bert4keras_lite.__file__}")
        print(json.dumps(MEASURES[arguments.measure](arguments.after)))
        return
    sys.path.insert(0, str(ROOT / "benchmarks"))
    from tokenization import made_up_lines, make_vocab

    print(f"{'seconds':8}{'before':>10}{'after':>10}{'ratio':>10}{'same code':>17}")
    with tempfile.TemporaryDirectory() as folder:
        vocab = Path(folder, "vocab.txt")
        make_vocab(made_up_lines(), vocab)
        for name in MEASURES:
            compare(
                name, arguments.before.resolve(), arguments.after.resolve(), vocab, arguments.rounds
            )


if __name__ == "__main__":
    main()
