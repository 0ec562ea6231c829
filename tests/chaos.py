"""Kills saves and trainings at random moments, and shows that nothing is lost.

    python tests/chaos.py                           # all of it: a quarter of an hour a backend
    python tests/chaos.py --saves 4 --lives 2       # a minute or two
    python tests/chaos.py --only saves savers       # some parts

| part | what happens | what must hold |
|---|---|---|
| `saves` | a save over another is ended by SIGKILL: at a random moment, before a random operation on files, or before one of the last of them, when files take their names | the old save is whole, or the new one; the next save leaves nothing of those before |
| `disk` | no file may get longer than a random size (RLIMIT_FSIZE), as on a full disk | an error with the name of the file; the old save is whole, and alone |
| `read-only` | an ordinary user saves into a directory that may only be read | as above |
| `savers` | two processes save into one directory, again and again, at the same time | both end well; one save is whole, and alone |
| `pretraining` | a run is killed again and again, by SIGKILL and SIGTERM, and goes on in new processes | exported files and rows of the log are those of a run without a stop |

The two models that are saved differ in size, values and vocabulary: each file says whose it is.
The exit status is 1 if something was lost.
"""

import argparse
import builtins
import io
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
if not os.environ.get("PYTHONPATH"):  # else it says whose writing is tried
    sys.path.insert(0, str(ROOT))
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

FORMATS = ("tf", "hf", "keras", "tagger")
PARTS = ("saves", "disk", "read-only", "savers", "pretraining")
NOBODY = 65534
OPERATIONS = [
    *((os, name) for name in ("mkdir", "open", "fsync", "rename", "replace", "rmdir", "unlink")),
    *((os, "link"), (builtins, "open"), (io, "open")),
]
SPEED = ("tokens_per_second", "model_flops_utilization")
LAST = 12  # operations on files, of the end of a save
TIMEOUT = 60  # seconds of a save; only against hanging


class Table:
    """What came out, and a line that says how far it is."""

    def __init__(self, counts):
        self.left, self.done, self.rows = sum(counts), 0, {}

    def count(self, row, outcome):
        self.rows.setdefault(row, Counter())[outcome] += 1
        self.done += 1
        text = f"{self.done}/{self.left} {row}: {outcome}"
        end = "" if sys.stderr.isatty() else "\n"
        print(f"\r{text[:100]}\033[K" if not end else text, end=end, file=sys.stderr, flush=True)

    def show(self):
        print(file=sys.stderr)
        for row, outcomes in self.rows.items():
            said = ", ".join(f"{count} {outcome}" for outcome, count in sorted(outcomes.items()))
            print(f"| {row} | {said} |")
        return any("LOST" in outcome for row in self.rows.values() for outcome in row)


# Operations on files


def before_operations(act):
    """Has `act` be called before each operation on files, from now on in this process."""

    def wrapped(function):
        def call(*args, **kwargs):
            act()
            return function(*args, **kwargs)

        return call

    for module, name in OPERATIONS:
        setattr(module, name, wrapped(getattr(module, name)))


def die_before(number):
    """Has this process be killed before an operation on files, counted from now on."""
    left = [number]

    def act():
        left[0] -= 1
        if left[0] < 0:
            os.kill(os.getpid(), signal.SIGKILL)

    before_operations(act)


def in_child(function, kill_after=None):
    """Runs it in a child process.

    Args:
        function: without arguments; gives text.
        kill_after: seconds until the child gets SIGKILL.

    Returns:
        `(status, text)`: 0, or the negative number of the signal, or 1 where it raised; what it
        gave, or the error.
    """
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        status, text = 0, ""
        try:
            text = function() or ""
        except BaseException as error:
            status, text = 1, f"{type(error).__name__}: {error}"
        os.write(write, text.encode()[:4096])
        os._exit(status)
    os.close(write)
    if kill_after is not None:
        time.sleep(kill_after)
        os.kill(child, signal.SIGKILL)
    with os.fdopen(read, "rb") as pipe:
        watch = threading.Timer(TIMEOUT, os.kill, (child, signal.SIGKILL))
        watch.start()
        text = pipe.read().decode()
        watch.cancel()
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), text


# Saves


