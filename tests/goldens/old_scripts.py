"""What `make_old_scripts.py` needs to run a script of bert4keras: data, checkpoints, changes.

No script is stored. A script is read from a checkout of bert4keras, its paths are moved below a
working folder, and its sizes are changed by the regular expressions of `CHANGES` and of its own row
of `SCRIPTS`. `prepare` writes the files that the script reads: a small checkpoint with random
weights, and random data in the script's own format.
"""

import json
import re
import zlib
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from recipes import random_weights

__all__ = ["SCRIPTS", "changed_text", "prepare", "shapes_of"]

FOLDER = Path(__file__).resolve().parent
SHAPES = FOLDER / "old_scripts_shapes.json"
STEPS, TRAIN, OTHERS = 50, 80, 4

CHINESE = (
    "的一是在不了有和人这中大为上个国我以要他时来用们生到作地于出就分对成会可主发年动同工也能下过子说产种面而方后"
    "多定行学法所民得经之进着等部度家电力里如水化高自理起小物现实加量都两体制机当使点从业本去把性好差应开它合还因"
)
LATIN = "abcdefghijklmnopqrstuvwxyz"
DIGITS = "0123456789"
PUNCTUATION = "，。？！、：；（）《》“”.,?!:;()+-*/=%"
SPECIAL = ["[PAD]", *(f"[unused{i}]" for i in range(1, 10)), "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
VOCABULARY = [
    *SPECIAL,
    *dict.fromkeys(PUNCTUATION + DIGITS + LATIN + CHINESE),
    *(f"##{c}" for c in LATIN + DIGITS),
]


# --- data: each function draws the text of one file ---


def sentence(random, low=6, high=20, characters=CHINESE):
    """A row of random characters, between ``low`` and ``high`` of them."""
    return "".join(random.choice(list(characters), random.randint(low, high + 1)))


def lines(row):
    """A maker of files from ``row(random)``, which draws one line."""
    return lambda random, count: "".join(f"{row(random)}\n" for _ in range(count))


def labelled(random):
    label = random.randint(2)
    return f"{sentence(random)}{'差好'[label]}{sentence(random, 1, 4)}\t{label}"


def pair(random):
    label, first = random.randint(2), sentence(random, 4, 10)
    return f"{first}\t{first[::-1] if label else sentence(random, 4, 10)}\t{label}"


def title(random):
    content = sentence(random, 10, 24)
    return f"{content[:4]}\t{content}"


def entities(random):
    rows = []
    for label in ("LOC", "PER"):
        rows += [f"{c} O" for c in sentence(random, 1, 6)]
        name = sentence(random, 2, 3)
        rows += [f"{c} {'I' if i else 'B'}-{label}" for i, c in enumerate(name)]
    return "\n".join(rows) + "\n"


PREDICATES = ("作者", "国家", "时间")


def triples(random):
    spans = [sentence(random, 2, 3) for _ in range(3)]
    relation = [
        {"subject": spans[i], "predicate": PREDICATES[random.randint(3)], "object": spans[i + 1]}
        for i in range(2)
    ]
    text = "".join(sentence(random, 1, 4) + span for span in spans)
    return json.dumps({"text": text, "spo_list": relation}, ensure_ascii=False)


def schemas(random, count):
    return "".join(json.dumps({"predicate": name}) + "\n" for name in PREDICATES)


def novel(random, count):
    return "  ".join(f"{sentence(random)}。{sentence(random)}。" for _ in range(4 * count))


# --- scripts ---

SENTIMENT = "examples/datasets/sentiment/sentiment."
CHANGES = [
    (r"(?<=['\"])/root/", "{work}/root/"),
    (r"^(max(?:_\w+_)?len) = \d+", r"\1 = 32"),
    (r"^batch_size = \d+", "batch_size = 4"),
    (r"\.forfit\(\)", ".forfit(random=False)"),
    (r"(?<=Adam\()\de-\d", "3e-4"),
    (r"\b(learning_rate ?= ?)\de-\d", r"\g<1>3e-4"),
    (r"\brate=0\.\d+", "rate=0.0"),
    (r"^(bert_layers) = \d+", r"\1 = 2"),
]


def splits(pattern, maker, *names):
    """The files of a data set: its names in ``pattern``, each with the same maker."""
    return {pattern.format(name): maker for name in names}


@dataclass(frozen=True)
class Script:
    """How a script is run.

    Attributes:
        files: path -> function of a random generator and a number of samples that draws the file.
        checkpoint: which of `CHECKPOINTS` it reads.
        changes: pairs of regular expression and replacement, after those of `CHANGES`.
        encoding: of its files.
        steps: of each call of ``fit``.
        graph: whether bert4keras runs it only without eager execution, as TensorFlow 1 did.
    """

    files: dict = field(default_factory=dict)
    checkpoint: str = "bert"
    changes: tuple = ()
    encoding: str = "utf-8"
    steps: int = STEPS
    graph: bool = False


SCRIPTS = {
    "task_sentiment_albert": Script(
        splits(SENTIMENT + "{}.data", lines(labelled), "train", "valid", "test"),
        "albert",
        changes=((r"\b1000: 1,\s+2000: 0\.1", "20: 1, 40: 0.1"),),
    ),
    "task_sentence_similarity_lcqmc": Script(
        splits("examples/datasets/lcqmc/lcqmc.{}.data", lines(pair), "train", "valid", "test")
    ),
    "task_sequence_labeling_ner_crf": Script(
        splits(
            "root/ner/china-people-daily-ner-corpus/example.{}",
            lines(entities),
            *("train", "dev", "test"),
        ),
        changes=((r"^crf_lr_multiplier = \d+", "crf_lr_multiplier = 10"),),
    ),
    "task_seq2seq_autotitle_csl": Script(
        splits("root/csl/{}.tsv", lines(title), "train", "val", "test"),
        changes=((r"maxlen=32\)", "maxlen=4)"),),
    ),
    "task_relation_extraction_gplinker": Script(
        {
            **splits("root/kg/datasets/{}_data.json", lines(triples), "train", "dev"),
            "root/kg/datasets/all_50_schemas": schemas,
        },
        changes=((r"\bhead_size=64", "head_size=8"),),
    ),
    "task_language_model": Script(
        {"root/金庸/train/novel.txt": novel},
        changes=((r"maxlen=maxlen\n", "maxlen=4\n"),),
        encoding="gbk",
    ),
}


def changed_text(name, text, work):
    """The text of a script with its paths below ``work`` and its sizes made small."""
    for pattern, replacement in CHANGES:
        text = re.sub(pattern, replacement.replace("{work}", str(work)), text, flags=re.MULTILINE)
    for pattern, replacement in SCRIPTS[name].changes:
        text, count = re.subn(pattern, replacement, text, flags=re.MULTILINE)
        assert count, f"{name}: nothing matches {pattern}"
    return text


# --- checkpoints ---

BERT = {
    "vocab_size": len(VOCABULARY),
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "hidden_act": "gelu",
    "max_position_embeddings": 128,
    "type_vocab_size": 2,
    "initializer_range": 0.02,
    "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
}
HEADS = {"with_pool": True, "with_nsp": True, "with_mlm": True}
CHECKPOINTS = {  # the model of bert4keras that names the weights, its options, and the config
    "bert": ("bert", HEADS, BERT),
    "albert": ("albert", HEADS, {**BERT, "embedding_size": 16}),
}


def shapes_of(kind):
    """Names and shapes of the weights of a checkpoint, as bert4keras reads them."""
    return json.loads(SHAPES.read_text())[kind]


def write_checkpoint(kind, prefix):
    """Writes a checkpoint of TensorFlow with random weights."""
    import tensorflow as tf

    weights = random_weights(shapes_of(kind))
    tf.raw_ops.SaveV2(
        prefix=str(prefix),
        tensor_names=list(weights),
        shape_and_slices=[""] * len(weights),
        tensors=[tf.constant(value) for value in weights.values()],
    )


def prepare(name, text, work):
    """Writes what a script reads.

    Args:
        name: of the script, without its suffix.
        text: of the script, after `changed_text`.
        work: path of an empty folder.
    """
    script = SCRIPTS[name]
    paths = dict(re.findall(r"^(\w+_path) = '(.+)'", text, flags=re.MULTILINE))
    contents = {
        "config_path": lambda path: path.write_text(json.dumps(CHECKPOINTS[script.checkpoint][2])),
        "checkpoint_path": lambda path: write_checkpoint(script.checkpoint, path),
        "dict_path": lambda path: path.write_text("\n".join(VOCABULARY) + "\n", encoding="utf-8"),
    }
    for kind, path in paths.items():
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        contents[kind](Path(path))
    for path, maker in script.files.items():
        target = work / path
        target.parent.mkdir(parents=True, exist_ok=True)
        random = np.random.RandomState(zlib.crc32(path.encode()))
        data = maker(random, TRAIN if "train" in path else OTHERS)
        target.write_text(data, encoding=script.encoding)
