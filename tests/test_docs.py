"""The documents are true: Python runs, commands are understood, links lead somewhere.

Python runs as it is written, in a directory with small checkpoints by the names that the documents
use. Commands are given to the parsers of the programs that they name, and go no further.
"""

import argparse
import ast
import base64
import contextlib
import dataclasses
import functools
import importlib
import importlib.util
import inspect
import io
import itertools
import json
import os
import re
import runpy
import shlex
import shutil
import sys
import textwrap
import typing
from pathlib import Path
from unittest import mock

import keras
import numpy as np
import pytest
from goldens import make_m3, make_qwen3, recipes
from running import operation_by_operation, without_tracing, write_chat_model

from bert4keras_lite import build_transformer_model, save_checkpoint
from bert4keras_lite.applications import cli
from bert4keras_lite.applications.migrate import migrate
from bert4keras_lite.configs import Config
from pretraining import config, train
from pretraining.masking import OBJECTIVES

ROOT = Path(__file__).resolve().parents[1]
GOLDENS, SAMPLE = ROOT / "tests" / "goldens", ROOT / "examples" / "data"
BACKENDS = ("tensorflow", "jax", "torch")
WITH_CODE = ("README*.md", "CONTRIBUTING.md", "docs/*.md", "pretraining/*.md")
WITH_LINKS = (*WITH_CODE, "CHANGELOG.md", "examples/data/*.md", "tests/goldens/*.md")

# The same code in another language: it is held to be the same, and runs once.
TRANSLATED = {"README.zh.md": "README.md"}
# Blocks that cannot run here: (document, how the block begins) -> why.
NOT_RUN = {
    ("docs/guide.md", "import apache_beam"): "needs Apache Beam; test_beam.py runs the same",
}
# Blocks for bert4keras, which run as `migrate` changes them.
MIGRATED = {("docs/moving-from-bert4keras.md", "from bert4keras.backend import")}
# Blocks that only some backends can run: which.
ON = {
    ("docs/guide.md", "# on PyTorch\n"): ["torch"],
    ("docs/guide.md", "# on TensorFlow\n"): ["tensorflow"],
    # on TensorFlow it takes long: tests/test_export.py
    ("docs/guide.md", "# on TensorFlow (needs tf2onnx) and PyTorch"): ["torch"],
    ("docs/guide.md", "# on JAX"): ["jax"] if importlib.util.find_spec("tensorflow") else [],
}
# Numbers of things that the tests make: (document, the words around one) -> module and name.
COUNTS = {
    ("docs/reliability.md", "opens {} malformed or malicious files"): ("hostile", "CASES"),
    ("docs/reliability.md", "changes valid files of {} formats"): ("fuzz", "FORMATS"),
    ("docs/design.md", "into {} rooms"): ("test_structure", "ROOMS"),
    ("CONTRIBUTING.md", "| {} planted defects"): ("mutants", "MUTANTS"),
}
# Programs that are not ours.
OTHERS = {"git", "cd", ".", "gcloud"}
# paths that exist in the repository, unlike what the examples write
OUR_FILES = r"(\.ci|benchmarks|bert4keras_lite|docs|examples(?!/output)|pretraining|tests)/\S*$"


# ---------------------------------------------------------------- reading


class Block(typing.NamedTuple):
    """Code between two fences.

    Attributes:
        document: its path in the repository.
        line: the number of its first line.
        language: the word after the fence.
        text: not indented.
    """

    document: str
    line: int
    language: str
    text: str

    def __str__(self):
        return f"{self.document}, line {self.line}"


def documents(patterns):
    """The paths, in the repository, of the documents that fit."""
    paths = (path for pattern in patterns for path in sorted(ROOT.glob(pattern)))
    return [str(path.relative_to(ROOT)) for path in paths]


