"""Picks the tokenizer of a checkpoint by the files beside it."""

import math
import re
from itertools import zip_longest
from pathlib import Path
from types import NoneType

from ..files import complete
from ..hub import local_directory
from ..parsing import listed, shown
from .byte_bpe import ByteBPETokenizer, read_merges, read_vocab
from .one_file import read_one_file
from .sentencepiece import CpmTokenizer, SpTokenizer
from .settings import GENERATION, NAMES, Settings, merged, read_dict, read_json
from .wordpiece import Tokenizer, load_vocab
from .words import jieba_words

_LOOKED_FOR = (
    "vocab.txt (WordPiece), vocab.json with merges.txt or encoder.json with vocab.bpe (byte-level"
    " BPE), spiece.model, sentencepiece.model or another *.model (sentencepiece), tokenizer.json"
)
_SENTINEL = re.compile(r"<extra_id_\d+>")
_MARKUP = re.compile(r"<.*>|\[.*\]|", re.DOTALL)
# All files that `load_tokenizer` looks at, as patterns
FILES = (
    "*vocab*",
    "encoder.json",
    "*merges*.txt",
    "*.bpe",
    "*.model",
    "tokenizer*.json",
    "special_tokens_map.json",
    "added_tokens.json",
    GENERATION,
    "*keep_tokens*.json",
)
# Words of two or more Chinese characters; capitalized words, which lower-cased text never yields
_CHINESE_WORD = re.compile("[\u4e00-\u9fff]{2,}")
_CAPITALIZED = re.compile("[A-Z][a-z]+")


def _find(folder, *patterns):
    """The file of a folder that fits the first pattern that any file fits, or None."""
    for pattern in patterns:
        found = sorted(path for path in folder.glob(pattern) if path.is_file())
        if len(found) > 1:
            names = listed([path.name for path in found])
            raise ValueError(
                f"{folder} holds {len(found)} files of one kind ({names}); give the right one to"
                " Tokenizer, SpTokenizer or ByteBPETokenizer"
            )
        if found:
            return found[0]
    return None


def _many(pattern, token_dict):
    """Whether more than one token in a hundred fits a pattern: not a few strays."""
    return sum(map(bool, map(pattern.fullmatch, token_dict))) > len(token_dict) / 100


def _vocabulary_file(folder):
    """The kind of tokenizer by the files of a folder, the vocabulary, and the merges if any.

    All are None if there is but a `tokenizer.json`, or nothing.
    """
    merges = _find(folder, "merges.txt", "vocab.bpe", "*merges*.txt", "*.bpe")
    json_vocab = _find(folder, "vocab.json", "encoder.json") if merges else None
    vocab = _find(folder, "vocab.txt", "*vocab*.txt")
    model = _find(folder, "spiece.model", "sentencepiece.model", "*.model")
    if merges and not json_vocab:
        json_vocab, vocab = vocab, None
        if json_vocab is None:
            raise ValueError(f"{merges} needs vocab.json, encoder.json or vocab.txt beside it")
    kinds = [path for path in (merges, vocab, model) if path]
    if len(kinds) > 1:
        names = " and ".join(path.name for path in kinds)
        raise ValueError(
            f"{folder} holds the files of several tokenizers ({names}); give the right one to"
            " Tokenizer (vocab.txt), ByteBPETokenizer (merges) or SpTokenizer (*.model)"
        )
    if merges:
        return "byte-level BPE", json_vocab, merges
    if vocab:
        return "WordPiece", vocab, None
    if model and model.name == "sentencepiece.bpe.model":
        raise ValueError(
            f"{model}: a model of fairseq's (XLM-R, CamemBERT, mBART), whose ids are not those of"
            " its pieces; expected a model of T5, mT5 or CPM."
        )
    return ("sentencepiece", model, None) if model else (None, None, None)


_RULES = {
    "do_lower_case": "do_lower_case",
    "strip_accents": "strip_accents",
    "tokenize_chinese_chars": "tokenize_chinese_chars",
    "max_input_chars_per_word": "word_maxlen",
}


