"""Writes the title of a paper from its abstract with T5: an encoder reads, a decoder writes.

    python examples/task_seq2seq_autotitle_csl_mt5.py [--checkpoint DIR] [--data PATH]

The same task as task_seq2seq_autotitle_csl.py, for a model made to write: mT5, T5-PEGASUS,
PromptCLUE, UER's T5.

--checkpoint: a directory with config, weights and vocabulary or sentencepiece model. Of mT5's quarter
    million pieces a Chinese text needs few: if a file *keep_tokens.json is there, only those that it
    lists are loaded. Without a checkpoint, a small T5 is trained.
--data: CSL, see titles.py. Without it, the sample in examples/data.

Reference: Xue et al., "mT5", arXiv 2010.11934.
"""

from pathlib import Path

from seq2seq import BUCKETS, encode_pairs, next_tokens, read_or_cut, show, text_scores, train, write
from small_t5 import small_t5
from titles import read_titles
from trials import DATA, arguments, show_scores

from bert4keras_lite import build_transformer_model, load_tokenizer
from bert4keras_lite.data import Batches, sequence_padding
from bert4keras_lite.parsing import read_json

args = arguments(
    __doc__,
    small=None,
    data=f"{DATA}/papers",
    maxlen=(256, 96),
    max_new_tokens=32,
    batch_size=16,
    epochs=(10, 6),
    learning_rate=(2e-4, 2e-3),
    num_beams=3,
    scored=500,
)
checkpoint = args.checkpoint or small_t5()

# the model, and what its vocabulary is cut down to
keep = [read_json(path) for path in Path(checkpoint).glob("*keep_tokens.json")]
reduced = {"keep_tokens": keep[0]} if keep else {}
tokenizer = load_tokenizer(checkpoint, **reduced)
model = build_transformer_model(checkpoint, with_lm="linear", dropout_rate=0.1, **reduced)
start = [] if tokenizer.token_start is None else [tokenizer.token_start_id]
begin = start or [0]  # what a decoder begins with

# the data
samples = read_or_cut(args.data, read_titles)


def collate(pairs, length):
    """The decoder sees the title up to each token, and is to tell the next."""
    sources, titles = zip(*pairs, strict=True)
    sources = sequence_padding(sources, length)
    titles = sequence_padding(titles, args.max_new_tokens + 2)
    return (sources, titles), next_tokens(titles, titles > 0)


pairs = [
    (source, begin + title[len(start) :])
    for source, title in encode_pairs(samples["train"], tokenizer, args)
]
batches = Batches(
    pairs, args.batch_size, collate, shuffle=True, buckets=BUCKETS, length=lambda pair: len(pair[0])
)


def titles(abstracts):
    prompts = [tokenizer.encode(text, maxlen=args.maxlen)[0] for text in abstracts]
    return write(model, prompts, tokenizer, args, num_beams=args.num_beams, start_ids=begin)


def score(rows):
    abstracts, true = zip(*rows, strict=True)
    return text_scores(true, titles(abstracts))


train(model, batches, args, lambda: score(samples["valid"][: args.scored]), "csl_mt5")

# the result
scores = score(samples["test"][: args.scored])
show_scores(scores)
abstracts, true = zip(*samples["test"][:5], strict=True)
for abstract, title, written in zip(abstracts, true, titles(abstracts), strict=True):
    show(("abstract", abstract[:60] + "…"), ("title   ", title), ("written ", written))