class Saved:
    """One of two models that are saved over each other: how it is saved, and recognized."""

    def __init__(self, name, vocab_size):
        import keras
        import numpy as np

        from bert4keras_lite.models import build_transformer_model
        from bert4keras_lite.tokenizers import Tokenizer

        self.name, self.value = name, float(ord(name))
        special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
        tokens = special + [f"{name}{i}" for i in range(vocab_size - len(special))]
        self.tokenizer = Tokenizer({token: i for i, token in enumerate(tokens)})
        self.labels = [f"B-{name}{i}" for i in range(5)]
        self.transformer = build_transformer_model(
            vocab_size=vocab_size, hidden_size=64, num_hidden_layers=2, num_attention_heads=2,
            intermediate_size=128, max_position=16, return_keras_model=False,
        )  # fmt: skip
        model = self.transformer.model
        self.tagger = keras.Model(model.inputs, keras.layers.Dense(5)(model.output))
        for variable in self.tagger.weights:
            variable.assign(np.full(variable.shape, self.value, variable.dtype))

    def save(self, directory, format):
        if format == "tagger":
            from bert4keras_lite.pipelines import save_tagger

            save_tagger(directory, self.tagger, self.labels, self.tokenizer)
        else:
            self.transformer.save_checkpoint(directory, format, vocab=self.tokenizer)

    def differences(self, directory, format):
        """What readers of the toolkit find in the directory that is not of this model."""
        import numpy as np

        from bert4keras_lite.checkpoints import open_checkpoint
        from bert4keras_lite.configs import config_in
        from bert4keras_lite.configs.published import read_config
        from bert4keras_lite.tokenizers import load_tokenizer

        different = []
        if format == "tagger":
            from bert4keras_lite.pipelines import load_tagger

            model, labels, _ = load_tagger(directory)
            arrays = [np.asarray(weight) for weight in model.get_weights()]
            different += ["labels"] if labels != self.labels else []
        else:
            config = read_config(config_in(directory))
            if config["vocab_size"] != self.transformer.config.vocab_size:
                different.append("config")
            checkpoint = open_checkpoint(directory, verify=True)
            arrays = [checkpoint[name] for name in checkpoint]
        if not all((a == self.value).all() for a in arrays if a.dtype.kind == "f"):
            different.append("weights")
        if load_tokenizer(directory)._token_dict != self.tokenizer._token_dict:
            different.append("vocabulary")
        return different


def found_in(directory, format, models):
    """The name of the model that a directory holds, or what is lost."""
    try:
        found = {model.name: model.differences(directory, format) for model in models}
    except Exception as error:
        return f"LOST: {type(error).__name__}"
    whole = [name for name, different in found.items() if not different]
    return whole[0] if whole else "LOST: some files of each"


def strays_in(directory):
    names = (path.name for path in directory.iterdir())
    return [name for name in names if name.startswith(".") or ".tmp" in name]


def kill_saves(table, count, folder, models, chance):
    for format in FORMATS:
        directory = folder / f"saves-{format}"
        old, new = models
        old.save(directory, format)
        old.save(directory, format)  # as it will be: over another

        def counted(directory=directory, format=format, model=old):
            operations = [0]
            before_operations(lambda: operations.__setitem__(0, operations[0] + 1))
            begin = time.perf_counter()
            model.save(directory, format)
            return json.dumps([operations[0], time.perf_counter() - begin])

        status, text = in_child(counted)
        assert status == 0, text
        operations, seconds = json.loads(text)
        for number in range(count):
            if number % 3:
                first = 0 if number % 3 == 1 else max(0, operations - LAST)
                place = chance.randrange(first, operations)

                def save(place=place, directory=directory, format=format, model=new):
                    die_before(place)
                    model.save(directory, format)

                status, text = in_child(save)
            else:
                status, text = in_child(
                    lambda d=directory, f=format, m=new: m.save(d, f), chance.uniform(0, seconds)
                )
            assert status in (0, -signal.SIGKILL), text
            begun = (directory / ".saved-by-bert4keras_lite").exists()
            outcome = found = found_in(directory, format, models)
            if found in (old.name, new.name):
                outcome = "old" if found == old.name else "new"
                outcome += ", completed by the reader" if begun else ""
            if found == new.name:
                old, new = new, old
            elif found != old.name:
                shutil.rmtree(directory)
                old.save(directory, format)
            if status == 0:
                outcome += ", ended before the kill"
            table.count(f"kill -9 of a save, {format}", outcome)
        left = len(strays_in(directory))
        old.save(directory, format)
        strays = len(strays_in(directory))
        outcome = f"save after the kills: {left} left before it, {strays} after"
        table.count(f"strays, {format}", f"LOST: {outcome}" if strays else outcome)


