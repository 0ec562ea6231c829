"""Hugging Face's `tokenizer.json`, as far as our tokenizers follow it.

Each part says how a text is cut. A part that is none of those below would give other ids, or other
text when decoding, and is an error.

| part | WordPiece | byte-level BPE | sentencepiece (`Unigram`) |
|---|---|---|---|
| `normalizer` | `BertNormalizer` | none | `Precompiled`, `Strip`, `Replace` of spaces |
| `pre_tokenizer` | `BertPreTokenizer` | `ByteLevel` | `Metaspace`, `WhitespaceSplit` |
| `decoder` | `WordPiece` | `ByteLevel` | `Metaspace` |
| `post_processor` | one token before a text, one after it, or none | the same | the same |
"""

from dataclasses import dataclass, field

from ..parsing import expecting
from .settings import MAX_WORD, check_count, checked_vocab, read_json, token_of

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
# Fields of parts, and the values that are understood; the first one is what a missing field means.
_FIELDS = {
    "BertNormalizer": {"clean_text": (True,)},
    "ByteLevel": {"add_prefix_space": (False,), "use_regex": (True,)},
    "Metaspace": {
        "replacement": ("▁",),
        "prepend_scheme": ("always",),
        "add_prefix_space": (True,),
        "split": (True, False),
    },
    "Replace": {"content": ("▁",), "pattern": ({"Regex": " {2,}"},)},
    "WordPiece": {"continuing_subword_prefix": ("##",), "prefix": ("##",)},
    "BPE": {
        "dropout": (None, 0, 0.0),
        "continuing_subword_prefix": (None, ""),
        "end_of_word_suffix": (None, ""),
        "byte_fallback": (False,),
        "ignore_merges": (False,),
    },
}


@dataclass
class OneFile:
    """What a `tokenizer.json` says.

    Attributes:
        kind: a key of `settings.CLASSES`.
        vocab: dict token -> id, without the added tokens.
        merges: list of pairs of symbols, of BPE.
        added: list of `AddedToken`.
        options: arguments of the tokenizer that the file gives.
    """

    kind: str
    vocab: dict
    merges: list = field(default_factory=list)
    added: list = field(default_factory=list)
    options: dict = field(default_factory=dict)


def _check_fields(path, name, part):
    if (name, part.get("type")) == ("decoder", "ByteLevel"):  # whose fields say nothing of it
        return
    for key, values in _FIELDS.get(part.get("type"), {}).items():
        if part.get(key, values[0]) not in values:
            raise ValueError(
                f"{path}: {key} of the {name} is {part[key]!r:.200}; expected"
                f" {' or '.join(map(repr, values))}, as ids are computed no other way."
            )


def _components(part):
    """The parts of a `Sequence`, and of those in it; of anything else, it alone."""
    if part is None:
        return []
    for key in ("normalizers", "pretokenizers", "decoders", "processors"):
        if part.get("type") == "Sequence" and key in part:
            return [inner for item in part[key] for inner in _components(item)]
    return [part]


def _check_part(path, content, name, kind):
    if name not in content:
        return
    allowed = _PARTS[kind][name]
    components = _components(content[name])
    names = [str(component.get("type")) for component in components]
    wanted = name == "pre_tokenizer" or (kind, name) == ("WordPiece", "normalizer")
    if not set(names) <= allowed or (wanted and not names):
        raise ValueError(
            f"{path}: the {name} is {' and '.join(names) or None!s:.200}; {kind} is understood with"
            f" {' and '.join(sorted(allowed)) or None} alone. Texts would get other ids than the"
            " model was trained with."
        )
    for component in components:
        _check_fields(path, name, component)


def _around(path, content):
    """The tokens that the post-processor puts before and after a text.

    Returns:
        A tuple `(before, after)` of tokens or None; None if the file does not say.
    """
    if "post_processor" not in content:
        return None
    around = (None, None)
    for part in _components(content["post_processor"]):
        kind = part.get("type")
        if kind == "ByteLevel":  # which trims offsets
            continue
        if kind == "BertProcessing":
            around = part["cls"][0], part["sep"][0]
        elif kind == "TemplateProcessing":
            around = _of_template(part)
        else:
            around = None
        if around is None:
            raise ValueError(
                f"{path}: the post_processor is {part!r:.200}; expected a TemplateProcessing or"
                " BertProcessing with at most one token before the first text, and the same one"
                " after each."
            )
    return around


def _of_template(part):
    """The same of a `TemplateProcessing`, or None if its two templates are no such thing."""

    def read(template):
        return [
            part["special_tokens"][value["id"]]["tokens"][0] if key == "SpecialToken" else None
            for item in template
            for key, value in item.items()
        ]

    single, pair = read(part["single"]), read(part["pair"])
    if single.count(None) != 1:
        return None
    at = single.index(None)
    before, after = single[:at], single[at + 1 :]
    if (
        len(before) > 1
        or len(after) > 1
        or pair
        not in (
            [*single, None, *after],
            [*single, *single],
        )
    ):
        return None
    return (*before, None)[0], (*after, None)[0]


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
    vocab, merges = model["vocab"], model.get("merges") or []
    if kind == "sentencepiece":
        vocab = {piece: i for i, (piece, _) in enumerate(vocab)}
    merges = [pair.split(" ", 2) if isinstance(pair, str) else pair for pair in merges]
    for pair in merges:
        if len(pair) != 2 or not all(isinstance(symbol, str) for symbol in pair):
            raise ValueError(f"{path}: the merges have {pair!r:.200}; expected pairs of symbols.")
    return OneFile(
        kind,
        checked_vocab(path, vocab),
        merges,
        [token_of(path, "added_tokens", token) for token in content.get("added_tokens") or []],
        {} if cpm else _options(path, content, model, kind),
    )


def _options(path, content, model, kind):
    """Arguments of the tokenizer, by the parts of the file."""
    options = {}
    around = _around(path, content)
    if around is not None and kind != "sentencepiece":
        options["token_start"], options["token_end"] = around
    if model.get("unk_token"):
        options["token_unk"] = model["unk_token"]
    for key, token in options.items():
        if not isinstance(token, str | None):
            raise ValueError(f"{path}: {key} is {token!r:.200}; expected a token.")
    if kind != "WordPiece":
        return options
    if "max_input_chars_per_word" in model:
        options["word_maxlen"] = count = model["max_input_chars_per_word"]
        check_count(path, "max_input_chars_per_word", count, MAX_WORD)
    normalizer = (_components(content.get("normalizer")) or [{}])[0]
    for key, name in (
        ("lowercase", "do_lower_case"),
        ("strip_accents", "strip_accents"),
        ("handle_chinese_chars", "tokenize_chinese_chars"),
    ):
        if normalizer.get(key) is not None:
            options[name] = flag = normalizer[key]
            if not isinstance(flag, bool):
                raise ValueError(f"{path}: {key} is {flag!r:.200}; expected true or false.")
    return options
