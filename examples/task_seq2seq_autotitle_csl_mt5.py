"""Generates the title of a paper from its abstract with T5: an encoder reads, a decoder generates.

    python examples/task_seq2seq_autotitle_csl_mt5.py [--checkpoint DIR] [--data PATH]

The same task as task_seq2seq_autotitle_csl.py, for models made for generation: mT5, T5-PEGASUS,
PromptCLUE, UER's T5.

--checkpoint: a directory with config, weights and vocabulary or sentencepiece model. Of mT5's
    quarter million pieces Chinese texts need few: if there is a file *keep_tokens.json, only those
    that it lists are loaded. Without a checkpoint, a small T5 is trained.
--data: CSL, a file or a directory with train, valid (or dev) and test files, whose lines are
    title TAB abstract (CLGE), to title TAB abstract TAB title (the CSL benchmark), or JSON
    objects with `title` and `abst`.
--scored: number of abstracts for the scores.

Reference: Xue et al., "mT5", arXiv 2010.11934.
"""

import argparse
from itertools import chain
from pathlib import Path

import keras
from sample import DATA, OUTPUT
from small_t5 import small_t5

from bert4keras_lite import build_transformer_model, load_tokenizer
from bert4keras_lite.data import (
    Batches,
    next_token_labels,
    read_columns,
    read_json_lines,
    read_splits,
    sequence_padding,
)
from bert4keras_lite.generation import generate_all
from bert4keras_lite.losses import sequence_crossentropy
from bert4keras_lite.metrics import bleu, rouge
from bert4keras_lite.optimizers import AdamW, linear_decay
from bert4keras_lite.parsing import read_json
from bert4keras_lite.training import BestEpoch

parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
)
parser.add_argument("--checkpoint")
parser.add_argument("--data", default=DATA / "papers")
parser.add_argument("--maxlen", type=int, help="256, or 96 for the small T5")
parser.add_argument("--max-new-tokens", type=int, default=32)
parser.add_argument("--batch-size", type=int, default=16)
parser.add_argument("--epochs", type=int, help="10, or 6 for the small T5")
parser.add_argument("--learning-rate", type=float, help="2e-4, or 2e-3 for the small T5")
parser.add_argument("--num-beams", type=int, default=3)
parser.add_argument("--scored", type=int, default=500)
parser.add_argument("--seed", type=int, default=0)
args = parser.parse_args()
is_small = args.checkpoint is None
args.maxlen = args.maxlen or (96 if is_small else 256)
args.epochs = args.epochs or (6 if is_small else 10)
args.learning_rate = args.learning_rate or (2e-3 if is_small else 2e-4)
keras.utils.set_random_seed(args.seed)
checkpoint = args.checkpoint or small_t5()

# the tokenizer, and the part of the vocabulary that is kept
files = [*Path(checkpoint).glob("*keep_tokens.json")]
reduced = {"keep_tokens": read_json(files[0])} if files else {}
tokenizer = load_tokenizer(checkpoint, **reduced)
start = [] if tokenizer.token_start is None else [tokenizer.token_start_id]
decoder_start = start or [0]


# the data
def read(path):
    """(abstract, title) of each line of a file."""
    if path.suffix == ".json":
        return read_json_lines(path, lambda row: (row["abst"], row["title"]))
    pairs = []
    for line in chain.from_iterable(read_columns(path, "\t")):
        match line:
            case [title, abstract] | ["to title", abstract, title]:
                pairs.append((abstract, title))
            case [_, _, _]:
                pass  # another task of the benchmark
            case _:
                raise SystemExit(
                    f"{path}: expected title TAB abstract, or to title TAB abstract TAB title, "
                    f"got {line}."
                )
    return pairs


def batches(samples, **options):
    """Batches of abstracts and titles; the decoder predicts the token after each of a title."""
    rows = []
    for abstract, title in samples:
        source = tokenizer.encode(abstract, maxlen=args.maxlen)[0]
        title = tokenizer.encode(title, maxlen=args.max_new_tokens + 1)[0]
        rows.append((source, decoder_start + title[len(start) :]))
    length = lambda row: len(row[0])  # noqa: E731
    return Batches(rows, args.batch_size, collate, buckets=4, length=length, **options)


def collate(rows, length):
    sources, titles = zip(*rows, strict=True)
    sources = sequence_padding(sources, length)
    titles = sequence_padding(titles, args.max_new_tokens + 2)
    return (sources, titles), next_token_labels(titles, titles > 0)


samples = read_splits(args.data, read)
last = "valid" if samples["test"] is samples["valid"] else "test"

# the model
model = build_transformer_model(checkpoint, with_lm="linear", dropout_rate=0.1, **reduced)


def titles_of(abstracts):
    """Generates the title of each abstract."""
    prompts = [tokenizer.encode(text, maxlen=args.maxlen)[0] for text in abstracts]
    rows = generate_all(
        model,
        prompts,
        args.max_new_tokens,
        args.batch_size,
        num_beams=args.num_beams,
        stop_ids=tokenizer.token_end_id,
        start_ids=decoder_start,
    )
    return [tokenizer.decode(best.ids) for best, *_ in rows]


def evaluate(samples):
    """ROUGE and BLEU of characters, 0 to 1; the first decides which epoch is the best."""
    abstracts, titles = zip(*samples, strict=True)
    generated = titles_of(abstracts)
    scores = rouge(titles, generated)
    return {"rougeL": scores["rougeL"]} | scores | {"bleu": bleu(titles, generated) / 100}


# the training
train = batches(samples["train"], shuffle=True)
schedule = linear_decay(args.epochs * len(train))
optimizer = AdamW(args.learning_rate, weight_decay=0.01, lr_schedule=schedule)
model.compile(optimizer, sequence_crossentropy)
model.optimizer.build(model.trainable_variables)  # one trace
best = BestEpoch(lambda: evaluate(samples["valid"][: args.scored]), OUTPUT / "csl_mt5.weights.h5")
model.fit(train, epochs=args.epochs, callbacks=[best])

# the result
abstracts, true = zip(*samples["test"][:5], strict=True)
for abstract, title, generated in zip(abstracts, true, titles_of(abstracts), strict=True):
    print(f"  abstract  {abstract[:60]}…\n  title     {title}\n  generated {generated}\n")
scores = evaluate(samples["test"][: args.scored])
print(f"{last}:", "  ".join(f"{name} {value:.4f}" for name, value in scores.items()))
