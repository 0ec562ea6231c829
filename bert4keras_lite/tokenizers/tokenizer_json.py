"""Reads Hugging Face's `tokenizer.json`, as far as our tokenizers support it.

Each part of the file is a step of tokenization. A part that is not listed below, or occurs twice,
would change ids or decoded text, and is an error; so is a missing field that the library
`tokenizers` requires. A missing part counts as `null`. `truncation` and `padding` are ignored: our
tokenizers take them as arguments of each call.

| part | WordPiece | byte-level BPE | sentencepiece (`Unigram`) |
|---|---|---|---|
| `normalizer` | `BertNormalizer` | none | `Precompiled`, `Strip`, `Replace` of spaces |
| `pre_tokenizer` | `BertPreTokenizer` | `ByteLevel` | `Metaspace`, `WhitespaceSplit` |
| `decoder` | `WordPiece` | `ByteLevel` | `Metaspace` |
| `post_processor` | at most one token before a text and one after it | the same | the same |

In a pair of texts, only the first has the token before it, and each has the token after it; in
WordPiece, the second text and the token after it have segment 1. A vocabulary of byte-level BPE
has all 256 bytes, or an `unk_token`.
"""

import base64
from dataclasses import dataclass, field

from ..parsing import expecting, shown
from .byte_bpe import ALPHABET
from .settings import MAX_WORD, check_count, checked_merges, checked_vocab, read_json, token_of

__all__ = ["read_tokenizer_json"]

_ALGORITHMS = {"WordPiece": "WordPiece", "BPE": "byte-level BPE", "Unigram": "sentencepiece"}
_PARTS = {
    "WordPiece": {
        "normalizer": {"BertNormalizer"},
        "pre_tokenizer": {"BertPreTokenizer"},
        "decoder": {"WordPiece"},
    },
    "byte-level BPE": {
        "normalizer": set(),
        "pre_tokenizer": {"ByteLevel"},
        "decoder": {"ByteLevel"},
    },
    "sentencepiece": {
        "normalizer": {"Precompiled", "Strip", "Replace"},
        "pre_tokenizer": {"Metaspace", "WhitespaceSplit"},
        "decoder": {"Metaspace"},
    },
}
# The key of the list of components, for parts of type `Sequence`
_SEQUENCES = {
    "normalizer": "normalizers",
    "pre_tokenizer": "pretokenizers",
    "decoder": "decoders",
    "post_processor": "processors",
}
# Required fields of parts, and their supported values.
_FLAG = (True, False)
_REQUIRED = {
    "BertNormalizer": {"clean_text": (True,), "handle_chinese_chars": _FLAG, "lowercase": _FLAG},
    "ByteLevel": {"add_prefix_space": (False,)},
    "Metaspace": {"replacement": ("▁",)},
    "Replace": {"content": ("▁",), "pattern": ({"Regex": " {2,}"},)},
    "Strip": {"strip_left": _FLAG, "strip_right": (True,)},
}
# Optional fields and their supported values, the default first.
_OPTIONAL = {
    "BertNormalizer": {"strip_accents": (None, *_FLAG)},
    "ByteLevel": {"use_regex": (True,)},
    "Metaspace": {"prepend_scheme": ("always",), "add_prefix_space": (True,), "split": _FLAG},
    "WordPiece": {"continuing_subword_prefix": ("##",), "prefix": ("##",)},
    "BPE": {
        "dropout": (None, 0, 0.0),
        "continuing_subword_prefix": (None, ""),
        "end_of_word_suffix": (None, ""),
        "fuse_unk": (False,),
        "byte_fallback": (False,),
        "ignore_merges": (False,),
    },
}
_MISSING = object()
MAX_SCORE = 1e38  # of a piece: sentencepiece has 32 bits for it


@dataclass
class TokenizerJson:
    """Contents of a `tokenizer.json`.

    Attributes:
        algorithm: a key of `settings.CLASSES`.
        vocab: dict token -> id, without the added tokens.
        merges: list of pairs of symbols; BPE only.
        scores: dict piece -> score; sentencepiece only.
        added: list of `AddedToken`.
        rules: other settings that a sentencepiece model must share, as returned by `_rules`.
        options: arguments for the tokenizer; empty for CPM.
    """

    algorithm: str
    vocab: dict
    merges: list = field(default_factory=list)
    scores: dict = field(default_factory=dict)
    added: list = field(default_factory=list)
    rules: dict = field(default_factory=dict)
    options: dict = field(default_factory=dict)


def _check_fields(path, name, part):
    part_type = part.get("type")
    if (name, part_type) == ("decoder", "ByteLevel"):  # its fields have no effect on decoding
        return
    optional = _OPTIONAL.get(part_type, {})
    for key, values in (_REQUIRED.get(part_type, {}) | optional).items():
        value = part.get(key, values[0] if key in optional else _MISSING)
        if not any(type(value) is type(known) and value == known for known in values):
            got = "missing" if value is _MISSING else f"{value!r:.200}"
            raise ValueError(
                f"{path}: {key} of the {name} is {got}; expected"
                f" {' or '.join(map(repr, values))}. Other values would change ids."
            )


