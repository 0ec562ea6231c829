"""Tokenizer settings in a checkpoint's JSON files, names of special tokens, added tokens.

| file | what is read |
|---|---|
| `tokenizer_config.json` | settings, names of special tokens, `added_tokens_decoder` |
| `special_tokens_map.json` | names of special tokens, unless there is an `added_tokens_decoder` |
| `added_tokens.json` | tokens and their ids |
| `tokenizer.json` | see `tokenizer_json` |

A setting that is not supported is an error if it may change ids, and is ignored otherwise.
"""

import json
import re
from dataclasses import replace
from itertools import pairwise
from os.path import lexists

from .. import parsing
from .added import MAX_ADDED, AddedToken
from .chat import written_chat_templates
from .classes import ROWS, row_of

__all__ = [
    "GENERATION",
    "MAX_WORD",
    "Settings",
    "check_count",
    "checked_merges",
    "checked_vocab",
    "merged",
    "read_dict",
    "read_json",
    "token_of",
    "write_settings",
]

# Bytes of memory that a token, a merge, and a merge's symbol outside the vocabulary take, and how
# many bytes of memory a character of the file may cost
TOKEN, MERGE, SYMBOL, TIMES = 255, 160, 85, 6
# Hugging Face's file of generation settings, which may hold `eos_token_id`
GENERATION = "generation_config.json"
# In the order in which transformers adds those that are not in the vocabulary
_NAMED = "bos_token|eos_token|unk_token|sep_token|pad_token|cls_token|mask_token"

# Patterns of keys that are read, and of keys that do not change ids
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
    r"trust_remote_code|use_fast|padding|max_seq_length|tokenize_mode|model_specific_special_tokens|"
    r"name|trim_offsets|use_default_system_prompt|vocab_size"
)
# DOTALL: otherwise `.*` would have to start over after each line break
_UNDERSTOOD = re.compile(f"{_READ}|{_NOTES}", re.DOTALL)
# Keys that may change ids, and the values that do not
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
MAX_ID = 1 << 24  # more rows than any embedding table has
# Characters of a word: the most that a file may set as the limit beyond which words are unknown.
# Models have 100 or 200, and the time for a word grows with the square of its length.
MAX_WORD = 1_000
# Keys of integers and their maximum; keys of booleans; types of other keys
_COUNTS = {"extra_ids": MAX_ADDED, "max_input_chars_per_word": MAX_WORD}
_FLAGS = "do_lower_case|strip_accents|tokenize_chinese_chars|add_bos_token|add_eos_token"
_TYPES = {
    "added_tokens_decoder": (dict, "an object id -> token"),
    "additional_special_tokens": (list, "a list of tokens"),
    "extra_special_tokens": (list | dict, "a list of tokens, or an object name -> token"),
    "never_split": (list, "a list of tokens"),
    "tokenizer_class": (str, "a name"),
}


def read_json(path):
    """Returns the contents of a JSON file; an empty dict if the file does not exist."""
    if path is None or not lexists(path):
        return {}
    return parsing.read_json(path)


def read_dict(path):
    content = read_json(path)
    if not isinstance(content, dict):
        raise ValueError(f"{path}: expected a JSON object, got {type(content).__name__}.")
    return content


def checked_vocab(path, vocab):
    """Returns a vocabulary read from JSON after checking that it is a dict token -> id.

    Raises:
        ValueError: it is not, an id is out of range, or two tokens have the same id.
    """
    if not isinstance(vocab, dict) or not all(type(i) is int for i in vocab.values()):
        raise ValueError(f"{path}: expected a JSON object token -> id.")
    if vocab and not 0 <= min(vocab.values()) <= max(vocab.values()) < MAX_ID:
        raise ValueError(f"{path}: expected ids from 0 to {MAX_ID - 1}.")
    ids = sorted(vocab.values())
    duplicate = next((i for i, j in pairwise(ids) if i == j), None)
    if duplicate is not None:
        tokens = [token for token, i in vocab.items() if i == duplicate]
        raise ValueError(
            f"{path}: {tokens[0]!r:.200} and {tokens[1]!r:.200} have the id {duplicate}; expected"
            " a different id for each token."
        )
    return vocab


