"""What stands beside a vocabulary: settings, names of special tokens, added tokens.

| file | what is read |
|---|---|
| `tokenizer_config.json` | settings, names of special tokens, `added_tokens_decoder` |
| `special_tokens_map.json` | names of special tokens, unless there is an `added_tokens_decoder` |
| `added_tokens.json` | tokens and their ids |
| `tokenizer.json` | see `one_file` |

A setting that changes ids and is not understood is an error; what changes none is left alone.
"""

import json
import re
from dataclasses import replace
from itertools import pairwise

from .. import parsing
from .added import MAX_ADDED, AddedToken

# The kinds of `load_tokenizer`, and the classes of transformers whose rules are theirs
CLASSES = {
    "WordPiece": r"(Bert|ConvBert|DistilBert|Electra|Ernie|LayoutLM|Lxmert|MobileBert|Nezha|Realm|"
    r"Retribert|RetriBert|RoFormer|SqueezeBert)Tokenizer",
    "byte-level BPE": r"GPT2Tokenizer|GPTNeoTokenizer",
    "sentencepiece": r"T5Tokenizer|MT5Tokenizer|CpmTokenizer",
}
# Where no class is named: the `model_type` of configs whose tokenizers cut texts as a kind does
MODEL_TYPES = {
    "WordPiece": r"(?!(funnel|mpnet|bert-japanese|canine)$).*",
    "byte-level BPE": r"gpt2",
    "sentencepiece": r"bert|u?mt5.*|t5.*|gpt.*|cpm.*|pangu.*",
}
# bytes that a token, a merge, and a symbol of it that is no token take in memory, and how many of
# them a character explains
TOKEN, MERGE, SYMBOL, TIMES = 255, 160, 85, 6
# The file in which Hugging Face keeps what ends a text, beside `config.json`
GENERATION = "generation_config.json"
# What Hugging Face calls the special tokens of a kind
NAMES = {
    "WordPiece": {
        "token_start": "cls_token",
        "token_end": "sep_token",
        "token_mask": "mask_token",
        "token_unk": "unk_token",
        "token_pad": "pad_token",
    },
    "byte-level BPE": {
        "token_mask": "mask_token",
        "token_unk": "unk_token",
        "token_pad": "pad_token",
    },
    "sentencepiece": {
        "token_end": "eos_token",
        "token_mask": "mask_token",
        "token_pad": "pad_token",
    },
}
# What transformers' classes of a kind call their special tokens, unless a file names them
DEFAULTS = {
    "WordPiece": {
        "sep_token": "[SEP]",
        "pad_token": "[PAD]",
        "cls_token": "[CLS]",
        "mask_token": "[MASK]",
    },
    "byte-level BPE": {"eos_token": "<|endoftext|>"},
    "sentencepiece": {},
}
# These have no rules of their own: `tokenizer.json` says them
_GENERIC = r"PreTrainedTokenizer|PythonBackend|TokenizersBackend"

# In the order in which transformers adds those that the vocabulary lacks
_NAMED = "bos_token|eos_token|unk_token|sep_token|pad_token|cls_token|mask_token"

# Keys that are read here or by a kind, and keys that change no ids (patterns)
_READ = (
    r"do_lower_case|strip_accents|tokenize_chinese_chars|extra_ids|added_tokens_decoder|"
    r"tokenizer_class|max_input_chars_per_word|additional_special_tokens|extra_special_tokens|"
    rf"{_NAMED}|add_bos_token|add_eos_token"
)
_NOTES = (
    r"_.*|.*_files?|.*_id|.*_ids|.*_side|.*template.*|auto_map|backend|clean_up_tokenization_spaces|"
    r"chat_control_tokens|device_map|dtype|errors|files_loaded|is_local|legacy|local_files_only|"
    r"max_len|max_length|model_input_names|model_max_length|model_type|name_or_path|"
    r"pad_to_multiple_of|processor_class|return_.*|revision|spaces_between_special_tokens|stride|"
    r"tokenizer_type|torch_dtype|transformers_version|truncation|truncation_strategy|"
    r"trust_remote_code|use_fast|padding|max_seq_length|tokenize_mode|model_specific_special_tokens"
)
# A line break, after which `.*` would have to begin again and again, is matched as well
_UNDERSTOOD = re.compile(f"{_READ}|{_NOTES}", re.DOTALL)
# Keys that change ids, and the only values with which they do not
_ONLY = {
    "add_prefix_space": (False,),
    "do_basic_tokenize": (True,),
    "keep_accents": (False,),
    "remove_space": (True,),
    "split_special_tokens": (False,),
    "word_tokenizer_type": ("basic",),
    "subword_tokenizer_type": ("wordpiece",),
    "wordpieces_prefix": ("##",),
}
MAX_ID = 1 << 24  # no table of a model has so many rows
# characters of a word, where a file says that longer ones are unknown: models have 100 or 200, and
# the time for a word grows with their square
MAX_WORD = 1_000
# Keys that are whole numbers, and the greatest; keys that are true or false; kinds of others
_COUNTS = {"extra_ids": MAX_ADDED, "max_input_chars_per_word": MAX_WORD}
_FLAGS = "do_lower_case|strip_accents|tokenize_chinese_chars|add_bos_token|add_eos_token"
_KINDS = {
    "added_tokens_decoder": (dict, "an object id -> token"),
    "additional_special_tokens": (list, "a list of tokens"),
    "extra_special_tokens": (list | dict, "a list of tokens, or an object name -> token"),
    "never_split": (list, "a list of tokens"),
    "tokenizer_class": (str, "a name"),
}


