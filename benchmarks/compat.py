"""Seconds a step of six of bert4keras' own example scripts, there and here.

    python benchmarks/compat.py --scripts CHECKOUT --old PYTHON

`CHECKOUT` is a clone of bert4keras, `PYTHON` an interpreter that has bert4keras 0.11.5, TensorFlow
and tf_keras. There a script runs as it is, here as `python -m bert4keras_lite migrate` changes it,
each in a process of its own, the contenders of a script in turn. Both train on the same random
texts, of about 60 characters, 16 in a batch, a BERT or ALBERT of the base size with `--blocks`
blocks and 21,128 tokens. A first epoch, which builds and compiles, is left out; the second, of the
same batches, is timed as a whole, so that the preparation of batches counts.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
NAMES = [
    "task_sentiment_albert",
    "task_sentence_similarity_lcqmc",
    "task_sequence_labeling_ner_crf",
    "task_seq2seq_autotitle_csl",
    "task_relation_extraction_gplinker",
    "task_conditional_language_model",
]
TOKENS, LENGTH, BATCH, STEPS = 21128, 64, 16, 8
SIZES = {
    "vocab_size": TOKENS,
    "hidden_size": 768,
    "num_attention_heads": 12,
    "intermediate_size": 3072,
    "max_position_embeddings": 512,
}
# contender -> how the script is run, and the environment
CONTENDERS = {
    "bert4keras": ("bert4keras", {"TF_KERAS": "1", "TF_USE_LEGACY_KERAS": "1"}),
    "TensorFlow": ("compat", {"KERAS_BACKEND": "tensorflow"}),
    "JAX": ("compat", {"KERAS_BACKEND": "jax"}),
    "PyTorch": ("compat", {"KERAS_BACKEND": "torch"}),
}


class Timed(BaseException):
    """Ends a script after its training, with the seconds of a step; no script catches it."""


def enlarge(old_scripts, folder, blocks):
    """Gives the scripts of tests/goldens the sizes of this file, and checkpoints of `folder`."""
    old_scripts.TRAIN = BATCH * STEPS
    old_scripts.CHANGES[:] = [
        (pattern, new.replace("= 32", f"= {LENGTH}").replace("= 4", f"= {BATCH}"))
        for pattern, new in old_scripts.CHANGES
    ]
    used = old_scripts.VOCABULARY
    more = (chr(number) for number in range(0x4E00, 0x9FFF))
    more = [token for token in more if token not in set(used)]
    used += more[: TOKENS - len(used)]
    draw = old_scripts.sentence
    old_scripts.sentence = lambda random, low=6, high=20, *rest: draw(
        random, 3 * low, 3 * high, *rest
    )
    for kind in ("bert", "albert"):
        name, options, config = old_scripts.CHECKPOINTS[kind]
        sizes = SIZES | {"num_hidden_layers": blocks}
        sizes |= {"embedding_size": 128} if kind == "albert" else {}
        old_scripts.CHECKPOINTS[kind] = name, options, config | sizes

    def copied(kind, prefix):
        for file in folder.glob(f"{kind}.*"):
            shutil.copy(file, f"{prefix}{file.suffix}")

    old_scripts.write_checkpoint = copied


def timed(make_old_scripts, name, mode, checkout):
    """Runs one script in this process; returns the seconds of a step."""

    class Timer(make_old_scripts.Recorder):
        def fit(self, original):
            def fit(model, x=None, *args, callbacks=(), **options):
                from keras.callbacks import LambdaCallback

                x, count = self.batches(x, STEPS)
                x = list(x)
                starts = []
                original(
                    model,
                    (batch for _ in range(2) for batch in x),
                    steps_per_epoch=count,
                    epochs=2,
                    verbose=0,
                    callbacks=[
                        LambdaCallback(
                            on_epoch_begin=lambda *_: starts.append(time.perf_counter()),
                            on_epoch_end=lambda *_: starts.append(time.perf_counter()),
                        )
                    ],
                )
                raise Timed((starts[3] - starts[2]) / count)

            return fit

    try:
        _, _, error = make_old_scripts.run(name, mode, checkout, Timer)
    except Timed as seconds:
        return seconds.args[0]
    raise RuntimeError(f"{name}: {error or 'it trained nothing'}")


def write_checkpoints(folder, blocks):
    """Writes the checkpoints that the scripts read, with random weights."""
    from bert4keras_lite.compat.models import build_transformer_model

    sys.path.insert(0, str(HERE.parent / "tests" / "goldens"))
    import old_scripts

    enlarge(old_scripts, folder, blocks)
    for kind in ("bert", "albert"):
        model, options, config = old_scripts.CHECKPOINTS[kind]
        transformer = build_transformer_model(
            config, model=model, return_keras_model=False, **options
        )
        transformer.save_weights_as_checkpoint(folder / kind)


def run_apart(arguments, name, contender, folder):
    """Seconds a step of a script, run by a process of its own."""
    mode, environment = CONTENDERS[contender]
    python = arguments.old if mode == "bert4keras" else sys.executable
    command = [python, __file__, "--scripts", arguments.scripts, "--blocks", str(arguments.blocks)]
    done = subprocess.run(
        [*command, "--run", name, mode, str(folder)],
        env=os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"} | environment,
        capture_output=True,
        text=True,
    )
    if done.returncode:
        sys.exit(f"{name}, {contender}: {done.stderr[-3000:]}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scripts", required=True, help="clone of bert4keras")
    parser.add_argument("--old", help="interpreter with bert4keras")
    parser.add_argument("--blocks", type=int, default=4)
    parser.add_argument("--only", nargs="*", default=NAMES, metavar="NAME")
    parser.add_argument("--run", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.run:
        name, mode, folder = arguments.run
        sys.path.insert(0, str(HERE.parent / "tests" / "goldens"))
        import make_old_scripts
        import old_scripts

        enlarge(old_scripts, Path(folder), arguments.blocks)
        print(json.dumps(timed(make_old_scripts, name, mode, Path(arguments.scripts).resolve())))
        return
    with tempfile.TemporaryDirectory() as folder:
        write_checkpoints(Path(folder), arguments.blocks)
        print("| script |", " | ".join(CONTENDERS), "|")
        print("|---|" + "---|" * len(CONTENDERS))
        for name in arguments.only:
            seconds = [run_apart(arguments, name, each, folder) for each in CONTENDERS]
            cells = [f"{s:.3f} s ({seconds[0] / s:.2f}x)" for s in seconds]
            print(f"| `{name}` |", " | ".join(cells), "|", flush=True)


if __name__ == "__main__":
    main()
