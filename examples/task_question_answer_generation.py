"""Asks questions that a passage answers: one model writes the answer, then the question to it.

    python examples/task_question_answer_generation.py [--checkpoint DIR] [--data PATH]

A Chinese BERT as UniLM: it sees the passage as a whole, and writes after it from left to right,
`[CLS] passage [SEP] answer [SEP] question [SEP]`. A passage answers many questions, so the answer is
drawn at random; then there is little left to choose, and the question is searched for with beams.

Printed are BLEU and ROUGE of the questions that are written for the true answers; how many of the
answers drawn stand in the passage; and whether a second model, a reader that has learned to find
answers, gets the same answer when it is asked the question that was written.

--checkpoint: a Chinese BERT: a directory of Google's or Hugging Face's files, or a name on a hub (tiny-zh).
--data: a directory with files for train, dev and test, or one file, of DuReader-QG, CMRC 2018 or
    WebQA (see question_answers.py). Without it, the sample in examples/data.

Reference: Dong et al., "Unified Language Model Pre-training", arXiv 1905.03197; an answer first, and
then its question: https://kexue.fm/archives/7630.
"""

from difflib import SequenceMatcher

import keras
import numpy as np
from keras import ops
from question_answers import read_triples
from seq2seq import (
    BUCKETS,
    log_likelihoods,
    simplified,
    text_scores,
    train,
    unilm_batches,
)
from trials import DATA, arguments, show_scores

from bert4keras_lite import build_transformer_model, generate
from bert4keras_lite.data import Batches, pad_samples, read_splits

args = arguments(
    __doc__,
    data=f"{DATA}/qa",
    maxlen=(256, 32),
    max_answer=(32, 8),
    max_question=(48, 16),
    batch_size=16,
    epochs=(5, 8),
    learning_rate=(3e-5, 1e-3),
    top_p=0.9,
    num_beams=4,
    answers=3,  # drawn for each passage
    scored=500,  # passages that are written about
)
tokenizer, keep_tokens = simplified(args.checkpoint)


# the data
def around(passage, answer):
    """A part of the passage that fits, with the answer in its middle if it does not begin there."""
    begin = passage.find(answer) + len(answer) // 2 - args.maxlen // 2
    return passage[max(0, min(begin, len(passage) - args.maxlen)) :][: args.maxlen]


def source(passage):
    return tokenizer.encode(passage, maxlen=args.maxlen)[0]


def written(answer, question):
    """What is to be written, `[CLS] answer [SEP] question [SEP]`; of the question nothing: `None`."""
    ids = tokenizer.encode(answer, maxlen=args.max_answer + 1)[0]
    if question is not None:
        ids += tokenizer.encode(question, maxlen=args.max_question + 1)[0][1:]
    return ids


samples = {
    split: [(around(passage, answer), answer, question) for passage, answer, question in rows]
    for split, rows in read_splits(args.data, read_triples).items()
}
print({split: len(rows) for split, rows in samples.items()})
test = samples["test"][: args.scored]


def pairs(rows):
    return [(source(passage), written(answer, question)) for passage, answer, question in rows]


# the model that writes
build = {"keep_tokens": keep_tokens, "dropout_rate": 0.1}
writer = build_transformer_model(args.checkpoint, application="unilm", with_lm="linear", **build)


def write(prompts, max_new_tokens, **options):
    """For each prompt `(ids, segments)` the texts that are written after it."""
    texts = []
    for first in range(0, len(prompts), args.batch_size):
        rows = prompts[first : first + args.batch_size]
        rows += rows[:1] * (args.batch_size - len(rows))  # one size, one compiled program
        ids, segments = zip(*rows, strict=True)
        found = generate(
            writer,
            list(ids),
            max_new_tokens,
            segment_ids=list(segments),
            stop_ids=tokenizer.token_end_id,
            **options,
        )
        texts += [[tokenizer.decode(one.ids) for one in row] for row in found]
    return texts[: len(prompts)]


def draw_answers(passages):
    """For each passage some answers, drawn at random; the same one only once."""
    prompts = [(ids, [0] * len(ids)) for ids in map(source, passages)]
    options = {"do_sample": True, "top_p": args.top_p, "num_return_sequences": args.answers}
    drawn = write(prompts, args.max_answer, seed=args.seed, **options)
    return [[*dict.fromkeys(text for text in texts if text)] for texts in drawn]


def ask(passages, answers):
    """The question to each answer."""
    prompts = []
    for passage, answer in zip(passages, answers, strict=True):
        before, after = source(passage), written(answer, None)[1:]
        prompts.append((before + after, [0] * len(before) + [1] * len(after)))
    return [texts[0] for texts in write(prompts, args.max_question, num_beams=args.num_beams)]


def likelihood():
    """The mean log-probability of a token that is to be written."""
    total, count = log_likelihoods(writer, valid_batches).sum(axis=0)
    return {"log_likelihood": total / count}


