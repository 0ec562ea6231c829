"""The command line: inspects, converts, runs, examines and serves checkpoints.

    python -m bert4keras_lite inspect chinese_L-12_H-768_A-12
    python -m bert4keras_lite convert chinese_L-12_H-768_A-12 out --to hf
    python -m bert4keras_lite fill-mask hfl/chinese-roberta-wwm-ext "今天[MASK]气很好"
    python -m bert4keras_lite fill-mask "今天[MASK]气很好" "春夏[MASK]冬"

Without a checkpoint, `tiny-zh` is used, which is included in the toolkit (docs/tiny-zh.md). Only
commands that run a model import Keras.
"""

import argparse
import math
import os
import re
import shutil
import sys
import warnings
from dataclasses import fields
from pathlib import Path

import numpy as np

from .. import hub, mappings
from ..arguments import RANGES, check_options, complain, within
from ..checkpoints import CheckpointError, open_checkpoint
from ..checkpoints.dialects import adapt
from ..checkpoints.matching import LazyArrays, detect_format, locate
from ..checkpoints.stage import saving_checkpoint
from ..configs import ARCHITECTURES, Config, config_in
from ..configs.architectures import FAMILIES
from ..configs.classifiers import classifier_fields, named_kind
from ..configs.config import to_field_names
from ..configs.published import check_unknown_keys, find_files, warn
from ..configs.recognition import (
    check_not_roberta,
    infer_from_weights,
    known_issues,
    recognize,
    resolve_ambiguities,
    unmatched_names,
)
from ..configs.sentences import MODULES, has_modules, read_sentence_files
from ..configs.weights import classifier_hint, heads_among, match_weights, mismatch_hint, write
from ..files import replacing, tidy
from ..parsing import RepeatedKeyError, excerpt, parse_json, printable
from ..shapes import shapes_of
from ..tokenizers import load_tokenizer
from ..tokenizers.loading import FILES
from .migrate import migrate_file

__all__ = ["main"]

TOKEN = "BERT4KERAS_LITE_TOKEN"  # environment variable with the token of a server

INSTRUCTION = "what passages are for, in the form of Qwen3-Reranker; see rerank"

# errors of a user: printed in one line, without a traceback
MISTAKES = (CheckpointError, hub.HubError, OSError, ValueError, TypeError, ImportError)


def main(arguments=None):
    """Runs one command; returns the exit status."""
    options = parser().parse_args(arguments)
    warnings.showwarning = _show_warning
    try:
        _set_default_checkpoint(options)
        options.run(options)
        sys.stdout.flush()
    except BrokenPipeError:  # `| head`; before MISTAKES, as it is an OSError
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except MISTAKES as error:
        complain(error)
        return 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    return 0


