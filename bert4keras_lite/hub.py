"""Checkpoints by name, where a directory may stand: `tiny-zh`, which comes with the toolkit, or
`owner/name` on Hugging Face or ModelScope.

A path is never mistaken for a name, and what is in the cache is used without any request. The
transfer itself (cache, resuming, progress bars, tokens, proxies) is left to the hubs' own clients,
`huggingface_hub` and `modelscope-hub`, which are imported only when a name is given.

Example:

    local_directory("chinese_L-12_H-768_A-12")              # a path: returned as it is
    local_directory("tiny-zh")                              # comes with the toolkit
    local_directory("hfl/chinese-roberta-wwm-ext")          # fetched once, then from the cache
    local_directory("modelscope:dienstag/chinese-bert-wwm@v1.0")
"""

import glob
import os
import re
import warnings
from collections import Counter
from importlib import import_module
from pathlib import Path
from typing import NamedTuple

from .parsing import excerpt, is_file_name, read_bytes, shown, size_of

__all__ = ["HubError", "Snapshot", "download", "included", "is_name", "local_directory"]

INCLUDED = Path(__file__).parent / "included"  # docs/tiny-zh.md

NAME = re.compile(
    r"((?P<hub>hf|modelscope):)?"
    r"(?P<model>[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*)"
    r"(@(?P<revision>(?!.*\.\.)[A-Za-z0-9][\w./-]*))?",
    re.ASCII,
)
# the ends of a checkpoint's own files: a mistyped path to one of them is not a name
FILE = re.compile(
    r"\.(ckpt(-\d+)?|index|data-\d+-of-\d+|safetensors|bin|h5|npz|keras|json|txt|model)$"
)

# what a model and its tokenizer are read from, each in any of these
CONFIG = re.compile(r"(?!tokenizer_|generation_).*config.*\.json|hparams\.json")
VOCABULARY = re.compile(r".*vocab.*\.txt|(vocab|encoder|tokenizer)\.json|.*\.model")
BESIDE_A_VOCABULARY = re.compile(
    r".*merges.*\.txt|.*\.bpe|(added_tokens|special_tokens_map|(tokenizer|generation)_config)\.json"
    r"|.*keep_tokens.*\.json"
)
COMMIT = re.compile(
    rb"[0-9A-Za-z][\w.-]{0,254}"
)  # what the cache has for a branch: of one directory
LONGEST = 255  # characters of the name of a file: these patterns take the longer the longer it is
SHARD = r"-\d{5}-of-\d{5}"
# Formats of weights, the preferred one first: in each, what makes the format present, and all that
# belongs to it. `checkpoints` looks for them in the same order.
WEIGHTS = [
    (r"model\.safetensors", r"model\.safetensors"),
    (
        r"model\.safetensors\.index\.json",
        rf"model(\.safetensors\.index\.json|{SHARD}\.safetensors)",
    ),
    (r".+\.index", rf"checkpoint|.+\.index|.+\.data{SHARD}"),
    (r"pytorch_model\.bin", r"pytorch_model\.bin"),
    (r"pytorch_model\.bin\.index\.json", rf"pytorch_model(\.bin\.index\.json|{SHARD}\.bin)"),
]


# hosts, besides a hub's own, that may get its token
TOKEN_HOSTS = "BERT4KERAS_LITE_TOKEN_HOSTS"


class HubError(Exception):
    """A name that cannot be turned into files; the sentence says why and what to do."""


class Snapshot(NamedTuple):
    """What `download` fetched: the directory, and the names of the model's files in it."""

    directory: Path
    files: list


def is_name(text):
    """Whether a string names a model on a hub: `[hf:|modelscope:]owner/name[@revision]`.

    Without a prefix, whatever begins with a directory that exists, or ends as a file of a
    checkpoint does, is a path; a `Path` always is.
    """
    match = NAME.fullmatch(text) if isinstance(text, str) else None
    if match is None or match["hub"]:
        return match is not None
    return not (os.path.isdir(text.split("/")[0]) or FILE.search(text))


def included(name):
    """The directory of a model that comes with the toolkit, or None.

    A file or directory of that name goes first.

    Args:
        name: `"tiny-zh"`, an encoder, or `"tiny-zh-gpt2"`, a decoder.

    Example:
        >>> included("tiny-zh") / "vocab.txt"
    """
    is_one = isinstance(name, str) and name in _names_of_included() and not os.path.lexists(name)
    return INCLUDED / name if is_one else None


