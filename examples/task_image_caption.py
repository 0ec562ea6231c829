"""Says what is on a picture: a language model whose normalization hangs on a vector of the picture.

    python examples/task_image_caption.py [--checkpoint DIR] [--data FILE --pictures DIR]

A small convolutional network makes a vector of the picture; every layer normalization of the language
model is moved by it. Both are trained together, the network from nothing, at a rate of its own.

--checkpoint: a Chinese BERT: a directory of Google's or Hugging Face's files, or a name on a hub (tiny-zh).
--data: captions, a JSON file as AI Challenger gives it out, a list of {"image_id": "a.jpg",
    "caption": ["...", ...]}, or COCO's, an object with `images` and `annotations`; --pictures: the
    directory of their files (needs Pillow). Without them, shapes are drawn: see shapes.py.

Reference: Su, "Conditional text generation with conditional layer normalization", 2019,
https://kexue.fm/archives/7124
"""

from collections import defaultdict
from pathlib import Path

import keras
import numpy as np
from seq2seq import BUCKETS, next_tokens, read_or_cut, simplified, train, write
from shapes import in_terminal, shapes
from trials import arguments, show_scores

from bert4keras_lite import build_transformer_model
from bert4keras_lite.data import Batches, sequence_padding
from bert4keras_lite.metrics import bleu
from bert4keras_lite.parsing import read_json

args = arguments(
    __doc__,
    data="",
    pictures="",
    size=(128, 32),
    maxlen=48,
    max_new_tokens=(47, 16),
    batch_size=32,
    epochs=(10, 12),
    learning_rate=(2e-5, 1e-3),
    num_beams=3,
    scored=200,
)


# the data
def read_captions(path):
    """(file of a picture, its captions) of AI Challenger's or COCO's JSON."""
    try:
        data = read_json(path)
        if isinstance(data, list):
            found = {row["image_id"]: row["caption"] for row in data}
        else:
            found, names = (
                defaultdict(list),
                {row["id"]: row["file_name"] for row in data["images"]},
            )
            for row in data["annotations"]:
                found[names[row["image_id"]]].append(row["caption"])
    except (ValueError, KeyError, TypeError) as error:
        raise SystemExit(
            f"{path}: expected AI Challenger's or COCO's captions; {type(error).__name__}: {error}."
        ) from None
    return [(Path(args.pictures) / name, captions) for name, captions in found.items()]


def pixels(pictures):
    """Pictures, arrays or files, as one array `(batch, size, size, 3)` from -1 to 1."""
    options = {"target_size": (args.size, args.size), "keep_aspect_ratio": True}
    arrays = [
        keras.utils.img_to_array(keras.utils.load_img(one, **options))
        if isinstance(one, Path)
        else one
        for one in pictures
    ]
    return np.stack(arrays).astype("float32") / 127.5 - 1


if args.data:
    samples = read_or_cut(args.data, read_captions)
else:
    sizes = {"train": 1500, "valid": 100, "test": 200}
    samples = {split: shapes(size, seed) for seed, (split, size) in enumerate(sizes.items())}
tokenizer, keep_tokens = simplified(args.checkpoint)


def collate(rows, length):
    pictures, ids = zip(*rows, strict=True)
    ids = sequence_padding(ids, length).astype("int32")
    return (ids, np.zeros_like(ids), pixels(pictures)), next_tokens(ids, ids > 0)


rows = [
    (picture, tokenizer.encode(caption, maxlen=args.maxlen)[0])
    for picture, captions in samples["train"]
    for caption in captions
]
batches = Batches(
    rows, args.batch_size, collate, shuffle=True, buckets=BUCKETS, length=lambda row: len(row[1])
)

# the model: the picture is halved until it has 4 x 4 places
picture = x = keras.Input((args.size, args.size, 3), name="picture")
filters = 32
while x.shape[1] > 4:
    x = keras.layers.Conv2D(filters, 3, 2, "same", activation="gelu", name=f"eye_{filters}")(x)
    filters *= 2
x = keras.layers.Dense(128, activation="gelu", name="eye_vector")(keras.layers.Flatten()(x))
model = build_transformer_model(
    args.checkpoint,
    application="lm",
    with_lm="linear",
    keep_tokens=keep_tokens,
    layer_norm_cond=x,
    additional_input_layers=picture,
)


def captions_of(pictures):
    prompts = [[tokenizer.token_start_id]] * len(pictures)
    conditions = [pixels(pictures)]
    return write(model, prompts, tokenizer, args, num_beams=args.num_beams, more_inputs=conditions)


def score(rows):
    pictures, true = zip(*rows[: args.scored], strict=True)
    written = captions_of(pictures)
    right = [text in captions for text, captions in zip(written, true, strict=True)]
    return {"bleu": bleu(true, written) / 100, "exact": sum(right) / len(right)}


rates = {"eye_": 1e-3 / args.learning_rate}
train(model, batches, args, lambda: score(samples["valid"]), "captions", lr_multipliers=rates)

# the result
show_scores(score(samples["test"]))
pictures, true = zip(*samples["test"][:5], strict=True)
for one, captions, text in zip(pictures, true, captions_of(pictures), strict=True):
    print(one if isinstance(one, Path) else in_terminal(one))
    print("  caption", " / ".join(captions))
    print("  written", text, "\n")