def parser():
    main_parser = argparse.ArgumentParser(
        prog="bert4keras_lite",
        description="Chinese Transformer checkpoints: inspect, convert, run, examine, serve.",
    )
    commands = main_parser.add_subparsers(required=True, metavar="COMMAND")

    def command(name, run, summary, *texts, default_checkpoint="tiny-zh"):
        sub = commands.add_parser(name, help=summary, description=summary)
        forms = "a directory, a checkpoint's file or prefix, or a name on a hub (owner/name)"
        if default_checkpoint:
            sub.add_argument("path", nargs="?", help=f"{forms}; default: {default_checkpoint}")
        else:
            sub.add_argument("path", help=f"{forms}, or tiny-zh")
        for text in texts:
            sub.add_argument(text, nargs="+" if text in ("texts", "passages") else None)
        sub.set_defaults(run=run, default_checkpoint=default_checkpoint)
        return sub

    sub = command("inspect", inspect, "Show family, sizes and weights of a checkpoint.")
    sub.add_argument("--all", action="store_true", help="show all blocks, not only the first")
    summary = "Write a checkpoint in another format."
    sub = command("convert", convert, summary, "target", default_checkpoint=None)
    sub.add_argument("--to", required=True, choices=["tf", "hf", "keras"])
    sub.add_argument("--dtype", choices=["float32", "float16", "bfloat16"])
    _model_options(sub)
    command("tokenize", tokenize, "Show tokens and ids of texts.", "texts")
    sub = command("fill-mask", fill_mask, "Predict the tokens at [MASK].", "texts")
    sub.add_argument("--top", type=within(1, 1000), default=5, help="number of candidates (5)")
    _model_options(sub)
    _fine_tuned_commands(command)
    summary = "Continue texts, or answer them."
    sub = command("generate", generate, summary, "texts", default_checkpoint="tiny-zh-gpt2")
    _sampling_options(sub)
    sub.add_argument(
        "--beams",
        type=within(*RANGES["num_beams"]),
        default=1,
        metavar="N",
        help="width of the beam search",
    )
    _model_options(sub)
    summary = "Talk with a model: one message a line, /exit ends; or one message from a pipe."
    sub = command("chat", chat, summary, default_checkpoint=None)
    sub.add_argument("--system", metavar="TEXT", help="what the model is told first")
    sub.add_argument(
        "--variable",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="a variable of the chat template, e.g. enable_thinking=false; may be repeated",
    )
    _sampling_options(sub, 1024)
    _model_options(sub)
    sub = command("features", features, "Compute vectors of texts.", "texts")
    sub.add_argument(
        "--pool",
        choices=["cls", "mean", "none"],
        help="the vector of the first token, the mean over the tokens of the text, or all vectors"
        " (default: what modules.json of sentence-transformers says, else cls)",
    )
    sub.add_argument("--output", help="an .npz file: one array, or for 'none' one for each text")
    _model_options(sub)
    sub = command(
        "doctor", doctor, "Detect silently wrong checkpoints by predicting Chinese texts."
    )
    _model_options(sub)
    sub = command("serve", serve, "Answer HTTP requests, with a web page to try the model.")
    sub.add_argument("--ner", metavar="DIR", help="a tagger for entities, see load_tagger")
    sub.add_argument("--classifier", metavar="DIR", help="of texts, see load_classifier")
    sub.add_argument("--reranker", metavar="DIR", help="a reranker, see rerank")
    sub.add_argument("--extractor", metavar="DIR", help="a UIE, see extract_information")
    sub.add_argument("--instruction", metavar="TEXT", help=INSTRUCTION)
    sub.add_argument("--host", default="127.0.0.1", help="the address to listen at (127.0.0.1)")
    sub.add_argument("--port", type=within(1, 65535), default=8000, help="(8000)")
    sub.add_argument(
        "--limit",
        action="append",
        default=[],
        metavar="NAME=NUMBER",
        help="characters, texts, new_tokens, seconds, ... of a request; may be repeated",
    )
    sub.add_argument(
        "--allow-host",
        action="append",
        default=[],
        metavar="NAME",
        help="a host name of this server, besides localhost and --host; may be repeated",
    )
    sub.add_argument(
        "--token",
        help=f"token that requests must have; safer in {TOKEN}, as others can see command lines",
    )
    sub.add_argument("--quiet", action="store_true", help="do not log requests")
    _model_options(sub)
    _other_commands(commands)
    return main_parser


def _other_commands(commands):
    """Adds the commands that need no checkpoint."""
    sub = commands.add_parser("download", help="Download a model from a hub.")
    sub.add_argument("path", metavar="name", help="owner/name[@revision], modelscope:owner/name")
    sub.set_defaults(run=download, default_checkpoint=None)
    sub = commands.add_parser(
        "migrate", help="Change scripts for bert4keras so that they run on this toolkit."
    )
    sub.add_argument("files", nargs="+", metavar="FILE", help="a script")
    sub.add_argument("--write", action="store_true", help="write the files, not only show changes")
    sub.set_defaults(run=migrate, default_checkpoint=None)


def _sampling_options(sub, new_tokens=128):
    """Adds the options of generation."""
    sub.add_argument("--sample", action="store_true", help="sample tokens at random")
    for name, option, default, description in (
        ("--max-new-tokens", "max_new_tokens", new_tokens, f"most new tokens ({new_tokens})"),
        ("--top-k", "top_k", None, "with --sample"),
        ("--top-p", "top_p", None, "with --sample"),
        ("--temperature", "temperature", None, "with --sample, above 0"),
        ("--seed", "seed", None, "with --sample"),
        ("--repetition-penalty", "repetition_penalty", 1.0, "above 1: fewer repetitions"),
        ("--no-repeat-ngram-size", "no_repeat_ngram_size", 0, "so many tokens never repeat"),
        ("--min-new-tokens", "min_new_tokens", 0, "minimum number of new tokens"),
    ):
        number = within(*RANGES[option])
        sub.add_argument(name, type=number, default=default, metavar="N", help=description)
    help_text = "a text that is not generated; may be repeated"
    sub.add_argument("--bad-word", action="append", metavar="TEXT", help=help_text)


