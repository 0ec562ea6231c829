"""What `make_old_scripts.py` needs to run a script of bert4keras: data, checkpoints, changes.

No script is stored. A script is read from a checkout of bert4keras, its paths are moved below a
working folder, and its sizes are changed by the regular expressions of `CHANGES` and of its own row
of `SCRIPTS`. `prepare` writes the files that the script reads: a small checkpoint with random
weights, and random data in the script's own format.
"""

import json
import re
import tempfile
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
SPECIAL = [
    "[PAD]",
    *(f"[unused{i}]" for i in range(1, 10)),
    "[UNK]",
    "[CLS]",
    "[SEP]",
    "[MASK]",
]
VOCABULARY = [
    *SPECIAL,
    *dict.fromkeys(PUNCTUATION + DIGITS + LATIN + CHINESE),
    *(f"##{c}" for c in LATIN + DIGITS),
]
PIECES = ["<pad>", "</s>", "<unk>", "<cls>", *"▁▂▃", *dict.fromkeys(DIGITS + LATIN + CHINESE)]

KEEP_TOKENS = [0, 1, 2, *range(13, len(PIECES) + 10)]


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
        {
            "subject": spans[i],
            "predicate": PREDICATES[random.randint(3)],
            "object": spans[i + 1],
        }
        for i in range(2)
    ]
    text = "".join(sentence(random, 1, 4) + span for span in spans)
    return json.dumps({"text": text, "spo_list": relation}, ensure_ascii=False)


def schemas(random, count):
    return "".join(json.dumps({"predicate": name}) + "\n" for name in PREDICATES)


def novel(random, count):
    return "  ".join(f"{sentence(random)}。{sentence(random)}。" for _ in range(4 * count))


def passages(random, count):
    rows = []
    for i in range(count):
        answer = sentence(random, 1, 3)
        text = sentence(random, 3, 8) + answer + sentence(random, 3, 8)
        two = [
            {"passage": text, "answer": answer},
            {"passage": sentence(random), "answer": ""},
        ]
        rows.append({"id": str(i), "question": sentence(random, 4, 8), "passages": two})
    return json.dumps(rows, ensure_ascii=False)


def long_text(random):
    label = random.choice(4, p=[0.1, 0.1, 0.7, 0.1])  # one that is often right, so that it is saved
    return json.dumps({"sentence": sentence(random), "label": str(label)})


def game(random):
    moves = sentence(random, 12, 30, "0123456789abcdefghi")
    return json.dumps({"fen": "", "iccs": moves, "items": {}})


def problem(random):
    a, b = random.randint(1, 50, 2)
    text = f"{sentence(random, 3, 6)}{a}{sentence(random, 3, 6)}{b}{sentence(random, 2, 4)}"
    row = {"original_text": text, "equation": f"x={a}+{b}", "ans": str(a + b)}
    return json.dumps(row, ensure_ascii=False)


def captions(random, count):
    names = [{"id": i, "file_name": f"{i}.jpg", "coco_url": ""} for i in range(count)]
    rows = [
        {"image_id": i, "caption": " ".join(sentence(random, 2, 4, LATIN) for _ in range(3))}
        for i in range(count)
    ]
    return json.dumps({"images": names, "annotations": rows})


def words(random):
    return "  ".join(sentence(random, 1, 3) for _ in range(5))


def news(random, count):
    return f"{sentence(random, 3, 6)}\n{sentence(random)}\n{sentence(random)}"


def records(random, count):
    """Sequences of 32 tokens, some of them masked, as a file of TensorFlow's records."""
    import tensorflow as tf

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "corpus"
        with tf.io.TFRecordWriter(str(path)) as writer:
            for _ in range(count):
                tokens = random.randint(len(SPECIAL), len(VOCABULARY), 32)
                masks = np.where(random.random_sample(32) < 0.2, VOCABULARY.index("[MASK]") + 1, 0)
                feature = {
                    name: tf.train.Feature(int64_list=tf.train.Int64List(value=values))
                    for name, values in (("token_ids", tokens), ("mask_ids", masks))
                }
                example = tf.train.Example(features=tf.train.Features(feature=feature))
                writer.write(example.SerializeToString(deterministic=True))
        return path.read_bytes()


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
UNSHUFFLED = (  # `to_dataset` calls `forfit()`
    r"(?<=^class data_generator\(DataGenerator\):\n)",
    "    def forfit(self, random=False):\n        return super().forfit(random)\n\n",
)


def splits(pattern, maker, *names):
    """The files of a data set: its names in ``pattern``, each with the same maker."""
    return {pattern.format(name): maker for name in names}


