"""Writes the headline of a news article: a Chinese BERT as a UniLM.

    python examples/task_seq2seq_autotitle.py [--checkpoint DIR] [--data DIR]

Article and headline stand in one row. The article's tokens see one another, the headline's see the
article and what comes before them: `application="unilm"` is nothing but that mask. So a BERT that
was trained to fill gaps learns to write, and its weights are all used.

--checkpoint: a Chinese BERT: a directory of Google's or Hugging Face's files, or a name on a hub (tiny-zh).
--data: THUCNews as it is given out, a directory of directories of .txt files, whose first line is the
    headline; or a directory with train, valid and test files of JSON lines with `title` and `content`.
    Without it, the sample in examples/data.

Reference: Dong et al., "Unified Language Model Pre-training", arXiv 1905.03197.
"""

from json_lines import read_lines
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
from trials import DATA, arguments, show_scores

from bert4keras_lite import build_transformer_model, stream

args = arguments(
    __doc__,
    data=f"{DATA}/news",
    maxlen=(256, 96),
    max_new_tokens=32,
    batch_size=16,
    epochs=(3, 4),
    learning_rate=(2e-5, 1e-3),
    num_beams=3,
    scored=200,
)


def read_news(path):
    """(article, headline) of each .txt file in a directory, or of JSON lines."""
    if path.is_file():
        form = '{"title": "...", "content": "..."}'
        return read_lines(path, lambda row: [(row["content"], row["title"])], form)
    news = []
    for file in sorted(path.rglob("*.txt")):
        title, _, text = file.read_text(encoding="utf-8").strip().partition("\n")
        if text:
            news.append((text[: 2 * args.maxlen], title))
    return news


# the data
tokenizer, keep_tokens = simplified(args.checkpoint)
samples = read_or_cut(args.data, read_news)
batches = unilm_batches(encode_pairs(samples["train"], tokenizer, args), args, shuffle=True)

# the model
model = build_transformer_model(
    args.checkpoint,
    application="unilm",
    with_lm="linear",
    keep_tokens=keep_tokens,
    dropout_rate=0.1,
)


def headlines(articles):
    prompts = [tokenizer.encode(text, maxlen=args.maxlen)[0] for text in articles]
    return write(model, prompts, tokenizer, args, num_beams=args.num_beams)


def score(rows):
    articles, titles = zip(*rows, strict=True)
    return text_scores(titles, headlines(articles))


train(model, batches, args, lambda: score(samples["valid"][: args.scored]), "autotitle")

# the result
scores = score(samples["test"][: args.scored])
show_scores(scores)
articles, titles = zip(*samples["test"][:5], strict=True)
for article, title, written in zip(articles, titles, headlines(articles), strict=True):
    show(("article ", article[:60] + "…"), ("headline", title), ("written ", written))
print("as it is written: ", end="")
for piece in stream(model, tokenizer, articles[0][: args.maxlen - 2], args.max_new_tokens):
    print(piece, end="|", flush=True)
print()