def read_json(path):
    """The contents of a JSON file; an empty dict if there is none."""
    if path is None or not path.is_file():
        return {}
    return parsing.read_json(path)


def read_dict(path):
    content = read_json(path)
    if not isinstance(content, dict):
        raise ValueError(f"{path}: expected a JSON object, got {type(content).__name__}.")
    return content


def checked_vocab(path, vocab):
    """A vocabulary out of JSON, once it is known to be one: a dict token -> id."""
    if not isinstance(vocab, dict) or not all(type(i) is int for i in vocab.values()):
        raise ValueError(f"{path}: expected a JSON object token -> id.")
    if vocab and not 0 <= min(vocab.values()) <= max(vocab.values()) < MAX_ID:
        raise ValueError(f"{path}: expected ids from 0 to {MAX_ID - 1}.")
    ids = sorted(vocab.values())
    twice = next((i for i, j in pairwise(ids) if i == j), None)
    if twice is not None:
        tokens = [token for token, i in vocab.items() if i == twice]
        raise ValueError(
            f"{path}: {tokens[0]!r:.200} and {tokens[1]!r:.200} have the id {twice}; expected another"
            " for each token."
        )
    return vocab


def checked_merges(path, pairs, vocab):
    """Pairs of symbols out of a file, as tuples of the strings that the vocabulary has.

    Args:
        path: the file, for the error.
        pairs: iterable of pairs of strings.
        vocab: dict token -> id.

    Raises:
        ValueError: vocabulary and merges would take far more memory than their characters explain.
    """
    shared, merges = {token: token for token in vocab}, []
    room = 2 * parsing.FREE + sum(TIMES * (len(token) + 5) - TOKEN for token in vocab)
    for pair in pairs:
        known = tuple(shared.get(symbol, symbol) for symbol in pair)
        merges.append(known)
        room += TIMES * (sum(map(len, known)) + 2) - MERGE
        room -= SYMBOL * sum(symbol not in shared for symbol in known)
        if room < 0:
            raise ValueError(
                f"{path}: has {len(merges)} merges or more, and a vocabulary of {len(vocab)} tokens; "
                "expected fewer, or longer ones. Get or copy the file again."
            )
    return merges


def check_count(path, key, value, most):
    """Raises if a setting is no whole number from 0 to `most`."""
    if type(value) is not int or not 0 <= value <= most:
        raise ValueError(
            f"{path}: {key:.200} is {parsing.shown(value)}; expected a whole number from 0 to {most}."
        )


def check_kind(path, key, value):
    """Raises if a setting that is not null is of another kind than `_KINDS` has."""
    kind, expected = _KINDS.get(key, (object, ""))
    if value is not None and not isinstance(value, kind):
        raise ValueError(f"{path}: {key} is {parsing.shown(value)}; expected {expected}.")


def token_of(path, key, value, **defaults):
    """An `AddedToken` from how a file writes a token: its text, or a dict with flags."""
    fields = {"content": value} if isinstance(value, str) else value
    if not isinstance(fields, dict) or not isinstance(fields.get("content"), str):
        raise ValueError(f"{path}: {key} is {value!r:.200}; expected a token, or a dict of one.")
    # Hugging Face's default: what is special is looked for as it stands, all else normalized.
    special = fields.get("special", defaults.pop("special", False))
    fields = {"normalized": not special, **defaults, **fields, "special": special}
    flags = {name: fields[name] for name in AddedToken.__dataclass_fields__ if name in fields}
    if not flags["content"]:
        raise ValueError(f"{path}: {key} holds an empty token; expected a text.")
    number = flags.get("id")
    if number is not None and not (type(number) is int and 0 <= number < MAX_ID):
        raise ValueError(f"{path}: {key} has the id {number!r:.200}; expected 0 to {MAX_ID - 1}.")
    for name in flags.keys() - {"content", "id"}:
        if not isinstance(flags[name], bool):
            raise ValueError(
                f"{path}: {name} of {key} is {flags[name]!r:.200}; expected true or false."
            )
    return AddedToken(**flags)