def _fine_tuned_commands(command):
    """Adds the commands that need a fine-tuned model, for which there is no default."""
    summary = "Show the labels of texts, or of pairs of texts with a tab between them."
    sub = command("classify", classify, summary, "texts", default_checkpoint=None)
    sub.add_argument("--top", type=within(1, 1000), default=3, help="number of labels (3)")
    sub.add_argument("--maxlen", type=within(2, 1 << 20), help="shorten texts to N tokens")
    summary = "Order passages by how well they answer a query, by a reranker."
    sub = command("rerank", rerank, summary, "query", "passages", default_checkpoint=None)
    sub.add_argument("--top", type=within(1, 1 << 20), help="number of passages (all)")
    sub.add_argument("--maxlen", type=within(16, 1 << 20), default=512, help="tokens of both (512)")
    sub.add_argument("--normalize", action="store_true", help="probabilities instead of logits")
    sub.add_argument("--instruction", metavar="TEXT", help=INSTRUCTION)
    summary = "Find spans in texts, by a classifier of tokens."
    command("tag", tag, summary, "texts", default_checkpoint=None)
    summary = "Find in texts what a schema names, by a UIE."
    sub = command("extract-information", extract, summary, "texts", default_checkpoint=None)
    sub.add_argument(
        "--schema",
        required=True,
        help='a name; or JSON: a list of names, or names and what to look for about each, {"人物": '
        '["国籍", "出生地"]}',
    )
    probability = within(0.0, 1.0)
    sub.add_argument("--threshold", type=probability, default=0.5, help="least probability (0.5)")


def _set_default_checkpoint(options):
    """Sets `options.path` to the included model if the command line names no checkpoint.

    An argument in the place of the path is the first text if it contains `[MASK]`, or Chinese
    characters or white space and no slash, and is not an existing file.

    Raises:
        ValueError: a text is the path or name of a checkpoint.
    """
    texts = getattr(options, "texts", [])
    if not options.default_checkpoint:
        return
    if texts and options.path is not None and _is_text(options.path):
        texts.insert(0, options.path)
        options.path = None
    if options.path is None:
        for text in texts:
            if _is_checkpoint(text):
                raise ValueError(
                    f"{text:.200}: expected a text, got a checkpoint. Write both, the text last."
                )
        options.path = options.default_checkpoint


def _is_checkpoint(text):
    return os.path.lexists(text) or hub.is_name(text) or bool(hub.included(text))


def _is_text(text):
    if _is_checkpoint(text):
        return False
    no_path = not text.isascii() or any(map(str.isspace, text))
    return "[MASK]" in text or (no_path and "/" not in text and os.sep not in text)


def _model_options(sub):
    sub.add_argument("--model", default="auto", choices=["auto", *ARCHITECTURES], metavar="FAMILY")
    sub.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="an option of build_transformer_model, e.g. hidden_act=relu; may be repeated",
    )


def _settings(options):
    """Returns the `--set` options as keyword arguments."""
    return _pairs("--set", options.set, "hidden_act=relu")


def _pairs(option, items, example):
    """Parses the `NAME=VALUE` items of an option; returns a dict."""
    settings = {}
    for item in items:
        name, equals, value = item.partition("=")
        if not equals:
            raise ValueError(
                f"{option} {item:.200}: expected NAME=VALUE, such as {option} {example}."
            )
        try:
            json_text = value.lower() if value in ("True", "False") else value
            settings[name] = parse_json(json_text.encode())
        except RepeatedKeyError as error:
            raise ValueError(f"{option} {item:.200}: {error}.") from None
        except ValueError:
            settings[name] = value
    return settings