def checked_merges(path, pairs, vocab):
    """Returns the merges of a file as a list of pairs, which share the vocabulary's strings.

    Args:
        path: the file, for error messages.
        pairs: iterable of pairs of strings.
        vocab: dict token -> id.

    Raises:
        ValueError: vocabulary and merges would take far more memory than the size of the file
            explains.
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
                f"{path}: has {len(merges)} merges or more, and a vocabulary of {len(vocab)}"
                " tokens; expected fewer, or longer ones. Get or copy the file again."
            )
    return merges


def check_count(path, key, value, most):
    """Raises ValueError if a setting is not an integer from 0 to `most`."""
    if type(value) is not int or not 0 <= value <= most:
        raise ValueError(
            f"{path}: {key:.200} is {parsing.shown(value)}; expected a whole number from 0 to"
            f" {most}."
        )


def check_type(path, key, value):
    """Raises ValueError if a setting is neither null nor of the type that `_TYPES` has for it."""
    expected_type, expected = _TYPES.get(key, (object, ""))
    if value is not None and not isinstance(value, expected_type):
        raise ValueError(f"{path}: {key} is {parsing.shown(value)}; expected {expected}.")


def token_of(path, key, value, **defaults):
    """Returns the `AddedToken` of a token in a JSON file: a string, or a dict with flags."""
    fields = {"content": value} if isinstance(value, str) else value
    if not isinstance(fields, dict) or not isinstance(fields.get("content"), str):
        raise ValueError(f"{path}: {key} is {value!r:.200}; expected a token, or a dict of one.")
    # Hugging Face's default: special tokens match the raw text, all others the normalized text.
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
    """Settings of `tokenizer_config.json` and the other JSON files of a tokenizer.

    Args:
        folder: the `Path` of a directory.

    Attributes:
        path: the path of `tokenizer_config.json`.
        values: the settings, without those that are `null` and without names of tokens.
        names: dict of the special tokens that are named: name, e.g. `"cls_token"` -> token or None.

    Raises:
        ValueError: a file is invalid, or a setting is not supported.
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
        self.names, self._special, model_specific, additional = {}, {}, [], []
        for key, (path, value) in special.items():
            check_type(path, key, value)
            if key in ("additional_special_tokens", "extra_special_tokens"):
                target, items = additional, value or []
                if isinstance(value, dict):
                    target, items = model_specific, value.values()
                target += [token_of(path, key, item, special=True) for item in items]
            elif re.fullmatch(_NAMED, key):
                token = None if value is None else token_of(path, key, value, special=True)
                self.names[key] = token and token.content
                self._special[key] = token
            elif re.fullmatch(_FLAGS, key):
                continue
            elif key.endswith("_token") and isinstance(value, str | dict):
                model_specific.append(token_of(path, key, value, special=True))
                self.values.pop(key, None)
        self._named = model_specific + additional

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

    def added_tokens(self, json_file):
        """Returns the added tokens of all files, those with the most details first.

        Args:
            json_file: a `TokenizerJson`, or None.

        Raises:
            ValueError: there are more than `MAX_ADDED`.
        """
        of_json_file = json_file.added if json_file else []
        tokens = [*self._decoder, *of_json_file, *self._added, *self._named]
        count = len(tokens) + self.values.get("extra_ids", 0)
        if count > MAX_ADDED:
            raise ValueError(
                f"{self.path.parent}: its files add {count} tokens; expected at most"
                f" {MAX_ADDED}. Put them into the vocabulary."
            )
        return tokens

    def special_tokens(self, row):
        """Returns the special tokens that may need an id from `merged`, in transformers' order.

        The defaults of transformers' class are included if a file names additional special tokens,
        as those are numbered after them. In WordPiece, the unknown token must be in the vocabulary
        and is left out.

        Args:
            row: a `TokenizerClass`.
        """
        defaults = row.specials if self._named and not row.by_file else {}
        tokens = {key: AddedToken(token, special=True) for key, token in defaults.items()}
        tokens |= self._special
        if row.algorithm == "WordPiece":
            tokens.pop("unk_token", None)
        return [tokens[key] for key in _NAMED.split("|") if tokens.get(key)]

    def _check(self, row):
        only = {**_ONLY, **row.values}
        for key, value in self.values.items():
            if re.fullmatch(_FLAGS, key) and not isinstance(value, bool):
                raise ValueError(f"{self.path}: {key} is {value!r:.200}; expected true or false.")
            if key in _COUNTS:
                check_count(self.path, key, value, _COUNTS[key])
            if key in only:
                if value not in only[key]:
                    raise ValueError(
                        f"{self.path}: {key} is {value!r:.200}; expected"
                        f" {' or '.join(map(repr, only[key]))}. Other values would change ids."
                    )
            elif key == "never_split" and all(
                token in (*self.names.values(), *_DEFAULT_SPECIALS) for token in value
            ):
                continue
            elif value not in (False, [], {}, "", 0) and not re.fullmatch(_UNDERSTOOD, key):
                raise ValueError(
                    f"{self.path}: the key {key!r:.200} (value {value!r:.200}) is not understood,"
                    " and may change ids. If it does not, remove it from the file."
                )

    def row(self, algorithm, config, model_file, has_json_file):
        """Returns the `TokenizerClass` of the directory, and checks the settings by it.

        Args:
            algorithm: an item of `ALGORITHMS`.
            config: the contents of `config.json`.
            model_file: name of the vocabulary file, or None.
            has_json_file: whether there is a `tokenizer.json` that defines the rules.

        Raises:
            ValueError: the rules of the class that the files name, or of the model's type, are not
                known: other models with such files split words by another pattern, change
                letters, or add tokens. Or a setting is not supported.
        """
        name = self.values.get("tokenizer_class") or config.get("tokenizer_class")
        model_type = config.get("model_type")
        row = row_of(algorithm, name, model_type, model_file, has_json_file)
        if row is None:
            known = "|".join(
                row.classes for row in ROWS if row.algorithm == algorithm and not row.by_file
            )
            raise ValueError(
                f"{self.path.parent}: its tokenizer is {name or model_type!r:.200}, whose rules are"
                f" not known; expected for {algorithm} one of {known.replace('|', ', ')}. If it"
                " has the same rules, pass its file to the class that reads it, such as Tokenizer."
            )
        owner = next((other for other in ROWS if other.model_file == model_file), row)
        if owner is not row and not row.by_file:
            raise ValueError(
                f"{self.path.parent}: its tokenizer is {row.classes.replace('|', ' or ')}, and"
                f" {model_file} is a file of {owner.classes}; expected files of one class. Delete"
                " the one that does not belong to the model, or correct tokenizer_class."
            )
        with parsing.expecting(self.path, "the settings of a tokenizer"):
            self._check(row)
        if algorithm != "WordPiece" and self.values.get("do_lower_case"):
            raise ValueError(
                f"{self.path}: do_lower_case is true; expected false. {algorithm} does not support"
                " lower-casing."
            )
        return row

    def check_legacy(self):
        """Checks that T5's text after an added token is tokenized like text at the start.

        Only `tokenizer.json` can have other rules, so this is for directories without one.

        Raises:
            ValueError: `legacy` is not true.
        """
        if self.values.get("legacy", True) is not True:
            raise ValueError(
                f"{self.path}: legacy is {self.values['legacy']!r:.200}, and there is no"
                " tokenizer.json; expected true, the only implemented way to tokenize text after"
                " added tokens such as <extra_id_0>. If your texts have none, remove it from the"
                " file."
            )

    @property
    def model_max_length(self):
        """The most tokens of a text, or None; transformers writes 10**30 for no limit."""
        length = self.values.get("model_max_length")
        return length if type(length) is int and 0 < length < MAX_ID else None

    @property
    def tokenizer_class(self):
        """The class named in `tokenizer_config.json`, without `Fast`, or `""`."""
        return str(self.values.get("tokenizer_class", "")).removesuffix("Fast")


