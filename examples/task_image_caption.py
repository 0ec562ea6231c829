"""Describes pictures: a Chinese BERT as a language model, conditioned on what a small CNN extracts.

    python examples/task_image_caption.py [--checkpoint DIR] [--data FILE --pictures DIR]

A convolutional network makes a vector of the picture, which is the condition of every layer
normalization of the language model. The network starts from random weights, and so has a higher
learning rate than the BERT.

--checkpoint: a Chinese BERT: a directory of Google's or Hugging Face's files, or a name on a hub.
--data: captions, a JSON file of AI Challenger, a list of {"image_id": "a.jpg", "caption": ["...",
    ...]}, or of COCO, an object with `images` and `annotations`; or a directory with train, valid
    (and test) files. Without it, pictures of coloured shapes are drawn.
--pictures: the directory of the pictures (needs Pillow).

Reference: Su, "Conditional text generation with conditional layer normalization", 2019,
https://kexue.fm/archives/7124
"""

import argparse
from pathlib import Path

import keras
import numpy as np
from sample import OUTPUT

from bert4keras_lite import build_transformer_model, load_tokenizer
from bert4keras_lite.data import Batches, next_token_labels, read_splits, sequence_padding
from bert4keras_lite.generation import generate_all
from bert4keras_lite.losses import sequence_crossentropy
from bert4keras_lite.metrics import bleu
from bert4keras_lite.optimizers import AdamW, linear_decay
from bert4keras_lite.parsing import read_json
from bert4keras_lite.training import BestEpoch

parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
)
parser.add_argument("--checkpoint", default="tiny-zh")
parser.add_argument("--data", default="")
parser.add_argument("--pictures", default="")
parser.add_argument("--drawn", type=int, default=1500, help="pictures to draw for training")
parser.add_argument("--size", type=int, help="128, or 32 for tiny-zh")
parser.add_argument("--maxlen", type=int, default=48)
parser.add_argument("--max-new-tokens", type=int, help="47, or 16 for tiny-zh")
parser.add_argument("--batch-size", type=int, default=32)
parser.add_argument("--epochs", type=int, help="10, or 12 for tiny-zh")
parser.add_argument("--learning-rate", type=float, help="2e-5, or 1e-3 for tiny-zh")
parser.add_argument("--num-beams", type=int, default=3)
parser.add_argument("--scored", type=int, default=200, help="pictures for the scores: 200")
parser.add_argument("--seed", type=int, default=0)
args = parser.parse_args()
is_small = args.checkpoint == "tiny-zh"
args.size = args.size or (32 if is_small else 128)
args.max_new_tokens = args.max_new_tokens or (16 if is_small else 47)
args.epochs = args.epochs or (12 if is_small else 10)
args.learning_rate = args.learning_rate or (1e-3 if is_small else 2e-5)
keras.utils.set_random_seed(args.seed)
# without the third of the vocabulary that Chinese texts do not need
tokenizer, keep_tokens = load_tokenizer(args.checkpoint).simplified()


# the data
def read_captions(path):
    """(file of a picture, its captions) of AI Challenger's or COCO's JSON."""
    try:
        data = read_json(path)
        if isinstance(data, list):
            captions = {row["image_id"]: row["caption"] for row in data}
        else:
            captions, names = {}, {row["id"]: row["file_name"] for row in data["images"]}
            for row in data["annotations"]:
                captions.setdefault(names[row["image_id"]], []).append(row["caption"])
    except (ValueError, KeyError, TypeError) as error:
        raise SystemExit(
            f"{path}: expected AI Challenger's or COCO's captions; {type(error).__name__}: {error}."
        ) from None
    return [(Path(args.pictures) / name, texts) for name, texts in captions.items()]


# the drawn pictures
COLORS = {
    "红色": (220, 40, 40),
    "绿色": (40, 170, 60),
    "蓝色": (40, 80, 220),
    "黄色": (240, 210, 40),
    "黑色": (30, 30, 30),
}
# whether (x, y), from -1 to 1, is inside
SHAPES = {
    "圆": lambda x, y: x**2 + y**2 <= 1,
    "正方形": lambda x, y: np.maximum(abs(x), abs(y)) <= 0.9,
    "三角形": lambda x, y: abs(x) <= (y + 1) / 2,
    "十字": lambda x, y: np.minimum(abs(x), abs(y)) <= 0.3,
}
PLACES = {"左上角": (9, 9), "右上角": (23, 9), "左下角": (9, 23), "右下角": (23, 23)}  # of 32


