"""What a directory of sentence-transformers says: modules after the encoder, limits, prompts.

| file | what is read |
|---|---|
| `modules.json` | the modules, in order: `Transformer`, `Pooling`, then `Dense`, `LayerNorm`, \
`Normalize`, `Dropout` |
| `config.json` of a module | its settings |
| `sentence_bert_config.json`, or another of `SETTINGS` | `max_seq_length`, `do_lower_case` |
| `config_sentence_transformers.json` | `prompts`, `default_prompt_name`, `truncate_dim` |

| `M3_FILES` | the layers of BGE-M3 for weights and vectors of tokens |

Modules that are not listed are errors. Reference: `SentenceTransformer.__init__` of the library,
version 6, https://github.com/UKPLab/sentence-transformers.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from os.path import lexists
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..checkpoints import open_checkpoint
from ..checkpoints.matching import unfit_numbers
from ..files import complete
from ..parsing import expecting, is_file_name, listed, read_json, shown

__all__ = [
    "M3_FILES",
    "MODULES",
    "POOLINGS",
    "Dense",
    "LayerNorm",
    "Normalize",
    "Pooling",
    "SentenceFiles",
    "has_modules",
    "read_m3_files",
    "read_sentence_files",
]

# Flags of a pooling's config -> its name, in the order in which several are concatenated
FLAGS = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}
POOLINGS = tuple(FLAGS.values())
MOST_MODULES = 64
# Classes of `torch.nn` -> names of activations in Keras
ACTIVATIONS = {
    "Identity": "linear",
    "Tanh": "tanh",
    "ReLU": "relu",
    "GELU": "gelu",
    "SiLU": "silu",
    "Sigmoid": "sigmoid",
}
SETTINGS = (
    "sentence_bert_config.json",
    "sentence_roberta_config.json",
    "sentence_distilbert_config.json",
    "sentence_camembert_config.json",
    "sentence_albert_config.json",
    "sentence_xlm-roberta_config.json",
    "sentence_xlnet_config.json",
)
# Keys of the files -> the values that are computed, see `_object`
SIZES = {"embedding_dimension": None, "word_embedding_dimension": None}
OF_SENTENCE = {
    "module_input_name": ["sentence_embedding"],
    "module_output_name": ["sentence_embedding"],
}
OF_DENSE = {"use_residual": [False], **OF_SENTENCE}
LAST_STATES = {"method": "forward", "method_output_name": "last_hidden_state"}
OF_ENCODER: dict = {
    "transformer_task": ["feature-extraction"],
    "module_output_name": ["token_embeddings"],
    **dict.fromkeys(("model_args", "tokenizer_args", "config_args"), ({},)),
    **dict.fromkeys(("model_kwargs", "processor_kwargs", "config_kwargs"), ({},)),
    "processing_kwargs": [{}],
    "unpad_inputs": None,
    **dict.fromkeys(("query_length", "document_length", "query_expansion"), ()),
    "tokenizer_name_or_path": (),
}
OF_MODEL = {
    "model_type": ["SentenceTransformer"],
    **dict.fromkeys(("similarity_fn_name", "__version__", "requirements"), None),
}
MODULES = "modules.json"
M3_FILES = ("sparse_linear.pt", "colbert_linear.pt")
NO_MODULES = (
    "there is no modules.json, so the vectors are the mean over all tokens, as in"
    " sentence-transformers. If the model was trained with another pooling (bge: cls), pass"
    " pooling=."
)


class Pooling(NamedTuple):
    """Pooling of the states of the tokens; the results of several modes are concatenated.

    Attributes:
        modes: list of items of `POOLINGS`.
        include_prompt: whether the tokens of a prompt count.
    """

    modes: list
    include_prompt: bool = True


class Dense(NamedTuple):
    """A dense layer; `bias` may be None, `activation` is a name in Keras."""

    kernel: np.ndarray
    bias: np.ndarray | None
    activation: str


class LayerNorm(NamedTuple):
    """A layer normalization, whose epsilon is 1e-5."""

    gamma: np.ndarray
    beta: np.ndarray


class Normalize(NamedTuple):
    """Scaling to length 1."""


@dataclass
class SentenceFiles:
    """Contents of the files of a directory.

    Attributes:
        checkpoint: directory of the encoder and its tokenizer.
        modules: list of `Pooling`, `Dense`, `LayerNorm` and `Normalize`, the pooling first.
        max_length: the most tokens of a text, or None.
        limits: the file that says so, or None.
        lower: whether texts are lower-cased before they are tokenized.
        prompts: dict name -> text put before a text.
        default_prompt: name of the prompt to use if none is asked for, or None.
        truncate_dim: the number of dimensions of the vectors that are kept, or None for all.
        note: a sentence on what was assumed, or None.
    """

    checkpoint: Path
    modules: list
    max_length: int | None = None
    limits: Path | None = None
    lower: bool = False
    prompts: Mapping[str, str] = field(default_factory=dict)
    default_prompt: str | None = None
    truncate_dim: int | None = None
    note: str | None = None

    def summary(self) -> str:
        """Returns in words how a vector is computed, such as `"cls, Normalize"`."""
        pooling, *others = self.modules
        steps = ["+".join(pooling.modes), *(type(module).__name__ for module in others)]
        limits = [f"at most {self.max_length} tokens"] if self.max_length else []
        prompts = [f"prompts {listed(list(self.prompts))}"] if self.prompts else []
        return "; ".join([", ".join(steps), *limits, *prompts])


def has_modules(directory):
    """Returns whether a directory is one of sentence-transformers, with a `modules.json`.

    Whatever has this name counts, also a pipe, so that reading it is an error.
    """
    return lexists(Path(directory, MODULES))


def read_sentence_files(directory):
    """Reads the files of sentence-transformers in a directory.

    Without `modules.json`, the pooling is the mean, as in the library.

    Args:
        directory: a path.

    Returns:
        A `SentenceFiles`.

    Raises:
        ValueError: a file is invalid, or a module is not supported.
        CheckpointError: the weights of a module are damaged.
    """
    directory = Path(directory)
    complete(directory)
    path = directory / MODULES
    folder, modules, note = "", [Pooling(["mean"])], NO_MODULES
    if has_modules(directory):
        with expecting(path, "a list of modules"):
            folder, modules = _modules(path)
        note = None
    checkpoint = directory / folder
    limits = next((checkpoint / x for x in SETTINGS if lexists(checkpoint / x)), None)
    max_length, lower = _limits(limits)
    prompts, default, dim = _prompts(directory / "config_sentence_transformers.json")
    return SentenceFiles(
        checkpoint, modules, max_length, limits, lower, prompts, default, dim, note
    )


def read_m3_files(directory, hidden_size):
    """Reads the two dense layers of BGE-M3.

    Args:
        directory: a path.
        hidden_size: the size of the vectors that they take.

    Returns:
        The `Dense` of the weights of tokens, with one output, and that of the vectors of tokens.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: a file has other weights, or they are not finite.
    """
    sparse, multi = (Path(directory, name) for name in M3_FILES)
    complete(directory)
    return _linear(sparse, "relu", hidden_size, 1), _linear(multi, "linear", hidden_size)


def _linear(path, activation, inputs, outputs=None):
    """Returns the `Dense` of a file with its weight and bias; `outputs` is None for any size."""
    if not path.is_file():
        raise FileNotFoundError(
            f"{path}: no such file; expected {' and '.join(M3_FILES)} next to the weights, as in"
            " BAAI/bge-m3. For dense vectors alone use SentenceEncoder."
        )
    weight, bias = _weights(path, {"weight": None, "bias": None})
    outputs = outputs or max(1, bias.size)
    if weight.shape != (outputs, inputs) or bias.shape != (outputs,):
        raise ValueError(
            f"{path}: weight and bias have the shapes {weight.shape} and {bias.shape}; expected"
            f" {(outputs, inputs)} and {(outputs,)}. Get the file that belongs to this model."
        )
    return Dense(weight.T, bias, activation)


def _modules(path):
    """Returns the folder of the encoder, and the modules after it."""
    rows = [(_kind(path, row["type"]), row["path"]) for row in read_json(path)]
    if len(rows) > MOST_MODULES:
        raise ValueError(f"{path}: has {len(rows)} modules; expected at most {MOST_MODULES}.")
    for kind, folder in rows:
        if not isinstance(folder, str) or (folder and not is_file_name(folder)):
            raise ValueError(
                f"{path}: the path of {shown(kind)} is {shown(folder)}; expected the name of a"
                " directory next to the file."
            )
    kinds = [kind for kind, _ in rows]
    if kinds[:2] != ["Transformer", "Pooling"] or not set(kinds[2:]) <= _READERS.keys():
        raise ValueError(
            f"{path}: its modules are {listed(kinds)}; expected Transformer, Pooling, and after"
            f" them only {', '.join(_READERS)}."
        )
    folders = [folder for _, folder in rows]
    repeated = [folder for folder in folders if folders.count(folder) > 1]
    if repeated:
        raise ValueError(
            f"{path}: the path {shown(repeated[0])} is that of several modules; expected a"
            " directory for each."
        )
    modules = [_pooling(path.parent / rows[1][1] / "config.json")]
    modules += [_READERS[kind](path.parent / folder) for kind, folder in rows[2:]]
    return rows[0][1], [module for module in modules if module is not None]


def _kind(path, name):
    """Returns the name of a module's class, after checking that it is the library's own."""
    library, _, kind = str(name).rpartition(".")
    if not f"{library}.".startswith("sentence_transformers."):
        raise ValueError(
            f"{path}: the type of a module is {shown(name)}; expected a class of"
            " sentence_transformers, as others may compute something else."
        )
    return kind


def _object(path, only, **types):
    """Returns the object in a JSON file, after checking its keys and some of its values.

    Args:
        path: the file; if it does not exist, the object is empty.
        only: key -> the values that it may have, besides null, because they are those that are
            computed; None: any, as it changes nothing.
        **types: key -> type, or union of types, of a value that may be missing.

    Raises:
        ValueError: a key is not known, or a value is not allowed.
    """
    values = read_json(path) if lexists(path) else {}
    if not isinstance(values, dict):
        raise ValueError(f"{path}: expected a JSON object, got {shown(values)}.")
    for key, value in values.items():
        if value is None:
            continue
        if key not in only and key not in types and value is not False:
            raise ValueError(
                f"{path}: the key {shown(key)} is not known (value {shown(value):.60}); expected"
                f" keys such as {listed([*types, *only])}. Remove it if no vector depends on it."
            )
        allowed = only.get(key)
        if allowed is not None and value not in allowed:
            computed = " or ".join([*map(shown, allowed), "null"])
            raise ValueError(
                f"{path}: {key} is {shown(value)}; expected {computed}, as nothing else is"
                " implemented."
            )
    for key, expected in types.items():
        value = values.get(key)
        wrong_bool = isinstance(value, bool) and expected is not bool
        if value is not None and (wrong_bool or not isinstance(value, expected)):
            raise ValueError(
                f"{path}: {key} is {shown(value)}; expected"
                f" {getattr(expected, '__name__', expected)} or null."
            )
    return values


def _pooling(path):
    if not lexists(path):
        raise FileNotFoundError(
            f"{path}: no such file; expected the settings of the pooling that modules.json names."
            " Get or copy the directory again."
        )
    of_flags = dict.fromkeys(FLAGS, bool)
    values = _object(path, SIZES, pooling_mode=str | list, include_prompt=bool, **of_flags)
    modes = values.get("pooling_mode") or [FLAGS[flag] for flag in FLAGS if values.get(flag)]
    modes = [modes] if isinstance(modes, str) else modes or ["mean"]
    unknown = [mode for mode in modes if mode not in POOLINGS]
    if unknown:
        raise ValueError(
            f"{path}: the pooling {shown(unknown[0])} is not known; expected some of"
            f" {', '.join(POOLINGS)}."
        )
    if len({*modes}) < len(modes):
        raise ValueError(
            f"{path}: the poolings are {listed(modes)}; expected each once. Correct the file."
        )
    include = values.get("include_prompt")
    return Pooling(modes, True if include is None else include)


def _dense(folder):
    path = folder / "config.json"
    sizes = {"in_features": int, "out_features": int}
    values = _object(path, OF_DENSE, activation_function=str, bias=bool, **sizes)
    activation = values.get("activation_function", "torch.nn.Tanh")
    module, _, name = str(activation).rpartition(".")
    if not f"{module}.".startswith("torch.nn.") or name not in ACTIVATIONS:
        raise ValueError(
            f"{path}: activation_function is {shown(activation)}; expected one"
            f" of torch.nn: {', '.join(ACTIVATIONS)}."
        )
    size = (values.get("out_features"), values.get("in_features"))
    shapes = {"linear.weight": size}
    if values.get("bias") is not False:
        shapes["linear.bias"] = size[:1]
    weight, *bias = _weights(folder, shapes, "the shapes that out_features and in_features mean")
    return Dense(weight.T, bias[0] if bias else None, ACTIVATIONS[name])


def _layer_norm(folder):
    values = _object(folder / "config.json", {}, dimension=int)
    size = (values.get("dimension"),)
    shapes = {"norm.weight": size, "norm.bias": size}
    return LayerNorm(*_weights(folder, shapes, "the shapes that dimension means"))


def _weights(path, shapes, meaning=None):
    """Returns the arrays of a module, float32, after checking that there are no others.

    Args:
        path: a file, or the folder with it.
        shapes: name -> shape that the settings of the module mean; None: any.
        meaning: what these shapes are, for messages.

    Raises:
        ValueError: it has other arrays, or one has other numbers than finite floating point ones.
    """
    weights = open_checkpoint(path)
    if {*weights} != {*shapes}:
        raise ValueError(
            f"{path}: its weights are {listed(sorted(weights))}; expected {listed([*shapes])}."
        )
    for name, shape in shapes.items():
        if shape is not None and weights.shape(name) != shape:
            raise ValueError(
                f"{path}: {name} has the shape {shown(weights.shape(name))}; expected"
                f" {shown(shape)}, {meaning} in its config.json."
            )
        if problem := unfit_numbers(weights, name, "float32"):  # such as quantized ones
            raise ValueError(f"{path}: {name} {problem}. Get or copy the file again.")
    arrays = [np.asarray(weights[name], "float32") for name in shapes]
    for name, array in zip(shapes, arrays, strict=True):
        if not np.isfinite(array).all():
            raise ValueError(
                f"{path}: {name} has NaN or infinite numbers; expected finite ones. Get or copy the"
                " file again."
            )
    return arrays


def _normalize(folder):
    _object(folder / "config.json", OF_SENTENCE)  # most have none
    return Normalize()


_READERS = {
    "Dense": _dense,
    "LayerNorm": _layer_norm,
    "Normalize": _normalize,
    "Dropout": lambda folder: None,
}


def _limits(path):
    """Returns the most tokens of a text, or None, and whether it is lower-cased."""
    if path is None:
        return None, False
    types = {"max_seq_length": int, "do_lower_case": bool, "modality_config": dict}
    values = _object(path, OF_ENCODER, **types)
    of_text = (values.get("modality_config") or {"text": LAST_STATES}).get("text")
    if of_text != LAST_STATES:
        raise ValueError(
            f"{path}: modality_config has {shown(of_text)} for text; expected {LAST_STATES}, as"
            " nothing else is implemented."
        )
    length = values.get("max_seq_length")
    if length is not None and length < 1:
        raise ValueError(f"{path}: max_seq_length is {length}; expected 1 or more, or null.")
    return length, bool(values.get("do_lower_case"))


def _prompts(path):
    """Returns the prompts, the name of the default one, and the number of dimensions."""
    values = _object(path, OF_MODEL, prompts=dict, default_prompt_name=str, truncate_dim=int)
    prompts = {
        name: "" if text is None else text for name, text in (values.get("prompts") or {}).items()
    }
    default = values.get("default_prompt_name")
    if not all(isinstance(text, str) for text in prompts.values()):
        raise ValueError(f"{path}: prompts is {shown(prompts)}; expected a text for each name.")
    if default is not None and default not in prompts:
        raise ValueError(
            f"{path}: default_prompt_name is {shown(default)}; expected one of prompts:"
            f" {listed(list(prompts)) or 'none'}."
        )
    dim = values.get("truncate_dim")
    if dim is not None and dim < 1:
        raise ValueError(f"{path}: truncate_dim is {dim}; expected 1 or more, or null.")
    return prompts, default, dim
