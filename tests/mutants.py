"""Plants 32 defects in a copy of the code, one at a time, and shows that the tests find each.

    python tests/mutants.py                      # all of them: half an hour on PyTorch, two cores
    python tests/mutants.py masks-1 labels-2     # some of them
    python tests/mutants.py --check              # does the code still have the texts to change?

The places were chosen by reading the code, without looking at the tests. The working tree is copied
to a temporary directory, and only the copy is changed. There pytest runs with the selection of
`make test`, until one test fails: first in the test files named after the changed module, then in
those that mention it, then in all others. A mutant that no test notices has SURVIVED: a test is
missing, or the backend does not run the changed lines. The exit status is then 1.

Reference: DeMillo, Lipton and Sayward, "Hints on Test Data Selection", 1978.
"""

import argparse
import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import NamedTuple

REPOSITORY = Path(__file__).resolve().parents[1]
PACKAGES = ("bert4keras_lite", "pretraining")
# what `make test` runs, and stops at the first failure
SELECTION = ("-x", "-q", "-n", "{workers}", "--dist", "worksteal", "-m", "not long")
TIMEOUT = 30 * 60  # seconds of one run of pytest; only against hanging


class Mutant(NamedTuple):
    """Describes one defect.

    Attributes:
        kind: of the defect; with a number, its name: `masks-1`.
        path: of the file, relative to the repository.
        old: text that occurs exactly once in the file.
        new: what takes its place.
    """

    kind: str
    path: str
    old: str
    new: str