_DEFAULT_SPECIALS = ("[UNK]", "[SEP]", "[PAD]", "[CLS]", "[MASK]")


def _number_of(path, key):
    if key.isdecimal() and len(key) < 20:
        return int(key)
    raise ValueError(
        f"{path}: the key {key!r:.200} of added_tokens_decoder is not an id; expected a whole"
        " number."
    )


def _numbers(path, ids):
    """Returns a dict token -> id after checking that its values are integers."""
    for token, i in ids.items():
        check_count(path, token, i, MAX_ID - 1)
    return ids


def write_settings(folder, names, values, tokenizer):
    """Writes `tokenizer_config.json`, for `Settings` and for transformers.

    If the tokenizer has `other_stop_ids`, all its `stop_ids` go into `generation_config.json`.

    Args:
        folder: the `Path` of a directory.
        names: dict attribute of the tokenizer -> Hugging Face's name of this special token.
        values: dict of settings to write.
        tokenizer: the tokenizer whose special and added tokens are written.
    """
    named = {
        theirs: getattr(tokenizer, ours)
        for ours, theirs in names.items()
        if getattr(tokenizer, ours) is None or getattr(tokenizer, f"{ours}_id") is not None
    }
    added = {
        str(tokenizer.known_id(content)): token.flags()
        for content, token in tokenizer.added_tokens.items()
    }
    content = {**values, **named, "added_tokens_decoder": added}
    if tokenizer.chat_templates:
        content = {**tokenizer.chat_tokens, **content}
        content["chat_template"] = written_chat_templates(tokenizer.chat_templates)
    text = json.dumps(content, ensure_ascii=False, indent=2)
    (folder / "tokenizer_config.json").write_text(text + "\n", "utf-8")
    if tokenizer.other_stop_ids:
        content = {"eos_token_id": tokenizer.stop_ids}
        (folder / GENERATION).write_text(json.dumps(content) + "\n", "utf-8")


