"""Checkpoints by name: models included in the toolkit, and models on Hugging Face and ModelScope.

A path is never taken for a name, and models in the cache are used without a request. The transfer
itself (cache, resuming, progress bars, tokens, proxies) is done by the clients of the hubs,
`huggingface_hub` and `modelscope-hub`, which are imported only for such a name.

Example:

    local_directory("chinese_L-12_H-768_A-12")              # a path: returned unchanged
    local_directory("tiny-zh")                              # included in the toolkit
    local_directory("hfl/chinese-roberta-wwm-ext")          # downloaded once, then cached
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
# endings of checkpoint files: a mistyped path to one of them is not a name
FILE = re.compile(
    r"\.(ckpt(-\d+)?|index|data-\d+-of-\d+|safetensors|bin|h5|npz|keras|json|txt|model)$"
)

# files from which a model and its tokenizer can be read
CONFIG = re.compile(r"(?!tokenizer_|generation_).*config.*\.json|hparams\.json")
VOCABULARY = re.compile(r".*vocab.*\.txt|(vocab|encoder|tokenizer)\.json|.*\.model")
TOKENIZER_FILE = re.compile(
    r".*merges.*\.txt|.*\.bpe|(added_tokens|special_tokens_map|(tokenizer|generation)_config)\.json"
    r"|chat_template\.jinja|.*keep_tokens.*\.json"
)
# In directories of sentence-transformers: the file that names the modules, and their folders, such
# as `1_Pooling`. Two files of BGE-M3 hold layers after the encoder.
MODULES = "modules.json"
FOLDER = re.compile(r"\d{1,2}_\w+", re.ASCII)
LINEAR = re.compile(r"(sparse|colbert)_linear\.pt")
# content of the cache's file for a branch: the name of a single directory
COMMIT = re.compile(rb"[0-9A-Za-z][\w.-]{0,254}")
LONGEST = 255  # characters of a file name: limits the time that these patterns take
SHARD = r"-\d{5}-of-\d{5}"
# Formats of weights, the preferred one first: a pattern of the file that marks the format, and one
# of all its files. `checkpoints` looks for them in the same order.
WEIGHTS = [
    (r"model\.safetensors", r"model\.safetensors"),
    (
        r"model\.safetensors\.index\.json",
        rf"model(\.safetensors\.index\.json|{SHARD}\.safetensors)",
    ),
    (r".+\.index", rf"checkpoint|.+\.index|.+\.data{SHARD}"),
    (r"pytorch_model\.bin", r"pytorch_model\.bin"),
    (r"pytorch_model\.bin\.index\.json", rf"pytorch_model(\.bin\.index\.json|{SHARD}\.bin)"),
    (r"model_state\.pdparams", r"model_state\.pdparams"),
]


# environment variable with hosts that may get a hub's token, besides its own
TOKEN_HOSTS = "BERT4KERAS_LITE_TOKEN_HOSTS"


class HubError(Exception):
    """A model cannot be found or downloaded; the message says why and what to do."""


class Snapshot(NamedTuple):
    """A downloaded model: its directory, and the names of its files in it."""

    directory: Path
    files: list


def is_name(text):
    """Returns whether a string is a name on a hub: `[hf:|modelscope:]owner/name[@revision]`.

    Without a prefix, a string that begins with an existing directory, or ends like a checkpoint
    file, is a path. A `Path` is always a path.
    """
    match = NAME.fullmatch(text) if isinstance(text, str) else None
    if match is None or match["hub"]:
        return match is not None
    return not (os.path.isdir(text.split("/")[0]) or FILE.search(text))


def included(name):
    """Returns the directory of a model included in the toolkit, or None.

    A file or directory with that name takes precedence.

    Args:
        name: `"tiny-zh"`, an encoder, or `"tiny-zh-gpt2"`, a decoder.

    Example:
        >>> included("tiny-zh") / "vocab.txt"
    """
    exists = isinstance(name, str) and name in _names_of_included() and not os.path.lexists(name)
    return INCLUDED / name if exists else None


def _names_of_included():
    return [path.name for path in INCLUDED.glob("*/") if (path / "config.json").is_file()]


def local_directory(path_or_name, *, needs=(), cache_dir=None, endpoint=None):
    """Returns the directory of a checkpoint given by path or name; downloads it if needed.

    A name on a hub is first looked up in the hub's cache. If the model is there, no request is
    made; otherwise it is downloaded, see `download`.

    Args:
        path_or_name: a path, which is returned unchanged, whether or not it exists; or a name, see
            `included` and `is_name`. A revision is a branch, tag or commit.
        needs: names of files besides config, vocabulary and weights. A model in the cache without
            them is looked up on the hub, which may have them.
        cache_dir: directory of the cache; by default that of the hub (`HF_HOME`, `HF_HUB_CACHE` or
            `MODELSCOPE_CACHE`).
        endpoint: address of a mirror; by default `HF_ENDPOINT` or `MODELSCOPE_ENDPOINT`, or else
            the hub itself. Tokens (`HF_TOKEN`, a login, ...) are sent to the hub itself, and to a
            mirror only if `BERT4KERAS_LITE_TOKEN_HOSTS` names its host; never without encryption.

    Returns:
        `path_or_name` itself, or the `Path` of the directory in the toolkit or in the cache.

    Raises:
        HubError: see `download`.

    Example:

        open_checkpoint(local_directory("hfl/chinese-roberta-wwm-ext"))
    """
    if not is_name(path_or_name):
        return included(path_or_name) or path_or_name
    model = _model(path_or_name, cache_dir, endpoint)
    directory = model.cached()
    files = _files_in(directory) if directory else []
    if _is_complete(files) and {*needs} <= {*files}:
        return directory
    try:
        return _download(model).directory
    except HubError as error:
        # a model that is published without a vocabulary is never complete
        if not _has_weights(files):
            raise
        warnings.warn(f"{error} The files in the cache are used: {directory}.", stacklevel=2)
        return directory


def download(name, *, cache_dir=None, endpoint=None):
    """Downloads a model from a hub, or updates it in the cache.

    Only the needed files are downloaded: config, vocabulary, and one format of weights
    (safetensors, else a TensorFlow checkpoint, else `pytorch_model.bin`, else Paddle's); of a
    directory of sentence-transformers also `modules.json` and these files of its modules, of
    BGE-M3 the two linear layers. Weights and `modules.json` come last, so a directory with complete
    weights is complete; a file gets its name when it is complete. After a lost connection the
    download is resumed. After a stopped program, it depends on the hub's client whether a partial
    file is continued (recent clients of Hugging Face start it again).

    Args:
        name: `[hf:|modelscope:]owner/name[@revision]`.
        cache_dir, endpoint: see `local_directory`.

    Returns:
        A `Snapshot`.

    Raises:
        HubError: the hub's client is not installed, the model or revision does not exist, access is
            denied, the model has no weights that can be read, there is no network (or
            `HF_HUB_OFFLINE` is set), or the transfer failed.

    Example:

        directory, files = download("hfl/chinese-roberta-wwm-ext")
    """
    if not is_name(name):
        raise HubError(
            f"{name!r:.200}: not the name of a model on a hub, or possibly a path; expected "
            "hf:owner/name[@revision] or modelscope:owner/name[@revision]."
        )
    return _download(_model(name, cache_dir, endpoint))


def needed_files(files):
    """Selects the files of a model to download.

    Args:
        files: names of all files, with `/` in subdirectories.

    Returns:
        Two sorted lists: config and vocabulary files, and all files of modules after the encoder;
        and the weights of the model in the preferred available format, `[]` if there are none.
    """
    folders = _by_folder(files)
    model = _model_folder(folders)
    texts = [
        folder + name
        for folder, names in folders.items()
        for name in names
        if any(pattern.fullmatch(name) for pattern in (CONFIG, VOCABULARY, TOKENIZER_FILE))
        or (folder == "" and (name == MODULES or LINEAR.fullmatch(name)))
        or (folder != model and name in _weights(names))
    ]
    return sorted(texts), [model + name for name in _weights(folders[model])]


def _by_folder(files):
    """Returns folder -> sorted names of its files: `""`, and those of modules with a `/`."""
    folders, has_modules = {"": []}, MODULES in files
    for path in sorted(files):
        folder, slash, name = path.rpartition("/")
        known = has_modules and FOLDER.fullmatch(folder) if slash else True
        if known and len(path) <= LONGEST and is_file_name(name):
            folders.setdefault(folder + slash, []).append(name)
    return folders


def _model_folder(folders):
    """Returns the folder with the weights of the model: `""`, or that of the first module."""
    first = next((folder for folder in folders if folder.startswith("0_")), "")
    return "" if _weights(folders[""]) else first


def _weights(names):
    """Returns the weights among the files of a folder, in the preferred available format."""
    for mark, members in WEIGHTS:
        if any(re.fullmatch(mark, name) for name in names):
            return [name for name in names if re.fullmatch(members, name)]
    return []


def _has_weights(files):
    """Returns whether one format of weights is complete, with all of its shards."""
    weights = needed_files(files)[1]
    shards = Counter(
        (match[1], int(match[2]))
        for match in (re.match(r"(.+)-\d{5}-of-(\d{5})", name) for name in weights)
        if match
    )
    indices = sum(name.endswith((".index", ".index.json")) for name in weights)
    complete = all(available == count for (_, count), available in shards.items())
    return bool(weights) and len(shards) == indices and complete


def _is_complete(files):
    folders = _by_folder(files)
    names = folders[_model_folder(folders)]
    return _has_weights(files) and all(
        any(pattern.fullmatch(name) for name in names) for pattern in (CONFIG, VOCABULARY)
    )


def _files_in(directory):
    paths = list(directory.iterdir())
    for folder in directory.iterdir():
        if FOLDER.fullmatch(folder.name) and folder.is_dir():
            paths += folder.iterdir()
    return [path.relative_to(directory).as_posix() for path in paths if path.is_file()]


def _download(model):
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE"):
        raise model.unreachable("HF_HUB_OFFLINE is set")
    try:
        files = model.list_files()
        texts, weights = needed_files(files)
        if not weights:
            raise HubError(
                f"{model}: holds no weights that can be read; expected model.safetensors, a "
                f"TensorFlow checkpoint, pytorch_model.bin or model_state.pdparams, got "
                f"{_listed(files)}."
            )
        # In two steps, so that weights come last, and the list of modules after their files. The
        # second has all files, so that they are of one commit even if the branch has moved in
        # between.
        first = [name for name in texts if name != MODULES]
        if first:  # an empty list would mean all files to ModelScope's client
            model.fetch(first)
        return Snapshot(model.fetch(texts + weights), texts + weights)
    except HubError:
        raise
    except Exception as error:  # the classes of HTTP errors differ between clients and versions
        raise model.failure(error) from error


def _model(name, cache_dir, endpoint):
    match = NAME.fullmatch(name)
    cls = ModelScope if match["hub"] == "modelscope" else HuggingFace
    return cls(match["model"], match["revision"], cache_dir, endpoint)


class _Model:
    """A model on a hub; subclasses adapt the clients of the hubs."""

    def __init__(self, name, revision, cache_dir, endpoint):
        self.name, self.revision, self.cache_dir = name, revision, cache_dir
        try:
            self.client = import_module(self.module)
        except ImportError as error:
            raise HubError(
                f"{name!r}: there is no such path, and {self.package} is missing to download it "
                f"from {self.hub}. Install it: pip install 'bert4keras_lite[hub]'."
            ) from error
        self.endpoint = self.connect(endpoint)

    def __str__(self):
        return f"{self.name}@{self.revision}" if self.revision else self.name

    def trusts(self, endpoint):
        """Returns whether a token may be sent to an address."""
        # strict, as libraries differ in what they take for the host of an unusual address
        match = re.fullmatch(
            r"https://([a-z0-9.-]+)(:\d+)?(/[\w./-]*)?", endpoint.lower(), re.ASCII
        )
        named = re.split(r"[\s,]+", os.environ.get(TOKEN_HOSTS, "").lower())
        trusted = {name.removesuffix(":443") for name in (*self.own_hosts, *named)}
        return bool(match) and f"{match[1]}{match[2] or ''}".removesuffix(":443") in trusted

    def cached(self):
        """Returns the directory of the model in the cache, or None.

        Raises:
            HubError: the cache is damaged, or points to another directory.
        """
        try:
            directory = self.find_cached()
        except HubError:
            raise
        except Exception as error:  # any error of the client in a damaged cache
            raise HubError(
                f"{self}: its files in the cache are damaged ({_in_short(error)}). Remove them, to "
                "download them again."
            ) from error
        return directory if directory and directory.is_dir() else None

    def no_token(self):
        """Returns a sentence for messages if tokens are not sent to the endpoint, else ""."""
        if self.trusts(self.endpoint):
            return ""
        return (
            f" No token is sent to {self.endpoint}: that requires https, and its host in the "
            f"variable {TOKEN_HOSTS}."
        )

    def unknown(self):
        return HubError(
            f"{self}: no such path, and no such model at {self.endpoint} (or a private one). "
            f"Check the name; for a private model log in with `{self.login}`.{self.no_token()}"
        )

    def forbidden(self):
        return HubError(
            f"{self}: access is restricted by its owners. Ask for access at {self.page}, then "
            f"log in with `{self.login}` or set {self.token}.{self.no_token()}"
        )

    def unreachable(self, why):
        directory = self.cached()
        cached = _listed(_files_in(directory)) if directory else ""
        return HubError(
            f"{self}: cannot be downloaded ({why}), and the cache has {cached or 'nothing'} of it. "
            f"Try again when {self.endpoint} can be reached (partial downloads are kept), set "
            f"{self.mirror} to a mirror, or download config, vocabulary and weights from "
            f"{self.page} into a directory and pass its path."
        )


class HuggingFace(_Model):
    hub, module, package = "Hugging Face", "huggingface_hub", "huggingface_hub"
    login, token, mirror = "hf auth login", "HF_TOKEN", "HF_ENDPOINT"
    own_hosts = ("huggingface.co", "hf.co")

    def connect(self, endpoint):
        self.errors = import_module("huggingface_hub.errors")
        endpoint = self.client.HfApi(endpoint=endpoint).endpoint
        token = None if self.trusts(endpoint) else False  # None: the client's configured token
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
        """Raises if the client would wait for a pipe in the cache, or leave the cache.

        Raises:
            HubError: the file of a branch does not hold the hash of a commit.
            ValueError: a file is a directory, a pipe or a device.
        """
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
        if isinstance(error, errors.GatedRepoError):  # a subclass of RepositoryNotFoundError
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
            config = self.client.HubConfig(endpoint=endpoint, token="")  # ignores saved tokens
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
        # if several files failed, the error of the first
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
