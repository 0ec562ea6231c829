"""All figures, each contender in a process of its own, as one table of ratios.

    make bench                       # everything, about half an hour on two cores
    make bench ARGS="loading step"   # some of it

Parts: tokenization, loading, step, epoch. Loading runs all its contenders in turn, `ROUNDS`
times, and compares medians; the steps and the epoch, which take minutes each, run once.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).parent
ROUNDS = 3


def measure(script, *arguments, environment=None):
    """The JSON that a script prints last, or None with its error shown."""
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, HERE / script, *map(str, arguments)],
        capture_output=True,
        text=True,
        env=os.environ | {"TOKENIZERS_PARALLELISM": "false"} | (environment or {}),
    )
    if done.returncode:
        print(f"{script} {arguments[0]} failed:\n{done.stderr[-2000:]}", file=sys.stderr)
        return None
    seconds = time.perf_counter() - start
    return json.loads(done.stdout.strip().splitlines()[-1]) | {"process": seconds}


def rounds(script, contenders, *arguments, count=ROUNDS):
    """contender -> list of results, measured in turn."""
    results = {contender: [] for contender in contenders}
    for number in range(count):
        for contender in contenders:
            print(f"  round {number + 1}/{count}: {contender}", file=sys.stderr, flush=True)
            result = measure(script, contender, *arguments)
            if result is not None:
                results[contender].append(result)
    return {contender: found for contender, found in results.items() if found}


def row(figure, ours, peer, target, unit, smaller_is_better=True):
    ratio = peer / ours if smaller_is_better else ours / peer
    return (figure, f"{ours:.3g} {unit}", f"{peer:.3g} {unit}", f"{ratio:.2f}x", target)


def tokenization():
    import tokenization

    for line in tokenization.run():
        target = "" if line["target"] is None else f"{line['target']}x"
        numbers = [f"{line[who] / 1e6:.2f} M characters/s" for who in ("ours", "peer")]
        yield (line["figure"], *numbers, f"{line['ratio']:.2f}x", target)


def loading():
    import loading

    with tempfile.TemporaryDirectory() as directory:
        measure("loading.py", "make", directory, environment={"KERAS_BACKEND": "tensorflow"})
        results = rounds("loading.py", loading.CONTENDERS, directory)

    def median(contender, key):
        return statistics.median(result[key] for result in results[contender])

    peer = "transformers, safetensors"
    for contender in results:
        if contender != peer:
            target = "1.5x" if "PyTorch" not in contender and "JAX" not in contender else ""
            for key, what in (("seconds", "load + forward"), ("process", "whole process")):
                yield row(
                    f"{what}: {contender}", median(contender, key), median(peer, key), target, "s"
                )
    for contender in results:
        memory = f"{median(contender, 'memory'):.2f} x the weights"
        yield (f"peak memory: {contender}", memory, "", "", "at most 1.5")


def step():
    import finetune

    results = rounds("finetune.py", finetune.CONTENDERS, count=1)
    seconds = {
        contender: statistics.median(s for result in found for s in result["seconds"])
        for contender, found in results.items()
    }
    for contender, value in seconds.items():
        print(f"  {value:6.2f} s a step: {contender}", file=sys.stderr)
    half = [c for c in seconds if "bfloat16" in c]
    single = [c for c in seconds if c not in half]
    ours = min((c for c in single if c.startswith("ours")), key=seconds.get)
    for peer in single:
        if not peer.startswith("ours"):
            yield row(f"step: {ours}, against {peer}", seconds[ours], seconds[peer], "1x", "s")
    for contender in half:
        if contender.startswith("ours"):
            yield row(
                f"step: {contender}, against {ours}", seconds[contender], seconds[ours], "1.5x", "s"
            )


def epoch():
    results = rounds("epoch.py", ["padded to the longest", "bucketed"], count=1)
    padded, bucketed = (results[c][0] for c in ("padded to the longest", "bucketed"))
    yield row(
        "epoch of ChnSentiCorp, bucketed", bucketed["seconds"], padded["seconds"], "1.8x", "s"
    )
    yield row("its tokens, padding included", bucketed["tokens"], padded["tokens"], "", "tokens")


PARTS = {part.__name__: part for part in (tokenization, loading, step, epoch)}


def main(names):
    table = [("figure", "ours", "peer", "ratio", "goal")]
    for name in names or PARTS:
        print(f"{name} ...", file=sys.stderr, flush=True)
        table += list(PARTS[name]())
    widths = [max(len(line[i]) for line in table) for i in range(5)]
    for line in table:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)))


if __name__ == "__main__":
    main(sys.argv[1:])