def _names_of_included():
    return [path.name for path in INCLUDED.glob("*/") if (path / "config.json").is_file()]


def local_directory(path_or_name, *, cache_dir=None, endpoint=None):
    """The directory of a checkpoint that is given by its path or its name, here or on a hub.

    A name on a hub is first looked up in the hub's cache, and no request is made if the model is there;
    otherwise `download` fetches it.

    Args:
        path_or_name: a path, which is returned as it is, whether or not it exists; or a name as
            `included` or `is_name` say. A revision is a branch, tag or commit.
        cache_dir: the cache; by default the hub's own (`HF_HOME`, `HF_HUB_CACHE` or
            `MODELSCOPE_CACHE`).
        endpoint: the hub's address, for a mirror; by default `HF_ENDPOINT` or
            `MODELSCOPE_ENDPOINT`, and else the hub itself. Tokens (`HF_TOKEN`, a login, ...) are
            sent to the hub itself, and to a mirror only if `BERT4KERAS_LITE_TOKEN_HOSTS` names its
            host; never without encryption.

    Returns:
        `path_or_name` itself, or the `Path` of the directory in the toolkit or in the cache.

    Raises:
        HubError: as in `download`.

    Example:

        open_checkpoint(local_directory("hfl/chinese-roberta-wwm-ext"))
    """
    if not is_name(path_or_name):
        return included(path_or_name) or path_or_name
    model = _model(path_or_name, cache_dir, endpoint)
    directory = model.cached()
    if directory and _is_whole(_files_in(directory)):
        return directory
    try:
        return _download(model).directory
    except HubError as error:
        # a model that is published without its vocabulary never looks whole
        if directory is None or not _has_weights(_files_in(directory)):
            raise
        warnings.warn(f"{error} What is in the cache is used: {directory}", stacklevel=2)
        return directory


def download(name, *, cache_dir=None, endpoint=None):
    """Fetches a model from a hub, or what has changed in it since it was fetched.

    Only what is needed: config, vocabulary, and one format of weights (safetensors, else a
    TensorFlow checkpoint, else `pytorch_model.bin`). Weights come last, so that a directory whose
    weights are whole has everything; a file gets its name only when all of it is there. A broken
    connection is resumed where it broke; whether a stopped program's half of a file is continued
    is up to the hub's client (recent ones of Hugging Face begin that file again).

    Args:
        name: `[hf:|modelscope:]owner/name[@revision]`.
        cache_dir: as in `local_directory`.
        endpoint: as in `local_directory`.

    Returns:
        A `Snapshot`.

    Raises:
        HubError: the hub's client is not installed, no such model or revision, no access to it, no
            weights in it that can be read, no network (or `HF_HUB_OFFLINE` is set), or the
            transfer broke off.

    Example:

        directory, files = download("hfl/chinese-roberta-wwm-ext")
    """
    if not is_name(name):
        raise HubError(
            f"{name!r} is no name of a model on a hub, or may be a path: "
            "hf:owner/name[@revision] or modelscope:owner/name[@revision] is expected."
        )
    return _download(_model(name, cache_dir, endpoint))


def needed_files(files):
    """Which of a model's files to fetch.

    Args:
        files: all names, those in subdirectories with `/`.

    Returns:
        Two sorted lists: config and vocabulary; and the weights in the preferred format that is
        there, `[]` if none is.
    """
    files = sorted(name for name in files if len(name) <= LONGEST and is_file_name(name))
    texts = [
        name
        for name in files
        if any(kind.fullmatch(name) for kind in (CONFIG, VOCABULARY, BESIDE_A_VOCABULARY))
    ]
    for mark, members in WEIGHTS:
        if any(re.fullmatch(mark, name) for name in files):
            return texts, [name for name in files if re.fullmatch(members, name)]
    return texts, []


def _has_weights(files):
    """Whether one format of weights is there with all of its shards."""
    weights = needed_files(files)[1]
    shards = Counter(
        (match[1], int(match[2]))
        for match in (re.match(r"(.+)-\d{5}-of-(\d{5})", name) for name in weights)
        if match
    )
    indices = sum(name.endswith((".index", ".index.json")) for name in weights)
    complete = all(there == count for (_, count), there in shards.items())
    return bool(weights) and len(shards) == indices and complete