def failed(table, row, directory, format, models, status, text):
    """Counts a save that had to fail over one of the first model."""
    found = found_in(directory, format, models)
    told = any(path.name in text for path in directory.iterdir())
    if found != models[0].name or strays_in(directory):
        outcome = found if "LOST" in found else "LOST: the old save, or strays"
    elif status == 1:
        outcome = "old, error names the file" if told else "old, error without the file"
    else:
        outcome = f"LOST: status {status}"
    table.count(row, outcome)


def fill_disks(table, count, folder, models, chance):
    for format in FORMATS:
        directory = folder / f"disk-{format}"
        old, new = models
        old.save(directory, format)
        size = max(path.stat().st_size for path in directory.iterdir())
        for _ in range(count):
            limit = chance.randrange(int(0.9 * size))

            def save(limit=limit, directory=directory, format=format, model=new):
                signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
                resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
                model.save(directory, format)

            status, text = in_child(save)
            failed(table, f"full disk, {format}", directory, format, models, status, text)
            if strays_in(directory) or found_in(directory, format, models) != old.name:
                shutil.rmtree(directory)
                old.save(directory, format)


def save_read_only(table, folder, models):
    for format in FORMATS:
        directory = folder / f"read-only-{format}"
        models[0].save(directory, format)
        directory.chmod(0o555)

        def save(directory=directory, format=format, model=models[1]):
            if os.getuid() == 0:
                os.setgid(NOBODY)
                os.setuid(NOBODY)
            model.save(directory, format)

        status, text = in_child(save)
        told = text.replace(str(directory), directory.iterdir().__next__().name)
        failed(table, f"read-only, {format}", directory, format, models, status, told)
        directory.chmod(0o755)