def split(document, text):
    """Takes a document apart.

    Returns:
        A list of `Block`s, and the lines that belong to none, those of the blocks being empty.
    """
    blocks, prose, block, begun = [], [], [], None
    for number, line in enumerate(text.split("\n"), 1):
        fence = re.fullmatch(r" *```(\S*) *", line)
        if fence and begun:
            blocks.append(Block(document, *begun, textwrap.dedent("\n".join(block))))
            block, begun = [], None
        elif fence:
            begun = number + 1, fence[1]
        elif begun:
            block.append(line)
        prose.append("" if fence or begun else line)
    assert not begun, f"{document}, line {begun[0] - 1}: the block does not end"
    return blocks, prose


@functools.cache
def parts(document):
    return split(document, (ROOT / document).read_text(encoding="utf-8"))


def blocks_of(document, *languages):
    return [block for block in parts(document)[0] if block.language in languages]


def entry(block, table):
    """The key of a table that names a block, or None."""
    for document, start in table:
        if block.document == document and block.text.startswith(start):
            return document, start
    return None


def inline_code(prose):
    """What is between backticks in lines of prose, each in one line."""
    for paragraph in "\n".join(prose).split("\n\n"):
        for code in re.findall(r"(?<!`)`([^`]+)`(?!`)", paragraph):
            yield " ".join(code.split())


CODE = documents(WITH_CODE)
BLOCKS = [block for document in CODE for block in parts(document)[0]]


# ---------------------------------------------------------------- blocks


def unknown_blocks(blocks):
    """Those that no test runs, nor names as one that cannot run."""
    known = {"python", "sh", "diff"}
    return [str(b) for b in blocks if b.language not in known and not entry(b, NOT_RUN)]


def code_without_fences(document, prose):
    """Places of indented code: only what is between fences is found here."""
    return [
        f"{document}, line {number}"
        for number, (above, line) in enumerate(itertools.pairwise(prose), 2)
        if not above.strip() and re.match(" {4}|\t", line) and line.strip()
    ]


@pytest.mark.once
def test_every_block_is_run_or_listed():
    assert unknown_blocks(BLOCKS) == []
    assert [x for document in CODE for x in code_without_fences(document, parts(document)[1])] == []


@pytest.mark.once
def test_diffs_are_those_of_the_files():
    for block in (block for document in CODE for block in blocks_of(document, "diff")):
        for change in block.text.split("+++ ")[1:]:
            path, *lines = change.splitlines()
            code = iter((ROOT / path).read_text(encoding="utf-8").splitlines())
            assert [line for line in lines if line[1:] not in code] == [], f"{block}: {path}"


@pytest.mark.once
@pytest.mark.parametrize("table", [NOT_RUN, ON], ids=["not_run", "on"])
def test_every_entry_names_one_block(table):
    named = [entry(block, table) for block in BLOCKS]
    assert {key: named.count(key) for key in table} == dict.fromkeys(table, 1)


@pytest.mark.once
@pytest.mark.parametrize(("document", "original"), TRANSLATED.items())
def test_translated_documents_have_the_same_code(document, original):
    def code(name):
        python = [ast.dump(ast.parse(block.text)) for block in blocks_of(name, "python")]
        return python, [list(commands(block.text)) for block in blocks_of(name, "sh")]

    for ours, theirs in zip(code(document), code(original), strict=True):
        assert ours == theirs


# ---------------------------------------------------------------- Python

SIZES = {
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "max_position": 512,
    "dropout_rate": 0,
    "attention_dropout_rate": 0,
}


