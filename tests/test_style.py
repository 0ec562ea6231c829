"""The words of the code: how errors are written, and words it does not use (CONTRIBUTING.md)."""

import ast
import io
import re
import tokenize
from collections import Counter
from pathlib import Path

import pytest

pytestmark = pytest.mark.once

ROOT = Path(__file__).resolve().parents[1]
FILES = sorted(
    p for folder in ("bert4keras_lite", "pretraining") for p in (ROOT / folder).rglob("*.py")
)

# Words of prose that have a plainer one: after, before, again, next to, alias, not a, of ... which.
PROSE = re.compile(r"\b(behind|anew|beside|doors?|riddles?|(?<!there )(?<!There )(is|are) no)\b")
# Names that stand for something the field has another name for.
NAMES = {
    *("alive", "cautions", "chances", "contradiction", "doors", "draw", "drawing", "foreign"),
    *("found", "here", "HIDDEN", "more", "next_scores", "one", "own", "places", "read_off", "said"),
    *(
        "scores",
        "settle",
        "shares",
        "slot",
        "slots",
        "there",
        "told",
        "visible",
        "writer",
        "writing",
    ),
}
ATTENTION = "attention scores, with the bias of several blocks"
MASKED = "a call argument called *_mask would join Keras' implicit masking"
BERT4KERAS = "bert4keras' name of a public argument or method"
ALLOWED = {
    ("draw", "bert4keras_lite/generation/autoregressive.py"): "draws tokens at random",
    ("draw", "bert4keras_lite/generation/gibbs.py"): "draws tokens at random",
    ("draw", "bert4keras_lite/models.py"): "the name in version 0.1",
    ("found", "pretraining/segmentation.py"): "which keys a hash table has",
    ("places", "bert4keras_lite/generation/constraints.py"): "public: places of a substring",
    ("scores", "bert4keras_lite/compat/graph.py"): ATTENTION,
    ("scores", "bert4keras_lite/generation/autoregressive.py"): BERT4KERAS,
    ("scores", "bert4keras_lite/generation/request.py"): "summed log-probabilities of sequences",
    ("scores", "bert4keras_lite/generation/search.py"): "summed log-probabilities of sequences",
    ("scores", "bert4keras_lite/layers/attention.py"): ATTENTION,
    ("scores", "bert4keras_lite/layers/blocks.py"): ATTENTION,
    ("scores", "bert4keras_lite/layers/crf.py"): "scores of paths, which are no logits",
    ("scores", "bert4keras_lite/metrics.py"): "of ROUGE",
    ("scores", "bert4keras_lite/models.py"): ATTENTION,
    ("scores", "bert4keras_lite/tokenizers/loading.py"): "of the pieces of a sentencepiece model",
    ("scores", "bert4keras_lite/tokenizers/tokenizer_json.py"): "of the pieces of a unigram model",
    ("scores", "bert4keras_lite/training/theseus.py"): ATTENTION,
    ("scores", "pretraining/objectives.py"): "a call argument of a layer",
    ("slot", "bert4keras_lite/layers/blocks.py"): "of NORM_SLOTS",
    ("slot", "bert4keras_lite/shapes.py"): "of NORM_SLOTS",
    (
        "slots",
        "bert4keras_lite/generation/onnx.py",
    ): "public: room in the cache of an exported file",
    ("slots", "bert4keras_lite/tokenizers/added.py"): "of a dataclass",
    ("slots", "pretraining/segmentation.py"): "of a hash table",
    ("visible", "bert4keras_lite/generation/decoding.py"): MASKED,
    ("visible", "bert4keras_lite/layers/crf.py"): MASKED,
    ("visible", "bert4keras_lite/layers/pointers.py"): MASKED,
    ("visible", "bert4keras_lite/layers/pooling.py"): MASKED,
    ("visible", "bert4keras_lite/layers/positions.py"): MASKED,
    ("writer", "pretraining/files.py"): "of a CSV file",
    ("writer", "pretraining/log.py"): "of a CSV file",
    ("writer", "pretraining/monitor.py"): "of TensorBoard",
    ("writing", "bert4keras_lite/applications/serving/worker.py"): "public: a limit of the server",
}
# Files whose literals are parts of the messages of others, which add where, and the full stop.
PARTS = {
    "bert4keras_lite/parsing.py": "the reader of a file says which",
    "bert4keras_lite/protobuf.py": "the reader of a file says which",
    "bert4keras_lite/patterns.py": "the caller says which pattern",
    "bert4keras_lite/checkpoints/tf_bundle.py": "FileNotFoundError of Python: a path",
    "bert4keras_lite/backend.py": "MemoryError, which its caller turns into a message",
    "bert4keras_lite/claims.py": "MemoryError, which its caller turns into a message",
    "bert4keras_lite/hub.py": "the reason within a message",
    "bert4keras_lite/applications/serving/app.py": "a field of a request; what is wrong follows",
    "pretraining/config.py": "of the YAML reader, which says where",
    "pretraining/documents.py": "of the reader of a compressed file, which says where",
}


def literal(node):
    """The literal text of an expression, `{}` for what is formatted into it; None: none."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(v.value if isinstance(v, ast.Constant) else "{}" for v in node.values)
    if isinstance(node, ast.BinOp):
        parts = literal(node.left), literal(node.right)
        return None if parts == (None, None) else "".join(part or "{}" for part in parts)
    return literal(node.body) if isinstance(node, ast.IfExp) else None


def messages(path):
    """`(line, text)` of every `raise` whose message has literal text."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        error = node.exc if isinstance(node, ast.Raise) else None
        arguments = error.args if isinstance(error, ast.Call) else []
        if arguments and (text := literal(arguments[0])) is not None:
            yield node.lineno, text


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_errors(path):
    name = str(path.relative_to(ROOT))
    for line, text in messages(path):
        assert len(text.replace("{}", "")) <= 300, (name, line)
        if name not in PARTS:
            assert text.rstrip().endswith((".", "{}", "?", ".)")), (name, line, text[-60:])


def test_parts_of_messages_are_still_such():
    for name in PARTS:
        assert any(not text.rstrip().endswith((".", "{}")) for _, text in messages(ROOT / name)), (
            name
        )


def words(path):
    """`(word, line)` of the words that the code is not to use."""
    source = path.read_text(encoding="utf-8")
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.NAME and token.string in NAMES:
            yield token.string, token.start[0]
        elif token.type in (tokenize.STRING, tokenize.COMMENT):
            for match in PROSE.finditer(token.string):
                yield match[0], token.start[0]


def test_words():
    used = Counter()
    for path in FILES:
        name = str(path.relative_to(ROOT))
        for word, line in words(path):
            assert (word, name) in ALLOWED, f"{name}:{line}: {word}"
            used[word, name] += 1
    assert used.keys() == ALLOWED.keys()
    assert len(ALLOWED) <= 150