MUTANTS = (
    # UniLM: each target token attends to the whole target, also to the token that it is to predict
    Mutant(
        "masks",
        "bert4keras_lite/layers/positions.py",
        "order = ops.cumsum(segment_ids, axis=1)",
        "order = segment_ids",
    ),
    # padding counts as zeros: in a padded row no maximum is below 0
    Mutant(
        "masks",
        "bert4keras_lite/layers/pooling.py",
        'ops.max(ops.where(visible, x, -float("inf")), axis=1)',
        "ops.max(ops.where(visible, x, 0.0), axis=1)",
    ),
    # T5: the decoder attends to the padding of the source, in training and `predict`
    Mutant(
        "masks",
        "bert4keras_lite/models.py",
        '            memory_bias = self.attention_bias(token_ids, stack="encoder_")\n',
        "",
    ),
    # GPT, GPT-2: BERT's epsilon where the config has none, as OpenAI's hparams.json
    Mutant(
        "epsilons",
        "bert4keras_lite/configs/architectures.py",
        '    "hidden_act": "gelu_tanh",\n    "norm_epsilon": 1e-5,\n',
        '    "hidden_act": "gelu_tanh",\n    "norm_epsilon": 1e-12,\n',
    ),
    # epsilon is added to the standard deviation, not to the variance: GPT and T5 differ
    Mutant(
        "epsilons",
        "bert4keras_lite/layers/normalization.py",
        "y * ops.rsqrt(ops.mean(ops.square(y), axis=-1, keepdims=True) + self.epsilon)",
        "y / (ops.sqrt(ops.mean(ops.square(y), axis=-1, keepdims=True)) + self.epsilon)",
    ),
    # transformers ignores the epsilon of a config written with format="hf" and uses 1e-12
    Mutant(
        "epsilons",
        "bert4keras_lite/mappings.py",
        '"norm_epsilon": "layer_norm_eps", "initializer_range"',
        '"norm_epsilon": "layer_norm_epsilon", "initializer_range"',
    ),
    # NEZHA: a key 64 tokens or more after the query gets the vector of distance 63
    Mutant(
        "positions",
        "bert4keras_lite/layers/positions.py",
        "ops.clip(distance, -m, m) + m",
        "ops.clip(distance, -m, m - 1) + m",
    ),
    # generation with a cache: the position of every new token is one too large
    Mutant(
        "positions",
        "bert4keras_lite/generation/compiled_loop.py",
        'ops.zeros((1, width), "int32") + length + last,',
        'ops.zeros((1, width), "int32") + length + state.num_tokens,',
    ),
    # Gibbs sampling replaces [SEP] as well
    Mutant(
        "positions",
        "bert4keras_lite/generation/gibbs.py",
        "np.arange(1, _last(row, pad))",
        "np.arange(1, _last(row, pad) + 1)",
    ),
    # the bias is added to all logits but the label's: wrong losses, and the bias only decreases
    Mutant(
        "biases",
        "bert4keras_lite/losses.py",
        '    label_logits = label_logits + ops.cast(ops.take(bias, ids, axis=0), "float32")\n',
        "",
    ),
    # EfficientGlobalPointer: the first token's bias is left out of the logits of each type
    Mutant(
        "biases",
        "bert4keras_lite/layers/pointers.py",
        "common + biases[:, 1::2, :, None] + biases[:, ::2, None, :]",
        "common + biases[:, 1::2, :, None]",
    ),
    # checkpoints load without a warning, but the biases of the values are left out
    Mutant(
        "biases",
        "bert4keras_lite/layers/attention.py",
        "has_bias = self.use_bias and name not in self.without_bias",
        'has_bias = self.use_bias and name != "value"',
    ),
    # Tiger: weight decay makes the weights larger
    Mutant(
        "optimizers",
        "bert4keras_lite/optimizers/tiger.py",
        "step = ops.sign(m) + (",
        "step = ops.sign(m) - (",
    ),
    # Lookahead goes from the fast weights to the slow ones: right only where slow_step is 0.5
    Mutant(
        "optimizers",
        "bert4keras_lite/optimizers/features/lookahead.py",
        "begin + step * ops.subtract(variable, begin)",
        "variable + step * ops.subtract(begin, variable)",
    ),
    # layer-wise learning rates decrease from the lowest block to the highest
    Mutant(
        "optimizers",
        "bert4keras_lite/optimizers/schedules.py",
        "decay ** (blocks + 1 - i)",
        "decay ** (i + 2)",
    ),
    # LM and UniLM: weights are those of the input token, so that padding after a text is predicted
    Mutant(
        "labels",
        "pretraining/masking.py",
        "shifted[:, :-1] = weights[:, 1:]",
        "shifted[:, :-1] = weights[:, :-1]",
    ),
    # whether a label counts depends on the input token; the first of an answer is not learned
    Mutant(
        "labels",
        "bert4keras_lite/data.py",
        "np.where(mask, token_ids, -1)[:, 1:]",
        "np.where(mask[:, :-1], token_ids[:, 1:], -1)",
    ),
    # CRF: the loss takes the transition from the following tag instead of the preceding one
    Mutant(
        "labels",
        "bert4keras_lite/layers/crf.py",
        "previous, _ = neighbours(mask)",
        "_, previous = neighbours(mask)",
    ),
    # symbols such as "℃" are split off like punctuation, which Google's code does not do
    Mutant(
        "tokenizers",
        "bert4keras_lite/tokenizers/wordpiece.py",
        'unicodedata.category(char).startswith("P")',
        'unicodedata.category(char)[0] in "PS"',
    ),
    # the last of several spaces no longer belongs to the word after it
    Mutant(
        "tokenizers",
        "bert4keras_lite/tokenizers/splitting.py",
        r'[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"',
        r'[^\s\p{L}\p{N}]+|\s+"',
    ),
    # RoBERTa, XLM-R: the second end token between two texts is missing
    Mutant(
        "tokenizers",
        "bert4keras_lite/tokenizers/base.py",
        "len(self._start_ids), self._second_ids",
        "len(self._start_ids), []",
    ),
    # XLM-R: the first piece of a text is lost
    Mutant(
        "tokenizers",
        "bert4keras_lite/tokenizers/sentencepiece.py",
        "zip(starts[3:], ends[3:], strict=True)",
        "zip(starts[4:], ends[4:], strict=True)",
    ),
    # WoBERT, T5-PEGASUS: jieba also finds words that are not in its dictionary
    Mutant(
        "tokenizers",
        "bert4keras_lite/tokenizers/words.py",
        "with_dictionary().lcut(text, HMM=False)",
        "with_dictionary().lcut(text)",
    ),
    # several corpora: one that an epoch is to read twice is read once
    Mutant(
        "shards",
        "pretraining/batches.py",
        "shards_of(directory, manifest, folder) * corpora[directory]",
        "shards_of(directory, manifest, folder)",
    ),
    # several input files: the end of each, up to the boundary of a shard, is in no shard
    Mutant(
        "shards",
        "pretraining/documents.py",
        "min(last + 1, count)",
        "min(last, count)",
    ),
    # steps after the last multiple of log_every repeat the first batches and skip their own
    Mutant(
        "shards",
        "pretraining/loop.py",
        "fitting(examples.from_step(step), names), done)",
        "fitting(examples.from_step(step), names), start)",
    ),
    # beam search: the length that a finished sequence's score is divided by lacks the stop token
    Mutant(
        "penalties",
        "bert4keras_lite/generation/search.py",
        "new_scores = ops.where(new, worth(value, count), ",
        "new_scores = ops.where(new, worth(value, ops.maximum(count - 1, 1)), ",
    ),
    # beam search: running beams are compared without their length: the search ends too early
    Mutant(
        "penalties",
        "bert4keras_lite/generation/search.py",
        "worth(score[:, :1], longest) > worst",
        "score[:, :1] > worst",
    ),
    # generate takes the wrong argument, which shows where the two penalties differ
    Mutant(
        "penalties",
        "bert4keras_lite/generation/request.py",
        '"length_penalty": np.float32(self.length_penalty)',
        '"length_penalty": np.float32(self.repetition_penalty)',
    ),
    # pretraining: the checkpoint with the best metric is removed like other old ones
    Mutant(
        "weights",
        "pretraining/checkpointing.py",
        "kept = {*steps[-self.keep :], self.best_step()}",
        "kept = {*steps[-self.keep :]}",
    ),
    # LoRA: products are saved and merged without alpha / rank, which is 1 unless alpha is given
    Mutant(
        "weights",
        "bert4keras_lite/lora.py",
        "product = layer.lora_alpha / layer.lora_rank * ops.matmul(*_factors(layer))",
        "product = ops.matmul(*_factors(layer))",
    ),
    # saving over a TensorFlow checkpoint removes the data file that the new index names
    Mutant(
        "weights",
        "bert4keras_lite/checkpoints/tf_bundle.py",
        "set(map(Path, files)) - {data_path(prefix, 0, 1)}",
        "set(map(Path, files))",
    ),
)


