"""From a pretrained model to a classifier, and on with the pretraining: a tour of the toolkit.

    make quickstart
    make quickstart CHECKPOINT=/path/to/chinese_L-12_H-768_A-12 DATA=/path/to/reviews

Loads tiny-zh, which is included in the toolkit, fills in masks, fine-tunes a classifier and another
one from random weights, saves, reloads, predicts. Then tiny-zh is pretrained for a minute more
and fine-tuned again. The picture of all this is examples/output/quickstart.svg.
"""

import argparse
import csv
import shutil
import subprocess
import sys
import time
from pathlib import Path

import keras
import numpy as np
import pictures
from sample import DATA, OUTPUT

from bert4keras_lite import build_transformer_model, load_tokenizer
from bert4keras_lite.configs import config_in
from bert4keras_lite.data import Batches, read_tsv
from bert4keras_lite.files import saving
from bert4keras_lite.hub import local_directory

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--checkpoint", default="tiny-zh", help="another Chinese BERT")
parser.add_argument("--data", default=DATA, help="with sentiment.{train,valid,test}.tsv or .data")
parser.add_argument("--seed", type=int, default=0)
args = parser.parse_args()
is_small = args.checkpoint == "tiny-zh"
learning_rate, epochs = (5e-4, 4) if is_small else (2e-5, 2)
name = Path(args.checkpoint).name
keras.utils.set_random_seed(args.seed)
checkpoint = local_directory(args.checkpoint)
start = time.time()


def headline(text):
    print(f"\n\033[1m{text}\033[0m  ({time.time() - start:.0f} s)", flush=True)


headline(f"1. Loading {name} and filling in masks")
tokenizer = load_tokenizer(checkpoint, special_tokens_in_text=True)
model = build_transformer_model(checkpoint, with_mlm=True)


def fill(texts):
    """What the model expects at the [MASK] of each text: probabilities `(texts, vocabulary)`."""
    token_ids, segment_ids = tokenizer.encode_batch(texts)
    positions = np.argmax(token_ids == tokenizer.token_mask_id, axis=1)
    probabilities = model.predict([token_ids, segment_ids], verbose=0)
    return probabilities[np.arange(len(texts)), positions]


texts = [
    "中华人民[MASK]和国",
    "学而时习[MASK]，不亦说乎？",
    "他高兴得跳了[MASK]来。",
    "春夏[MASK]冬",
]
for text, probabilities in zip(texts, fill(texts), strict=True):
    best = probabilities.argsort()[::-1][:4]
    print(" ", text, " ".join(f"{tokenizer.id_to_token(i)} {probabilities[i]:.2f}" for i in best))

lines = []  # for the picture: texts, each character of which is hidden in turn
for text in [
    "床前明月光，疑是地上霜。举头望明月，低头思故乡。",
    "天已经黑了，孩子们还在院子里玩，谁也不想回家。",
    "公民的合法权益受法律保护，任何人不得侵犯。",
]:
    rows = fill([f"{text[:i]}[MASK]{text[i + 1 :]}" for i in range(len(text))])
    probs = rows[np.arange(len(text)), tokenizer.tokens_to_ids(list(text))]
    guesses = tokenizer.ids_to_tokens(rows.argmax(axis=1))
    lines.append(list(zip(text, probs, guesses, strict=True)))

headline("2. Fine-tuning: is a review positive or negative?")


def batches(split, **options):
    path = Path(args.data) / f"sentiment.{split}.tsv"
    path = path if path.is_file() else path.with_suffix(".data")
    samples = [(tokenizer.encode(text, maxlen=128), label) for text, label in read_tsv(path)]
    return Batches(samples, 32, buckets=2, **options)


def fine_tune(bert):
    """A model with two logits on a BERT's mean vector, trained; and its test accuracies."""
    x = keras.layers.GlobalAveragePooling1D()(bert.output)  # over the tokens, without padding
    x = keras.layers.Dropout(0.1)(x)
    model = keras.Model(bert.inputs, keras.layers.Dense(2, name="classifier")(x))
    model.compile(
        keras.optimizers.AdamW(learning_rate),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=[keras.metrics.SparseCategoricalAccuracy("accuracy")],
        # such short training does not pay for XLA's compilation, but on JAX, which has no other
        jit_compile="auto" if keras.config.backend() == "jax" else False,
    )
    model.optimizer.build(model.trainable_variables)  # one trace
    before = model.evaluate(test, verbose=0)[1]
    log = model.fit(train, validation_data=test, epochs=epochs, verbose=2)
    return model, list(enumerate([before, *log.history["val_accuracy"]]))


