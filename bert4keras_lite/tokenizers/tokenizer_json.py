"""Reads Hugging Face's `tokenizer.json`, as far as our tokenizers support it.

Each part of the file is a step of tokenization. A part that is not listed below, or occurs twice,
would change ids or decoded text, and is an error; so is a missing field that the library
`tokenizers` requires. A missing part counts as `null`. `truncation` and `padding` are ignored: our
tokenizers take them as arguments of each call.

| part | WordPiece | byte-level BPE | sentencepiece (`Unigram`) |
|---|---|---|---|
| `normalizer` | `BertNormalizer` | none or `NFC` | `Precompiled`, `Strip`, `Replace` of spaces |
| `pre_tokenizer` | `BertPreTokenizer` | `Split`, `Digits`; `ByteLevel` | `Metaspace`, \
`WhitespaceSplit` |
| `decoder` | `WordPiece` | `ByteLevel` | `Metaspace` |
| `post_processor` | at most one token before a text and one after it | the same | the same |

In a pair of texts, each has the token after it, and there may be a token before the second one;
both have the same segment, 0 or 1. In WordPiece there is no such token, and the segment is 1. A
vocabulary of byte-level BPE has all 256 bytes, or an `unk_token`. If `trim_offsets` is true, the
offset of a first token leaves out a single space at the start of the text also where
`add_prefix_space` is true, unlike in `tokenizers`.
"""

import base64
from dataclasses import dataclass, field
from os.path import lexists

import regex

from ..parsing import expecting, shown
from .byte_bpe import ALPHABET
from .settings import MAX_WORD, check_count, checked_merges, checked_vocab, read_json, token_of
from .splitting import GPT2, checked_pattern, limit_patterns

__all__ = ["read_tokenizer_json"]