def named(mutants):
    """Returns a dict name -> mutant: the kind, and which of its kind it is."""
    counts, names = Counter(), {}
    for mutant in mutants:
        counts[mutant.kind] += 1
        names[f"{mutant.kind}-{counts[mutant.kind]}"] = mutant
    return names


def mutated(name, mutant, root):
    """Returns the text of a mutant's file, before and after.

    Raises:
        SystemExit: the text does not occur exactly once, or the changed file does not compile.
    """
    file = root / mutant.path
    text = file.read_text(encoding="utf-8") if file.is_file() else ""
    count = text.count(mutant.old)
    if count != 1:
        raise SystemExit(
            f"tests/mutants.py: mutant {name} is outdated; expected its text once in "
            f"{mutant.path}, got it {count} times. Write it again for the code as it is."
        )
    changed = text.replace(mutant.old, mutant.new)
    try:
        compile(changed, mutant.path, "exec")
    except SyntaxError as error:
        raise SystemExit(
            f"tests/mutants.py: mutant {name} is broken; expected Python in {mutant.path}, got "
            f"{error}. Correct its new text."
        ) from None
    return text, changed


def copy_of_repository(directory):
    """Copies the working tree, without ignored files, and returns the path of the copy."""
    copy = Path(directory) / REPOSITORY.name
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listing = subprocess.run(command, cwd=REPOSITORY, check=True, capture_output=True).stdout
    for name in filter(None, listing.decode().split("\0")):
        source, target = REPOSITORY / name, copy / name
        if source.is_symlink() or source.is_file():  # else it is removed, but not yet for git
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target, follow_symlinks=False)
    shared = REPOSITORY.parent / "shared"
    if shared.is_dir():
        (Path(directory) / "shared").symlink_to(shared, target_is_directory=True)
    return copy


