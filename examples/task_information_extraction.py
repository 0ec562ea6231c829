"""Finds what a prompt names, such as 人名: UIE, two pointers on a text after its prompt.

    python examples/task_information_extraction.py [--checkpoint DIR] [--data DIR]
    python examples/task_information_extraction.py --checkpoint uie-base --pointers kept

A BERT or ERNIE reads prompt and text as a pair. For each token there are two logits: is it the
first, and is it the last token of an answer? A new name needs no new weights, and what was found
can be asked about in turn (李白的出生地), so that one model finds entities and relations.

As in PaddleNLP, a text has a prompt for each type that it contains, with all of its spans as the
answer, and some for other types, which have none (`--negatives`): without these, the model would
find something for every prompt. The loss is the binary cross-entropy of both pointers.

--checkpoint: an ERNIE or a BERT, or with `--pointers kept` a UIE: a directory of Hugging Face's,
    Paddle's or Google's files, or a name on a hub.
--data: a directory with the train and dev files of CLUENER (JSON lines).

Reference: Lu et al., "Unified Structure Generation for Universal Information Extraction", arXiv
2203.12277; prompts and loss: `finetune.py` and `utils.py` of
https://github.com/PaddlePaddle/PaddleNLP/tree/release/2.8/model_zoo/uie.
"""

import argparse

import keras
import numpy as np
from sample import DATA, OUTPUT

from bert4keras_lite import build_transformer_model, extract_information, load_tokenizer
from bert4keras_lite.data import Batches, pad_samples, read_json_lines, read_splits
from bert4keras_lite.metrics import span_scores
from bert4keras_lite.optimizers import AdamW, linear_decay
from bert4keras_lite.pipelines import InformationExtractor
from bert4keras_lite.spans import token_spans
from bert4keras_lite.training import BestEpoch

parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
)
parser.add_argument("--checkpoint", default="tiny-zh")
parser.add_argument("--data", default=DATA / "entities")
parser.add_argument("--pointers", choices=["new", "kept"], default="new")
parser.add_argument("--negatives", type=int, default=5, help="prompts without an answer, of a text")
parser.add_argument("--maxlen", type=int, default=128)
parser.add_argument("--batch-size", type=int, default=16)
parser.add_argument("--epochs", type=int, help="3, or 6 for tiny-zh")
parser.add_argument("--learning-rate", type=float, help="1e-5, or 1e-3 for tiny-zh")
parser.add_argument("--seed", type=int, default=0)
args = parser.parse_args()
is_small = args.checkpoint == "tiny-zh"
epochs = args.epochs or (6 if is_small else 3)
learning_rate = args.learning_rate or (1e-3 if is_small else 1e-5)
keras.utils.set_random_seed(args.seed)
tokenizer = load_tokenizer(args.checkpoint)

# the data
NAMES = {  # the types of CLUENER as a prompt says them
    "address": "地址",
    "book": "书名",
    "company": "公司",
    "game": "游戏",
    "government": "政府",
    "movie": "电影",
    "name": "人名",
    "organization": "组织机构",
    "position": "职位",
    "scene": "景点",
}


def cluener(row):
    """(text, set of (start, end, name)) of a line, whose ends are included; None without labels."""
    if "label" not in row:
        return None
    mentions = [(type_, spans) for type_, names in row["label"].items() for spans in names.values()]
    return row["text"], {
        (start, end + 1, NAMES.get(type_, type_))
        for type_, spans in mentions
        for start, end in spans
    }


samples = read_splits(args.data, lambda path: read_json_lines(path, cluener))
last = "valid" if samples["test"] is samples["valid"] else "test"
schema = sorted({name for _, spans in samples["train"] for *_, name in spans})
random = np.random.default_rng(args.seed)


def prompts(spans):
    """The names in a text, and some that are not, drawn at random."""
    inside = sorted({name for *_, name in spans})
    others = [name for name in schema if name not in inside]
    drawn = random.permutation(len(others))[: args.negatives]
    return inside + [others[i] for i in drawn]


def batches(samples, **options):
    """Batches of prompts with their texts, and of the first and last tokens of the answers."""
    rows = []
    for text, spans in samples:
        for prompt in prompts(spans):
            ids, segments, offsets = tokenizer.encode(
                prompt, text, maxlen=args.maxlen, return_offsets=True
            )
            # no answer lies in the prompt, whose segment is 0
            offsets = [
                x if segment else (0, 0) for x, segment in zip(offsets, segments, strict=True)
            ]
            answers = {span for span in spans if span[2] == prompt}
            rows.append((ids, segments, token_spans(answers, offsets)))
    return Batches(rows, args.batch_size, collate, length=lambda row: len(row[0]), **options)


def collate(rows, length):
    """Labels `(batch, length, 2)`: 1 for the first, and for the last token of an answer."""
    labels = np.zeros((len(rows), length, 2), "float32")
    for i, (_, _, spans) in enumerate(rows):
        for start, end, _ in spans:
            labels[i, start, 0] = labels[i, end - 1, 1] = 1
    return pad_samples([(ids, segments) for ids, segments, _ in rows], length), labels


# the model
model = build_transformer_model(
    args.checkpoint,
    with_classifier="spans",
    new_classifier=args.pointers == "new",
    dropout_rate=0.1,
)
extractor = InformationExtractor(model, tokenizer)


def predict(samples):
    """What is found in each text for all names, sets of (start, end, name)."""
    return [
        {(x["start"], x["end"], name) for name, answers in result.items() for x in answers}
        for result in extractor.extract([text for text, _ in samples], schema)
    ]


def f1(samples):
    """F1 of the spans: both ends and the name must be right."""
    return span_scores([spans for _, spans in samples], predict(samples)).f1


# the training
train = batches(samples["train"], shuffle=True, buckets=4)
model.compile(
    AdamW(learning_rate, lr_schedule=linear_decay(epochs * len(train))),
    keras.losses.BinaryCrossentropy(from_logits=True),
)
model.optimizer.build(model.trainable_variables)  # one trace
best = BestEpoch(lambda: {"f1": f1(samples["valid"])}, OUTPUT / "information.weights.h5")
model.fit(train, epochs=epochs, callbacks=[best])

# the result
folder = OUTPUT / "information"
model.transformer.save_checkpoint(folder, format="hf", vocab=tokenizer)
few = [text for text, _ in samples["test"][:5]]
for text, result in zip(few, extract_information(folder, few, schema), strict=True):
    print(text)
    for name, answers in result.items():
        for answer in answers:
            print(f"    {name}: {answer['text']} ({answer['probability']:.0%})")
print(f"{last} F1: {f1(samples['test']):.4f}")
print(f"For a server: python -m bert4keras_lite serve {folder}")
