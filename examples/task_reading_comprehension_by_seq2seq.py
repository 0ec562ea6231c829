"""Answers questions about a passage by writing, in the passage's own words: a BERT as a UniLM.

    python examples/task_reading_comprehension_by_seq2seq.py [--checkpoint DIR] [--data PATH]

Question and passage are the source, the answer is written behind them. `Substrings` lets only such
tokens follow as make a run of the passage, so nothing is made up. A long passage is read in windows;
of a window without the answer the model learns to write nothing, so that the answer with the highest
probability among all windows is taken.

--checkpoint: a Chinese BERT: a directory of Google's or Hugging Face's files, or a name on a hub (tiny-zh).
--data: CMRC 2018 or another set in SQuAD's form: a directory with train, dev (and test) files, or one
    file. Without it, the sample in examples/data.

Reference: https://kexue.fm/archives/7115
"""

from reading import best_answers, cmrc_scores, read_cmrc, show_answers, windows
from seq2seq import generate_all, read_or_cut, simplified, train, unilm_batches
from trials import DATA, arguments, show_scores

from bert4keras_lite import build_transformer_model
from bert4keras_lite.generation import Substrings

args = arguments(
    __doc__,
    data=f"{DATA}/reading",
    maxlen=(320, 112),
    maxquestion=64,
    max_new_tokens=(32, 12),
    batch_size=16,
    epochs=(3, 6),
    learning_rate=(2e-5, 1e-3),
    num_beams=3,
    scored=200,
)

# the data
tokenizer, keep_tokens = simplified(args.checkpoint)
samples = read_or_cut(args.data, read_cmrc)
start_id, end_id = tokenizer.token_start_id, tokenizer.token_end_id


def source(window):
    return [*window.question, *window.passage, end_id]


def pair(window):
    """The source, and the answer's tokens, as they are in the window; nothing where it is not."""
    start, end = window.answer or (0, 0)
    return source(window), [start_id, *window.passage[start:end][: args.max_new_tokens - 1], end_id]


pairs = [pair(part) for part in windows(samples["train"], tokenizer, args)]
batches = unilm_batches(pairs, args, shuffle=True)

# the model
model = build_transformer_model(
    args.checkpoint,
    application="unilm",
    with_lm="linear",
    keep_tokens=keep_tokens,
    dropout_rate=0.1,
)


def answers(questions):
    parts = windows(questions, tokenizer, args)
    runs = [Substrings(part.passage, stop_id=end_id) for part in parts]
    written = generate_all(
        model,
        [source(part) for part in parts],
        args,
        stop_ids=end_id,
        num_beams=args.num_beams,
        length_penalty=0.0,  # probabilities as they are: windows are compared by them
        allowed_tokens=runs,
    )
    found = []
    for run, (best, *_) in zip(runs, written, strict=True):
        end = run.places(tuple(best.ids.tolist()))[0]
        found.append((best.score, end - len(best.ids), end))
    return best_answers(questions, parts, found)


def score(questions):
    return cmrc_scores(questions, answers(questions))


train(model, batches, args, lambda: score(samples["valid"][: args.scored]), "reading_seq2seq")

# the result
show_scores(score(samples["test"]))
show_answers(samples["test"][:5], answers(samples["test"][:5]))
