"""Loads the tokenizer of a checkpoint by the files in its directory."""

import math
import re
from itertools import zip_longest
from pathlib import Path
from types import NoneType
from typing import Any

from ..files import complete
from ..hub import local_directory
from ..parsing import listed, shown
from ..types import PathLike
from .base import TokenizerBase
from .byte_bpe import ByteBPETokenizer, read_merges, read_vocab
from .chat import read_chat_templates
from .sentencepiece import CpmTokenizer, SpTokenizer, model_of
from .settings import GENERATION, Settings, merged, read_dict, read_json
from .tokenizer_json import read_tokenizer_json
from .wordpiece import Tokenizer, load_vocab
from .words import jieba_words

__all__ = ["FILES", "load_tokenizer"]

_LOOKED_FOR = (
    "vocab.txt (WordPiece), vocab.json with merges.txt or encoder.json with vocab.bpe (byte-level"
    " BPE), spiece.model, sentencepiece.model or another *.model (sentencepiece), tokenizer.json"
)
_SENTINEL = re.compile(r"<extra_id_\d+>")
_MARKUP = re.compile(r"<.*>|\[.*\]|", re.DOTALL)
# Patterns of all files that `load_tokenizer` looks at
FILES = (
    "*vocab*",
    "encoder.json",
    "*merges*.txt",
    "*.bpe",
    "*.model",
    "tokenizer*.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
    GENERATION,
    "*keep_tokens*.json",
)
# Words of two or more Chinese characters; capitalized words, which lower-cased text never yields
_CHINESE_WORD = re.compile("[\u4e00-\u9fff]{2,}")
_CAPITALIZED = re.compile("[A-Z][a-z]+")


def _find(folder, *patterns):
    """Returns the file that matches the first pattern with any match, or None.

    Raises:
        ValueError: several files match that pattern.
    """
    for pattern in patterns:
        paths = sorted(p for p in folder.glob(pattern) if p.is_file() or "*" not in pattern)
        if len(paths) > 1:
            names = listed([path.name for path in paths])
            raise ValueError(
                f"{folder}: {len(paths)} files match {pattern} ({names}); expected one. Pass the"
                " right one to Tokenizer, SpTokenizer or ByteBPETokenizer."
            )
        if paths:
            return paths[0]
    return None


def _many(pattern, token_dict):
    """Returns whether more than 1 % of the tokens match a pattern, i.e. not just a few."""
    return sum(map(bool, map(pattern.fullmatch, token_dict))) > len(token_dict) / 100


def _vocabulary_file(folder):
    """Returns `(algorithm, vocabulary file, merges file or None)` by the files of a folder.

    All are None if there is only a `tokenizer.json`, or none of the files.
    """
    merges = _find(folder, "merges.txt", "vocab.bpe", "*merges*.txt", "*.bpe")
    json_vocab = _find(folder, "vocab.json", "encoder.json") if merges else None
    vocab = _find(folder, "vocab.txt", "*vocab*.txt")
    model = _find(folder, "spiece.model", "sentencepiece.model", "*.model")
    if merges and not json_vocab:
        json_vocab, vocab = vocab, None
        if json_vocab is None:
            raise ValueError(
                f"{merges} needs vocab.json, encoder.json or vocab.txt in the same directory."
            )
    candidates = [path for path in (merges, vocab, model) if path]
    if len(candidates) > 1:
        names = " and ".join(path.name for path in candidates)
        raise ValueError(
            f"{folder} holds the files of several tokenizers ({names}); pass the right one to"
            " Tokenizer (vocab.txt), ByteBPETokenizer (merges) or SpTokenizer (*.model)."
        )
    if merges:
        return "byte-level BPE", json_vocab, merges
    if vocab:
        return "WordPiece", vocab, None
    return ("sentencepiece", model, None) if model else (None, None, None)


_SPACES = ("add_dummy_prefix", "remove_extra_whitespaces")  # keys of `TokenizerJson.rules`
_RULES = {
    "do_lower_case": "do_lower_case",
    "strip_accents": "strip_accents",
    "tokenize_chinese_chars": "tokenize_chinese_chars",
    "max_input_chars_per_word": "word_maxlen",
}


