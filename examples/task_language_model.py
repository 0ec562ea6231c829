"""Goes on with a text in the style of its books: a Chinese BERT as a language model.

    python examples/task_language_model.py [--checkpoint DIR] [--data PATH] [--text 春天]

Under `application="lm"` no token sees a later one, and a BERT trained to fill gaps learns to tell
the next token. What it has learned is measured as perplexity: as many tokens seem equally likely to
follow, on average, in texts that it was not trained on.

--checkpoint: a Chinese BERT: a directory of Google's or Hugging Face's files, or a name on a hub (tiny-zh).
--data: a .txt file (a novel), a .jsonl file of poems (objects with `paragraphs`, a list of lines), or
    a directory of such files. Without it, the sample in examples/data.
"""

from functools import partial

import numpy as np
from json_lines import read_lines
from seq2seq import log_likelihoods, read_or_cut, simplified, text_batches, train, write_several
from trials import DATA, arguments

from bert4keras_lite import build_transformer_model
from bert4keras_lite.data import text_segmentate

args = arguments(
    __doc__,
    data=f"{DATA}/corpus.txt",
    maxlen=(256, 48),
    max_new_tokens=(128, 40),
    batch_size=(16, 64),
    epochs=(5, 2),
    learning_rate=(2e-5, 2e-3),
    scored=1000,
    text="我们坐高铁,这家饭店,春天",
)


def read_pieces(path):
    """The texts of a file, or of all files in a directory, in pieces that fit a row."""
    if path.is_dir():
        files = sorted([*path.rglob("*.txt"), *path.rglob("*.jsonl")])
        return [piece for file in files for piece in read_pieces(file)]
    if path.suffix == ".jsonl":
        texts = read_lines(
            path, lambda row: ["\n".join(row["paragraphs"])], '{"paragraphs": [...]}'
        )
    else:  # an empty line parts documents
        texts = path.read_text(encoding="utf-8").split("\n\n")
    cut = partial(text_segmentate, maxlen=args.maxlen - 2, seps="\n。！？；，")
    return [piece for text in texts if text.strip() for piece in cut(text)]


# the data
tokenizer, keep_tokens = simplified(args.checkpoint)
samples = read_or_cut(args.data, read_pieces)
rows = {
    split: [tokenizer.encode(text, maxlen=args.maxlen)[0] for text in texts]
    for split, texts in samples.items()
}
batches = text_batches(rows["train"], args, shuffle=True)

# the model
model = build_transformer_model(
    args.checkpoint,
    application="lm",
    with_lm="linear",
    keep_tokens=keep_tokens,
    dropout_rate=0.1,
)


def score(rows):
    total, count = log_likelihoods(model, text_batches(rows[: args.scored], args)).sum(axis=0)
    return {"log_likelihood": total / count}


train(model, batches, args, lambda: score(rows["valid"]), "language_model")

# the result
print(f"test perplexity: {np.exp(-score(rows['test'])['log_likelihood']):.2f}")
texts = args.text.split(",")
prompts = [tokenizer.encode(text)[0][:-1] for text in texts]
sampling = {"do_sample": True, "top_p": 0.9, "num_return_sequences": 3, "seed": args.seed}
written = write_several(model, prompts, tokenizer, args, **sampling)
for text, endings in zip(texts, written, strict=True):
    print(text)
    for ending in endings:
        print(f"  …{ending}")