RELATIONS = {
    **splits("root/kg/datasets/{}_data.json", lines(triples), "train", "dev"),
    "root/kg/datasets/all_50_schemas": schemas,
}


@dataclass(frozen=True)
class Script:
    """How a script is run.

    Attributes:
        files: path -> function of a random generator and a number of samples that draws the file.
        checkpoint: which of `CHECKPOINTS` it reads.
        changes: pairs of regular expression and replacement, after those of `CHANGES`.
        encoding: of its files.
        modules: scripts that it imports and that are changed, too.
        first: name of a script that is run before, in the same folder.
        steps: of each call of ``fit``.
        samples: whether it samples tokens: then only its first prediction is compared, as the
            random numbers are others.
        graph: whether bert4keras runs it only without eager execution, as TensorFlow 1 did.
    """

    files: dict = field(default_factory=dict)
    checkpoint: str = "bert"
    changes: tuple = ()
    encoding: str = "utf-8"
    modules: tuple = ()
    first: str = ""
    steps: int = STEPS
    samples: bool = False
    graph: bool = False


SCRIPTS = {
    "task_sentiment_albert": Script(
        splits(SENTIMENT + "{}.data", lines(labelled), "train", "valid", "test"),
        "albert",
        changes=((r"\b1000: 1,\s+2000: 0\.1", "20: 1, 40: 0.1"),),
    ),
    "task_sentence_similarity_lcqmc": Script(
        splits(
            "examples/datasets/lcqmc/lcqmc.{}.data",
            lines(pair),
            "train",
            "valid",
            "test",
        )
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
        RELATIONS,
        changes=((r"\bhead_size=64", "head_size=8"),),
    ),
    "task_language_model": Script(
        {"root/金庸/train/novel.txt": novel},
        changes=((r"maxlen=maxlen\n", "maxlen=4\n"),),
        encoding="gbk",
    ),
    "task_conditional_language_model": Script(
        splits(SENTIMENT + "{}.data", lines(labelled), "train", "valid", "test"),
        changes=((r"maxlen=maxlen\n", "maxlen=4\n"),),
    ),
    **{
        f"task_iflytek_{name}": Script(
            splits(
                "root/CLUE-master/baselines/CLUEdataset/iflytek/{}.json",
                lines(long_text),
                *("train", "dev"),
            ),
            changes=changes,
            graph=graph,
        )
        for name, graph, changes in (
            ("adversarial_training", True, ()),
            (
                "bert_of_theseus",
                False,
                (
                    (r"num_hidden_layers=3", "num_hidden_layers=1"),
                    (r"K\.random_binomial\(shape=\[1\], p=0\.5\)", "0.5"),
                ),
            ),
            ("gradient_penalty", True, ()),
            ("multigpu", False, (UNSHUFFLED,)),
        )
    },
    "task_image_caption": Script(
        splits("root/caption/coco/annotations/captions_{}2014.json", captions, "train", "val"),
        changes=(
            (r"include_top=False", "include_top=False, weights=None"),
            (r"^img_size = 299", "img_size = 32"),
            (r"\bmaxlen=maxlen\n", "maxlen=4\n"),
        ),
        steps=10,
    ),
    "task_language_model_chinese_chess": Script(
        {"root/qipu.json": lines(game)},
        changes=((r"^maxlen = \d+", "maxlen = 128"),),
    ),
    **{
        f"task_{name}": Script(splits("root/qa_datasets/{}.json", passages, "WebQA", "SogouQA"))
        for name in (
            "question_answer_generation_by_seq2seq",
            "reading_comprehension_by_mlm",
            "reading_comprehension_by_seq2seq",
        )
    },
    "task_relation_extraction": Script(RELATIONS),
    "task_sentiment_integrated_gradients": Script(
        splits(SENTIMENT + "{}.data", lines(labelled), "train", "valid", "test"),
        "albert",
        first="task_sentiment_albert",
        graph=True,
    ),
    "task_sentiment_virtual_adversarial_training": Script(
        splits(SENTIMENT + "{}.data", lines(labelled), "train", "valid", "test"),
        changes=((r"^train_frac = 0\.01", "train_frac = 0.5"),),
        graph=True,
    ),
    "task_seq2seq_ape210k_math_word_problem": Script(
        splits("root/ape210k/{}.ape.json", lines(problem), "train", "valid", "test"),
        changes=((r"\bmaxlen=\d+\)", "maxlen=4)"),),
    ),
    **{
        f"task_seq2seq_autotitle{name}": Script(
            splits("root/thuctc/THUCNews/train/{}.txt", news, *range(TRAIN)),
            changes=((r"\bmaxlen=32\)", "maxlen=4)"), *changes),
        )
        for name, changes in (("", ()), ("_multigpu", (UNSHUFFLED,)))
    },
    "task_sequence_labeling_cws_crf": Script(
        {"root/icwb2-data/training/pku_training.utf8": lines(words)}
    ),
    "task_seq2seq_autotitle_csl_mt5": Script(
        splits("root/csl/{}.tsv", lines(title), "train", "val", "test"),
        "mt5",
        changes=((r"^max_t_len = \d+", "max_t_len = 8"),),
    ),
    "basic_extract_features": Script(),
    "basic_gibbs_sampling_via_mlm": Script(
        changes=((r"^steps = \d+", "steps = 30"), (r"^(converged_steps) = \d+", r"\1 = 10"))
    ),
    "basic_language_model_cpm_lm": Script(
        {}, "gpt2", changes=((r"maxlen=16", "maxlen=4"),), samples=True
    ),
    **{
        f"basic_language_model_{name}": Script(
            {},
            checkpoint,
            changes=((r"maxlen=256", "maxlen=8"), (r"minlen=128", "minlen=4")),
            samples=True,
        )
        for name, checkpoint in (("gpt2_ml", "gpt2_ml"), ("nezha_gen_gpt", "bert"))
    },
    "basic_make_uncased_model_cased": Script(),
    "basic_masked_language_model": Script(),
    "basic_simple_web_serving_simbert": Script(
        changes=(
            (r"^    web = [\s\S]*?web\.start\(\)", "    print(gen_synonyms('的一是在', 5, 3))"),
        ),
        samples=True,
    ),
    "pretraining": Script(
        {"bert4keras/corpus/corpus.0.tfrecord": records},
        modules=("data_utils",),
        changes=(
            (r"gs://xxxx|/home(?=/spaces)", "{work}"),
            (r"\brange\(10\)", "range(1)"),
            (r"^sequence_length = \d+", "sequence_length = 32"),
            (r"^num_warmup_steps = \d+", "num_warmup_steps = 5"),
            (r"^num_train_steps = \d+", "num_train_steps = 60"),
            # its accumulation applies an update one batch late, and counts batches as steps
            (r"^grad_accum_steps = \d+", "grad_accum_steps = 1"),
            (r"^tpu_address = .+", "tpu_address = None"),
        ),
    ),
    "data_utils": Script(
        changes=(
            (r"^ +dataset = dataset\.shuffle\(.+\n", ""),
            (r"\bK\.zeros\(\[1\]\)", "K.constant([0.0])"),  # a variable, since TensorFlow 2
        )
    ),
}