class Settings:
    """What `tokenizer_config.json` and the files beside it say.

    Args:
        folder: the `Path` of a directory.

    Attributes:
        path: that of `tokenizer_config.json`.
        values: the settings, without those that are `null` and without names of tokens.
        names: dict `"cls_token"` -> token or None, of the special tokens that are named.

    Raises:
        ValueError: a file is not what it should be, or a setting is not understood.
    """

    def __init__(self, folder):
        self.path = folder / "tokenizer_config.json"
        with parsing.expecting(self.path, "the settings of a tokenizer"):
            self._read(folder)

    def _read(self, folder):
        config = read_dict(self.path)
        decoder = config.get("added_tokens_decoder")
        special = {key: (self.path, value) for key, value in config.items()}
        if decoder is None:
            path = folder / "special_tokens_map.json"
            special |= {key: (path, value) for key, value in read_dict(path).items()}

        self.values = {key: value for key, value in config.items() if value is not None}
        self.names, self._special, models_own, additional = {}, {}, [], []
        for key, (path, value) in special.items():
            check_kind(path, key, value)
            if key in ("additional_special_tokens", "extra_special_tokens"):
                place, items = additional, value or []
                if isinstance(value, dict):
                    place, items = models_own, value.values()
                place += [token_of(path, key, item, special=True) for item in items]
            elif re.fullmatch(_NAMED, key):
                token = None if value is None else token_of(path, key, value, special=True)
                self.names[key] = token and token.content
                self._special[key] = token
            elif re.fullmatch(_FLAGS, key):
                continue
            elif key.endswith("_token") and isinstance(value, str | dict):
                models_own.append(token_of(path, key, value, special=True))
                self.values.pop(key, None)
        self._named = models_own + additional
        self._check()

        self._decoder = [
            token_of(self.path, f"added_tokens_decoder[{i}]", value, id=_number_of(self.path, i))
            for i, value in (decoder or {}).items()
        ]
        path = folder / "added_tokens.json"
        specials = {*filter(None, self.names.values()), *(token.content for token in self._named)}
        self._added = [
            token_of(path, content, content, id=i, special=content in specials)
            for content, i in _numbers(path, read_dict(path)).items()
        ]

    def added_tokens(self, one_file):
        """All added tokens, of the files and of a `OneFile` or None; the better informed first.

        Raises:
            ValueError: there are more than any model has.
        """
        of_one_file = one_file.added if one_file else []
        tokens = [*self._decoder, *of_one_file, *self._added, *self._named]
        count = len(tokens) + self.values.get("extra_ids", 0)
        if count > MAX_ADDED:
            raise ValueError(
                f"{self.path.parent}: its files add {count} tokens; expected at most"
                f" {MAX_ADDED}. Put them into the vocabulary."
            )
        return tokens

    def special_tokens(self, kind, config):
        """The special tokens of a kind that `merged` is to number, in transformers' order.

        Those that only a class of transformers names are among them where a file names additional
        ones, which come after them. WordPiece has no unknown token but one of its vocabulary.
        """
        defaults = DEFAULTS[kind] if self._named and not self.is_generic(config) else {}
        tokens = {key: AddedToken(token, special=True) for key, token in defaults.items()}
        tokens |= self._special
        if kind == "WordPiece":
            tokens.pop("unk_token", None)
        return [tokens[key] for key in _NAMED.split("|") if tokens.get(key)]

    def _check(self):
        for key, value in self.values.items():
            if re.fullmatch(_FLAGS, key) and not isinstance(value, bool):
                raise ValueError(f"{self.path}: {key} is {value!r:.200}; expected true or false.")
            if key in _COUNTS:
                check_count(self.path, key, value, _COUNTS[key])
            if key in _ONLY:
                if value not in _ONLY[key]:
                    raise ValueError(
                        f"{self.path}: {key} is {value!r:.200}; expected"
                        f" {' or '.join(map(repr, _ONLY[key]))}, as ids are computed no other way."
                    )
            elif key == "never_split" and all(
                token in (*self.names.values(), *_DEFAULT_SPECIALS) for token in value
            ):
                continue
            elif value not in (False, [], {}, "", 0) and not re.fullmatch(_UNDERSTOOD, key):
                raise ValueError(
                    f"{self.path}: the key {key!r:.200} (value {value!r:.200}) is not understood, and may"
                    " change ids. If it does not, take it out of the file."
                )

    def check_kind(self, kind, config, has_one_file):
        """Checks that the named class of tokenizers, if any, cuts texts as a kind does.

        Args:
            kind: a key of `CLASSES`.
            config: the contents of `config.json`.
            has_one_file: whether a `tokenizer.json` says the rules.
        """
        name, known = self.class_name(config), CLASSES[kind]
        if has_one_file:
            known += rf"|{_GENERIC}"
        elif not name:
            # Others with such files cut words by another pattern, change letters, or add tokens.
            name, known = config.get("model_type"), MODEL_TYPES[kind]
        if name and not re.fullmatch(rf"({known})(Fast)?", name, re.DOTALL):
            raise ValueError(
                f"{self.path.parent}: its tokenizer is {name!r:.200}, whose rules are not known; expected"
                f" for {kind} one of {CLASSES[kind].replace('|', ', ')}. If it has the same rules,"
                " give its file to the class that reads it, such as Tokenizer."
            )
        if kind != "WordPiece" and self.values.get("do_lower_case"):
            raise ValueError(
                f"{self.path}: do_lower_case is true; expected false, as ids of {kind} are computed"
                " no other way."
            )

    def check_legacy(self):
        """Raises if T5's texts begin anew behind an added token, where no `tokenizer.json` has rules."""
        if self.values.get("legacy", True) is not True:
            raise ValueError(
                f"{self.path}: legacy is {self.values['legacy']!r:.200}, and there is no tokenizer.json;"
                " expected true, as behind added tokens such as <extra_id_0> ids are computed no other"
                " way. If your texts hold none, take it out of the file."
            )

    def class_name(self, config):
        """The class that `tokenizer_config.json` names, or a `config.json`; or None."""
        return self.values.get("tokenizer_class") or config.get("tokenizer_class")

    def is_generic(self, config):
        """Whether the class that is named leaves all rules to `tokenizer.json`."""
        return bool(re.fullmatch(rf"({_GENERIC})(Fast)?", self.class_name(config) or ""))

    @property
    def tokenizer_class(self):
        """The class named in `tokenizer_config.json`, without `Fast`, or `""`."""
        return str(self.values.get("tokenizer_class", "")).removesuffix("Fast")


