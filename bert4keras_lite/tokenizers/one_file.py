"""Hugging Face's `tokenizer.json`, as far as our tokenizers follow it.

Each part says how a text is cut. A part that is none of those below, or is there twice, would give
other ids, or other text when decoding, and is an error; so is a field that the library `tokenizers`
demands and does not find. A part that is missing is `null`. `truncation` and `padding` are left
alone: our tokenizers cut and fill up as they are told when they are called.

| part | WordPiece | byte-level BPE | sentencepiece (`Unigram`) |
|---|---|---|---|
| `normalizer` | `BertNormalizer` | none | `Precompiled`, `Strip`, `Replace` of spaces |
| `pre_tokenizer` | `BertPreTokenizer` | `ByteLevel` | `Metaspace`, `WhitespaceSplit` |
| `decoder` | `WordPiece` | `ByteLevel` | `Metaspace` |
| `post_processor` | one token before a text, one after it, or none | the same | the same |

In a pair of texts, the first has a token before it, and each has one after it; for WordPiece, the
segment of the second text and what is after it is 1. All bytes of byte-level BPE are in the
vocabulary, or it has an `unk_token`.
"""

import base64
from dataclasses import dataclass, field

from ..parsing import expecting, shown
from .byte_bpe import ALPHABET
from .settings import MAX_WORD, check_count, checked_merges, checked_vocab, read_json, token_of

_KINDS = {"WordPiece": "WordPiece", "BPE": "byte-level BPE", "Unigram": "sentencepiece"}
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
# The key of a part's parts, where it is a `Sequence` of them
_SEQUENCES = {
    "normalizer": "normalizers",
    "pre_tokenizer": "pretokenizers",
    "decoder": "decoders",
    "post_processor": "processors",
}
# Fields of parts, and the values that are understood.
_FLAG = (True, False)
_REQUIRED = {
    "BertNormalizer": {"clean_text": (True,), "handle_chinese_chars": _FLAG, "lowercase": _FLAG},
    "ByteLevel": {"add_prefix_space": (False,)},
    "Metaspace": {"replacement": ("▁",)},
    "Replace": {"content": ("▁",), "pattern": ({"Regex": " {2,}"},)},
    "Strip": {"strip_left": _FLAG, "strip_right": (True,)},
}
# The same of those that may be missing; the first value is what that means.
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


@dataclass
class OneFile:
    """What a `tokenizer.json` says.

    Attributes:
        kind: a key of `settings.CLASSES`.
        vocab: dict token -> id, without the added tokens.
        merges: list of pairs of symbols, of BPE.
        scores: dict piece -> score, of sentencepiece.
        added: list of `AddedToken`.
        rules: what else has to be as in a sentencepiece model, by the names of `_rules`.
        options: arguments of the tokenizer that the file gives; none of CPM's.
    """

    kind: str
    vocab: dict
    merges: list = field(default_factory=list)
    scores: dict = field(default_factory=dict)
    added: list = field(default_factory=list)
    rules: dict = field(default_factory=dict)
    options: dict = field(default_factory=dict)


def _check_fields(path, name, part):
    kind = part.get("type")
    if (name, kind) == ("decoder", "ByteLevel"):  # whose fields say nothing of it
        return
    optional = _OPTIONAL.get(kind, {})
    for key, values in (_REQUIRED.get(kind, {}) | optional).items():
        value = part.get(key, values[0] if key in optional else _MISSING)
        if not any(type(value) is type(known) and value == known for known in values):
            got = "missing" if value is _MISSING else f"{value!r:.200}"
            raise ValueError(
                f"{path}: {key} of the {name} is {got}; expected"
                f" {' or '.join(map(repr, values))}, as ids are computed no other way."
            )


def _components(content, name):
    """The parts of a part that is a `Sequence`, and of those in it; of another, it alone."""

    def flat(part):
        if part is None:
            return []
        if part.get("type") == "Sequence" and _SEQUENCES[name] in part:
            return [inner for item in part[_SEQUENCES[name]] for inner in flat(item)]
        return [part]

    return flat(content.get(name))


def _check_part(path, content, name, kind):
    allowed = _PARTS[kind][name]
    components = _components(content, name)
    names = [str(component.get("type")) for component in components]
    wanted = name == "pre_tokenizer" or (kind, name) == ("WordPiece", "normalizer")
    if not set(names) <= allowed or (wanted and not names) or len(set(names)) < len(names):
        raise ValueError(
            f"{path}: the {name} is {' and '.join(names) or None!s:.200}; {kind} is understood with"
            f" {' and '.join(sorted(allowed)) or None} alone. Texts would get other ids than the"
            " model was trained with."
        )
    for component in components:
        _check_fields(path, name, component)


def _around(path, content, kind, ids):
    """The tokens that the post-processor puts before and after a text: a tuple, None for none.

    Args:
        ids: dict token -> id, of the vocabulary and the added tokens.
    """
    components = _components(content, "post_processor")
    parts = [part for part in components if part.get("type") != "ByteLevel"]  # it trims offsets
    if not parts:
        return None, None
    around = None
    if len(parts) == 1 and parts[0].get("type") == "BertProcessing":
        pairs = parts[0]["cls"], parts[0]["sep"]
        around = [{"tokens": [token], "ids": [i]} for token, i in pairs]
    elif len(parts) == 1 and parts[0].get("type") == "TemplateProcessing":
        around = _of_template(parts[0], kind == "WordPiece")
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
    """What a `TemplateProcessing` puts before and after a text, or None if that is not all it does.

    Returns:
        Two of its `special_tokens`, dicts with a list of tokens and one of ids; None for none.
    """

    def read(template):
        items = [(kind, value) for item in template for kind, value in item.items()]
        return [(kind, value["id"], has_segments and value["type_id"]) for kind, value in items]

    single, pair = read(part["single"]), read(part["pair"])
    text = ("Sequence", "A", 0)
    if text not in single:
        return None
    at = single.index(text)
    around = single[:at], single[at + 1 :]
    second = ("Sequence", "B", int(has_segments)), *around[1]
    if pair != [*single, *((kind, name, int(has_segments)) for kind, name, _ in second)]:
        return None
    result = []
    for side in around:
        if len(side) > 1 or any((item[0], item[2]) != ("SpecialToken", 0) for item in side):
            return None
        result.append(part["special_tokens"][side[0][1]] if side else None)
    return result