def merged(tokens, special, known, rows):
    """Merges the added tokens of several files, and gives each an id.

    Args:
        tokens: list of `AddedToken`; of several with the same content the first one counts.
        special: list of `AddedToken` to add if they are not in the vocabulary, or have flags.
        known: a function token -> id in the vocabulary, or None.
        rows: the number of ids in the vocabulary.

    Returns:
        A list with one `AddedToken` for each content. Tokens without an id in any file get ids
        after the highest one, those of `special` first, as in transformers.

    Raises:
        ValueError: two files give a token different ids.
    """
    special = [
        token
        for token in special
        if known(token.content) is None or token.lstrip or token.rstrip or token.single_word
    ]
    result = {}
    for token in [*tokens, *special]:
        first = result.setdefault(token.content, token)
        ids = {i for i in (first.id, token.id, known(token.content)) if i is not None}
        if len(ids) > 1:
            raise ValueError(
                f"the files give {token.content!r:.200} the ids"
                f" {' and '.join(map(str, sorted(ids)))}; expected the same in all of them."
            )
        if ids != {first.id}:
            result[token.content] = replace(first, id=next(iter(ids), None))
    after = max([rows - 1, *(t.id for t in result.values() if t.id is not None)]) + 1
    for content in dict.fromkeys(token.content for token in [*special, *tokens]):
        if result[content].id is None:
            result[content] = replace(result[content], id=after)
            after += 1
    return list(result.values())