def _wordpiece(path, found, settings, one_file, config):
    token_dict = load_vocab(path) if path else one_file.vocab
    found = {"do_lower_case": not _many(_CAPITALIZED, token_dict), **found}
    if not (one_file and settings.is_generic(config)):  # whose rules are those of the one file
        rules = {ours: settings.values.get(theirs) for theirs, ours in _RULES.items()}
        found |= {ours: value for ours, value in rules.items() if value is not None}
    if settings.tokenizer_class == "RoFormerTokenizer" or _many(_CHINESE_WORD, token_dict):
        found["pre_tokenize"] = jieba_words
    elif "[speaker1]" in token_dict:
        found["pre_tokenize"] = list
    return Tokenizer, (token_dict,), found


def _byte_bpe(path, merges, found, settings, one_file):
    for ours, theirs in (("token_start", "bos"), ("token_end", "eos")):
        if settings.values.get(f"add_{theirs}_token"):
            found[ours] = settings.names.get(f"{theirs}_token", "<|endoftext|>")
    if path is None:
        return ByteBPETokenizer, (one_file.vocab, one_file.merges), found
    vocab = read_vocab(path)
    return ByteBPETokenizer, (vocab, read_merges(merges, vocab)), found


def _sentencepiece(path, found, settings, tokens, config, is_cpm):
    plain = SpTokenizer(path, token_end=None)
    has = plain.is_known
    if keep_tokens := _find(path.parent, "*keep_tokens*.json"):
        found["keep_tokens"] = kept = read_json(keep_tokens)
        if not isinstance(kept, list) or not all(type(i) is int for i in kept):
            raise ValueError(f"{keep_tokens}: expected a list of ids, got {kept!r:.200}.")
    if is_cpm:
        # CPM's own code puts nothing after a text, unlike transformers.
        return CpmTokenizer, (path,), {**found, "token_end": None}
    if "token_start" not in found:  # no `tokenizer.json` says what is around a text
        if has("[CLS]") and has("[SEP]"):
            found |= {"token_start": "[CLS]", "token_end": "[SEP]"}
        elif not has(found.get("token_end") or "</s>"):
            found["token_end"] = None
    # T5's 100 sentinels are in no file; its table has room for them.
    has_room = (config.get("vocab_size") or 0) >= plain.vocab_size + 100
    is_t5 = config.get("model_type") == "t5" and has_room and not has("<extra_id_0>")
    named = {t.content for t in tokens if _SENTINEL.fullmatch(t.content) and not has(t.content)}
    found["extra_ids"] = settings.values.get("extra_ids", 100 if is_t5 else len(named))
    return SpTokenizer, (path,), found


def _added_to_pieces(path, make, found, tokens, special, one_path, one_file):
    """The added tokens with their ids; what is read of the model for them is dropped again.

    `one_file`: a `OneFile` that has to agree with the model, or None.
    """
    plain = make(path, **{**found, "token_start": None, "token_end": None})
    if one_file:
        vocab = {plain.id_to_token(i): i for i in range(plain.vocab_size)}
        _check_agreement(path, vocab, one_path, one_file)
        _check_scores(path, plain.sp_model, one_path, one_file)
        _check_rules(path, plain.rules(), one_path, one_file.rules)
    return merged(tokens, special, plain.known_id, plain.vocab_size)


def _is_cpm(path, settings):
    has_marks = SpTokenizer(path, token_end=None).is_known("▂")
    return has_marks or settings.tokenizer_class == "CpmTokenizer"


def _check_agreement(path, vocab, one_path, one_file):
    """Checks that a vocabulary file and `tokenizer.json` number tokens alike."""
    theirs = {**one_file.vocab, **{token.content: token.id for token in one_file.added}}
    odd = [t for t, i in vocab.items() if t and theirs.get(t) != i]
    odd += [t for t in one_file.vocab if t.split(None, 1) == [t] and t not in vocab]
    if odd:
        token = odd[0]
        raise ValueError(
            f"{path} gives {token!r:.200} the id {vocab.get(token)}, {one_path} {theirs.get(token)};"
            " expected the same. Delete the file that does not belong to the model."
        )