def changed_text(name, text, work):
    """The text of a script with its paths below ``work`` and its sizes made small."""
    own = SCRIPTS[name].changes
    for pattern, replacement in (*CHANGES, *own):
        replacement = replacement.replace("{work}", str(work))
        text, count = re.subn(pattern, replacement, text, flags=re.MULTILINE)
        assert count or (pattern, replacement) not in own, f"{name}: nothing matches {pattern}"
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
    "gpt2": ("gpt2", {}, {**BERT, "vocab_size": len(PIECES), "max_position_embeddings": 1024}),
    "gpt2_ml": ("gpt2_ml", {}, BERT),
    "mt5": (
        "mt5.1.1",
        {},
        {
            **BERT,
            "vocab_size": len(PIECES) + 10,
            "attention_head_size": 8,
            "hidden_act": ["gelu", "linear"],
        },
    ),
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


def write_pieces(path):
    """Writes a model of sentencepiece: one piece for each character, unigram, equal scores."""
    from sentencepiece import sentencepiece_model_pb2 as proto

    model, kinds = proto.ModelProto(), {"<pad>": 3, "</s>": 3, "<unk>": 2}
    for piece in PIECES:
        model.pieces.add(piece=piece, score=-1.0, type=kinds.get(piece, 1))
    spec = model.trainer_spec
    spec.model_type, spec.vocab_size = 1, len(PIECES)
    spec.pad_id, spec.eos_id, spec.unk_id, spec.bos_id = 0, 1, 2, -1
    model.normalizer_spec.name = "identity"
    path.write_bytes(model.SerializeToString())


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
        "spm_path": write_pieces,
        "keep_tokens_path": lambda path: path.write_text(json.dumps(KEEP_TOKENS)),
    }
    for kind, path in paths.items():
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        if kind in contents:
            contents[kind](Path(path))
    for path, maker in script.files.items():
        target = work / path
        target.parent.mkdir(parents=True, exist_ok=True)
        random = np.random.RandomState(zlib.crc32(path.encode()))
        text = maker(random, OTHERS if re.search("val|dev|test", target.name) else TRAIN)
        target.write_bytes(text if isinstance(text, bytes) else text.encode(script.encoding))