def read_one_file(path, beside=None, cpm=False):
    """Reads a `tokenizer.json`.

    Args:
        path: the `Path` of the file.
        beside: the kind of the vocabulary file beside it, a key of `settings.CLASSES`; or None.
        cpm: whether it is of CPM, whose own code cuts a text: the file, which transformers made,
            only gives the added tokens.

    Returns:
        A `OneFile`, or None if there is no such file.

    Raises:
        ValueError: a part of the file is not understood; it says which.
    """
    if not path.is_file():
        return None
    with expecting(path, "the parts of a tokenizer"):
        return _one_file(path, read_json(path), beside, cpm)


def _one_file(path, content, beside, cpm):
    """The same of its contents."""
    model = content.get("model") if isinstance(content, dict) else None
    kind = _KINDS.get(model.get("type")) if isinstance(model, dict) else None
    if kind is None:
        got = model.get("type") if isinstance(model, dict) else model
        raise ValueError(f"{path}: expected a model of type {', '.join(_KINDS)}, got {got!r:.200}.")
    if beside is None and kind == "sentencepiece":
        raise ValueError(
            f"{path}: expected a model of type WordPiece or byte-level BPE, got 'Unigram'; put the"
            " file that it was made of beside it, e.g. spiece.model"
        )
    if beside not in (None, kind):
        raise ValueError(
            f"{path}: expected a tokenizer of {beside}, as the files beside it are, got one of"
            f" {kind}. Delete what does not belong to the model."
        )
    if not isinstance(model.get("vocab"), dict | list):
        raise ValueError(f"{path}: the model has no vocab; expected its tokens.")
    if not cpm:
        for name in _PARTS[kind]:
            _check_part(path, content, name, kind)
        _check_fields(path, "model", model)
    for part, key in ((model, "merges"), (content, "added_tokens")):
        if not isinstance(part.get(key), list | None):
            raise ValueError(f"{path}: {key} is {shown(part[key])}; expected a list.")
    vocab, merges, scores = model["vocab"], model.get("merges") or [], {}
    if kind == "sentencepiece":
        scores = dict(vocab)
        vocab = {piece: i for i, (piece, _) in enumerate(vocab)}
        for piece, score in scores.items():
            if type(score) not in (int, float):
                raise ValueError(
                    f"{path}: the score of {shown(piece)} is {shown(score)}; expected a number."
                )
    added = [token_of(path, "added_tokens", token) for token in content.get("added_tokens") or []]
    vocab = checked_vocab(path, vocab)
    merges = checked_merges(path, _pairs(path, merges), vocab)
    one_file = OneFile(kind, vocab, merges, scores, added)
    if not cpm:
        one_file.options = _options(path, content, one_file)
        one_file.rules = _rules(content) if kind == "sentencepiece" else {}
    return one_file


def _rules(content):
    """What the file says of unknown pieces, bytes, spaces, and the characters that are replaced."""
    model = content["model"]
    cut, changed = (
        [part["type"] for part in _components(content, name)]
        for name in ("pre_tokenizer", "normalizer")
    )
    marked = "Metaspace" in cut
    maps = [part.get("precompiled_charsmap") for part in _components(content, "normalizer")]
    rules = {
        "byte_fallback": bool(model.get("byte_fallback")),
        "precompiled_charsmap": base64.b64decode(next(filter(None, maps), "")),
        "add_dummy_prefix": marked,
        "remove_extra_whitespaces": cut[0] == "WhitespaceSplit"
        or changed[-2:] == ["Strip", "Replace"],
        "escape_whitespaces": marked,
        "treat_whitespace_as_suffix": False,
    }
    return rules | ({} if model.get("unk_id") is None else {"unk_id": model["unk_id"]})


def _pairs(path, merges):
    """The pairs of symbols of BPE, which stand as lists or as texts."""
    for pair in merges:
        pair = pair.split(" ", 2) if isinstance(pair, str) else pair
        if len(pair) != 2 or not all(isinstance(symbol, str) for symbol in pair):
            raise ValueError(f"{path}: the merges have {pair!r:.200}; expected pairs of symbols.")
        yield pair


def _options(path, content, one_file):
    """Arguments of the tokenizer, by the parts of the file."""
    kind, model = one_file.kind, content["model"]
    ids = one_file.vocab | {token.content: token.id for token in one_file.added}
    before, after = _around(path, content, kind, ids)
    options = {"token_start": before, "token_end": after}
    if kind == "sentencepiece":
        return options
    unknown = model.get("unk_token")
    if unknown is not None or kind == "WordPiece" or not set(ALPHABET) <= one_file.vocab.keys():
        if not isinstance(unknown, str) or unknown not in one_file.vocab:
            raise ValueError(
                f"{path}: unk_token of the model is {shown(unknown)}; expected a token of its vocab."
            )
        options["token_unk"] = unknown
    if kind != "WordPiece":
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
