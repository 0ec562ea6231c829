"""Runs an example with several methods and seeds, and compares the last scores it prints.

    python benchmarks/compare.py examples/task_tnews.py --vary keywords=no,yes --seeds 3 [options]

Runs the script once for each value of the option and each seed, with `--seed` and all other options
given here. The score is the number in the last line that begins with "test", such as
"test accuracy: 0.8400", or with "valid" if the data have no test file. Prints mean and standard
deviation of each method, and the mean difference to the first one.
"""

import argparse
import os
import re
import subprocess
import sys

import numpy as np

SCORE = re.compile(r"^(?:test|valid) (.+?): (-?\d+\.\d+)", re.MULTILINE)


def run(command):
    """Runs a script, showing what it prints; returns the name and the value of its last score."""
    environment = os.environ | {"PYTHONUNBUFFERED": "1"}
    lines = []
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, encoding="utf-8", env=environment
    ) as process:
        for line in process.stdout:
            print(line, end="", flush=True)
            lines.append(line)
    scores = SCORE.findall("".join(lines))
    if process.returncode or not scores:
        raise SystemExit(f"{' '.join(command)}: expected a line such as 'test accuracy: 0.8400'.")
    metric, value = scores[-1]
    return metric, float(value)


def report(metric, scores):
    """Returns the table: a line for each method, `scores` being name -> one number a seed."""
    width, first = max(map(len, scores)), np.array(next(iter(scores.values())))
    lines = [f"{metric}, mean and standard deviation over {len(first)} seeds"]
    for name, values in scores.items():
        gain, each = np.mean(values - first), " ".join(f"{value:.4f}" for value in values)
        lines.append(
            f"{name:{width}}  {np.mean(values):.4f} ± {np.std(values):.4f}  {gain:+.4f}  ({each})"
        )
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("script")
    parser.add_argument("--vary", required=True, metavar="OPTION=VALUE,VALUE")
    parser.add_argument("--seeds", type=int, default=3)
    args, options = parser.parse_known_args()
    option, _, values = args.vary.partition("=")
    scores = {f"{option} {value}": [] for value in values.split(",")}
    for seed in range(args.seeds):
        for name, numbers in scores.items():
            print(f"\n--- {name}, seed {seed}", flush=True)
            varied = [f"--{option}", name.split(" ", 1)[1], "--seed", str(seed)]
            metric, score = run([sys.executable, args.script, *options, *varied])
            numbers.append(score)
    print(f"\n{report(metric, scores)}")


if __name__ == "__main__":
    main()