def _wordpiece(path, inferred, settings, json_file, row):
    token_dict = load_vocab(path) if path else json_file.vocab
    token_dict = _renamed(token_dict, row, settings.names, path or settings.path)
    inferred = {"do_lower_case": not _many(_CAPITALIZED, token_dict), **inferred}
    if not row.by_file:
        rules = {ours: settings.values.get(theirs) for theirs, ours in _RULES.items()}
        inferred |= {ours: value for ours, value in rules.items() if value is not None}
    by_character = inferred.get("tokenize_chinese_chars", True)  # so words are only found by jieba
    has_words = by_character and _many(_CHINESE_WORD, token_dict)
    if settings.tokenizer_class == "RoFormerTokenizer" or has_words:
        inferred["pre_tokenize"] = jieba_words
    elif "[speaker1]" in token_dict:
        inferred["pre_tokenize"] = list
    return Tokenizer, (token_dict,), inferred


def _renamed(token_dict, row, names, path):
    """Puts special tokens into their places in a vocabulary, unless they are there already.

    Args:
        token_dict: dict token -> id.
        row: the `TokenizerClass`, which has the places.
        names: dict Hugging Face's name -> special token, of the files.
        path: of the vocabulary.

    Raises:
        ValueError: the vocabulary has neither a special token nor its place.
    """
    names = {**row.specials, **names}
    new_names = {old: names[name] or old for old, name in row.renamed.items()}
    for old, new in new_names.items():
        if not {old, new} & token_dict.keys():
            raise ValueError(
                f"{path}: has neither {old!r} nor {new!r:.80}; expected one of them, as the"
                f" tokenizer is {row.classes}. If it is another, set tokenizer_class in"
                " tokenizer_config.json to its name, such as BertTokenizer."
            )
    return {
        token if (new := new_names.get(token, token)) in token_dict else new: i
        for token, i in token_dict.items()
    }


def _byte_bpe(path, merges, inferred, settings, json_file, row):
    for name in () if json_file is None else row.options.keys() & json_file.options.keys():
        ours, theirs = row.options[name], json_file.options[name]
        if ours != theirs and name != "trim_offsets":
            raise ValueError(
                f"{settings.path.with_name('tokenizer.json')}: its parts make {name}"
                f" {shown(theirs)}, and {row.classes} has {shown(ours)}; expected the same. If the"
                " file is right, set tokenizer_class in tokenizer_config.json to"
                " PreTrainedTokenizerFast."
            )
    for ours, theirs in (("token_start", "bos"), ("token_end", "eos")):
        if settings.values.get(f"add_{theirs}_token"):
            inferred[ours] = settings.names.get(f"{theirs}_token", "<|endoftext|>")
    if path is None:
        return ByteBPETokenizer, (json_file.vocab, json_file.merges), inferred
    vocab = read_vocab(path)
    return ByteBPETokenizer, (vocab, read_merges(merges, vocab)), inferred


def _sentencepiece(folder, model, inferred, settings, tokens, config, is_cpm):
    """Returns the class, its positional and its other arguments; `model` is a file or bytes."""
    plain = SpTokenizer(model, token_end=None, layout=inferred.get("layout"))
    has = plain.is_known
    if keep_tokens := _find(folder, "*keep_tokens*.json"):
        inferred["keep_tokens"] = kept = read_json(keep_tokens)
        if not isinstance(kept, list) or not all(type(i) is int for i in kept):
            raise ValueError(f"{keep_tokens}: expected a list of ids, got {kept!r:.200}.")
    if is_cpm:
        # CPM's own code puts nothing after a text, unlike transformers.
        return CpmTokenizer, (model,), {**inferred, "token_end": None}
    if "token_start" not in inferred:  # neither class nor `tokenizer.json` define it
        if has("[CLS]") and has("[SEP]"):
            inferred |= {"token_start": "[CLS]", "token_end": "[SEP]"}
        elif not has(inferred.get("token_end") or "</s>"):
            inferred["token_end"] = None
    # T5's 100 sentinels are not in its files, but its embedding table has rows for them.
    has_room = (config.get("vocab_size") or 0) >= plain.vocab_size + 100
    is_t5 = config.get("model_type") == "t5" and has_room and not has("<extra_id_0>")
    named = {t.content for t in tokens if _SENTINEL.fullmatch(t.content) and not has(t.content)}
    inferred["extra_ids"] = settings.values.get("extra_ids", 100 if is_t5 else len(named))
    return SpTokenizer, (model,), inferred