class Progress:
    """A progress bar on stderr; shows nothing if that is not a terminal."""

    def __init__(self, label):
        self.label, self.shown = label, sys.stderr.isatty()

    def __call__(self, items):
        items = list(items)
        for i, item in enumerate(items):
            self.show(i / len(items))
            yield item
        self.show(1.0, end="\n")

    def show(self, fraction, step="", end=""):
        if self.shown:
            bar = "#" * round(30 * fraction)
            print(
                f"\r{self.label} [{bar:30}] {fraction:4.0%} {step:30}",
                end=end,
                file=sys.stderr,
                flush=True,
            )


def say(text="", end="\n", file=None):
    """Prints a text with control characters escaped, as parts of it may be untrusted."""
    print(printable(text, keep="\n\t"), end=end, file=file, flush=True)


def _show_warning(message, *_, **__):
    say(f"note: {message}", file=sys.stderr)


# ---------------------------------------------------------------- without Keras


class Description:
    """A checkpoint and its properties that are known before a model is built.

    Attributes:
        raw, checkpoint: the checkpoint as in the file, and with the names of the weight tables.
        family: a key of `ARCHITECTURES`.
        located: dict of path -> `Located`, for the weights in the family's table.
        unknown: names of the other weights.
        notes: sentences on ambiguities and known issues.
    """

    def __init__(self, path, model="auto", settings=None):
        self.path = Path(hub.local_directory(path))
        directory = self.path if self.path.is_dir() else self.path.parent
        values, _, where = find_files(directory if config_in(directory) else None, None)
        self.where = where if values else str(self.path)
        self.raw = open_checkpoint(self.path)
        self.checkpoint = {} if self.raw.format == "keras" else adapt(self.raw)
        try:
            self.family = recognize(values, list(self.checkpoint)) if model == "auto" else model
        except ValueError as error:
            raise ValueError(f"{self.where}: {error}") from None
        row = ARCHITECTURES[self.family]
        table = mappings.WEIGHTS[row["family"]]
        self.located, self.unknown = {}, []
        if self.checkpoint:
            self.located, _ = locate(self.checkpoint, table, mappings.ROLES)
            self.unknown = unmatched_names(self.checkpoint, row)
        all_known = bool(self.checkpoint) and not self.unknown
        self.notes = check_unknown_keys(values, self.where, self.checkpoint, all_known)
        values, ambiguities = resolve_ambiguities(self.family, values, self.checkpoint)
        self.notes += ambiguities
        if self.checkpoint:
            values = infer_from_weights(self.checkpoint, self.family, values) | values
            check_not_roberta(self.family, values, self.where)
        self.values = row | values | to_field_names(settings or {})[0]
        self.possible_heads = {path.split("/")[0] for _, path, *_ in table}
        self.notes += known_issues(self.family, self.values | {"with_lm": True}, self.checkpoint)

    @property
    def config(self):
        return Config.from_values(self.values, self.where)

    def heads(self):
        """Returns the options that build all heads of the checkpoint."""
        heads = heads_among(self.located, named_kind(self.values))
        kind = self.values.get("with_classifier", heads.get("with_classifier"))
        head = FAMILIES[ARCHITECTURES[self.family]["family"]].heads.get(kind)
        if head and head.dense == "pooler":  # no other head than the classifier has it
            heads.pop("with_pool", None)
        if head and head.dense == "lm_dense" and "lm_bias/beta" not in self.located:
            heads.pop("with_lm", None)
        return heads

    def classifier(self):
        """Returns the fields of `Config` for the classifier of the checkpoint.

        Raises:
            ValueError: the config contradicts the classifier, or the names of its labels are wrong.
        """
        family = ARCHITECTURES[self.family]["family"]
        kind = self.values.get("with_classifier", self.heads().get("with_classifier"))
        values = classifier_fields(family, kind, self.values, self.where)
        inferred = infer_from_weights(self.checkpoint, self.family, self.values | values)
        return values | {name: inferred[name] for name in ("labels",) if name in inferred}

    def gaps(self):
        """Returns the paths of variables that some blocks have and others lack."""
        inner = {}
        for path in self.located:
            match = re.match(r"(\w*?)block_(\d+)/(.*)", path)
            if match:
                inner.setdefault((match[1], match[3]), set()).add(int(match[2]))
        counts = {}
        for (stack, _), blocks in inner.items():
            counts[stack] = max([counts.get(stack, 0), *(i + 1 for i in blocks)])
        if not self.values.get("first_norm", True):  # which block 0 does without
            inner.pop(("", "attention_in_norm/gamma"), None)
        return [
            f"{stack}block_{i}/{rest}"
            for (stack, rest), blocks in sorted(inner.items())
            for i in range(counts[stack])
            if i not in blocks
        ]