def _is_whole(files):
    return _has_weights(files) and all(
        any(kind.fullmatch(name) for name in files) for kind in (CONFIG, VOCABULARY)
    )


def _files_in(directory):
    return [path.name for path in directory.iterdir() if path.is_file()]


def _download(model):
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE"):
        raise model.unreachable("HF_HUB_OFFLINE is set")
    try:
        files = model.list_files()
        texts, weights = needed_files(files)
        if not weights:
            raise HubError(
                f"{model}: holds no weights that can be read (model.safetensors, a TensorFlow "
                f"checkpoint or pytorch_model.bin); its files: {_listed(files)}."
            )
        # In two steps, so that weights come last. The second names all files: should a branch have
        # moved in between, one commit still gives them all.
        if texts:  # for ModelScope's client no names are all names, wherever they lead
            model.fetch(texts)
        return Snapshot(model.fetch(texts + weights), texts + weights)
    except HubError:
        raise
    except Exception as error:  # each client, and each version of it, has HTTP errors of its own
        raise model.failure(error) from error


def _model(name, cache_dir, endpoint):
    match = NAME.fullmatch(name)
    kind = ModelScope if match["hub"] == "modelscope" else HuggingFace
    return kind(match["model"], match["revision"], cache_dir, endpoint)


class _Model:
    """A model on a hub. A subclass says how its hub's client lists, fetches and fails."""

    def __init__(self, name, revision, cache_dir, endpoint):
        self.name, self.revision, self.cache_dir = name, revision, cache_dir
        try:
            self.client = import_module(self.module)
        except ImportError as error:
            raise HubError(
                f"{name!r} is no path here, and to fetch it from {self.hub} {self.package} is "
                "needed: pip install 'bert4keras_lite[hub]'."
            ) from error
        self.endpoint = self.connect(endpoint)

    def __str__(self):
        return f"{self.name}@{self.revision}" if self.revision else self.name

    def trusts(self, endpoint):
        """Whether a token may be sent to an address."""
        # strict: what one library takes for the host of an odd address is not so for another
        match = re.fullmatch(
            r"https://([a-z0-9.-]+)(:\d+)?(/[\w./-]*)?", endpoint.lower(), re.ASCII
        )
        named = re.split(r"[\s,]+", os.environ.get(TOKEN_HOSTS, "").lower())
        trusted = {name.removesuffix(":443") for name in (*self.own_hosts, *named)}
        return bool(match) and f"{match[1]}{match[2] or ''}".removesuffix(":443") in trusted

    def cached(self):
        """The directory of the model in the cache, or None.

        Raises:
            HubError: the cache is damaged, or leads elsewhere.
        """
        try:
            directory = self.find_cached()
        except HubError:
            raise
        except Exception as error:  # whatever the client trips over there
            raise HubError(
                f"{self}: what the cache holds of it is damaged ({_in_short(error)}). Remove it: it "
                "is fetched again."
            ) from error
        return directory if directory and directory.is_dir() else None

    def no_token(self):
        """What to add to a message if no token was sent, whether or not there is one."""
        if self.trusts(self.endpoint):
            return ""
        return (
            f" No token is sent to {self.endpoint}: that takes https, and its host in the variable "
            f"{TOKEN_HOSTS}."
        )

    def unknown(self):
        return HubError(
            f"{self}: no such path here, and no such model at {self.endpoint} (or a private one). "
            f"Check the name; for a private model log in with `{self.login}`.{self.no_token()}"
        )

    def forbidden(self):
        return HubError(
            f"{self}: its owners let only some people fetch it. Ask for access at {self.page}, then "
            f"log in with `{self.login}` or set {self.token}.{self.no_token()}"
        )

    def unreachable(self, why):
        directory = self.cached()
        cached = _listed(_files_in(directory)) if directory else ""
        return HubError(
            f"{self}: cannot be fetched ({why}), and in the cache there is "
            f"{cached or 'nothing'} of it. Try again when {self.endpoint} can be reached "
            f"(what has come so far is kept), set {self.mirror} to a mirror, or get config, "
            f"vocabulary and weights from {self.page} into a directory and give its path."
        )