def environment(copy, backend):
    """Returns the variables under which Python imports the packages of the copy.

    Raises:
        SystemExit: it imports others all the same.
    """
    variables = os.environ | {
        "PYTHONPATH": str(copy),
        "KERAS_BACKEND": backend,
        "TF_CPP_MIN_LOG_LEVEL": "3",
        # the cached bytecode of a mutant could be used for the original: same size, same second
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    program = "import sys; from importlib.util import find_spec as find\n"
    program += "print(*(find(name).origin for name in sys.argv[1:]), sep='\\n')"
    origins = subprocess.run(
        [sys.executable, "-c", program, *PACKAGES],
        cwd=copy.parent, env=variables, check=True, capture_output=True, text=True,
    ).stdout.splitlines()  # fmt: skip
    for origin in origins:
        if not Path(origin).resolve().is_relative_to(copy.resolve()):
            raise SystemExit(
                f"tests/mutants.py: the wrong package would be tested; expected it in {copy}, got "
                f"{origin}. Uninstall it and try again."
            )
    return variables


def stages(path, copy):
    """Returns lists of arguments for pytest: which tests to run first, second and last.

    First come the test files that are named after the mutated module or its package, then those in
    whose text one of the two names occurs, then all others; in each stage, those with the name of
    the module before those with the name of the package.

    Args:
        path: of the mutated file.
        copy: path of the copy.
    """
    module, package = Path(path).stem, Path(path).parent.name
    patterns = [re.compile(rf"\b{re.escape(module)}\b")]
    if package != PACKAGES[0]:  # which most test files import
        patterns.append(re.compile(rf"\b{re.escape(package)}\b"))
    by_name, by_text = [], []
    for file in sorted((copy / "tests").rglob("test_*.py")):
        text, name = file.read_text(encoding="utf-8"), file.relative_to(copy / "tests").as_posix()
        ranks = [-len(pattern.findall(text)) for pattern in patterns]
        if module in name or package in name:
            by_name.append((module not in name, *ranks, f"tests/{name}"))
        elif any(ranks):
            by_text.append((*ranks, f"tests/{name}"))
    listed = [[file for *_, file in sorted(rows)] for rows in (by_name, by_text) if rows]
    return [*listed, [f"--ignore={file}" for files in listed for file in files]]


class Run(NamedTuple):
    """Holds the outcome of one run of pytest.

    Attributes:
        outcome: `"passed"`, `"caught"`, `"hung"` or `"error"`.
        test: the first that failed, or a remark.
        output: of pytest, where it may be needed.
    """

    outcome: str
    test: str = ""
    output: str = ""


def run_pytest(arguments, copy, variables, workers):
    """Runs pytest in the copy and returns a `Run`."""
    selection = [part.format(workers=workers) for part in SELECTION]
    with tempfile.TemporaryFile() as log:  # not a pipe, which a process left over would keep open
        process = subprocess.Popen(
            [sys.executable, "-m", "pytest", *selection, *arguments],
            cwd=copy,
            env=variables,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # so that its workers can be ended with it
        )
        try:
            code = process.wait(TIMEOUT)
        except subprocess.TimeoutExpired:
            return Run("hung", f"no end after {TIMEOUT // 60} minutes")
        finally:
            end_group(process)
        log.seek(0)
        return judged(code, log.read().decode("utf-8", "replace"))


def end_group(process):
    """Ends a process and all that it has started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def judged(code, output):
    """Returns a `Run` by pytest's exit code and output.

    With workers, `-x` interrupts the run, and the code is 2 instead of 1. So a code of 2 is an
    error only where no test has failed, and no test file failed while it was collected.
    """
    failed = re.search(r"^(?:FAILED|ERROR) (tests/.+?)(?: - .*)?$", output, re.MULTILINE)
    if code in (0, 5):
        return Run("passed")
    if code == 1 or (code == 2 and (failed or "ERROR collecting" in output)):
        return Run("caught", failed[1] if failed else "?", output)
    return Run("error", f"pytest ended with code {code}", output)


def try_mutant(name, mutant, copy, variables, workers):
    """Plants a mutant in the copy, runs the tests until one fails, and takes the mutant out again.

    Returns:
        The last `Run`.
    """
    text, changed = mutated(name, mutant, copy)
    file = copy / mutant.path
    file.write_text(changed, encoding="utf-8")
    try:
        for arguments in stages(mutant.path, copy):
            run = run_pytest(arguments, copy, variables, workers)
            if run.outcome != "passed":
                break
    finally:
        file.write_text(text, encoding="utf-8")
    return run


def show(name, mutant):
    """Prints where a mutant is, and what it changes."""
    text = (REPOSITORY / mutant.path).read_text(encoding="utf-8")
    place = text.find(mutant.old)
    line = text.count("\n", 0, place) + 1 if place >= 0 else "?"
    print(f"{name}  {mutant.path}:{line}")
    for sign, part in (("-", mutant.old), ("+", mutant.new)):
        for row in part.splitlines():
            print(f"    {sign} {row.strip()}")


def main(arguments=None):
    """Runs the command line and returns the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="of mutants; all when left out")
    parser.add_argument("--backend", choices=["tensorflow", "jax", "torch"], default="tensorflow")
    parser.add_argument("--workers", type=int, default=2, help="processes that run tests: 2")
    parser.add_argument("--list", action="store_true", help="print the mutants and stop")
    parser.add_argument("--check", action="store_true", help="check their texts and stop")
    options = parser.parse_args(arguments)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # by way of `finally`
    mutants = named(MUTANTS)
    if unknown := [name for name in options.names if name not in mutants]:
        parser.error(f"unknown mutant {unknown[0]}; expected one of {', '.join(mutants)}.")
    chosen = {name: mutants[name] for name in options.names or mutants}
    if options.list:
        for name, mutant in chosen.items():
            show(name, mutant)
        return 0
    for name, mutant in mutants.items():
        mutated(name, mutant, REPOSITORY)
    if options.check:
        print(f"{len(mutants)} mutants: each text occurs once, each changed file compiles.")
        return 0

    words = {"passed": "SURVIVED", "caught": "caught", "hung": "caught (hung)", "error": "ERROR"}
    outcomes = Counter()
    with tempfile.TemporaryDirectory(prefix="mutants-") as directory:
        copy = copy_of_repository(directory)
        variables = environment(copy, options.backend)
        for name, mutant in chosen.items():
            begun = time.monotonic()
            run = try_mutant(name, mutant, copy, variables, options.workers)
            outcomes[run.outcome] += 1
            seconds = f"{time.monotonic() - begun:.0f} s"
            print(
                f"{name}  {mutant.path}  {words[run.outcome]}  {run.test or '-'}  {seconds}",
                flush=True,
            )
            if run.outcome == "error":
                print(run.output[-4000:], flush=True)
    caught = outcomes["caught"] + outcomes["hung"]
    print(f"{caught} of {len(chosen)} caught")
    return int(caught < len(chosen))


if __name__ == "__main__":
    sys.exit(main())