HEADS = {
    "pooler": "pooler",
    "nsp": "next sentence (or order)",
    "discriminator_dense": "replaced tokens",
    "lm_dense": "masked language model",
    "lm_head": "untied output weights",
}


def inspect(options):
    description = Description(options.path)
    raw = description.raw
    sizes = {name: math.prod(raw.shape(name)) for name in raw}
    stored = sum(size * np.dtype(raw.dtype(name)).itemsize for name, size in sizes.items())
    dialect = getattr(description.checkpoint, "dialect", None)
    names = dialect.name if dialect else f"{detect_format(raw)} names"
    for label, value in (
        ("file", raw.path),
        ("format", f"{raw.format}, {names}"),
        ("family", description.family),
        (
            "parameters",
            f"{sum(sizes.values()):,} in {len(raw)} arrays, {(stored + (1 << 19)) >> 20:,} MiB",
        ),
        ("dtype", ", ".join(sorted({str(raw.dtype(name)) for name in raw}))),
        *_shape(description),
    ):
        say(f"{label:14}{printable(value)}")
    say()
    block_numbers = set()
    for name in raw:
        block = re.search(r"(?:layer|layers|block|h)[_./]?(\d{1,9})[./]", name)
        block_numbers |= {int(block[1])} if block else set()
        if options.all or not block or int(block[1]) == 0:
            say(f"  {excerpt(name):78} {raw.shape(name)!s:16} {raw.dtype(name)}")
    if not options.all and len(block_numbers) > 1:
        say("  ... and the same for each block (--all lists them)")
    say()
    layers = {path.split("/")[0] for path in description.located}
    for name, label in HEADS.items():
        if name in description.possible_heads and description.located:
            say(f"  head: {label:26}{'present' if name in layers else 'absent'}")
    for path in description.gaps():
        say(f"  missing: {path}")
    for name in description.unknown[:20]:
        say(f"  not known: {excerpt(name)} {description.checkpoint.shape(name)}")
    for sentence in description.notes:
        say(f"  note: {printable(sentence)}")


def _shape(description):
    """Returns rows `(label, value)` with the sizes of a model, or its config error."""
    try:
        config = description.config
    except ValueError as error:
        return [("config", error)]
    counts = config.block_counts
    blocks = f"{counts['i']} + {counts['j']}" if config.stacks == "both" else counts["i"]
    return [
        ("vocabulary", config.vocab_size),
        ("blocks", f"{blocks}{' with shared weights' if config.share_blocks else ''}"),
        ("hidden size", f"{config.hidden_size} in {config.num_attention_heads} heads"),
        (
            "feed-forward",
            f"{config.intermediate_size}, {'gated ' * config.gated}{config.hidden_act}",
        ),
        (
            "positions",
            f"{config.position} {config.most_tokens or ''}",
        ),
        *_classifier(description),
        *_sentence_vectors(description),
    ]


def _classifier(description):
    """Returns rows `(label, value)` about the classifier of a checkpoint."""
    layers = {path.split("/")[0] for path in description.located}
    named = named_kind(description.values)
    if named is None and not any(layer.endswith("_classifier") for layer in layers):
        return []
    try:
        values = description.classifier()
        config = Config.from_values(description.values | values, description.where)
    except ValueError as error:
        return [("classifier", error)]
    kind = values.get("with_classifier")
    rows = [("classifier", f"of {kind}" if kind else "architectures does not name its kind")]
    if labels := values.get("labels"):
        rows.append(("labels", excerpt(f"{len(labels)}: {', '.join(labels)}")))
    if problem := classifier_hint(config, description.checkpoint).strip():
        rows.append(("problem", problem))
    return rows