def end_after(count, end_id, model):
    """Makes the token `end_id` impossible up to `count` tokens, and all but certain after them."""
    tables = [model.get_layer(f"{name}_embedding") for name in ("token", "position")]
    [tokens], [positions] = (table.get_weights() for table in tables)
    tokens[end_id] = np.tile([1, -1], SIZES["hidden_size"] // 2)
    positions[:] = 10 * tokens[end_id]
    positions[: count - 1] *= -1
    for table, weights in zip(tables, (tokens, positions), strict=True):
        table.set_weights([weights])


def write_small_checkpoints(root):
    vocab = (SAMPLE / "vocab.txt").read_text(encoding="utf-8").split()
    subword = json.loads((GOLDENS / "tokenizers_subword.json").read_text(encoding="utf-8"))

    def build(**options):
        options = {"vocab_size": len(vocab), **SIZES, **options}
        return build_transformer_model(return_keras_model=False, **options)

    bert = build(with_pool=True, with_mlm=True)
    gpt2 = build(model="gpt2")
    end_after(8, vocab.index("[SEP]"), gpt2.model)
    for name, transformer, format in (
        (".", bert, "tf"),  # as in the directory of a checkpoint
        ("chinese_L-12_H-768_A-12", bert, "tf"),
        ("hfl/chinese-roberta-wwm-ext", bert, "hf"),
        ("chinese_gpt2", gpt2, "hf"),
    ):
        transformer.save_checkpoint(root / name, format)
        shutil.copy(SAMPLE / "vocab.txt", root / name)

    for name, kind, labels in (
        ("uer/roberta-base-finetuned-jd-binary-chinese", "text", ["负面", "正面"]),
        ("uie-base-zh", "spans", None),
        ("BAAI/bge-reranker-base", "text", ["LABEL_0"]),
        ("uer/roberta-base-finetuned-cluener2020-chinese", "tokens", ["O", "B-name", "I-name"]),
    ):
        build(with_classifier=kind, labels=labels).save_checkpoint(root / name, "hf")
        shutil.copy(SAMPLE / "vocab.txt", root / name)

    (root / "Qwen/Qwen3-0.6B").mkdir(parents=True)
    write_chat_model(root / "Qwen/Qwen3-0.6B")

    (root / "BAAI/bge-m3").mkdir()
    make_m3.write_m3(root / "BAAI/bge-m3", make_m3.linear_files())
    (root / "Qwen/Qwen3-Reranker-0.6B").mkdir(parents=True)
    make_qwen3.write_case(root / "Qwen/Qwen3-Reranker-0.6B", "reranker")

    mt5 = build(model="mt5.1.1", vocab_size=1 + max(subword["keep_tokens"]))
    mt5.save_checkpoint(root / "mt5_small", "tf")
    for name, content in (
        ("sentencepiece_cn_keep_tokens.json", json.dumps(subword["keep_tokens"]).encode()),
        ("sentencepiece_cn.model", base64.b64decode(subword["models"]["mt5_reduced"])),
    ):
        (root / "mt5_small" / name).write_bytes(content)


def write_checkpoints_of_other_layouts(root):
    cases = {}
    for folder in ("decoders", "encoders"):
        cases |= {case.name: case for case in recipes.load_cases(GOLDENS / folder)}
    save_checkpoint(root / "mt5_google/model.ckpt-1000000", cases["mesh_mt5.1.1"].weights)
    for name, config_file, file, format in (
        ("openai_gpt2", "hparams.json", "model.ckpt", "tf"),
        ("uer_bert", "config.json", "pytorch_model.bin", "safetensors"),  # a name tells no format
    ):
        save_checkpoint(root / name / file, cases[name].weights, format)
        (root / name / config_file).write_text(json.dumps(cases[name].config), encoding="utf-8")
    shutil.copytree(GOLDENS / "decoders" / "cpm_megatron", root / "cpm_lm")
    shutil.copytree(GOLDENS / "bert" / "hf_tiny_bin", root / "hfl_rbt3")


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A directory with what the documents name: small checkpoints, and some data."""
    root = tmp_path_factory.mktemp("files")
    write_small_checkpoints(root)
    write_checkpoints_of_other_layouts(root)
    (root / "reviews").mkdir()
    for path in SAMPLE.glob("sentiment.*.tsv"):
        lines = path.read_text(encoding="utf-8").splitlines()[:8]
        (root / "reviews" / path.name).write_text("\n".join(lines), encoding="utf-8")
    return root


def run(blocks):
    """Runs blocks one after the other, as one program."""
    names = {"__name__": "__main__"}
    for block in blocks:
        text = migrate(block.text).text if entry(block, MIGRATED) else block.text
        code = "\n" * (block.line - 1) + text  # so that errors show the document's lines
        exec(compile(code, block.document, "exec"), names)


def runs_here(block):
    key = entry(block, NOT_RUN) or entry(block, ON)
    return key is None or keras.backend.backend() in ON.get(key, ())


@pytest.mark.filterwarnings("ignore:.*looks never trained:UserWarning")  # it is not
@pytest.mark.parametrize(
    "document", [name for name in CODE if blocks_of(name, "python") and name not in TRANSLATED]
)
def test_python_runs(document, files, tmp_path, monkeypatch):
    shutil.copytree(files, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    fit, losses = keras.Model.fit, []

    def watched_fit(model, *arguments, **options):
        history = fit(model, *arguments, **options)
        losses.append(history.history["loss"])
        return history

    monkeypatch.setattr(keras.Model, "fit", watched_fit)
    if keras.backend.backend() != "jax":  # which compiles faster than it runs single operations
        operation_by_operation(monkeypatch)
    with without_tracing():
        run(filter(runs_here, blocks_of(document, "python")))
    for values in losses:
        assert np.isfinite(values).all() and (len(values) == 1 or values[-1] < values[0])


# ---------------------------------------------------------------- commands


def commands(text):
    """The commands of a shell block: lists of words, with variables put in."""
    variables = {}
    for line in text.replace("\\\n", " ").splitlines():
        lexer = shlex.shlex(line, posix=True, punctuation_chars="&;|")
        lexer.whitespace_split = True
        words = []
        for word in [*lexer, ";"]:
            if not re.fullmatch("[&;|]+", word):
                words += shlex.split(variables.get(word, "")) if word in variables else [word]
                continue
            words = words[1:] if words[:1] == ["export"] else words
            settings = [word.partition("=") for word in words]
            while settings and re.fullmatch(r"\w+", settings[0][0]) and settings[0][1]:
                name, _, value = settings.pop(0)
                variables[f"${name}"] = value
                if name == "KERAS_BACKEND" and value not in BACKENDS:
                    raise ValueError(f"there is no backend {value}")
            words = words[len(words) - len(settings) :]
            if words:
                yield words
            words = []


class Parsed(Exception):
    """Stops a program that has read its command line: the options, and the words it leaves."""


def parsed(program, words):
    """`(options, rest)`: what the parser of a program makes of a command line.

    Args:
        program: a function that starts it. It goes on until it has read its command line.
        words: of the command line, without the program.

    Raises:
        ValueError: the parser refuses them, or there is none.
    """
    read = argparse.ArgumentParser.parse_known_args

    def parse_known_args(parser, *arguments):
        raise Parsed(*read(parser, *arguments))

    def parse_args(parser, *arguments):
        options, rest = read(parser, *arguments)
        if rest:
            parser.error(f"unrecognized arguments: {' '.join(rest)}")
        raise Parsed(options, rest)

    said = io.StringIO()
    with (
        mock.patch.multiple(
            argparse.ArgumentParser, parse_args=parse_args, parse_known_args=parse_known_args
        ),
        mock.patch.dict(os.environ),
        mock.patch.object(sys, "argv", ["program", *words]),
        mock.patch.object(sys, "path", sys.path[:]),
        contextlib.redirect_stderr(said),
    ):
        try:
            program()
        except Parsed as stopped:
            return stopped.args
        except SystemExit:
            raise ValueError(said.getvalue()) from None
    raise ValueError("reads no options")


def check_script(path, words):
    script = ROOT / path
    if not script.is_file():
        raise ValueError(f"there is no {path}")

    def program():
        sys.path.insert(0, str(script.parent))
        runpy.run_path(str(script), run_name="__main__")

    if "argparse" in script.read_text(encoding="utf-8"):
        parsed(program, words)
    elif words:
        raise ValueError(f"{path} takes no {' '.join(words)}")


def check_module(name, words):
    if name == "bert4keras_lite":
        said = io.StringIO()
        try:
            with contextlib.redirect_stderr(said):
                cli.parser().parse_args(words)
        except SystemExit:
            raise ValueError(said.getvalue()) from None
    elif name in ("pretraining.train", "pretraining.validation"):
        own, flags = train.split(words)
        config.load(own.get("config"), flags)
    elif name.startswith("pretraining."):
        module = importlib.import_module(name)
        options, rest = parsed(lambda: module.main(words), words)
        if name != "pretraining.corpus":
            config.load(getattr(options, "config", None), rest)
        elif rest and not options.runner:
            raise ValueError(f"unknown: {' '.join(rest)}")
    elif name not in ("venv", "pytest"):
        raise ValueError(f"there is no module {name} to run")


@functools.cache
def masking_options():
    classes = {base for kind in OBJECTIVES.values() for base in kind.__mro__ if base is not object}
    names = {name for kind in classes for name in inspect.signature(kind.__init__).parameters}
    return names - {"self", "manifest", "options"}


def check_make(words):
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    settings = dict(word.split("=", 1) for word in words if "=" in word)
    for target in (word for word in words if "=" not in word):
        if not re.search(rf"^{re.escape(target)}:", makefile, re.MULTILINE):
            raise ValueError(f"the Makefile has no {target}")
    for name, value in settings.items():
        if f"$({name})" not in makefile:
            raise ValueError(f"the Makefile has no {name}")
        if name == "BACKEND" and value not in (*BACKENDS, "..."):
            raise ValueError(f"there is no backend {value}")
        if name == "ARGS" and "bench" in words:
            missing = {*value.split()} - {*runpy.run_path(str(ROOT / "benchmarks/run.py"))["PARTS"]}
            if missing:
                raise ValueError(f"make bench has no {', '.join(missing)}")


def check_install(words):
    tree = ast.walk(ast.parse((ROOT / "setup.py").read_text(encoding="utf-8")))
    extras = next(node.value for node in tree if getattr(node, "arg", "") == "extras_require")
    known = {key.value for key in extras.keys}
    for word in words:
        ours = re.fullmatch(r"(?:\.|bert4keras_lite)\[(.*)\]", word)
        if not ours and word not in ("install", "-e"):
            raise ValueError(f"pip knows nothing of {word}")
        if ours and not {*ours[1].split(",")} <= known:
            raise ValueError(f"setup.py has no extra {ours[1]}")


def check_command(words):
    """Raises a ValueError that says what a command has wrong."""
    program, *rest = words
    if re.fullmatch("python3?", program) and rest[:1] == ["-m"]:
        check_module(rest[1], rest[2:])
    elif re.fullmatch("python3?", program):
        check_script(rest[0], rest[1:])
    elif program == "make":
        check_make(rest)
    elif program == "pip":
        check_install(rest)
    elif program not in OTHERS:
        raise ValueError(f"what is {program}?")
    for option, value in itertools.pairwise(rest):
        if program == "gcloud" and option == "--command":
            check_commands(value)


def check_commands(text):
    for words in commands(text):
        try:
            check_command(words)
        except ValueError as error:
            raise ValueError(f"{' '.join(words)}: {error}") from None


@functools.cache
def every_option():
    """All options that a program in the repository has."""
    options = {"--config", "--export", "--model.family"}  # of pretraining.train
    options |= {f"--{field.name}" for field in dataclasses.fields(config.Settings)}
    options |= {f"--model.{field.name}" for field in dataclasses.fields(Config)}
    options |= {f"--masking.{name}" for name in masking_options()}
    folders = ("pretraining", "examples", "benchmarks", "tests")
    for folder in ("bert4keras_lite/applications", *folders):
        for path in (ROOT / folder).glob("*.py"):
            if path.name.startswith("test_"):
                continue
            source = path.read_text(encoding="utf-8")
            options |= {*re.findall(r'"(--[a-z][\w-]*)"', source)}
    return options


def check_options(text):
    """Raises a ValueError if a text names an option that no program has."""
    for name in re.findall(r"(?:^|[\s`])(--[a-z][\w.-]*)", text):
        if name not in every_option():
            raise ValueError(f"no program has {name}")


def check_inline(code):
    """Raises a ValueError if code in a sentence names a command, option or file there is not."""
    if re.fullmatch(r"python -m \S+", code):  # what a program does, not how to call it
        if not importlib.util.find_spec(code.split()[-1]):
            raise ValueError(f"there is no such module: {code}")
    elif re.match(r"(\w+=\S+ )*(python3?|make|pip) \S", code):
        check_commands(code)
    elif re.match(r"(examples|benchmarks)/\S+\.py (--|examples/)", code):
        check_commands(f"python {code}")
    elif code.startswith("--"):
        check_options(code)
    elif re.match(OUR_FILES, code) and not [*ROOT.glob(code.rstrip("/"))]:
        raise ValueError(f"there is no {code}")


def errors(check, cases):
    """What a check says against each (place, case); empty if nothing."""
    for place, case in cases:
        try:
            check(case)
        except (ValueError, ImportError) as error:
            yield f"{place}: {error}"


@pytest.mark.once
@pytest.mark.parametrize("document", CODE)
def test_commands_are_understood(document):
    blocks = [(block, block.text) for block in blocks_of(document, "sh")]
    assert [*errors(check_commands, blocks)] == []
    comments = [(block, x) for block, text in blocks for x in re.findall(r"(?<=# ).*", text)]
    assert [*errors(check_options, comments)] == []
    inline = [(document, code) for code in inline_code(parts(document)[1])]
    assert [*errors(check_inline, inline)] == []


# ---------------------------------------------------------------- links


def anchors(prose):
    """The anchors that GitHub gives to the headings of a document."""
    found = []
    for heading in re.findall(r"^#+ (.*)$", "\n".join(prose), re.MULTILINE):
        shown = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)
        anchor = re.sub(r"[^\w\- ]", "", shown.strip().lower()).replace(" ", "-")
        found.append(f"{anchor}-{found.count(anchor)}" if anchor in found else anchor)
    return found


def check_link(document, target):
    """Raises a ValueError unless a link leads to a file of the repository, and a heading in it."""
    path, _, anchor = target.partition("#")
    file = (ROOT / document).parent / path if path else ROOT / document
    if not file.resolve().is_relative_to(ROOT) or not file.exists():
        raise ValueError(f"{target}: there is no such file")
    if anchor and anchor not in anchors(parts(str(file.resolve().relative_to(ROOT)))[1]):
        raise ValueError(f"{target}: there is no such heading")


def links(prose):
    """What the links and pictures of a document lead to, without other sites."""
    text = re.sub(r"`[^`]*`", "", "\n".join(prose))
    targets = re.findall(r"\]\(\s*([^)\s]+)[^)]*\)", text)
    return [target for target in targets if not re.match("https?:|mailto:", target)]


@pytest.mark.once
@pytest.mark.parametrize("document", documents(WITH_LINKS))
def test_links_lead_somewhere(document):
    cases = [(document, target) for target in links(parts(document)[1])]
    assert [*errors(lambda target: check_link(document, target), cases)] == []


# ---------------------------------------------------------------- numbers


@pytest.mark.once
@pytest.mark.parametrize(("document", "words"), COUNTS)
def test_counts_are_those_of_the_code(document, words):
    module, name = COUNTS[document, words]
    count = len(getattr(importlib.import_module(module), name))
    assert words.format(count) in (ROOT / document).read_text("utf-8")


# ---------------------------------------------------------------- what these tests notice

LINES = {
    "python -m bert4keras_lite inspect PATH --deep": "unrecognized arguments: --deep",
    "python -m bert4keras_lite convert PATH out": "required: --to",
    "python -m bert4keras_lite conjure PATH": "invalid choice: 'conjure'",
    "python -m pretraining.train --config tiny --step 3": "no setting 'step'; did you mean 'steps'",
    "python -m pretraining.train --config tinier": "none of the recipes",
    "python -m pretraining.train --config tiny --masking.rates 0.1": "there is no setting 'rates'",
    "python -m pretraining.corpus --input x --output y --vocab z --mode mlm --fast": (
        "unknown: --fast"
    ),
    "python -m pretraining.laptop --data D --vocab V --output RUN --speed 2": "no setting 'speed'",
    "python -m pretraining.trains": "No module named 'pretraining.trains'",
    "python -m bert5keras": "no module bert5keras",
    "python examples/task_tnew.py": "no examples/task_tnew.py",
    "python examples/task_tnews.py --rate 1": "unrecognized arguments: --rate",
    "python benchmarks/serving.py --quickly": "unrecognized arguments: --quickly",
    "python benchmarks/limits.py --all": "takes no --all",
    "A=1; X='python benchmarks/results.py --what'\n$X --data D --checkpoint T": (
        "unrecognized arguments: --what"
    ),
    "KERAS_BACKEND=theano python benchmarks/serving.py": "no backend theano",
    "make tests": "Makefile has no tests",
    "make test BACKENDS=jax": "Makefile has no BACKENDS",
    "make test BACKEND=theano": "no backend theano",
    "make bench ARGS='crf cfr'": "make bench has no cfr",
    "pip install '.[jaxx]'": "no extra jaxx",
    "pip install bert4keras-lite": "pip knows nothing of bert4keras-lite",
    "cd x && gcloud ssh --command 'make tests'": "Makefile has no tests",
    "pyhton x.py": "what is pyhton?",
}
INLINE = {
    "--lables": "no program has --lables",
    "--masking.rates 1": "no program has --masking.rates",
    "tests/test_document.py": "no tests/test_document.py",
    "python -m pretraining.text": "no such module",
    "examples/task_tnews.py --rate 1": "unrecognized arguments: --rate",
}
TARGETS = {
    "guides.md": "no such file",
    "../../outside.md": "no such file",
    "guide.md#wrting": "no such heading",
    "#wrting": "no such heading",
}


@pytest.mark.once
@pytest.mark.parametrize(
    ("check", "case", "said"),
    [
        *((check_commands, *item) for item in LINES.items()),
        *((check_inline, *item) for item in INLINE.items()),
        *((functools.partial(check_link, "docs/hub.md"), *item) for item in TARGETS.items()),
    ],
)
def test_mistakes_are_noticed(check, case, said):
    with pytest.raises((ValueError, ImportError), match=re.escape(said)):
        check(case)


@pytest.mark.once
def test_documents_are_read_as_they_are_shown():
    text = """# The `title`: one

```python
x = 1
```

- a list
  ```sh
  make \\
    test
  ```

Some `code
of` two lines, and [a link](x.md#y).

## The title: one

```text
```
"""
    blocks, prose = split("a.md", text)
    assert [(block.line, block.language, block.text) for block in blocks] == [
        (4, "python", "x = 1"),
        (9, "sh", "make \\\n  test"),
        (19, "text", ""),
    ]
    assert unknown_blocks(blocks) == ["a.md, line 19"]
    assert [*commands(blocks[1].text)] == [["make", "test"]]
    assert [*inline_code(prose)] == ["title", "code of"]
    assert links(prose) == ["x.md#y"]
    assert anchors(["# The `title`: one", "## The title: one"]) == [
        "the-title-one",
        "the-title-one-1",
    ]
    assert code_without_fences("a.md", ["text", "", "    code"]) == ["a.md, line 3"]
    with pytest.raises(AssertionError, match=r"a.md, line 2: the block does not end"):
        split("a.md", "\n```sh\nmake test")


@pytest.mark.once
def test_errors_of_python_have_the_place_in_the_document():
    blocks, _ = split("a.md", "```python\nx = 1\n```\n\n```python\nx + y\n```")
    with pytest.raises(NameError) as caught:
        run(blocks)
    assert str(caught.traceback[-1].path).endswith("a.md")
    assert caught.traceback[-1].lineno + 1 == 6