class HuggingFace(_Model):
    hub, module, package = "Hugging Face", "huggingface_hub", "huggingface_hub"
    login, token, mirror = "hf auth login", "HF_TOKEN", "HF_ENDPOINT"
    own_hosts = ("huggingface.co", "hf.co")

    def connect(self, endpoint):
        self.errors = import_module("huggingface_hub.errors")
        endpoint = self.client.HfApi(endpoint=endpoint).endpoint
        token = None if self.trusts(endpoint) else False  # None: what the client finds
        self.api = self.client.HfApi(endpoint=endpoint, token=token)
        return endpoint

    @property
    def page(self):
        return f"{self.endpoint}/{self.name}"

    def find_cached(self):
        try:
            return self._snapshot([], local_files_only=True)
        except (self.errors.LocalEntryNotFoundError, self.errors.HFValidationError):
            return None

    def list_files(self):
        info = self.api.model_info(self.name, revision=self.revision)
        return [file.rfilename for file in info.siblings]

    def fetch(self, files):
        return self._snapshot([glob.escape(name) for name in files])

    def _check_cache(self):
        """Raises if the client would wait for a pipe in the cache, or go wherever a text leads."""
        folder = "--".join(["models", *self.name.split("/")])
        folder = Path(self.cache_dir or self.client.constants.HF_HUB_CACHE, folder)
        commit, branch = self.revision, folder / "refs" / (self.revision or "main")
        if branch.exists():
            text = read_bytes(branch)
            if not COMMIT.fullmatch(text):
                raise HubError(
                    f"{branch}: expected the hash of a commit, got {shown(text)}. Remove the file."
                )
            commit = text.decode()
        listing = folder / "trees" / f"{commit}.json"
        if listing.exists():
            size_of(listing)

    def _snapshot(self, patterns, **options):
        self._check_cache()
        return Path(
            self.api.snapshot_download(
                self.name,
                revision=self.revision,
                cache_dir=self.cache_dir,
                allow_patterns=patterns,
                **options,
            )
        )

    def failure(self, error):
        errors = self.errors
        no_such = errors.RepositoryNotFoundError, errors.RevisionNotFoundError
        if isinstance(error, errors.GatedRepoError):  # which is a RepositoryNotFoundError as well
            return self.forbidden()
        if isinstance(error, (*no_such, errors.HFValidationError)):
            return self.unknown()
        if isinstance(error, errors.HfHubHTTPError) and error.response.status_code in (401, 403):
            return self.forbidden()
        return self.unreachable(_in_short(error))


class ModelScope(_Model):
    hub, module, package = "ModelScope", "modelscope_hub", "modelscope-hub"
    login, token, mirror = "modelscope login", "MODELSCOPE_API_TOKEN", "MODELSCOPE_ENDPOINT"
    own_hosts = ("modelscope.cn", "www.modelscope.cn", "modelscope.ai", "www.modelscope.ai")

    def connect(self, endpoint):
        config = self.client.HubConfig(endpoint=endpoint)
        if not self.trusts(config.endpoint):
            config = self.client.HubConfig(endpoint=endpoint, token="")  # none, whatever there is
        self.api = self.client.HubApi(config)
        return config.endpoint

    @property
    def page(self):
        return f"{self.endpoint}/models/{self.name}"

    def find_cached(self):
        try:
            return self._snapshot(local_files_only=True)
        except self.client.CacheNotFound:
            return None

    def list_files(self):
        entries = self.api.list_repo_files(self.name, "model", revision=self.revision)
        return [entry.path for entry in entries]

    def fetch(self, files):
        return self._snapshot(allow_patterns=[glob.escape(name) for name in files])

    def _snapshot(self, **options):
        return self.api.download_repo(
            self.name, "model", revision=self.revision, cache_dir=self.cache_dir, **options
        )

    def failure(self, error):
        # of several files, the error of the first
        cause = next(iter(getattr(error, "failed_files", {}).values()), error)
        if isinstance(cause, self.client.NotExistError):
            return self.unknown()
        if isinstance(cause, (self.client.AuthenticationError, self.client.PermissionDeniedError)):
            return self.forbidden()
        return self.unreachable(_in_short(cause))


def _in_short(error):
    lines = str(error).strip().splitlines()
    return ": ".join([type(error).__name__, *(excerpt(line) for line in lines[:1])])


def _listed(names):
    return excerpt(", ".join(sorted(names)))