_DEFAULT_SPECIALS = ("[UNK]", "[SEP]", "[PAD]", "[CLS]", "[MASK]")


def _number_of(path, key):
    if key.isdecimal() and len(key) < 20:
        return int(key)
    raise ValueError(
        f"{path}: the key {key!r:.200} of added_tokens_decoder is no id; expected a whole number."
    )


def _numbers(path, ids):
    """A dict token -> id, once its values are known to be whole numbers."""
    for token, i in ids.items():
        check_count(path, token, i, MAX_ID - 1)
    return ids


def write_settings(folder, kind, values, tokenizer):
    """Writes `tokenizer_config.json`, which `Settings` reads, and transformers too.

    If there are `other_stop_ids`, they go into `generation_config.json`, with that of `token_end`.

    Args:
        folder: the `Path` of a directory.
        kind: a key of `NAMES`.
        values: dict of the settings of that kind.
        tokenizer: the names of its special tokens and its added tokens are written.
    """
    names = {
        theirs: getattr(tokenizer, ours)
        for ours, theirs in NAMES[kind].items()
        if ours in ("token_start", "token_end") or getattr(tokenizer, f"{ours}_id") is not None
    }
    added = {
        str(tokenizer.known_id(content)): token.flags()
        for content, token in tokenizer.added_tokens.items()
    }
    content = {**values, **names, "added_tokens_decoder": added}
    text = json.dumps(content, ensure_ascii=False, indent=2)
    (folder / "tokenizer_config.json").write_text(text + "\n", "utf-8")
    if tokenizer.other_stop_ids:
        content = {"eos_token_id": tokenizer.stop_ids}
        (folder / GENERATION).write_text(json.dumps(content) + "\n", "utf-8")


def merged(tokens, special, known, rows):
    """One `AddedToken` for each content, with its id.

    Args:
        tokens: list of `AddedToken`, of which the first one of a content counts.
        special: list of those that are added if the vocabulary lacks them.
        known: a function token -> id in the vocabulary, or None.
        rows: the number of ids of the vocabulary.

    Returns:
        A list. What is only named as special, and has no id anywhere, gets the ids after the
        highest, those of `special` first, as in transformers.

    Raises:
        ValueError: two files give a token two ids.
    """
    result, special = {}, [token for token in special if known(token.content) is None]
    for token in [*tokens, *special]:
        first = result.setdefault(token.content, token)
        ids = {i for i in (first.id, token.id, known(token.content)) if i is not None}
        if len(ids) > 1:
            raise ValueError(
                f"the files give {token.content!r:.200} the ids {' and '.join(map(str, sorted(ids)))};"
                " expected the same in all of them."
            )
        if ids != {first.id}:
            result[token.content] = replace(first, id=next(iter(ids), None))
    after = max([rows - 1, *(t.id for t in result.values() if t.id is not None)]) + 1
    for content in dict.fromkeys(token.content for token in [*special, *tokens]):
        if result[content].id is None:
            result[content] = replace(result[content], id=after)
            after += 1
    return list(result.values())