def _model_of(path, json_file):
    """Returns the sentencepiece model that a `tokenizer.json` describes, as bytes."""
    rules, size = json_file.rules, len(json_file.scores)
    unk_id = rules.get("unk_id")
    if type(unk_id) is not int or not 0 <= unk_id < size or size < len(json_file.vocab):
        raise ValueError(
            f"{path}: unk_id of the model is {shown(unk_id)}; expected the id of one of its {size}"
            " pieces."
        )
    if not (rules["add_dummy_prefix"] and rules["remove_extra_whitespaces"]):
        raise ValueError(
            f"{path}: its parts keep spaces that sentencepiece drops; expected WhitespaceSplit and"
            " Metaspace. If the model is XLM-R's, set tokenizer_class in tokenizer_config.json to"
            " XLMRobertaTokenizer, which has them."
        )
    special = {token.content for token in json_file.added if token.special}
    return model_of(
        json_file.scores, unk_id, special, rules["precompiled_charsmap"], rules["byte_fallback"]
    )


def _added_to_pieces(model, cls, inferred, tokens, special, json_path, json_file):
    """Returns the added tokens of a sentencepiece model with their ids.

    The model is loaded for this and released again.

    Args:
        model: the file, or bytes.
        json_file: a `TokenizerJson` that has to agree with the file, or None.
    """
    none = {"token_start": None, "token_end": None, "token_second": None}
    plain = cls(model, **{**inferred, **none})
    if json_file:
        vocab = {plain.id_to_token(i): i for i in range(plain.vocab_size)}
        _check_agreement(model, vocab, json_path, json_file)
        _check_scores(model, plain.sp_model, json_path, json_file)
        # The class of XLM-R has rules of its own for spaces.
        rules = {k: v for k, v in json_file.rules.items() if not (plain.layout and k in _SPACES)}
        _check_rules(model, plain.rules(), json_path, rules)
    return merged(tokens, special, plain.known_id, plain.vocab_size)


def _is_cpm(path, settings):
    has_marks = SpTokenizer(path, token_end=None).is_known("▂")
    return has_marks or settings.tokenizer_class == "CpmTokenizer"


def _check_agreement(path, vocab, json_path, json_file):
    """Checks that a vocabulary file and `tokenizer.json` give tokens the same ids."""
    theirs = {**json_file.vocab, **{token.content: token.id for token in json_file.added}}
    odd = [t for t, i in vocab.items() if t and theirs.get(t) != i]
    odd += [t for t in json_file.vocab if t.split(None, 1) == [t] and t not in vocab]
    if odd:
        token = odd[0]
        raise ValueError(
            f"{path} gives {token!r:.200} the id {vocab.get(token)}, {json_path}"
            f" {theirs.get(token)}; expected the same. Delete the file that does not belong to the"
            " model."
        )


def _check_scores(path, model, json_path, json_file):
    """Checks that a sentencepiece model and `tokenizer.json` have the same scores.

    The scores of pieces that never match text, such as `</s>`, do not matter; but these must be
    added tokens, or in angle or square brackets.
    """
    added = {token.content for token in json_file.added}
    for i in range(model.get_piece_size()):
        piece, ours = model.id_to_piece(i), model.get_score(i)
        theirs = json_file.scores.get(piece, ours)
        unmatched = model.is_control(i) or model.is_unused(i)
        if unmatched and piece not in added and not _MARKUP.fullmatch(piece):
            raise ValueError(
                f"{path} has {piece!r:.200} as a piece that never matches text, {json_path} as an"
                " ordinary one; expected the same. Delete the file that does not belong to the"
                " model."
            )
        plain = not (unmatched or model.is_unknown(i))
        if plain and not math.isclose(ours, theirs, rel_tol=1e-5, abs_tol=1e-5):
            raise ValueError(
                f"{path} gives {piece!r:.200} the score {ours:.6g}, {json_path} {theirs:.6g};"
                " expected the same. Delete the file that does not belong to the model."
            )


def _check_rules(path, rules, json_path, theirs):
    """Checks that `tokenizer.json` treats characters as the sentencepiece model does."""
    for name, value in theirs.items():
        if type(value) is not type(rules[name]) or value != rules[name]:
            raise ValueError(
                f"{json_path}: {name} is {shown(value)}, and {shown(rules[name])} in {path};"
                " expected the same. Delete the file that does not belong to the model."
            )


