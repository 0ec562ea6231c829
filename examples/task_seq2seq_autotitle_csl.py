"""Writes the title of a paper from its abstract, and is scored: a Chinese BERT as a UniLM on CSL.

    python examples/task_seq2seq_autotitle_csl.py [--checkpoint DIR] [--data PATH]

See task_seq2seq_autotitle.py for how a BERT writes. Titles are scored by ROUGE and BLEU on
characters (Latin words and numbers count as one), with beam search.

--checkpoint: a Chinese BERT: a directory of Google's or Hugging Face's files, or a name on a hub (tiny-zh).
--data: CSL as CLGE, as the CSL benchmark or as JSON lines: see titles.py. Without it, the sample in
    examples/data.

Reference: Li et al., "CSL: A Large-scale Chinese Scientific Literature Dataset", arXiv 2209.05034.
"""

from seq2seq import (
    encode_pairs,
    read_or_cut,
    show,
    simplified,
    text_scores,
    train,
    unilm_batches,
    write,
)
from titles import read_titles
from trials import DATA, arguments, show_scores

from bert4keras_lite import build_transformer_model

args = arguments(
    __doc__,
    data=f"{DATA}/papers",
    maxlen=(256, 96),
    max_new_tokens=32,
    batch_size=16,
    epochs=(10, 6),
    learning_rate=(2e-5, 1e-3),
    num_beams=3,
    scored=500,
)

# the data
tokenizer, keep_tokens = simplified(args.checkpoint)
samples = read_or_cut(args.data, read_titles)
batches = unilm_batches(encode_pairs(samples["train"], tokenizer, args), args, shuffle=True)

# the model
model = build_transformer_model(
    args.checkpoint,
    application="unilm",
    with_lm="linear",
    keep_tokens=keep_tokens,
    dropout_rate=0.1,
)


def titles(abstracts):
    prompts = [tokenizer.encode(text, maxlen=args.maxlen)[0] for text in abstracts]
    return write(model, prompts, tokenizer, args, num_beams=args.num_beams)


def score(rows):
    abstracts, true = zip(*rows, strict=True)
    return text_scores(true, titles(abstracts))


train(model, batches, args, lambda: score(samples["valid"][: args.scored]), "csl")

# the result
scores = score(samples["test"][: args.scored])
show_scores(scores)
abstracts, true = zip(*samples["test"][:5], strict=True)
for abstract, title, written in zip(abstracts, true, titles(abstracts), strict=True):
    show(("abstract", abstract[:60] + "…"), ("title   ", title), ("written ", written))