def draw(random):
    """A picture of a shape in a corner, uint8 `(size, size, 3)`, and its captions."""
    place, color, shape = (str(random.choice([*names])) for names in (PLACES, COLORS, SHAPES))
    center = np.array(PLACES[place]) + random.uniform(-2, 2, 2)
    grid = np.mgrid[: args.size, : args.size] * (32 / args.size)
    y, x = (grid - center[::-1, None, None]) / random.uniform(5, 7)
    canvas = np.full((args.size, args.size, 3), 255, "uint8")
    canvas[SHAPES[shape](x, y) & (np.maximum(abs(x), abs(y)) <= 1)] = COLORS[color]
    return canvas, [f"{place}有一个{color}的{shape}"]


def in_terminal(picture):
    """A picture in coloured blocks, for a terminal."""
    step = max(1, args.size // 16)
    rows = picture[::step, ::step].tolist()
    lines = ("".join(f"\x1b[48;2;{r};{g};{b}m  " for r, g, b in row) for row in rows)
    return "\n".join(f"{line}\x1b[0m" for line in lines)


def pixels(pictures):
    """Pictures, arrays or files, as one array `(batch, size, size, 3)` from -1 to 1."""
    options = {"target_size": (args.size, args.size), "keep_aspect_ratio": True}
    arrays = [
        keras.utils.load_img(picture, **options) if isinstance(picture, Path) else picture
        for picture in pictures
    ]
    return np.stack(arrays).astype("float32") / 127.5 - 1


def batches(samples, **options):
    """Batches of captions and pictures, in which every token is to be predicted."""
    rows = [
        (picture, tokenizer.encode(caption, maxlen=args.maxlen)[0])
        for picture, captions in samples
        for caption in captions
    ]
    return Batches(rows, args.batch_size, collate, buckets=4, **options)


def collate(rows, length):
    pictures, ids = zip(*rows, strict=True)
    ids = sequence_padding(ids, length).astype("int32")
    return (ids, np.zeros_like(ids), pixels(pictures)), next_token_labels(ids, ids > 0)


if args.data:
    samples = read_splits(args.data, read_captions)
else:
    sizes = {"train": args.drawn, "valid": 100, "test": 200}
    randoms = {split: np.random.default_rng(seed) for seed, split in enumerate(sizes)}
    samples = {split: [draw(randoms[split]) for _ in range(n)] for split, n in sizes.items()}
last = "valid" if samples["test"] is samples["valid"] else "test"

# the model: the picture is halved until it has 4 x 4 positions
image = x = keras.Input((args.size, args.size, 3), name="picture")
filters = 32
while x.shape[1] > 4:
    x = keras.layers.Conv2D(filters, 3, 2, "same", activation="gelu", name=f"eye_{filters}")(x)
    filters *= 2
x = keras.layers.Dense(128, activation="gelu", name="eye_vector")(keras.layers.Flatten()(x))
options = {"keep_tokens": keep_tokens, "layer_norm_cond": x, "additional_input_layers": image}
model = build_transformer_model(args.checkpoint, application="lm", with_lm="linear", **options)


def captions_of(pictures):
    """Generates a caption for each picture."""
    prompts = [[tokenizer.token_start_id]] * len(pictures)
    options = {"num_beams": args.num_beams, "stop_ids": tokenizer.token_end_id}
    options["more_inputs"] = [pixels(pictures)]
    rows = generate_all(model, prompts, args.max_new_tokens, args.batch_size, **options)
    return [tokenizer.decode(best.ids) for best, *_ in rows]


def evaluate(samples):
    """BLEU, and the fraction of captions that are one of the true ones, 0 to 1."""
    pictures, true = zip(*samples, strict=True)
    generated = captions_of(pictures)
    exact = [text in captions for text, captions in zip(generated, true, strict=True)]
    return {"bleu": bleu(true, generated) / 100, "exact": sum(exact) / len(exact)}


# the training
train = batches(samples["train"], shuffle=True)
schedule = linear_decay(args.epochs * len(train))
rates = {"eye_": 1e-3 / args.learning_rate}
optimizer = AdamW(args.learning_rate, weight_decay=0.01, lr_schedule=schedule, lr_multipliers=rates)
model.compile(optimizer, sequence_crossentropy)
model.optimizer.build(model.trainable_variables)  # one trace
best = BestEpoch(lambda: evaluate(samples["valid"][: args.scored]), OUTPUT / "captions.weights.h5")
model.fit(train, epochs=args.epochs, callbacks=[best])

# the result
pictures, true = zip(*samples["test"][:5], strict=True)
for image, captions, text in zip(pictures, true, captions_of(pictures), strict=True):
    print(image if isinstance(image, Path) else in_terminal(image))
    print(f"  caption   {' / '.join(captions)}\n  generated {text}\n")
scores = evaluate(samples["test"][: args.scored])
print(f"{last}:", "  ".join(f"{name} {value:.4f}" for name, value in scores.items()))