def _check_merges(path, merges, json_path, theirs):
    """Checks that a file of merges and `tokenizer.json` join the same symbols in the same order."""
    for number, (pair, other) in enumerate(zip_longest(merges, map(tuple, theirs)), 1):
        if pair != other:
            raise ValueError(
                f"{path} has {shown(pair)} as merge number {number}, {json_path} {shown(other)};"
                " expected the same. Delete the file that does not belong to the model."
            )


def load_tokenizer(directory: PathLike, **options: Any) -> TokenizerBase:
    """Loads the tokenizer of a checkpoint; the files in its directory determine its class.

    | files | tokenizer |
    |---|---|
    | `vocab.txt`, or the only `*vocab*.txt` | `Tokenizer` |
    | `merges.txt`, `vocab.bpe`; `vocab.json`, `encoder.json` or `vocab.txt` | `ByteBPETokenizer` |
    | `spiece.model`, `sentencepiece.model`, or the only `*.model` | `SpTokenizer` |
    | the same with a piece `▂`, or `CpmTokenizer` in `tokenizer_config.json` | `CpmTokenizer` |
    | `tokenizer.json` and none of these | `Tokenizer`, `ByteBPETokenizer` or `SpTokenizer` |

    The class that `tokenizer_config.json` names, else `model_type` of `config.json`, determines how
    byte-level BPE splits words (GPT-2, RoBERTa, Qwen), and the ids of a sentencepiece model (XLM-R
    has fairseq's). Classes without rules of their own (`PreTrainedTokenizerFast`) take them from
    `tokenizer.json`.

    It also sets these arguments:

    - `do_lower_case`, `strip_accents` and `tokenize_chinese_chars` come from
      `tokenizer_config.json`, else from `tokenizer.json`. If neither has `do_lower_case`, text is
      lower-cased unless over 1 % of the vocabulary are capitalized words (`The`). With a class
      without rules of its own (`PreTrainedTokenizerFast`), the rules of `tokenizer.json` count.
    - The names of special tokens come from `special_tokens_map.json` and `tokenizer_config.json`.
    - `added_tokens` come from `tokenizer_config.json` (`added_tokens_decoder`), `tokenizer.json`
      and `added_tokens.json`. Tokens that are only named as special tokens follow: first those of
      `bos_token` to `mask_token` that are not in the vocabulary, as in transformers. Special
      tokens are ordinary text unless `special_tokens_in_text=True`.
    - A WordPiece vocabulary with over 1 % Chinese words of several characters (WoBERT, WoNEZHA,
      word-level RoFormer, T5-PEGASUS) gets `pre_tokenize=jieba_words`, unless the files say
      `tokenize_chinese_chars: false`, which finds words without it. Vocabularies of single
      characters contain no such words.
    - `PegasusTokenizer` with `vocab.txt` is that of IDEA-CCNL's PEGASUS: words of jieba, then
      WordPiece, then `</s>`, which is in the place of `[unused1]`.
    - One with `[speaker1]` (CDial-GPT) gets `pre_tokenize=list`: English in single letters.
    - `keep_tokens` comes from `*keep_tokens*.json`.
    - `other_stop_ids`, which end a generated text besides `token_end`, are the `eos_token_id` of
      `generation_config.json`, else of `config.json`, as far as they are in the vocabulary.
    - `chat_templates` come from `chat_template.jinja` and `additional_chat_templates/*.jinja`, else
      from `tokenizer_config.json`.
    - `extra_ids`, the number of T5's sentinels, comes from `tokenizer_config.json`; if it is not
      there, it is 100 if `config.json` says `t5` and its `vocab_size` has room for them.

    Args:
        directory: the directory of the checkpoint, or the name of a model on a hub.
        **options: arguments of the tokenizer; they override those inferred from the files.

    Returns:
        A `Tokenizer`, `SpTokenizer`, `CpmTokenizer` or `ByteBPETokenizer`.

    Raises:
        ValueError: the directory has no tokenizer files, or those of several tokenizers; files
            contradict each other; the rules of the tokenizer class are not known (e.g. CamemBERT's
            ids); or a setting of `tokenizer_config.json`, or a part of `tokenizer.json`, changes
            ids and is not supported.

    Example:
        >>> tokenizer = load_tokenizer("chinese_roberta_wwm_ext_L-12_H-768_A-12")
    """
    folder = Path(local_directory(directory))
    complete(folder)
    if not folder.is_dir():
        raise ValueError(f"{folder} is not a directory; expected one with {_LOOKED_FOR}.")
    try:
        return _load(folder, options)
    except ValueError as error:
        if str(folder) in str(error):
            raise
        raise ValueError(f"{folder}: {error!s:.500}") from error