def _sentence_vectors(description):
    """Returns a row `(label, value)` about the files of sentence-transformers, if there are any."""
    if not has_modules(description.path):
        return []
    try:
        return [("vectors", read_sentence_files(description.path).summary())]
    except (CheckpointError, OSError, ValueError) as error:
        return [("problem", error)]


WHOLE = (
    "\nOnly a complete model is converted. Get the file again, or omit an incomplete head, such as "
    "by --set with_lm=False."
)


def _planned(description, settings):
    """Returns the config of a checkpoint with all of its heads, and a mapping of its arrays.

    Raises:
        ValueError, CheckpointError: see `build_transformer_model`.
    """
    warn(description.notes, description.where)
    values = description.values | description.classifier() | description.heads()
    values |= to_field_names(settings)[0]
    config = Config.from_values(values, description.where)
    shapes = shapes_of(config) | {
        path: place.shape
        for path, place in description.located.items()
        if path.endswith(tuple(mappings.OPTIONAL))
    }
    plan = match_weights(
        shapes,
        description.checkpoint,
        config,
        str(description.raw.path),
        hint=lambda: mismatch_hint(config, description.checkpoint, shapes_of) or WHOLE,
    )
    return config, LazyArrays(plan)


def convert(options):
    target = Path(options.target)
    if target.is_dir():
        tidy(target)
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise ValueError(f"{target}: it exists already; expected a new or empty directory.")
    description = Description(options.path, options.model, _settings(options))
    built = config = arrays = None
    if "keras" in (options.to, description.raw.format):
        if options.dtype:
            raise ValueError(
                f"--dtype {options.dtype}: it is for conversions between 'tf' and 'hf'. Omit it."
            )
        built = _built(description, options)
    else:
        known = {field.name for field in fields(Config)} | mappings.CONFIG_KEYS.keys()
        check_options("convert", _settings(options), known)
        config, arrays = _planned(description, _settings(options))
    with saving_checkpoint(target) as stage:
        if built:
            built.save_checkpoint(stage, options.to)
        else:
            progress = Progress("converting")
            write(stage, config, options.to, arrays, _dtype(options.dtype), progress)
        if description.path.is_dir():
            for pattern in FILES:
                for file in filter(Path.is_file, description.path.glob(pattern)):
                    shutil.copy(file, stage / file.name)
    written = ", ".join(sorted(path.name for path in target.iterdir()))
    say(f"{target}: {description.family} as {options.to}: {printable(written)}")


def _dtype(name):
    if name != "bfloat16":
        return name
    import ml_dtypes

    return ml_dtypes.bfloat16


def tokenize(options):
    tokenizer = load_tokenizer(hub.local_directory(options.path))
    for text in options.texts:
        ids, _ = tokenizer.encode(text)
        say(printable(" ".join(tokenizer.ids_to_tokens(ids))))
        say(" ".join(map(str, ids)))


def download(options):
    snapshot = hub.download(options.path)
    say(snapshot.directory)
    for name in snapshot.files:
        say(f"  {printable(name)}")


def migrate(options):
    left = 0
    for path in options.files:
        difference, remarks = migrate_file(path, options.write)
        say(difference or f"{path}: nothing to change.\n", end="")
        for remark in remarks:
            say(f"{path}:{remark.line}: {remark.text}")
        left += len(remarks)
    if left:
        say(f"To be changed by hand: {left} {'place' if left == 1 else 'places'}.")
    if not options.write:
        say("Nothing was written. --write writes the changes.")


# ---------------------------------------------------------------- with Keras


def _built(description, options):
    """Builds the `Transformer` of a checkpoint, with all of its heads."""
    from ..loading import load_model
    from ..models import build_transformer_model

    if description.raw.format == "keras":
        if options.set:
            raise ValueError(
                f"--set {options.set[0]:.200}: a .keras file has a fixed graph. Omit --set."
            )
        return load_model(description.raw.path, compile=False, return_keras_model=False)
    return build_transformer_model(
        description.path if config_in(description.path) else None,
        description.raw,
        description.family,
        return_keras_model=False,
        **(description.heads() | _settings(options)),
    )