def _check_scores(path, model, one_path, one_file):
    """Checks that a sentencepiece model and `tokenizer.json` have the same scores.

    Those of pieces that stand for no text, as `</s>`, are never looked at: these have to be added
    tokens, or to look like it.
    """
    added = {token.content for token in one_file.added}
    for i in range(model.get_piece_size()):
        piece, ours = model.id_to_piece(i), model.get_score(i)
        theirs = one_file.scores.get(piece, ours)
        hidden = model.is_control(i) or model.is_unused(i)
        if hidden and piece not in added and not _MARKUP.fullmatch(piece):
            raise ValueError(
                f"{path} has {piece!r:.200} as a piece that no text yields, {one_path} as one like any"
                " other; expected the same. Delete the file that does not belong to the model."
            )
        plain = not (hidden or model.is_unknown(i))
        if plain and not math.isclose(ours, theirs, rel_tol=1e-5, abs_tol=1e-5):
            raise ValueError(
                f"{path} gives {piece!r:.200} the score {ours:.6g}, {one_path} {theirs:.6g}; expected"
                " the same. Delete the file that does not belong to the model."
            )


def _check_rules(path, rules, one_path, theirs):
    """Checks that `tokenizer.json` treats characters as the sentencepiece model does."""
    for name, value in theirs.items():
        if type(value) is not type(rules[name]) or value != rules[name]:
            raise ValueError(
                f"{one_path}: {name} is {shown(value)}, and {shown(rules[name])} in {path}; expected"
                " the same. Delete the file that does not belong to the model."
            )


def _check_merges(path, merges, one_path, theirs):
    """Checks that a file of merges and `tokenizer.json` join the same symbols in the same order."""
    for number, (pair, other) in enumerate(zip_longest(merges, map(tuple, theirs)), 1):
        if pair != other:
            raise ValueError(
                f"{path} has {shown(pair)} as merge number {number}, {one_path} {shown(other)};"
                " expected the same. Delete the file that does not belong to the model."
            )


def load_tokenizer(directory, **options):
    """The tokenizer of a checkpoint, by the files in its directory.

    | files | tokenizer |
    |---|---|
    | `vocab.txt`, or the only `*vocab*.txt` | `Tokenizer` |
    | `merges.txt` or `vocab.bpe`, with `vocab.json`, `encoder.json` or `vocab.txt` | `ByteBPETokenizer` |
    | `spiece.model`, `sentencepiece.model`, or the only `*.model` | `SpTokenizer` |
    | the same with a piece `▂`, or `CpmTokenizer` in `tokenizer_config.json` | `CpmTokenizer` |
    | `tokenizer.json` and none of these | `Tokenizer` or `ByteBPETokenizer` |

    What else it finds out:

    - `do_lower_case`, `strip_accents` and `tokenize_chinese_chars` are those of
      `tokenizer_config.json`, else of `tokenizer.json`. Where neither has the first, text is
      lower-cased unless over 1 % of the vocabulary are capitalized words (`The`). With a class
      that has no rules of its own (`PreTrainedTokenizerFast`), those of `tokenizer.json` count.
    - Special tokens have the names of `special_tokens_map.json` and `tokenizer_config.json`.
    - `added_tokens` are those of `tokenizer_config.json` (`added_tokens_decoder`),
      `tokenizer.json` and `added_tokens.json`, and what is only named as a special token: of these,
      first what the vocabulary lacks of `bos_token` to `mask_token`, as in transformers. The special tokens among them are text like any other, unless
      `special_tokens_in_text=True`.
    - A WordPiece vocabulary of which over 1 % are Chinese words of several characters (WoBERT,
      WoNEZHA, word-level RoFormer, T5-PEGASUS) gets `pre_tokenize=jieba_words`. The
      vocabularies of characters have none at all.
    - One with `[speaker1]` (CDial-GPT) gets `pre_tokenize=list`: English in single letters.
    - `*keep_tokens*.json` gives `keep_tokens`.
    - `other_stop_ids`, at which generated texts end beside `token_end`, are the `eos_token_id` of
      `generation_config.json`, else of `config.json`, if the vocabulary has them.
    - `extra_ids`, the number of T5's sentinels, is that of `tokenizer_config.json`; without
      one, 100 if `config.json` says `t5` and its `vocab_size` has room for them.

    Args:
        directory: the directory of the checkpoint, or the name of a model on a hub.
        **options: arguments of the tokenizer; they go before what is found.

    Returns:
        A `Tokenizer`, `SpTokenizer`, `CpmTokenizer` or `ByteBPETokenizer`.

    Raises:
        ValueError: no tokenizer's files, or those of several; files that contradict each other;
            a setting of `tokenizer_config.json`, or a part of `tokenizer.json`, that changes ids
            and is not understood (Qwen's pattern of words); fairseq's `sentencepiece.bpe.model`
            (XLM-R, CamemBERT), whose ids are not those of its pieces.

    Example:
        >>> tokenizer = load_tokenizer("chinese_roberta_wwm_ext_L-12_H-768_A-12")
    """
    folder = Path(local_directory(directory))
    complete(folder)
    if not folder.is_dir():
        raise ValueError(f"{folder} is no directory; expected one with {_LOOKED_FOR}")
    try:
        return _load(folder, options)
    except ValueError as error:
        if str(folder) in str(error):
            raise
        raise ValueError(f"{folder}: {error!s:.500}") from error


