"""Writes a `tokenizer.json` for tokenizers whose rules are those of no class of transformers."""

import base64
import json

__all__ = ["BY_FILE", "write_byte_bpe", "write_unigram"]

# The class that takes all rules from the file, and the names of its special tokens
BY_FILE = "PreTrainedTokenizerFast"
_NAMES = {"token_mask": "mask_token", "token_unk": "unk_token", "token_pad": "pad_token"}
_FLAGS = {"lstrip": False, "rstrip": False, "single_word": False, "normalized": False}


def write_byte_bpe(folder, tokenizer):
    """Writes the `tokenizer.json` of a `ByteBPETokenizer`.

    Returns:
        The names of special tokens and the settings for `write_settings`.
    """
    splits = [
        {"type": "Split", "pattern": {"Regex": text}, "behavior": "Isolated", "invert": False}
        for text in tokenizer.patterns
    ]
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "use_regex": False}
    trimming = {**byte_level, "trim_offsets": tokenizer.trim_offsets}
    model = {
        "type": "BPE",
        "dropout": None,
        "unk_token": tokenizer.token_unk if tokenizer.token_unk in tokenizer.vocab else None,
        "continuing_subword_prefix": None,
        "end_of_word_suffix": None,
        "fuse_unk": False,
        "byte_fallback": False,
        "ignore_merges": tokenizer.ignore_merges,
        "vocab": tokenizer.vocab,
        "merges": [list(pair) for pair in tokenizer.merges],
    }
    parts = {
        "normalizer": tokenizer.normal_form and {"type": tokenizer.normal_form},
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [*splits, trimming]},
        "post_processor": {"type": "Sequence", "processors": [trimming, _template(tokenizer)]},
        "decoder": trimming,
        "model": model,
    }
    _write(folder, tokenizer, parts, [])
    return _NAMES, {"tokenizer_class": BY_FILE}


def write_unigram(folder, tokenizer):
    """Writes the `tokenizer.json` of an `SpTokenizer` with the usual rules for spaces.

    Returns:
        The names of special tokens and the settings for `write_settings`.
    """
    processor, rules = tokenizer.sp_model, tokenizer.rules()
    ids = range(processor.get_piece_size())
    spaces = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": True}
    characters = base64.b64encode(rules["precompiled_charsmap"]).decode()
    model = {
        "type": "Unigram",
        "unk_id": rules["unk_id"],
        "vocab": [[processor.id_to_piece(i), processor.get_score(i)] for i in ids],
        "byte_fallback": rules["byte_fallback"],
    }
    parts = {
        "normalizer": {"type": "Precompiled", "precompiled_charsmap": characters},
        "pre_tokenizer": {
            "type": "Sequence",
            "pretokenizers": [{"type": "WhitespaceSplit"}, spaces],
        },
        "post_processor": _template(tokenizer),
        "decoder": spaces,
        "model": model,
    }
    if not characters:
        parts["normalizer"] = None
    control = [processor.id_to_piece(i) for i in ids if processor.is_control(i)]
    _write(folder, tokenizer, parts, control)
    return _NAMES, {"tokenizer_class": BY_FILE}


def _template(tokenizer):
    """Returns the post-processor that puts special tokens around texts."""

    def special(token, segment=0):
        return [] if token is None else [{"SpecialToken": {"id": token, "type_id": segment}}]

    def text(name, segment):
        return [{"Sequence": {"id": name, "type_id": segment}}]

    segment = tokenizer.second_segment
    single = special(tokenizer.token_start) + text("A", 0) + special(tokenizer.token_end)
    second = special(tokenizer.token_second, segment) + text("B", segment)
    tokens = {tokenizer.token_start, tokenizer.token_end, tokenizer.token_second} - {None}
    return {
        "type": "TemplateProcessing",
        "single": single,
        "pair": single + second + special(tokenizer.token_end, segment),
        "special_tokens": {
            token: {"id": token, "ids": [tokenizer.known_id(token)], "tokens": [token]}
            for token in sorted(tokens)
        },
    }


def _write(folder, tokenizer, parts, control):
    """Writes the file; `control` are pieces that are added tokens in this format."""
    flags = {token: {**_FLAGS, "special": True} for token in control}
    flags |= {content: token.flags() for content, token in tokenizer.added_tokens.items()}
    added = [
        {"id": tokenizer.known_id(content), **values, "content": content}
        for content, values in flags.items()
    ]
    added.sort(key=lambda token: token["id"])
    content = {"version": "1.0", "truncation": None, "padding": None, "added_tokens": added}
    text = json.dumps(content | parts, ensure_ascii=False)
    (folder / "tokenizer.json").write_text(text + "\n", "utf-8")