def _model_and_tokenizer(options, **defaults):
    from ..models import build_transformer_model

    path = hub.local_directory(options.path)
    settings = defaults | _settings(options)
    transformer = build_transformer_model(
        path, model=options.model, return_keras_model=False, **settings
    )
    return transformer, load_tokenizer(path)


def fill_mask(options):
    from ..pipelines import FillMask

    pipeline = FillMask(*_model_and_tokenizer(options, with_lm=True), options.top)
    for text in options.texts:
        masks = pipeline(text)
        say(text)
        for candidates in masks:
            for name, prob in candidates:
                say(f"  {printable(name):8} {prob:6.1%} {'#' * round(40 * prob)}")
            say()


def classify(options):
    from ..pipelines import TextClassifier, load_classifier

    pipeline = TextClassifier(*load_classifier(options.path))
    for text in options.texts:
        first, tab, second = text.partition("\t")
        item = (first, second) if tab else text
        labels = pipeline(item, top_k=options.top, maxlen=options.maxlen)
        say(text)
        for name, prob in labels:
            shown = f"{prob:6.1%} {'#' * round(40 * prob)}"
            shown = f"{prob:8.4f}" if pipeline.problem_type == "regression" else shown
            say(f"  {printable(name):12} {shown}")
        say()


def rerank(options):
    from ..pipelines import rerank

    for passage in rerank(
        options.path,
        options.query,
        options.passages,
        top_k=options.top,
        maxlen=options.maxlen,
        normalize=options.normalize,
        instruction=options.instruction,
    ):
        say(f"{passage.score:8.4f} {passage.position:4} {printable(passage.passage)}")


def extract(options):
    from ..pipelines import extract_information

    schema = _parsed_schema(options.schema)
    results = extract_information(options.path, options.texts, schema, threshold=options.threshold)
    for text, answers in zip(options.texts, results, strict=True):
        say(text)
        _show_answers(answers)
        say()


def _parsed_schema(text):
    """Returns the value of `--schema`: JSON if it begins like a list or an object, else a name."""
    if not text.startswith(("[", "{")):
        return text
    try:
        return parse_json(text.encode())
    except ValueError as error:
        raise ValueError(
            f"--schema {text:.200}: {error}; expected a name, or a list or an object in JSON."
        ) from None


def _show_answers(answers, indent="  "):
    """Prints the answers for each name, and below each answer its relations."""
    for name, of_name in answers.items():
        for answer in of_name:
            place = f"{answer['start']}-{answer['end']}" if "start" in answer else ""
            words = f"{printable(name):12} {answer['probability']:6.1%} {printable(answer['text'])}"
            say(f"{indent}{place:9} {words}")
            _show_answers(answer.get("relations", {}), f"{indent}    ")


def tag(options):
    from ..pipelines import Tagger, load_tagger

    pipeline = Tagger(*load_tagger(options.path))
    for text in options.texts:
        say(text)
        for start, end, kind, prob in pipeline(text):
            number = "" if prob is None else f"{prob:6.1%}"
            say(f"  {start:4}-{end:<4} {printable(kind):12} {number:6} {text[start:end]}")
        say()


def generate(options):
    from ..generation import generate_text, stream

    transformer, tokenizer = _model_and_tokenizer(options, with_lm="linear")
    sampling_params = {"num_beams": options.beams, **_sampling_params(options)}
    continues = transformer.config.stacks == "one" and transformer.config.attend == "lm"
    for text in options.texts:
        say(text, end="" if continues else "\n")
        arguments = (transformer, tokenizer, text, options.max_new_tokens)
        if options.beams == 1:
            for piece in stream(*arguments, **sampling_params):
                say(piece, end="")
            say("\n")
        else:
            for sequence in generate_text(
                *arguments, num_return_sequences=options.beams, **sampling_params
            ):
                say(f"  {sequence.score:8.3f} {sequence.text}")


def _sampling_params(options):
    """Returns the options of `generate` that the command line has."""
    names = "repetition_penalty", "no_repeat_ngram_size", "min_new_tokens"
    params = {name: getattr(options, name) for name in names}
    params["bad_words"] = options.bad_word
    if options.sample:
        params |= {"do_sample": True, "seed": options.seed}
        if options.temperature is not None:
            params["temperature"] = options.temperature
        params |= {"top_k": options.top_k, "top_p": options.top_p}
    elif (options.top_k, options.top_p, options.temperature, options.seed) != (None,) * 4:
        raise ValueError("--top-k, --top-p, --temperature, --seed: expected --sample with them.")
    return params