train, test, curves = batches("train", shuffle=True), batches("test"), {}
print("From random weights:", flush=True)
scratch = build_transformer_model(config_in(checkpoint), dropout_rate=0.1)
_, curves["random weights"] = fine_tune(scratch)
print(f"From {name}:", flush=True)
model, curves[name] = fine_tune(build_transformer_model(checkpoint, dropout_rate=0.1))

headline("3. Saving, reloading, predicting")
with saving(OUTPUT) as folder:  # interrupted, it leaves what was there before
    model.save(folder / "sentiment.keras")
reloaded = keras.saving.load_model(OUTPUT / "sentiment.keras")
texts = [
    "房间很不错，服务也很出色。",
    "质量很离谱，客服真的很糟心。",
    "虽然位置很差，但是早餐非常惊艳，值得推荐。",
]
scores = reloaded.predict(tokenizer.encode_batch(texts), verbose=0)
for text, (negative, positive) in zip(texts, scores, strict=True):
    print(f"  {1 / (1 + np.exp(negative - positive)):.2f} positive  {text}")

reading = []
if is_small:
    headline("4. A minute of pretraining on examples/data/corpus.txt")
    folder = OUTPUT / "reading"
    shutil.rmtree(folder, ignore_errors=True)  # of an earlier tour
    for command in (
        (
            f"pretraining.corpus --mode mlm --input {DATA}/corpus.txt --vocab {checkpoint} "
            f"--output {folder}/corpus --sequence-length 32 --words tokens"
        ),
        (
            f"pretraining.train --corpus {folder}/corpus --checkpoint {checkpoint} --output"
            f" {folder}/run --objective mlm --masking.whole_words false --batch_size 32 --steps 300"
            " --log_every 20 --save_every 300 --optimizer adamw --learning_rate 1e-3"
            " --warmup_steps 30"
        ),
    ):
        print(f"\n  python -m {command}\n", flush=True)
        python = [sys.executable, "-m", *command.split()]
        subprocess.run(python, cwd=Path(__file__).parents[1], check=True)
    with open(folder / "run/log.csv", encoding="utf-8") as file:
        reading = [(int(row["step"]), float(row["accuracy"])) for row in csv.DictReader(file)]
    print("\nThe same task, from what has read on:", flush=True)
    read_on = build_transformer_model(folder / "run/model/hf", dropout_rate=0.1)
    _, curves[f"{name}, read on"] = fine_tune(read_on)

print("\nAccuracy on the test reviews")
for way, points in curves.items():
    print(f"  {way:18s} {points[-1][1]:6.1%} {'█' * round(40 * points[-1][1])}")

title = (
    f"{name}: each character hidden in turn. Green: it is found; below, what was expected instead"
)
parts = [pictures.svg_text(30, 36, title, 17)]
for row, line in enumerate(lines):
    marks = [
        (text, pictures.green(chance), guess if guess != text else "")
        for text, chance, guess in line
    ]
    parts.append(pictures.cells(30, 55 + 56 * row, marks)[0])
title = f"Reviews: accuracy on {len(test.data)} of them, after each epoch"
parts.append(pictures.curves(70, 270, 250, 180, curves, title, "epochs of fine-tuning", low=0.4))
if reading:
    title = "Reading on: hidden characters found"
    lines = {"in the corpus": reading}
    parts.append(pictures.curves(560, 270, 200, 180, lines, title, "batches of 32 rows"))
pictures.save(OUTPUT / "quickstart.svg", 900, 500, parts)
print(f"\nDone in {time.time() - start:.0f} s. The model is {OUTPUT / 'sentiment.keras'},")
print(f"the picture {OUTPUT / 'quickstart.svg'}.")
