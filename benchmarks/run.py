"""All figures, each contender in a process of its own, as one table of ratios.

    make bench                       # everything, about an hour and a half on two cores
    make bench ARGS="loading step"   # some of it

Parts: tokenization, loading (BERT-base on every backend), families (the others), encoding, long,
step, epoch, writing, optimizers, crf, methods, corpus, pretraining. Loading, encoding and the short
parts run all their contenders in turn, `ROUNDS` times, and compare medians; the others, which take
minutes each, run once. `corpus` needs a text and a vocabulary (`CORPUS`, `VOCAB`: as `--data` and
`--vocab` of benchmarks/corpus.py); `encoding` needs a directory with ChnSentiCorp (`REVIEWS`: as
`--data` of benchmarks/encoding.py). `BERT4KERAS` is a clone of bert4keras, whose package lacks
`pretraining`.

Run on their own: compat.py (bert4keras' scripts, there and here) and vectors_served.py.
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
    if peer is None:
        return (figure, f"{ours:.3g} {unit}", "", "", target)
    ratio = peer / ours if smaller_is_better else ours / peer
    return (figure, f"{ours:.3g} {unit}", f"{peer:.3g} {unit}", f"{ratio:.2f}x", target)


def tokenization():
    import tokenization

    for line in tokenization.run():
        target = "" if line["target"] is None else f"{line['target']}x"
        numbers = [f"{line[who] / 1e6:.2f} M characters/s" for who in ("ours", "peer")]
        yield (line["figure"], *numbers, f"{line['ratio']:.2f}x", target)


def loading():
    yield from load_times("bert", ("tensorflow", "torch", "jax"), ROUNDS, "1.5x")


def families():
    import loading

    for family in loading.FAMILIES:
        yield from load_times(family, ("tensorflow",), 1)


def load_times(family, backends, count, target=""):
    """Rows on loading one family from each format; `target` is the ratio wanted on TensorFlow."""
    import loading

    with tempfile.TemporaryDirectory() as directory:
        made = measure(
            "loading.py", "make", family, directory, environment={"KERAS_BACKEND": "tensorflow"}
        )
        if made is None:
            return
        contenders = loading.contenders(family, made["formats"], backends)
        results = rounds("loading.py", list(contenders), family, directory, count=count)

    def median(contender, key):
        return statistics.median(result[key] for result in results[contender])

    def weights(contender):
        return median(contender, "memory") / made["bytes"]

    for contender in results:
        prepare, format, environment = loading.CONTENDERS[contender]
        if prepare is not loading.ours:
            continue
        peer = loading.PEERS[format]
        wanted = target if environment["KERAS_BACKEND"] == "tensorflow" else ""
        name = f"{family}: {contender}"
        for key, what in (
            ("seconds", "load + forward"),
            ("process", "whole process"),
            ("cpu", "load + forward, CPU seconds"),
            ("cpu_process", "whole process, CPU seconds"),
        ):
            theirs = median(peer, key) if peer in results else None
            yield row(f"{name}, {what}", median(contender, key), theirs, wanted, "s")
        theirs = weights(peer) if peer in results else None
        unit = "x the weights"
        yield row(f"{name}, peak memory", weights(contender), theirs, "at most 1.5", unit)


def encoding():
    if "REVIEWS" not in os.environ:
        print("  left out: REVIEWS is not set", file=sys.stderr)
        return
    from encoding import CONTENDERS

    with tempfile.TemporaryDirectory() as directory:
        options = ["--data", os.environ["REVIEWS"], "--vectors", f"{directory}/vectors.npy"]
        results = rounds("encoding.py", CONTENDERS, *options)
    seconds = {
        contender: statistics.median(result["seconds"] for result in found)
        for contender, found in results.items()
    }
    for contender, value in seconds.items():
        worst = max(result.get("difference", 0) for result in results[contender])
        firsts = [round(result["first"], 1) for result in results[contender]]
        print(f"  {value:5.1f} s, first {firsts}, {worst:.1e}: {contender}", file=sys.stderr)
    peer = seconds["sentence-transformers"]
    for contender in filter(seconds.get, CONTENDERS[1:]):
        goal = {"ours-torch": "1.25x", "ours-torch-bfloat16": "2x"}.get(contender, "1x")
        name = f"2,000 reviews: {contender}, against sentence-transformers"
        yield row(name, seconds[contender], peer, "" if contender == "limit" else goal, "s")


def long():
    import long_input

    for backend in long_input.BACKENDS:
        environment = {"KERAS_BACKEND": backend}
        for length in long_input.LENGTHS:
            print(f"  {backend}, {length} tokens", file=sys.stderr, flush=True)
            nystrom, full = (
                measure("long_input.py", attention, length, environment=environment)
                for attention in ("nystrom", "full")
            )
            if nystrom is None:
                continue
            name = f"{length} tokens, Nystrom against full attention, {backend}"
            for key, unit in (("seconds", "s"), ("memory", "MiB")):
                # without a peer where full attention does not fit into the machine
                yield row(f"{name}, {key}", nystrom[key], full and full[key], "", unit)


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


def writing():
    from writing import BACKENDS, CASES

    ours = [f"ours-{backend}" for backend in BACKENDS]
    results = {case: written([*ours, *peers], case) for case, (*_, peers) in CASES.items()}
    goals = {"greedy1": "1.3x", "beam4": "1.5x", "greedy16": "1.8x", "unilm": "10x", "t5": "3x"}
    for case, goal in goals.items():
        yield from faster(results[case], case, ours, CASES[case][-1], goal)
    greedy = results["greedy1"]
    yield from faster(greedy, "greedy1", ["ours-tensorflow"], ["keras-hub-tensorflow"], "1.4x")
    for contender in filter(greedy.get, ours):
        result = greedy[contender]
        # lengths are rounded up to multiples of 32: one prompt stays in its step, one leaves it
        for length, goal in (("shorter", "1x: no compilation"), ("longer", "")):
            name = f"greedy1: {contender}, a prompt 3 tokens {length}, against 32 tokens"
            seconds = result[f"{length}_prompt_seconds"]
            yield row(name, seconds, result["call_seconds"], goal, "s")
    yield from shares(greedy, written(ours, "limit"))
    small = [*(f"{contender}-int8" for contender in ours), "ours-torch-bf16", "ours-onnx-int8"]
    small = written(small, "greedy1")
    yield from faster(greedy | small, "greedy1", ["ours-onnx-int8"], ours, "1.5x")
    yield from of_small_weights(greedy | small, small)


def written(contenders, case):
    """contender -> its result in a case, as far as it gave one."""
    found = {
        name: lines[0] for name, lines in rounds("writing.py", contenders, case, count=1).items()
    }
    for name, result in found.items():
        if "tokens_per_second" in result:
            speed, first = result["tokens_per_second"], result["first_call_seconds"]
            line = f"  {speed:6.1f} tokens/s, first call {first:5.1f} s: {name}, {case}"
            print(line, file=sys.stderr, flush=True)
    return found


def faster(results, case, ours, peers, goal):
    """The row on the fastest of ours and the fastest of the peers, where there are both."""

    def fastest(contenders):
        found = filter(results.get, contenders)
        return max(found, key=lambda name: results[name]["tokens_per_second"], default=None)

    us, them = fastest(ours), fastest(peers)
    if us and them:
        speeds = (results[name]["tokens_per_second"] for name in (us, them))
        yield row(f"{case}: {us}, against {them}", *speeds, goal, "tokens/s", False)


def shares(greedy, limits):
    """Rows on the time that a token takes at least, and the share of that speed reached."""
    for contender, limit in limits.items():
        seconds, rate = limit["seconds"], limit["bytes_per_second"]
        name = f"greedy1: {contender}, one pass through all matrices, {rate / 1e9:.0f} GB/s"
        yield row(name, seconds * 1e3, None, "", "ms")
        hub = contender.replace("ours", "keras-hub")
        peer = hub if hub in greedy else "transformers"
        share = {name: 100 * seconds * one["tokens_per_second"] for name, one in greedy.items()}
        if contender in share:
            name = f"greedy1: {contender}, share of that limit, against {peer}"
            yield row(name, share[contender], share.get(peer), "80 %", "%", False)


def of_small_weights(results, contenders):
    """Rows on int8 and bfloat16 beside float32 on the same backend: speed as it is, and memory."""
    for contender in contenders:
        full = contender.rpartition("-")[0]
        if not (contender in results and full in results):
            continue
        ours, theirs = results[contender], results[full]
        name = f"greedy1: {contender}, against {full}"
        speeds = (one["tokens_per_second"] for one in (ours, theirs))
        yield row(name, *speeds, "", "tokens/s", smaller_is_better=False)
        goals = {"held": "3x" if "int8" in contender else "", "loading": "", "writing": ""}
        for when, goal in goals.items():
            sizes = (one["memory"][when] / 2**20 for one in (ours, theirs))
            what = "memory held after loading" if when == "held" else f"peak memory of {when}"
            yield row(f"{name}, {what}", *sizes, goal, "MiB")


def medians(script, contenders, key):
    """contender -> median over the rounds, on one backend after the other.

    `contenders` are pairs of a backend and the argument of `script`.
    """
    found = {contender: [] for contender in contenders}
    for number in range(ROUNDS):
        for backend, argument in contenders:
            print(
                f"  round {number + 1}/{ROUNDS}: {backend} {argument}", file=sys.stderr, flush=True
            )
            result = measure(script, argument, environment={"KERAS_BACKEND": backend})
            if result is not None:
                found[backend, argument].append(result[key])
    return {contender: statistics.median(times) for contender, times in found.items() if times}


def optimizers():
    kinds = ("plain", "ours", "lazy")
    times = medians(
        "optimizers.py", [(b, k) for b in ("jax", "tensorflow", "torch") for k in kinds], "seconds"
    )
    for (backend, kind), seconds in times.items():
        if kind != "plain":
            name = f"update of 50,000 x 256: {kind}, against Keras' AdamW, {backend}"
            yield row(name, seconds * 1e3, times[backend, "plain"] * 1e3, "", "ms")


def crf():
    import crf as script

    results = rounds("crf.py", script.CONTENDERS)

    def median(contender, key):
        times = [found[key] for found in results[contender] if key in found]
        return statistics.median(times) * 1e3 if times else None

    for contender in results:
        if contender != "pytorch-crf":
            for key, what in (("step", "loss and gradient"), ("viterbi", "best tags")):
                ours = median(contender, key)
                if ours is not None:
                    name = f"CRF, {what}: {contender}, against pytorch-crf"
                    yield row(name, ours, median("pytorch-crf", key), "1x", "ms")


def methods():
    from training import METHODS

    times = medians(
        "training.py", [(b, m) for b in ("jax", "tensorflow", "torch") for m in METHODS], "median"
    )
    for (backend, method), seconds in times.items():
        if method != "plain":
            ratio = seconds / times[backend, "plain"]
            goal = "at most 2.1x" if method == "adversarial training" else ""
            name = f"step with {method}, {backend}"
            yield (
                name,
                f"{seconds:.3g} s",
                f"{times[backend, 'plain']:.3g} s plain",
                f"{ratio:.2f}x",
                goal,
            )


def corpus():
    settings = {"CORPUS": "--data={}", "VOCAB": "--vocab={}"}
    settings["BERT4KERAS"] = "--script={}/pretraining/data_utils.py"
    options = [flag.format(os.environ[name]) for name, flag in settings.items() if os.getenv(name)]
    contenders = ["ours", "tokenization", "rust"]
    if os.getenv("BERT4KERAS"):
        contenders.append("bert4keras")
    speeds = {
        contender: statistics.median(result["tokens_per_second"] for result in found) / 1e6
        for contender, found in rounds("corpus.py", contenders, *options).items()
    }
    pairs = [("ours", "bert4keras", "5x"), ("tokenization", "rust", "")]
    for contender, peer, goal in pairs:
        if contender in speeds:
            name = f"corpus: {contender}, against {peer}"
            yield row(name, speeds[contender], speeds.get(peer), goal, "M tokens/s", False)


def pretraining():
    contenders = [(backend, "ours") for backend in ("jax", "tensorflow", "torch")]
    contenders += [("torch", "transformers"), ("torch", "transformers", "--compile")]
    contenders += [("jax", "keras-hub"), ("tensorflow", "keras-hub")]
    for precision in ("float32", "bfloat16"):
        flags = ["--batch", 4, "--steps", 2, *(["--bf16"] if precision == "bfloat16" else [])]
        seconds = {}
        for backend, *contender in contenders:
            result = measure(
                "pretraining.py", *contender, *flags, environment={"KERAS_BACKEND": backend}
            )
            if result is not None:
                seconds[result["contender"]] = result["seconds"]
                print(
                    f"  {result['seconds']:6.2f} s a step: {result['contender']}, {precision}",
                    file=sys.stderr,
                    flush=True,
                )
        ours = min((name for name in seconds if name.startswith("ours")), key=seconds.get)
        for peer in seconds:
            if not peer.startswith("ours"):
                name = f"pretraining, 4 x 512, {precision}: {ours}, against {peer}"
                yield row(name, seconds[ours], seconds[peer], "1x", "s")


PARTS = {
    part.__name__: part
    for part in (
        tokenization,
        loading,
        families,
        encoding,
        long,
        step,
        epoch,
        writing,
        optimizers,
        crf,
        methods,
        corpus,
        pretraining,
    )
}


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