def chat(options):
    from ..pipelines import ChatSession

    variables = _pairs("--variable", options.variable, "enable_thinking=false")
    params = _sampling_params(options)
    system = [] if options.system is None else [{"role": "system", "content": options.system}]
    session = ChatSession(
        *_model_and_tokenizer(options, with_lm="linear"),
        options.max_new_tokens,
        system,
        variables=variables,
        **params,
    )

    def answer(message):
        for piece in session.ask(message, stream=True):
            say(piece, end="")
        say()

    if not sys.stdin.isatty():
        answer(sys.stdin.read().rstrip("\n"))
        return
    while (message := _next_message()) is not None:
        try:
            answer(message)
        except ValueError as error:  # e.g. too long; the conversation is as before
            complain(error)


def _next_message():
    """Returns the next line that a user types and is not blank; None at the end."""
    while True:
        try:
            line = input("> ").strip()
        except EOFError:
            return None
        if line:
            return None if line == "/exit" else line


def serve(options):
    from .serving import Limits, load, run

    limits = Limits.of(_pairs("--limit", options.limit, "new_tokens=512"))
    served = load(
        options.path,
        options.ner,
        options.model,
        new_tokens=limits.new_tokens,
        classifier=options.classifier,
        reranker=options.reranker,
        extractor=options.extractor,
        instruction=options.instruction,
        **_settings(options),
    )
    for name, reason in served.cannot.items():
        say(f"note: no {name}: {printable(reason)}", file=sys.stderr)
    token = os.environ.get(TOKEN) if options.token is None else options.token
    if token is None and options.host not in ("127.0.0.1", "localhost", "::1"):
        say(
            f"note: every client that can reach {options.host} is answered; see --token",
            file=sys.stderr,
        )
    say(f"http://{options.host}:{options.port}/   (to stop: Ctrl+C)")
    name = Path(os.path.abspath(options.path)).name or "model"  # also for "." and ".."
    run(
        *(served, options.host, options.port, limits, name),
        hosts=options.allow_host,
        token=token,
        access_log=not options.quiet,
    )


def features(options):
    from ..pipelines import SentenceEncoder, extract_features

    output = options.output
    if output and Path(output).is_dir():
        raise ValueError(f"--output {output}: expected the name of a file, got a directory.")
    if output and not output.endswith(".npz"):
        output += ".npz"
    path = hub.local_directory(options.path, needs=[] if options.pool else [MODULES])
    pooling = None if options.pool == "none" else options.pool or "cls"
    if options.pool is None and has_modules(path):
        encoder = SentenceEncoder(path, model=options.model, **_settings(options))
        rows = encoder.encode(options.texts)
    else:
        transformer, tokenizer = _model_and_tokenizer(options, with_lm=False)
        rows = extract_features(transformer, tokenizer, options.texts, pooling)
    if output:
        arrays = {f"text_{i}": row for i, row in enumerate(rows)}
        with replacing(output) as file:
            np.savez(file, **({"vectors": rows} if pooling else arrays))
        say(f"{output}: {len(rows)} texts, vectors of {rows[0].shape[-1]}")
        return
    for text, row in zip(options.texts, rows, strict=True):
        numbers = " ".join(f"{x:+.4f}" for x in row.reshape(-1)[:6])
        say(f"{text}\t{row.shape}\t{numbers} ...")


def doctor(options):
    from .doctor import examine

    path = hub.local_directory(options.path)
    bar, steps = Progress("examining"), []

    def progress(step):
        steps.append(step)
        bar.show(min(1.0, len(steps) / 11), step)

    report = examine(path, progress, model=options.model, **_settings(options))
    bar.show(1.0, end="\n")
    if report.readings:
        say(f"{'reading':40}{'perplexity':>12}")
        for reading in report.readings:
            say(f"{reading.name:40}{reading.perplexity:12.5g}")
        say()
    marks = {"ok": "  ", "look": "? ", "wrong": "! "}
    for level, sentence in report.findings:
        say(marks[level] + printable(sentence))