# the model that reads: for each token of the passage, does the answer begin there, end there?
bert = build_transformer_model(args.checkpoint, **build)
scores = ops.transpose(keras.layers.Dense(2, name="ends")(bert.output), (0, 2, 1))
in_passage = ops.expand_dims(ops.equal(bert.inputs[1], 1), 1)
reader = keras.Model(bert.inputs, ops.where(in_passage, scores, -1e9))


def question_row(question, passage, answer=None):
    """Token ids, segments, and the places of the answer's first and last token.

    `None` if the answer is not in the passage.
    """
    room = args.maxlen + args.max_question
    question = question[: args.max_question]
    ids, segments, offsets = tokenizer.encode(question, passage, maxlen=room, return_offsets=True)
    first = segments.index(1)
    if answer is None:
        return ids, segments, np.array([first, first])
    start = passage.find(answer)
    end = start + len(answer)
    inside = [i for i, (a, b) in enumerate(offsets) if i >= first and b > start and a < end]
    return (ids, segments, np.array([inside[0], inside[-1]])) if start >= 0 and inside else None


def reader_batches(rows, **options):
    def collate(rows, length):
        ids, segments, places = zip(*rows, strict=True)
        return pad_samples(list(zip(ids, segments, strict=True)), length), np.stack(places)

    length = {"length": lambda row: len(row[0])}
    return Batches(rows, args.batch_size, collate, buckets=BUCKETS, **length, **options)


def read(passages, questions):
    """The answers that the reader finds."""
    rows = [question_row(*pair) for pair in zip(questions, passages, strict=True)]
    batches = reader_batches(rows)
    found = [pair for i in range(len(batches)) for pair in reader.predict_on_batch(batches[i][0])]
    answers = []
    for (ids, segments, _), (starts, ends) in zip(rows, batches.restore(found), strict=True):
        first = segments.index(1)
        sums = starts[first : len(ids) - 1, None] + ends[None, first : len(ids) - 1]
        allowed = np.triu(np.tri(len(sums), k=args.max_answer - 1, dtype=bool))
        start, last = np.unravel_index(np.where(allowed, sums, -np.inf).argmax(), sums.shape)
        answers.append(tokenizer.decode(ids[first + start : first + last + 1]))
    return answers


def same(text):
    """A text for comparisons: without spaces, in lower case."""
    return "".join(text.lower().split())


def agreement(true, found):
    """Share of the answers that are the same, and the mean F1 of their longest common runs."""
    exact, f1 = [], []
    for first, second in zip(map(same, true), map(same, found), strict=True):
        exact.append(first == second)
        run = SequenceMatcher(None, first, second, autojunk=False).find_longest_match().size
        f1.append(2 * run / max(1, len(first) + len(second)))
    return {"exact_match": np.mean(exact or 0.0), "f1": np.mean(f1 or 0.0)}


# the training
train_batches = unilm_batches(pairs(samples["train"]), args, shuffle=True)
valid_batches = unilm_batches(pairs(samples["valid"][: args.scored]), args)
print("\nthe model that writes")
train(writer, train_batches, args, likelihood, "qa_writer")

rows = [question_row(question, *rest) for *rest, question in samples["train"]]
passages, answers, questions = zip(*samples["valid"][: args.scored], strict=True)
print("\nthe model that reads")
train(
    reader,
    reader_batches([row for row in rows if row], shuffle=True),
    args,
    lambda: agreement(answers, read(passages, questions)),
    "qa_reader",
)


# the result
passages, answers, questions = zip(*test, strict=True)
print()
results = {
    "questions to the true answers": text_scores(questions, ask(passages, answers)),
    "reader, true questions": agreement(answers, read(passages, questions)),
}
distinct = [*dict.fromkeys(passages)]
drawn = draw_answers(distinct)
made = [(passage, a) for passage, texts in zip(distinct, drawn, strict=True) for a in texts]
found = [same(answer) in same(passage) for passage, answer in made]
invented = [pair for pair, there in zip(made, found, strict=True) if not there]
results["answers drawn"] = {
    "in_the_passage": np.mean(found or 0.0),
    "a_passage": len(made) / len(drawn),
}
made = [pair for pair, there in zip(made, found, strict=True) if there]
asked = ask(*zip(*made, strict=True)) if made else []
reread = read([passage for passage, _ in made], asked) if made else []
results["reader, questions to the answers drawn"] = agreement([a for _, a in made], reread)
for name, numbers in results.items():
    show_scores(numbers, name)

for passage in distinct[:4]:
    print(f"\n{passage[:200]}")
    for (place, answer), question, again in zip(made, asked, reread, strict=True):
        if place == passage:
            print(f"    {question}  {answer}  (the reader: {again})")
    print("    not in the passage:", *(answer for place, answer in invented if place == passage))