def _load(folder, options):
    """The tokenizer of a directory that is there; `options` go before what is found."""
    kind, path, merges = _vocabulary_file(folder)
    settings, config = Settings(folder), read_dict(folder / "config.json")
    for key, kind_of_value in (("vocab_size", int), ("model_type", str), ("tokenizer_class", str)):
        if type(config.get(key)) not in (kind_of_value, NoneType):
            raise ValueError(
                f"{folder / 'config.json'}: {key} is {config[key]!r:.200}; expected"
                f" {'a whole number' if kind_of_value is int else 'a name'}."
            )
    is_cpm = kind == "sentencepiece" and _is_cpm(path, settings)
    one_path = folder / "tokenizer.json"
    one_file = read_one_file(one_path, kind, is_cpm)
    if path is None and one_file is None:
        raise ValueError(f"{folder} holds no tokenizer; looked for {_LOOKED_FOR}")
    kind = kind or one_file.kind
    settings.check_kind(kind, config, one_file is not None)
    if kind == "sentencepiece" and not (is_cpm or one_file):
        settings.check_legacy()
    found = {
        ours: settings.names[theirs]
        for ours, theirs in NAMES[kind].items()
        if theirs in settings.names
    }
    if one_file:
        found |= one_file.options
    tokens = settings.added_tokens(one_file)
    special = [] if is_cpm else settings.special_tokens(kind, config)  # CPM's own code names them
    if kind == "sentencepiece":
        make, arguments, found = _sentencepiece(path, found, settings, tokens, config, is_cpm)
        agreeing = None if is_cpm else one_file
        added = _added_to_pieces(path, make, found, tokens, special, one_path, agreeing)
    else:
        if kind == "WordPiece":
            make, arguments, found = _wordpiece(path, found, settings, one_file, config)
        else:
            make, arguments, found = _byte_bpe(path, merges, found, settings, one_file)
        vocab = arguments[0]
        if one_file and path:
            _check_agreement(path, vocab, one_path, one_file)
        if one_file and merges:
            _check_merges(merges, arguments[1], one_path, one_file.merges)
        added = merged(tokens, special, vocab.get, max(vocab.values(), default=-1) + 1)
    tokenizer = make(*arguments, **{**found, "added_tokens": added, **options})
    tokenizer.other_stop_ids = _other_stop_ids(folder, config, tokenizer)
    return tokenizer


def _other_stop_ids(folder, config, tokenizer):
    """The `eos_token_id` of a checkpoint, one or several, as far as they are tokens that can end a text.

    Configs hold the usual value of their family, too, which may be beyond the vocabulary.
    """
    path = folder / GENERATION
    told = read_dict(path).get("eos_token_id")
    if told is None:
        path, told = folder / "config.json", config.get("eos_token_id")
    ids = told if isinstance(told, list) else [] if told is None else [told]
    if not all(type(i) is int for i in ids):
        raise ValueError(
            f"{path}: eos_token_id is {told!r:.200}; expected an id, or a list of ids."
        )
    # no text is unknown to bytes: what GPT-2 calls its unknown token is its end
    unknown = None if isinstance(tokenizer, ByteBPETokenizer) else tokenizer.token_unk_id
    no_end = (tokenizer.token_end_id, unknown)
    return [i for i in dict.fromkeys(ids) if 0 <= i < tokenizer.vocab_size and i not in no_end]