def save_twice(table, count, folder, models):
    for format in FORMATS:
        directory = folder / f"savers-{format}"
        models[0].save(directory, format)
        for _ in range(count):
            results = [None, None]

            def run(i, results=results, directory=directory, format=format):
                results[i] = in_child(
                    lambda: [models[i].save(directory, format) for _ in "123"][3:]
                )

            threads = [threading.Thread(target=run, args=(i,)) for i in range(2)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            outcome = found_in(directory, format, models)
            if outcome in (models[0].name, models[1].name):
                outcome = "one is whole"
            errors = [text or f"status {status}" for status, text in results if status]
            if errors:
                outcome = f"LOST: {errors[0][:60]}"
            elif strays_in(directory):
                outcome = "LOST: strays"
            table.count(f"two savers, {format}", outcome)


# Pretraining


def train_and_die(options):
    """A life of a run: trains until shortly after a step, and dies as it is told. In a process."""
    from pretraining import config, loop

    kind, step, place = options.get("death", (None, None, None))
    reach = loop.Monitor.reach

    def reached(monitor, now, logs=None):
        reach(monitor, now, logs)
        if kind and now == step:
            if kind == "operation":  # of the checkpoint that comes next
                die_before(int(20 * place))
            else:
                number = signal.SIGKILL if kind == "moment" else signal.SIGTERM
                threading.Timer(0.1 * place, os.kill, (os.getpid(), number)).start()

    loop.Monitor.reach = reached
    loop.run(config.Settings(**options["settings"]), stream=None)


def life(settings, folder, death=None):
    options = {"settings": settings} | ({"death": death} if death else {})
    done = subprocess.run(
        [sys.executable, __file__, "--life", json.dumps(options)],
        capture_output=True, text=True, cwd=folder,
    )  # fmt: skip
    return done.returncode, done.stderr


def results_of(output):
    """The exported files, and the rows of the log without speeds."""
    from pretraining.log import read_log

    files = {
        str(path.relative_to(output)): path.read_bytes()
        for path in sorted((output / "model").rglob("*"))
        if path.is_file()
    }
    rows = [
        {name: value for name, value in row.items() if name not in SPEED}
        for row in read_log(output / "log.csv")
    ]
    return files, rows


def kill_trainings(table, lives, folder, chance):
    if not lives:
        return
    from pretraining import corpus

    vocabulary = str(ROOT / "examples" / "data" / "vocab.txt")
    text = (ROOT / "examples" / "data" / "corpus.txt").read_text("utf-8")[:20000]
    (folder / "text.txt").write_text(text, "utf-8")
    flags = ["--input", str(folder / "text.txt"), "--output", str(folder / "corpus")]
    flags += ["--mode", "mlm", "--vocab", vocabulary, "--sequence-length", "32"]
    assert corpus.main([*flags, "--shards", "1", "--workers", "1"]) == 0
    model = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    model |= {"intermediate_size": 32, "max_position": 32}
    settings = {
        "corpus": str(folder / "corpus"), "vocab": vocabulary, "model": model, "batch_size": 8,
        "steps": 12 * (lives + 1), "log_every": 7, "save_every": 5, "warmup_steps": 2,
        "peak_flops": 1e12, "learning_rate": 0.01, "jit_compile": False,
    }  # fmt: skip
    straight, output = folder / "straight", folder / "killed"
    status, said = life(settings | {"output": str(straight)}, folder)
    assert status == 0, said
    kinds = ("operation", "moment", "SIGTERM")
    expected = {"operation": -signal.SIGKILL, "moment": -signal.SIGKILL, "SIGTERM": 143}
    row = f"kills of pretraining, {os.environ.get('KERAS_BACKEND', 'tensorflow')}"
    for number in range(lives):
        death = (kinds[number % 3], 12 * number + chance.randint(2, 13), chance.random())
        status, said = life(settings | {"output": str(output)}, folder, death)
        outcome = f"killed: {death[0]}"
        if status != expected[death[0]]:
            outcome = f"LOST: status {status} after {death}: {said[-300:]}"
        table.count(row, outcome)
    status, said = life(settings | {"output": str(output)}, folder)
    outcome = "exported files and log are bit-equal"
    if status:
        outcome = f"LOST: {said[-300:]}"
    else:
        (files, rows), (their_files, their_rows) = results_of(output), results_of(straight)
        if files != their_files or not files:
            outcome = "LOST: exported files differ"
        elif rows != their_rows:
            steps = [row["step"] for row in rows]
            outcome = f"LOST: rows of the log differ, of steps {steps}"
    table.count(f"{row}: the end", outcome)


def main(arguments=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--saves", type=int, default=60, help="kills of each format (60)")
    parser.add_argument("--lives", type=int, default=10, help="kills of the pretraining (10)")
    parser.add_argument("--disks", type=int, default=10, help="full disks of each format (10)")
    parser.add_argument("--savers", type=int, default=5, help="pairs of savers of each format (5)")
    parser.add_argument("--seed", type=int, default=0, help="of the moments (0)")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS, help="some parts")
    parser.add_argument("--life", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.life:
        return train_and_die(json.loads(options.life))
    chance, formats = random.Random(options.seed), len(FORMATS)
    counts = {
        "saves": formats * (options.saves + 1),
        "disk": formats * options.disks,
        "read-only": formats,
        "savers": formats * options.savers,
        "pretraining": options.lives + 1,
    }
    table = Table([counts[part] for part in options.only])
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        folder.chmod(0o755)  # the ordinary user has to come in
        if {*options.only} - {"pretraining"}:
            models = Saved("A", 9000), Saved("B", 11000)
        if "saves" in options.only:
            kill_saves(table, options.saves, folder, models, chance)
        if "disk" in options.only:
            fill_disks(table, options.disks, folder, models, chance)
        if "read-only" in options.only:
            save_read_only(table, folder, models)
        if "savers" in options.only:
            save_twice(table, options.savers, folder, models)
        if "pretraining" in options.only:
            kill_trainings(table, options.lives, folder, chance)
    return int(table.show())


if __name__ == "__main__":
    sys.exit(main())