def _components(content, name):
    """Returns the components of a part as a flat list, expanding nested `Sequence`s."""

    def flat(part):
        if part is None:
            return []
        if part.get("type") == "Sequence" and _SEQUENCES[name] in part:
            return [inner for item in part[_SEQUENCES[name]] for inner in flat(item)]
        return [part]

    return flat(content.get(name))


def _check_part(path, content, name, algorithm):
    allowed = _PARTS[algorithm][name]
    components = _components(content, name)
    names = [str(component.get("type")) for component in components]
    required = name == "pre_tokenizer" or (algorithm, name) == ("WordPiece", "normalizer")
    if not set(names) <= allowed or (required and not names) or len(set(names)) < len(names):
        raise ValueError(
            f"{path}: the {name} is {' and '.join(names) or None!s:.200}; expected for {algorithm}"
            f" only {' and '.join(sorted(allowed)) or None}. Texts would get other ids than in the"
            " training of the model."
        )
    for component in components:
        _check_fields(path, name, component)


def _is_pair(value):
    return isinstance(value, list) and len(value) == 2


def _start_and_end(path, content, algorithm, ids):
    """Returns the tokens that the post-processor puts before and after a text; None for none.

    Args:
        ids: dict token -> id, of the vocabulary and the added tokens.
    """
    components = _components(content, "post_processor")
    # `ByteLevel` as a post-processor only trims offsets.
    parts = [part for part in components if part.get("type") != "ByteLevel"]
    if not parts:
        return None, None
    around = None
    if len(parts) == 1 and parts[0].get("type") == "BertProcessing":
        pairs = parts[0]["cls"], parts[0]["sep"]
        if all(map(_is_pair, pairs)):
            around = [{"tokens": [token], "ids": [i]} for token, i in pairs]
    elif len(parts) == 1 and parts[0].get("type") == "TemplateProcessing":
        around = _of_template(parts[0], algorithm == "WordPiece")
    if around is None or any(
        special is not None
        and (len(special["tokens"]) != 1 or [ids.get(special["tokens"][0])] != special["ids"])
        for special in around
    ):
        raise ValueError(
            f"{path}: the post_processor is {content['post_processor']!r:.200}; expected a"
            " TemplateProcessing or BertProcessing with at most one token before the first text,"
            " and the same one after each, with their ids of the vocabulary and the segments 0"
            " and 1."
        )
    return tuple(special and special["tokens"][0] for special in around)


def _of_template(part, has_segments):
    """Returns what a `TemplateProcessing` puts before and after a text.

    Returns:
        A list of two of its `special_tokens`, dicts with a list of tokens and one of ids, or None
        for no token. Or just None, if the template does anything else.
    """

    def read(template):
        items = [(name, value) for item in template for name, value in item.items()]
        return [(name, value["id"], has_segments and value["type_id"]) for name, value in items]

    single, pair = read(part["single"]), read(part["pair"])
    text = ("Sequence", "A", 0)
    if text not in single:
        return None
    at = single.index(text)
    around = single[:at], single[at + 1 :]
    second = ("Sequence", "B", int(has_segments)), *around[1]
    if pair != [*single, *((name, i, int(has_segments)) for name, i, _ in second)]:
        return None
    result = []
    for side in around:
        if len(side) > 1 or any((item[0], item[2]) != ("SpecialToken", 0) for item in side):
            return None
        result.append(part["special_tokens"][side[0][1]] if side else None)
    return result


def read_tokenizer_json(path, expected=None, cpm=False):
    """Reads a `tokenizer.json`.

    Args:
        path: the `Path` of the file.
        expected: the algorithm of the vocabulary file in the same directory, a key of
            `settings.CLASSES`; None (default) if there is no such file.
        cpm: whether the file belongs to CPM, which is tokenized by CPM's own code: the file, made
            by transformers, then only gives the added tokens. Default False.

    Returns:
        A `TokenizerJson`, or None if there is no such file.

    Raises:
        ValueError: a part of the file is not supported; the message names the part.
    """
    if not path.is_file():
        return None
    with expecting(path, "the parts of a tokenizer"):
        return _from_content(path, read_json(path), expected, cpm)


