"""From a pretrained model to a classifier, and on with the pretraining: a tour of the toolkit.

    make quickstart
    make quickstart CHECKPOINT=/path/to/chinese_L-12_H-768_A-12 DATA=/path/to/reviews

Loads tiny-zh, which is included in the toolkit, fills in masks, fine-tunes a classifier and another
one from random weights on a few reviews, saves, reloads, predicts. Then tiny-zh is pretrained
further, for a hundred steps, and fills in masks again. The picture of all this is
examples/output/quickstart.svg.
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
parser.add_argument(
    "--data", default=DATA / "reviews", help="with sentiment.{train,test}.tsv or .data"
)
parser.add_argument("--seed", type=int, default=0)
args = parser.parse_args()
is_small = args.checkpoint == "tiny-zh"
learning_rate, epochs = (5e-4, 3) if is_small else (2e-5, 2)
rows = 160 if args.data == DATA / "reviews" else None  # of the sample, few labels
name = Path(args.checkpoint).name
keras.utils.set_random_seed(args.seed)
checkpoint = local_directory(args.checkpoint)
start = time.time()


def headline(text):
    print(f"\n\033[1m{text}\033[0m  ({time.time() - start:.0f} s)", flush=True)


headline(f"1. Loading {name} and filling in masks")
tokenizer = load_tokenizer(checkpoint, special_tokens_in_text=True)
bert = build_transformer_model(checkpoint, with_mlm=True)


def fill(bert, texts):
    """What a model expects at the [MASK] of each text: probabilities `(texts, vocabulary)`."""
    token_ids, segment_ids = tokenizer.encode_batch(texts)
    positions = np.argmax(token_ids == tokenizer.token_mask_id, axis=1)
    probabilities = bert.predict([token_ids, segment_ids], verbose=0)
    return probabilities[np.arange(len(texts)), positions]


texts = [
    "中华人民[MASK]和国",
    "学而时习[MASK]，不亦说乎？",
    "他高兴得跳了[MASK]来。",
    "春夏[MASK]冬",
]
for text, probabilities in zip(texts, fill(bert, texts), strict=True):
    best = probabilities.argsort()[::-1][:4]
    print(" ", text, " ".join(f"{tokenizer.id_to_token(i)} {probabilities[i]:.2f}" for i in best))


def hide_each(bert, text):
    """`(character, its probability, the likeliest one)` for each character, hidden in turn."""
    probabilities = fill(bert, [f"{text[:i]}[MASK]{text[i + 1 :]}" for i in range(len(text))])
    expected = probabilities[np.arange(len(text)), tokenizer.tokens_to_ids(list(text))]
    guesses = tokenizer.ids_to_tokens(probabilities.argmax(axis=1))
    return list(zip(text, expected, guesses, strict=True))


poem = "床前明月光，疑是地上霜。举头望明月，低头思故乡。"
story = "天已经黑了，孩子们还在院子里玩，谁也不想回家。"
law = "公民的合法权益受法律保护，任何人不得侵犯。"
review = "虽然位置很差，但是早餐非常惊艳，值得推荐。"
lines = [hide_each(bert, text) for text in (poem, story, law)]  # for the picture
before = hide_each(bert, review)

headline("2. Fine-tuning: is a review positive or negative?")


def batches(split, **options):
    path = Path(args.data) / f"sentiment.{split}.tsv"
    path = path if path.is_file() else path.with_suffix(".data")
    samples = read_tsv(path)[: rows if split == "train" else None]
    samples = [(tokenizer.encode(text, maxlen=128), label) for text, label in samples]
    return Batches(samples, 16, buckets=1, **options)  # one length, one program


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
texts = ["房间很不错，服务也很出色。", "质量很离谱，客服真的很糟心。", review]
scores = reloaded.predict(tokenizer.encode_batch(texts), verbose=0)
for text, (negative, positive) in zip(texts, scores, strict=True):
    print(f"  {1 / (1 + np.exp(negative - positive)):.2f} positive  {text}")

if is_small:
    headline("4. A hundred steps of pretraining on examples/data/corpus.txt")
    folder = OUTPUT / "reading"
    shutil.rmtree(folder, ignore_errors=True)  # of an earlier tour
    for command in (
        (
            f"pretraining.corpus --mode mlm --input {DATA}/corpus.txt --vocab {checkpoint} "
            f"--output {folder}/corpus --sequence-length 32 --words tokens"
        ),
        (
            f"pretraining.train --corpus {folder}/corpus --checkpoint {checkpoint} --output"
            f" {folder}/run --objective mlm --masking.whole_words false --batch_size 32 --steps 100"
            " --log_every 10 --save_every 100 --optimizer adamw --learning_rate 1e-3"
            " --warmup_steps 10"
        ),
    ):
        print(f"\n  python -m {command}\n", flush=True)
        python = [sys.executable, "-m", *command.split()]
        subprocess.run(python, cwd=Path(__file__).parents[1], check=True)
    with open(folder / "run/log.csv", encoding="utf-8") as file:
        reading = [(int(row["step"]), float(row["accuracy"])) for row in csv.DictReader(file)]
    after = hide_each(build_transformer_model(folder / "run/model/hf", with_mlm=True), review)
    for when, line in (("before", before), ("after", after)):
        found = sum(character == guess for character, _, guess in line)
        print(f"  characters found in {review} {when}: {found} of {len(line)}")

print(f"\nAccuracy on {len(test.data)} test reviews, of {len(train.data)} to learn from")
for way, points in curves.items():
    print(f"  {way:18s} {points[-1][1]:6.1%} {'█' * round(40 * points[-1][1])}")


def draw(x, y, line):
    """The characters of a line, as green as they were expected, and the wrong guesses."""
    marks = [
        (text, pictures.green(prob), guess if guess != text else "") for text, prob, guess in line
    ]
    return pictures.cells(x, y, marks)[0]


title = (
    f"{name}: each character hidden in turn. Green: it is found; below, what was expected instead"
)
parts = [pictures.svg_text(30, 36, title, 17)]
parts += [draw(30, 55 + 56 * row, line) for row, line in enumerate(lines)]
title = f"Reviews: accuracy, fine-tuned on {len(train.data)}"
label = f"{epochs} epochs of fine-tuning"
parts.append(pictures.curves(70, 280, 220, 160, curves, title, label, low=0.4))
if is_small:
    title, label = "Pretraining: hidden characters found", "100 steps of 32 rows"
    parts.append(pictures.curves(540, 280, 220, 160, {name: reading}, title, label))
    for y, when, line in ((530, "before", before), (620, "after", after)):
        title = f"A review, each character hidden in turn, {when} these 100 steps"
        parts += [pictures.svg_text(30, y - 16, title, 17), draw(30, y, line)]
pictures.save(OUTPUT / "quickstart.svg", 900, 685 if is_small else 490, parts)
print(f"\nDone in {time.time() - start:.0f} s. The model is {OUTPUT / 'sentiment.keras'},")
print(f"the picture {OUTPUT / 'quickstart.svg'}.")
