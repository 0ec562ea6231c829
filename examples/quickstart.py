"""From a corpus to a fine-tuned classifier, with nothing but this repository.

    make quickstart
    make quickstart CHECKPOINT=/path/to/chinese_L-12_H-768_A-12 DATA=/path/to/reviews

Pretrains a small Chinese BERT, saves it as Google does, and from there on does what one does with
a downloaded checkpoint: load it, fill in masks, fine-tune, save, reload, predict.
"""

import argparse
import time
from pathlib import Path

import keras
import numpy as np
from tiny_bert import DATA, OUTPUT, pretrain

from bert4keras_lite import build_transformer_model, load_tokenizer
from bert4keras_lite.configs import config_in
from bert4keras_lite.data import Batches, read_tsv
from bert4keras_lite.files import saving

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--checkpoint", help="a Chinese BERT instead of the small one made here")
parser.add_argument("--data", default=DATA, help="with sentiment.{train,valid,test}.tsv or .data")
args = parser.parse_args()
start = time.time()


def headline(text):
    print(f"\n\033[1m{text}\033[0m  ({time.time() - start:.0f} s)")


if args.checkpoint:
    checkpoint, learning_rate, epochs = args.checkpoint, 2e-5, 2
else:
    headline("1. Pretraining a small BERT on examples/data/corpus.txt")
    checkpoint, learning_rate, epochs = OUTPUT / "tiny_bert", 1e-3, 8
    pretrain(checkpoint)

headline(f"2. Loading {Path(checkpoint).name} and filling in masks")
tokenizer = load_tokenizer(checkpoint, special_tokens_in_text=True)
model = build_transformer_model(checkpoint, with_mlm=True)
for text in ["中国的首都是[MASK]京。", "广东的省会是广[MASK]。", "法国的首都是[MASK]黎。"]:
    token_ids, segment_ids = tokenizer.encode(text)
    probabilities = model.predict([np.array([token_ids]), np.array([segment_ids])], verbose=0)[0]
    guesses = probabilities[token_ids.index(tokenizer.token_mask_id)]
    best = guesses.argsort()[::-1][:4]
    print(" ", text, " ".join(f"{tokenizer.id_to_token(i)} {guesses[i]:.2f}" for i in best))

headline("3. Fine-tuning: is a review positive or negative?")


def batches(split, **options):
    path = Path(args.data) / f"sentiment.{split}.tsv"
    path = path if path.is_file() else path.with_suffix(".data")
    samples = [(tokenizer.encode(text, maxlen=128), label) for text, label in read_tsv(path)]
    return Batches(samples, 32, buckets=4, **options)


def classifier(bert):
    """A BERT with two logits on its mean vector, compiled."""
    x = keras.layers.GlobalAveragePooling1D()(bert.output)  # over the tokens that are no padding
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
    return model


train, test = batches("train", shuffle=True), batches("test")
accuracy = {}
bert = build_transformer_model(checkpoint, dropout_rate=0.1)
if not args.checkpoint:
    # So few labels name only half of the opinion words that the test uses. The token vectors stay
    # where pretraining put them, so that what is learned of one word holds for its like.
    bert.get_layer("token_embedding").trainable = False
model = classifier(bert)
accuracy["pretrained, before"] = model.evaluate(test, verbose=0)[1]
model.fit(train, epochs=epochs)
accuracy["pretrained, fine-tuned"] = model.evaluate(test, verbose=0)[1]

print("The same model from random weights, all of them trained:")
config = config_in(checkpoint)
scratch = classifier(build_transformer_model(config, dropout_rate=0.1))
scratch.fit(train, epochs=epochs)
accuracy["from scratch, trained"] = scratch.evaluate(test, verbose=0)[1]

print("\nAccuracy on the test reviews")
for name, value in accuracy.items():
    print(f"  {name:24s} {value:6.1%} {'█' * round(40 * value)}")

headline("4. Saving, reloading, predicting")
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
print(f"\nDone in {time.time() - start:.0f} s. The model is {OUTPUT / 'sentiment.keras'}.")
