"""Generates the headline of a news article: a Chinese BERT as a UniLM.

    python examples/task_seq2seq_autotitle.py [--checkpoint DIR] [--data DIR]

Article and headline are one row. The tokens of the article see each other, those of the headline
see the article and the tokens before them: `application="unilm"` is that attention mask. So a BERT
that was trained to fill masks learns to generate, with all of its weights.

--checkpoint: a Chinese BERT: a directory of Google's or Hugging Face's files, or a name on a hub.
--data: THUCNews as published, a directory of directories of .txt files, whose first line is the
    headline; or a directory with train, valid and test files of JSON lines with `title` and
    `content`.
--scored: number of articles for the scores.

Reference: Dong et al., "Unified Language Model Pre-training", arXiv 1905.03197.
"""

import argparse
import random

import keras
from sample import DATA, OUTPUT

from bert4keras_lite import build_transformer_model, load_tokenizer, stream
from bert4keras_lite.data import (
    Batches,
    next_token_labels,
    pad_samples,
    read_json_lines,
    read_splits,
)
from bert4keras_lite.generation import generate_all
from bert4keras_lite.losses import sequence_crossentropy
from bert4keras_lite.metrics import bleu, rouge
from bert4keras_lite.optimizers import AdamW, linear_decay
from bert4keras_lite.training import BestEpoch

parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
)
parser.add_argument("--checkpoint", default="tiny-zh")
parser.add_argument("--data", default=DATA / "news")
parser.add_argument("--maxlen", type=int, help="256, or 96 for tiny-zh")
parser.add_argument("--max-new-tokens", type=int, default=32)
parser.add_argument("--batch-size", type=int, default=16)
parser.add_argument("--epochs", type=int, help="3, or 4 for tiny-zh")
parser.add_argument("--learning-rate", type=float, help="2e-5, or 1e-3 for tiny-zh")
parser.add_argument("--num-beams", type=int, default=3)
parser.add_argument("--scored", type=int, default=200)
parser.add_argument("--seed", type=int, default=0)
args = parser.parse_args()
is_small = args.checkpoint == "tiny-zh"
args.maxlen = args.maxlen or (96 if is_small else 256)
args.epochs = args.epochs or (4 if is_small else 3)
args.learning_rate = args.learning_rate or (1e-3 if is_small else 2e-5)
keras.utils.set_random_seed(args.seed)
# without the third of the vocabulary that Chinese texts do not need
tokenizer, keep_tokens = load_tokenizer(args.checkpoint).simplified()


# the data
def read(path):
    """(article, headline) of each line of JSON, or of each .txt file in a directory."""
    if path.is_file():
        return read_json_lines(path, lambda row: (row["content"], row["title"]))
    news, files = [], sorted(path.rglob("*.txt"))
    random.Random(0).shuffle(files)  # a directory has one topic; each split needs all
    for file in files:
        title, _, text = file.read_text(encoding="utf-8").strip().partition("\n")
        if text:
            news.append((text[: 2 * args.maxlen], title))
    return news


def batches(pairs, **options):
    """Batches of a source and its answer in one row, of which the answer is to be predicted."""
    rows = []
    for source, answer in pairs:
        source = tokenizer.encode(source, maxlen=args.maxlen)[0]
        answer = tokenizer.encode(answer, maxlen=args.max_new_tokens + 1)[0][1:]
        rows.append((source + answer, [0] * len(source) + [1] * len(answer)))
    return Batches(rows, args.batch_size, collate, buckets=4, **options)


def collate(rows, length):
    ids, segments = pad_samples(rows, length)
    return (ids, segments), next_token_labels(ids, segments == 1)


samples = read_splits(args.data, read)
last = "valid" if samples["test"] is samples["valid"] else "test"

# the model
model = build_transformer_model(
    args.checkpoint,
    application="unilm",
    with_lm="linear",
    keep_tokens=keep_tokens,
    dropout_rate=0.1,
)


def headlines(articles):
    """Generates the headline of each article."""
    prompts = [tokenizer.encode(text, maxlen=args.maxlen)[0] for text in articles]
    rows = generate_all(
        model,
        prompts,
        args.max_new_tokens,
        args.batch_size,
        num_beams=args.num_beams,
        stop_ids=tokenizer.token_end_id,
    )
    return [tokenizer.decode(best.ids) for best, *_ in rows]


def evaluate(samples):
    """ROUGE and BLEU of characters, 0 to 1; the first decides which epoch is the best."""
    articles, titles = zip(*samples, strict=True)
    generated = headlines(articles)
    scores = rouge(titles, generated)
    return {"rougeL": scores["rougeL"]} | scores | {"bleu": bleu(titles, generated) / 100}


# the training
train = batches(samples["train"], shuffle=True)
schedule = linear_decay(args.epochs * len(train))
optimizer = AdamW(args.learning_rate, weight_decay=0.01, lr_schedule=schedule)
model.compile(optimizer, sequence_crossentropy)
model.optimizer.build(model.trainable_variables)  # one trace
best = BestEpoch(lambda: evaluate(samples["valid"][: args.scored]), OUTPUT / "autotitle.weights.h5")
model.fit(train, epochs=args.epochs, callbacks=[best])

# the result
articles, titles = zip(*samples["test"][:5], strict=True)
for article, title, generated in zip(articles, titles, headlines(articles), strict=True):
    print(f"  article   {article[:60]}…\n  headline  {title}\n  generated {generated}\n")
print("token by token: ", end="")
for piece in stream(model, tokenizer, articles[0][: args.maxlen - 2], args.max_new_tokens):
    print(piece, end="|", flush=True)
print()
scores = evaluate(samples["test"][: args.scored])
print(f"{last}:", "  ".join(f"{name} {value:.4f}" for name, value in scores.items()))