def _load(folder, options):
    """Loads the tokenizer of an existing directory; `options` override inferred arguments."""
    algorithm, path, merges = _vocabulary_file(folder)
    settings, config = Settings(folder), read_dict(folder / "config.json")
    for key, expected_type in (("vocab_size", int), ("model_type", str), ("tokenizer_class", str)):
        if type(config.get(key)) not in (expected_type, NoneType):
            raise ValueError(
                f"{folder / 'config.json'}: {key} is {config[key]!r:.200}; expected"
                f" {'a whole number' if expected_type is int else 'a name'}."
            )
    is_cpm = algorithm == "sentencepiece" and _is_cpm(path, settings)
    json_path = folder / "tokenizer.json"
    json_file = read_tokenizer_json(json_path, algorithm, is_cpm)
    if path is None and json_file is None:
        raise ValueError(f"{folder} holds no tokenizer; looked for {_LOOKED_FOR}.")
    algorithm = algorithm or json_file.algorithm
    row = settings.row(algorithm, config, path and path.name, json_file is not None)
    if algorithm == "sentencepiece" and not (is_cpm or json_file):
        settings.check_legacy()
    defaults = dict(row.specials)
    if row.by_file:
        added = {token.content for token in json_file.added}
        defaults = {name: token if token in added else None for name, token in defaults.items()}
    names = defaults | settings.names
    inferred = {ours: names[theirs] for ours, theirs in row.names.items() if theirs in names}
    inferred |= row.options
    if path and path.name == "sentencepiece.bpe.model":
        inferred["layout"] = "fairseq"
    if json_file:
        inferred |= json_file.options
    tokens = settings.added_tokens(json_file)
    # CPM's own code names its special tokens.
    special = [] if is_cpm else settings.special_tokens(row)
    if algorithm == "sentencepiece":
        model = path
        if "keep_tokens" in options:
            inferred["keep_tokens"] = options["keep_tokens"]
        if path is None:  # its ids are those of `tokenizer.json`, whatever the class
            model = _model_of(json_path, json_file)
            inferred.pop("layout", None)
        cls, arguments, inferred = _sentencepiece(
            folder, model, inferred, settings, tokens, config, is_cpm
        )
        agreeing = None if is_cpm or path is None else json_file
        added = _added_to_pieces(model, cls, inferred, tokens, special, json_path, agreeing)
    else:
        if algorithm == "WordPiece":
            cls, arguments, inferred = _wordpiece(path, inferred, settings, json_file, row)
        else:
            cls, arguments, inferred = _byte_bpe(path, merges, inferred, settings, json_file, row)
        vocab = arguments[0]
        if json_file and path:
            _check_agreement(path, vocab, json_path, json_file)
        if json_file and merges:
            _check_merges(merges, arguments[1], json_path, json_file.merges)
        added = merged(tokens, special, vocab.get, max(vocab.values(), default=-1) + 1)
    tokenizer = cls(*arguments, **{**inferred, "added_tokens": added, **options})
    tokenizer.other_stop_ids = _other_stop_ids(folder, config, tokenizer)
    tokenizer.chat_templates = read_chat_templates(
        folder, settings.path, settings.values.get("chat_template")
    )
    tokenizer.chat_tokens = {name: token for name, token in names.items() if token is not None}
    tokenizer.model_max_length = settings.model_max_length
    return tokenizer


def _other_stop_ids(folder, config, tokenizer):
    """Returns the ids in a checkpoint's `eos_token_id` that can end a text, as a list.

    Many configs just repeat the default of their family, which may not be in the vocabulary.
    """
    path = folder / GENERATION
    eos = read_dict(path).get("eos_token_id")
    if eos is None:
        path, eos = folder / "config.json", config.get("eos_token_id")
    ids = eos if isinstance(eos, list) else [] if eos is None else [eos]
    if not all(type(i) is int for i in ids):
        raise ValueError(f"{path}: eos_token_id is {eos!r:.200}; expected an id, or a list of ids.")
    # A byte-level vocabulary knows every text: GPT-2's unknown token is in fact its end token.
    unknown = None if isinstance(tokenizer, ByteBPETokenizer) else tokenizer.token_unk_id
    no_end = (tokenizer.token_end_id, unknown)
    return [i for i in dict.fromkeys(ids) if 0 <= i < tokenizer.vocab_size and i not in no_end]