def _from_content(path, content, expected, cpm):
    """Returns the `TokenizerJson` of a file's contents."""
    model = content.get("model") if isinstance(content, dict) else None
    algorithm = _ALGORITHMS.get(model.get("type")) if isinstance(model, dict) else None
    if algorithm is None:
        got = model.get("type") if isinstance(model, dict) else model
        raise ValueError(
            f"{path}: expected a model of type {', '.join(_ALGORITHMS)}, got {got!r:.200}."
        )
    if expected is None and algorithm == "sentencepiece":
        raise ValueError(
            f"{path}: expected a model of type WordPiece or byte-level BPE, got 'Unigram'; put the"
            " file it was made from into the same directory, e.g. spiece.model."
        )
    if expected not in (None, algorithm):
        raise ValueError(
            f"{path}: expected a tokenizer of {expected}, as in the other files of the directory,"
            f" got one of {algorithm}. Delete the files that do not belong to the model."
        )
    if not isinstance(model.get("vocab"), dict | list):
        raise ValueError(f"{path}: the model has no vocab; expected its tokens.")
    if not cpm:
        for name in _PARTS[algorithm]:
            _check_part(path, content, name, algorithm)
        _check_fields(path, "model", model)
    for part, key in ((model, "merges"), (content, "added_tokens")):
        if not isinstance(part.get(key), list | None):
            raise ValueError(f"{path}: {key} is {shown(part[key])}; expected a list.")
    vocab, merges, scores = model["vocab"], model.get("merges") or [], {}
    if algorithm == "sentencepiece":
        if not isinstance(vocab, list) or not all(map(_is_pair, vocab)):
            raise ValueError(
                f"{path}: the vocab of the model is {shown(vocab)}; expected a list of pairs of"
                " piece and score."
            )
        scores = dict(vocab)
        vocab = {piece: i for i, (piece, _) in enumerate(vocab)}
        for piece, score in scores.items():
            if type(score) not in (int, float) or abs(score) > MAX_SCORE:
                raise ValueError(
                    f"{path}: the score of {shown(piece)} is {shown(score)}; expected a number,"
                    f" at most {MAX_SCORE:g}."
                )
    added = [token_of(path, "added_tokens", token) for token in content.get("added_tokens") or []]
    vocab = checked_vocab(path, vocab)
    merges = checked_merges(path, _pairs(path, merges), vocab)
    json_file = TokenizerJson(algorithm, vocab, merges, scores, added)
    if not cpm:
        json_file.options = _options(path, content, json_file)
        json_file.rules = _rules(path, content) if algorithm == "sentencepiece" else {}
    return json_file


def _rules(path, content):
    """Returns the file's settings of unknown pieces, bytes, spaces and replaced characters."""
    model = content["model"]
    pre_tokenizers, normalizers = (
        [part["type"] for part in _components(content, name)]
        for name in ("pre_tokenizer", "normalizer")
    )
    has_marks = "Metaspace" in pre_tokenizers
    maps = [part.get("precompiled_charsmap") for part in _components(content, "normalizer")]
    try:
        characters = base64.b64decode(next(filter(None, maps), ""))
    except ValueError as error:
        raise ValueError(
            f"{path}: expected a precompiled_charsmap in base64, got another text ({error})."
        ) from None
    rules = {
        "byte_fallback": bool(model.get("byte_fallback")),
        "precompiled_charsmap": characters,
        "add_dummy_prefix": has_marks,
        "remove_extra_whitespaces": pre_tokenizers[0] == "WhitespaceSplit"
        or normalizers[-2:] == ["Strip", "Replace"],
        "escape_whitespaces": has_marks,
        "treat_whitespace_as_suffix": False,
    }
    return rules | ({} if model.get("unk_id") is None else {"unk_id": model["unk_id"]})


def _pairs(path, merges):
    """Yields the pairs of symbols of BPE merges, which may be lists or strings."""
    for pair in merges:
        pair = pair.split(" ", 2) if isinstance(pair, str) else pair
        if len(pair) != 2 or not all(isinstance(symbol, str) for symbol in pair):
            raise ValueError(f"{path}: the merges have {pair!r:.200}; expected pairs of symbols.")
        yield pair


def _options(path, content, json_file):
    """Returns the arguments of the tokenizer that the parts of the file imply."""
    algorithm, model = json_file.algorithm, content["model"]
    ids = json_file.vocab | {token.content: token.id for token in json_file.added}
    before, after = _start_and_end(path, content, algorithm, ids)
    options = {"token_start": before, "token_end": after}
    if algorithm == "sentencepiece":
        return options
    unknown = model.get("unk_token")
    if (
        unknown is not None
        or algorithm == "WordPiece"
        or not set(ALPHABET) <= json_file.vocab.keys()
    ):
        if not isinstance(unknown, str) or unknown not in json_file.vocab:
            raise ValueError(
                f"{path}: unk_token of the model is {shown(unknown)}; expected a token of its"
                " vocab."
            )
        options["token_unk"] = unknown
    if algorithm != "WordPiece":
        return options
    count = model.get("max_input_chars_per_word")
    check_count(path, "max_input_chars_per_word", count, MAX_WORD)
    (normalizer,) = _components(content, "normalizer")
    return options | {
        "word_maxlen": count,
        "do_lower_case": normalizer["lowercase"],
        "strip_accents": normalizer.get("strip_accents"),
        "tokenize_chinese_chars": normalizer["handle_chinese_chars"],
    }