_ALGORITHMS = {"WordPiece": "WordPiece", "BPE": "byte-level BPE", "Unigram": "sentencepiece"}
_PARTS = {
    "WordPiece": {
        "normalizer": {"BertNormalizer"},
        "pre_tokenizer": {"BertPreTokenizer"},
        "decoder": {"WordPiece"},
    },
    "byte-level BPE": {
        "normalizer": {"NFC"},
        "pre_tokenizer": {"ByteLevel", "Split", "Digits"},
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
    "Digits": {"individual_digits": _FLAG},
    "Replace": {"content": ("▁", " "), "pattern": ({"Regex": " {2,}"},)},
    "Split": {"behavior": ("Isolated",), "invert": (False,)},
    "Strip": {"strip_left": _FLAG, "strip_right": (True,)},
}
# Optional fields and their supported values, the default first.
_OPTIONAL = {
    "BertNormalizer": {"strip_accents": (None, *_FLAG)},
    "ByteLevel": {"use_regex": _FLAG},
    "Metaspace": {"prepend_scheme": ("always",), "add_prefix_space": (True,), "split": _FLAG},
    "WordPiece": {"continuing_subword_prefix": ("##",), "prefix": ("##",)},
    "BPE": {
        "dropout": (None, 0, 0.0),
        "continuing_subword_prefix": (None, ""),
        "end_of_word_suffix": (None, ""),
        "fuse_unk": (False,),
        "byte_fallback": (False,),
        "ignore_merges": (False, True),
    },
}
_REPEATED = {"Split", "Digits"}  # components that may occur several times
_MISSING = object()
MAX_SCORE = 1e38  # of a piece: sentencepiece has 32 bits for it


@dataclass
class TokenizerJson:
    """Contents of a `tokenizer.json`.

    Attributes:
        algorithm: an item of `classes.ALGORITHMS`.
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
    once = [part for part in names if part not in _REPEATED]
    if not set(names) <= allowed or (required and not names) or len(set(once)) < len(once):
        raise ValueError(
            f"{path}: the {name} is {' and '.join(names) or None!s:.200}; expected for {algorithm}"
            f" only {' and '.join(sorted(allowed)) or None}. Texts would get other ids than in the"
            " training of the model."
        )
    for component in components:
        _check_fields(path, name, component)


def _is_pair(value):
    return isinstance(value, list) and len(value) == 2


def _around(path, content, algorithm, ids):
    """Returns the arguments `token_start`, `token_end`, `token_second` and `second_segment`.

    Args:
        ids: dict token -> id, of the vocabulary and the added tokens.
    """
    # `ByteLevel` as a post-processor only trims offsets.
    parts = [p for p in _components(content, "post_processor") if p.get("type") != "ByteLevel"]
    if not parts:
        return {"token_start": None, "token_end": None}
    kind = parts[0].get("type") if len(parts) == 1 else None
    around = None
    if kind in ("BertProcessing", "RobertaProcessing"):
        pairs = parts[0]["cls"], parts[0]["sep"]
        if all(map(_is_pair, pairs)):
            start, end = ({"tokens": [token], "ids": [i]} for token, i in pairs)
            is_bert = kind == "BertProcessing"
            around = start, end, None if is_bert else end, int(is_bert)
    elif kind == "TemplateProcessing":
        around = _of_template(parts[0])
    if algorithm == "WordPiece" and around and around[2:] != (None, 1):  # BERT's pairs alone
        around = None
    if around is None or any(
        special is not None
        and (len(special["tokens"]) != 1 or [ids.get(special["tokens"][0])] != special["ids"])
        for special in around[:3]
    ):
        raise ValueError(
            f"{path}: the post_processor is {content['post_processor']!r:.200}; expected a"
            " TemplateProcessing, BertProcessing or RobertaProcessing with at most one token before"
            " each text, and the same one after each, with their ids of the vocabulary, and the"
            " segment 0 for the first text."
        )
    *specials, segment = around
    names = ("token_start", "token_end", "token_second")
    options = {
        name: special and special["tokens"][0]
        for name, special in zip(names, specials, strict=True)
    }
    return {**options, "second_segment": segment}


def _of_template(part):
    """Returns what a `TemplateProcessing` puts before, after and between texts.

    Returns:
        Three of its `special_tokens`, dicts with a list of tokens and one of ids, or None for no
        token: before the first text, after each, before the second; and the segment of the
        second. Or just None, if the template does anything else.
    """

    def read(template):
        items = [(name, value) for item in template for name, value in item.items()]
        return [(name, value["id"], value["type_id"]) for name, value in items]

    single, pair = read(part["single"]), read(part["pair"])
    rest = pair[len(single) :]
    segments = {segment for *_, segment in rest}
    second_texts = [item for item in rest if item[:2] == ("Sequence", "B")]
    if ("Sequence", "A", 0) not in single or pair[: len(single)] != single:
        return None
    if len(second_texts) != 1 or len(segments) != 1 or not segments <= {0, 1}:
        return None
    start, end = _sides(single, ("Sequence", "A", 0))
    second, second_end = _sides(rest, *second_texts)
    if [item[:2] for item in second_end] != [item[:2] for item in end]:
        return None
    result = []
    for side in (start, end, second):
        if len(side) > 1 or any(name != "SpecialToken" for name, *_ in side):
            return None
        result.append(part["special_tokens"][side[0][1]] if side else None)
    return None if any(segment for *_, segment in single) else (*result, *segments)


def _sides(items, item):
    """Returns what stands before and after an item of a list."""
    at = items.index(item)
    return items[:at], items[at + 1 :]


def _patterns(path, content):
    """Returns the regular expressions of a byte-level pre-tokenizer that split a text, in order."""
    *others, last = _components(content, "pre_tokenizer")
    limit_patterns(others, path)
    patterns = []
    for part in others:
        if part["type"] == "Digits":
            patterns.append(r"\p{N}" if part["individual_digits"] else r"\p{N}+")
        elif part["type"] == "Split":
            patterns.append(_pattern(path, part.get("pattern")))
    if last["type"] != "ByteLevel" or len(patterns) < len(others):
        names = [part["type"] for part in (*others, last)]
        raise ValueError(
            f"{path}: the pre_tokenizer is {' and '.join(names):.200}; expected ByteLevel as the"
            " last part."
        )
    return (*patterns, *[GPT2] * last.get("use_regex", True))


def _pattern(path, pattern):
    """Returns the regular expression of a `Split`: `{"Regex": ...}` or `{"String": ...}`."""
    name, text = next(iter(pattern.items())) if isinstance(pattern, dict) and pattern else ("", "")
    if name == "String" and isinstance(text, str):
        text = regex.escape(text, literal_spaces=True)
    elif name != "Regex":
        raise ValueError(
            f"{path}: the pattern of a Split is {shown(pattern)}; expected a Regex or a String."
        )
    return checked_pattern(text, path).pattern


def _trims(content):
    """Returns whether the post-processor of byte-level BPE takes spaces out of the offsets."""
    parts = _components(content, "post_processor")
    return any(
        part.get("trim_offsets", True) is True
        for part in parts
        if part.get("type") in ("ByteLevel", "RobertaProcessing")
    )


def read_tokenizer_json(path, expected=None, cpm=False):
    """Reads a `tokenizer.json`.

    Args:
        path: the `Path` of the file.
        expected: the algorithm of the vocabulary file in the same directory, an item of
            `classes.ALGORITHMS`; None (default) if there is no such file.
        cpm: whether the file belongs to CPM, which is tokenized by CPM's own code: the file, made
            by transformers, then only gives the added tokens. Default False.

    Returns:
        A `TokenizerJson`, or None if there is no such file.

    Raises:
        ValueError: a part of the file is not supported; the message names the part.
    """
    if not lexists(path):
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
        scores, size = dict(vocab), len(vocab)
        vocab = {piece: i for i, (piece, _) in enumerate(vocab)}
        if len(vocab) < size:
            piece = next(piece for i, piece in enumerate(vocab) if vocab[piece] != i)
            raise ValueError(
                f"{path}: the vocab of the model has {shown(piece)} twice; expected each piece"
                " once, as its place is its id. Get or copy the file again."
            )
        for piece, score in scores.items():
            if type(score) not in (int, float) or abs(score) > MAX_SCORE:
                raise ValueError(
                    f"{path}: the score of {shown(piece)} is {shown(score)}; expected a number,"
                    f" at most {MAX_SCORE:g}."
                )
    added = [token_of(path, "added_tokens", token) for token in content.get("added_tokens") or []]
    vocab = checked_vocab(path, vocab)
    if algorithm == "WordPiece":
        vocab = _first_columns(vocab, {token.content for token in added})
    merges = checked_merges(path, _pairs(path, merges), vocab)
    json_file = TokenizerJson(algorithm, vocab, merges, scores, added)
    if not cpm:
        json_file.options = _options(path, content, json_file)
        json_file.rules = _rules(path, content) if algorithm == "sentencepiece" else {}
    return json_file


def _first_columns(vocab, added):
    """Returns a vocabulary whose tokens with white space are named as in a `vocab.txt`.

    No text contains them; Google's Chinese vocabulary has a lone U+2028, and one after `##`.
    """
    columns = {token: (token.split(None, 1) or [""])[0] for token in vocab}
    return {
        token if columns[token] in vocab or token in added else columns[token]: i
        for token, i in vocab.items()
    }


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
        characters = base64.b64decode(next(filter(None, maps), ""), validate=True)
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
    options = _around(path, content, algorithm, ids)
    if algorithm == "sentencepiece":
        return options
    if algorithm == "byte-level BPE":
        options |= {
            "patterns": _patterns(path, content),
            "normal_form": "NFC" if _components(content, "normalizer") else None,
            "ignore_merges": model.get("ignore_merges", False),
            "trim_offsets": _trims(content),
        }
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
        "drop_private_use": True,  # with `clean_text`
        "do_lower_case": normalizer["lowercase"],
        "strip_accents": normalizer.get("strip_accents"),
        "tokenize_chinese_chars": normalizer["handle_chinese_chars"],
    }
