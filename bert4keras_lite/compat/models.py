"""`bert4keras.models`: models with the inputs, layer names and methods of bert4keras."""

import contextlib
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextvars import ContextVar
from dataclasses import fields
from functools import wraps
from pathlib import Path
from typing import Any, ClassVar

import keras
from keras import ops

from .. import models
from ..backend import check_strategy, without_xla
from ..checkpoints import open_checkpoint, save_checkpoint
from ..checkpoints.matching import MatchOptions
from ..configs.published import find_files
from ..layers import Layer
from ..layers.base import register
from ..loading import read_keras_model
from ..types import PathLike, Tensor
from .backend import GELU
from .feeding import arrays_of, batches_of, labels_of, vectors_of
from .graph import ORDERED, OldLayer, find_layer, list_old_layers, owner_of, register_owner
from .keras2_files import is_keras2_file, load_keras2_file

__all__ = [
    "ALBERT",
    "BERT",
    "ELECTRA",
    "GPT",
    "GPT2",
    "GPT2_ML",
    "NEZHA",
    "T5",
    "ALBERT_Unshared",
    "LM_Mask",
    "Model",
    "RoFormer",
    "RoFormerV2",
    "Sequential",
    "T5_Decoder",
    "T5_Encoder",
    "Transformer",
    "UniLM_Mask",
    "build_transformer_model",
    "clone_model",
    "data_parallel",
    "extend_with_language_model",
    "extend_with_unified_language_model",
    "load_model",
]

Sequential = keras.Sequential
clone_model = keras.models.clone_model
# whether `Model.layers` is that of Keras: within its own methods
OF_KERAS: ContextVar[bool] = ContextVar("OF_KERAS", default=False)
# inputs here -> there
ENCODER_INPUTS = {
    ("both", "token_ids"): "Encoder-Input-Token",
    ("encoder", "token_ids"): "Encoder-Input-Token",
}
INPUTS = {
    "token_ids": "Input-Token",
    "segment_ids": "Input-Segment",
    "position_ids": "Input-Position",
    "memory": "Input-Context",
    "decoder_token_ids": "Decoder-Input-Token",
}


@contextlib.contextmanager
def _layers_of_keras() -> Iterator[None]:
    """Context in which `Model.layers` has the layers of Keras, for its methods."""
    token = OF_KERAS.set(True)
    try:
        yield
    finally:
        OF_KERAS.reset(token)


@register
class Model(keras.Model):
    """A Keras model with what scripts for bert4keras expect of it.

    Layers have their names in bert4keras as well, and `layers[-2]` is the layer that is there in
    bert4keras. Files of weights may have any name; those that bert4keras wrote in HDF5 are read,
    too. `predict` shows no progress, and takes lists.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        with _layers_of_keras():
            super().__init__(*args, **kwargs)

    @property
    def layers(self) -> list[Any]:
        with _layers_of_keras():
            layers = super().layers
        owner = None if OF_KERAS.get() else owner_of(layers)
        return layers if owner is None else OldLayers(layers, owner)

    @layers.setter
    def layers(self, value: Any) -> None:
        raise AttributeError("Model.layers: it is read-only.")

    def get_layer(self, name: str | None = None, index: int | None = None) -> Any:
        """Returns a layer by its name, here or in bert4keras, or by its place in bert4keras.

        Raises:
            ValueError: there is no such layer.
        """
        if index is not None:
            return self.layers[index]
        with _layers_of_keras():
            layer = find_layer(super().layers, str(name))
            if layer is None:
                return super().get_layer(name)
        return layer

    def compile(
        self, optimizer: Any = "rmsprop", loss: Any = None, *args: Any, **kwargs: Any
    ) -> None:
        """Compiles the model; on TensorFlow without XLA, which would compile for each length.

        Raises:
            ValueError: a strategy of TensorFlow with several devices is active on another backend.
        """
        check_strategy()
        super().compile(optimizer, loss, *args, **without_xla(kwargs))
        self.compiled_trainable = frozenset(map(id, self.trainable_weights))

    @contextlib.contextmanager
    def as_compiled(self) -> Iterator[None]:
        """Context in which the weights are trained that were trainable in `compile`."""
        before = [(weight, weight.trainable) for weight in self.weights]
        for weight, _ in before:
            weight.trainable = id(weight) in self.compiled_trainable
        try:
            yield
        finally:
            for weight, trainable in before:
                weight.trainable = trainable

    def fit(self, x: Any = None, y: Any = None, *args: Any, **kwargs: Any) -> Any:
        """Trains the model; all axes of the batches of a generator may vary.

        As in Keras 2, a change of `trainable` after `compile` has no effect before the next one.
        """
        if y is None and hasattr(x, "__next__"):
            x = batches_of(x)
            kwargs.setdefault("shuffle", False)
        x, y = self.as_arrays(x, y)
        if not self.compiled:
            return super().fit(x, y, *args, **kwargs)  # which says so
        with self.as_compiled():
            return super().fit(x, y, *args, **kwargs)

    def fit_generator(self, generator: Any, *args: Any, **kwargs: Any) -> Any:
        """Trains the model on batches of a generator."""
        return self.fit(generator, None, *args, **kwargs)

    def evaluate(self, x: Any = None, y: Any = None, *args: Any, **kwargs: Any) -> Any:
        """Evaluates the model; see `fit`."""
        x, y = self.as_arrays(batches_of(x) if y is None else x, y)
        return super().evaluate(x, y, *args, **kwargs)

    def train_on_batch(self, x: Any, y: Any = None, *args: Any, **kwargs: Any) -> Any:
        """Trains the model on a batch; see `fit`."""
        with self.as_compiled() if self.compiled else contextlib.nullcontext():
            return super().train_on_batch(*self.as_arrays(x, y), *args, **kwargs)

    def test_on_batch(self, x: Any, y: Any = None, *args: Any, **kwargs: Any) -> Any:
        """Evaluates the model on a batch."""
        return super().test_on_batch(*self.as_arrays(x, y), *args, **kwargs)

    def predict_on_batch(self, x: Any) -> Any:
        """Returns the outputs for a batch."""
        return super().predict_on_batch(self.as_arrays(x)[0])

    def as_arrays(self, x: Any, y: Any = None) -> tuple[Any, Any]:
        """Converts lists of numbers, and lists of one array, to arrays, as Keras 2 did."""
        x = arrays_of(x, len(getattr(self, "inputs", ())))
        return x, arrays_of(y, len(getattr(self, "outputs", ())), least=1)

    def compute_loss(
        self,
        x: Any = None,
        y: Any = None,
        y_pred: Any = None,
        sample_weight: Any = None,
        training: bool = True,
    ) -> Any:
        """Computes the loss; a model with one output takes labels by its name, too.

        An output may be a loss: a number without axes.
        """
        y, sample_weight = labels_of(self, y), labels_of(self, sample_weight)
        return super().compute_loss(x, y, vectors_of(y_pred), sample_weight, training)

    def compute_metrics(self, x: Any, y: Any, y_pred: Any, sample_weight: Any = None) -> Any:
        """Updates the metrics; see `compute_loss`."""
        y, sample_weight = labels_of(self, y), labels_of(self, sample_weight)
        return super().compute_metrics(x, y, y_pred, sample_weight)

    def predict(
        self, x: Any, batch_size: int | None = None, verbose: Any = 0, **kwargs: Any
    ) -> Any:
        """Returns the outputs for arrays, or lists of numbers, as arrays."""
        x, _ = self.as_arrays(x)
        return super().predict(x, batch_size=batch_size, verbose=verbose, **kwargs)

    def summary(self, *args: Any, **kwargs: Any) -> None:
        """Prints the layers of the model."""
        with _layers_of_keras():
            super().summary(*args, **kwargs)

    def get_config(self) -> dict[str, Any]:
        with _layers_of_keras():
            return super().get_config()

    def save(self, filepath: PathLike, overwrite: bool = True, **kwargs: Any) -> None:
        """Saves the model as a `.keras` file, whatever its name."""
        with _layers_of_keras(), _named(filepath, ".keras", is_written=True) as path:
            super().save(path, overwrite, **kwargs)

    def save_weights(self, filepath: PathLike, overwrite: bool = True, **kwargs: Any) -> None:
        """Saves the weights in HDF5, whatever the name of the file."""
        with _layers_of_keras(), _named(filepath, ".weights.h5", is_written=True) as path:
            super().save_weights(path, overwrite, **kwargs)

    def load_weights(self, filepath: PathLike, by_name: bool = False, **kwargs: Any) -> None:
        """Loads weights from a file of any name, also one that bert4keras wrote under Keras 2.

        Raises:
            FileNotFoundError, ValueError: there is no such file, or it is of another model.
        """
        if is_keras2_file(filepath):
            load_keras2_file(self, filepath)
            return
        with _layers_of_keras(), _named(filepath, ".weights.h5") as path:
            super().load_weights(path, **kwargs)

    def _make_train_function(self) -> None:
        raise NotImplementedError(
            "Keras 3 has no train function that can be replaced. Use bert4keras_lite.training."
            "adversarial_training(model, epsilon=0.5) after compile, or"
            " virtual_adversarial_training, gradient_penalty or rdrop."
        )


@contextlib.contextmanager
def _named(path: PathLike, suffix: str, is_written: bool = False) -> Iterator[str]:
    """Context with the path of a file that has a suffix, which Keras asks for.

    Args:
        path: of the file.
        suffix: the name ends with.
        is_written: whether the file is written.

    Raises:
        FileNotFoundError: it is to be read, and does not exist.
    """
    path = Path(os.fspath(path))
    if not is_written and not path.is_file():
        raise FileNotFoundError(f"{path}: no such file. Save the weights before you load them.")
    if path.name.endswith(suffix):
        yield str(path)
        return
    with tempfile.TemporaryDirectory(dir=path.parent if is_written else None) as folder:
        other = Path(folder) / f"file{suffix}"
        if is_written:
            yield str(other)
            os.replace(other, path)
        else:
            try:
                other.symlink_to(path.resolve())
            except OSError:
                shutil.copyfile(path, other)
            yield str(other)


def load_model(filepath: PathLike, custom_objects: dict | None = None, compile: bool = True) -> Any:
    """Loads a model that `Model.save` wrote.

    Raises:
        FileNotFoundError, ValueError, CheckpointError: see `bert4keras_lite.loading.load_model`.
    """
    with _named(filepath, ".keras") as path:
        return read_keras_model(Path(path), compile, custom_objects)


class OldLayers(list):
    """The layers of a model: iterated and indexed as the layers of bert4keras."""

    def __init__(self, layers: list, owner: Any) -> None:
        self.error = ""
        try:
            super().__init__(_in_old_order(layers, owner))
        except LookupError as error:
            super().__init__(layers)
            self.error = str(error)

    def __getitem__(self, index: Any) -> Any:
        if self.error:
            raise IndexError(f"layers[{index}]: {self.error} Use get_layer(name).")
        return super().__getitem__(index)


def _in_old_order(layers, owner):
    """Returns the layers of a model in the order of bert4keras.

    Args:
        layers: the Keras layers of the model.
        owner: the `Transformer` that made one of them.

    Raises:
        LookupError: the order is not known.
    """
    made = {id(layer) for layer in owner.model_layers}
    others = [layer for layer in layers if id(layer) not in made]
    inputs = [layer for layer in layers if isinstance(layer, keras.layers.InputLayer)]
    if owner.config.family not in ORDERED:
        raise LookupError(f"the order of layers is not known for {owner.config.family}.")
    if len(owner.outputs) > 1:
        raise LookupError("the order of the layers is not known with several outputs.")
    if made - {id(layer) for layer in layers}:
        raise LookupError("the model has only a part of the layers of bert4keras.")
    if set(map(id, inputs)) - made or any(tensor in owner.more_inputs for tensor in owner.inputs):
        raise LookupError("the order of the layers is not known with other inputs.")
    old = {place.name: OldLayer(owner, place) for place in owner.old_layers}
    return [*inputs, *old.values(), *others]


class OldGraph:
    """Mixin for a `Transformer`: the names and methods of bert4keras.

    Attributes:
        application: `"lm"` or `"unilm"`, of a class that is extended by it.
        old_layers: the layers of bert4keras, see `graph.list_old_layers`.
        block_outputs: the outputs of the blocks in the graph of `model`.
        inner_outputs: outputs inside blocks that were asked for.
        model_layers: the Keras layers of `model`.
        options: of `build_transformer_model`, for a checkpoint that is loaded later.
        context: arguments of the blocks, of the last call of `apply_embeddings`.
    """

    application: ClassVar[str | None] = None

    @wraps(models.Transformer.__init__)
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.inner_outputs: dict = {}
        self.options: dict[str, Any] = {}
        self.context: dict[str, Any] = {}
        self.attention_scores = self.embeddings = None
        super().__init__(*args, **kwargs)
        with _layers_of_keras():
            self.model_layers = list(self.model.layers)
        self.block_outputs = list(self.hidden_states)
        self.old_layers = list_old_layers(self)
        register_owner(self)

    def __getattr__(self, name: str) -> Any:
        config = vars(self).get("config")
        if config is not None and not name.startswith("_") and hasattr(config, name):
            return getattr(config, name)
        raise AttributeError(f"{type(self).__name__} has no attribute {name!r}.")

    @property
    def input(self) -> Any:
        """The input tensor; a list if there are several."""
        return self.inputs[0] if len(self.inputs) == 1 else self.inputs

    @property
    def output(self) -> Any:
        """The output tensor; a list if there are several."""
        return self.outputs[0] if len(self.outputs) == 1 else self.outputs

    def keras_model(self, inputs: Any, outputs: list[Tensor], name: str | None = None) -> Model:
        """Makes the model from inputs to outputs; a single output is not in a list."""
        return Model(inputs, outputs[0] if len(outputs) == 1 else outputs, name=name)

    def new_input(self, name: str, *dims: int, dtype: str = "int32") -> Tensor:
        """Makes an input with the name that it has in bert4keras; ids are floats, as in Keras 2."""
        old = self.prefix + ENCODER_INPUTS.get((self.config.stacks, name), INPUTS[name])
        return keras.Input((self.config.sequence_length, *dims), dtype="float32", name=old)

    def build_graph(self, *inputs: Tensor, **named: Tensor) -> list[Tensor]:
        """Builds the graph, from ids that are floats."""
        inputs = tuple(as_integers(x) for x in inputs)
        named = {name: x if name == "memory" else as_integers(x) for name, x in named.items()}
        if self.config.stacks != "one" or not self.changes_parts:
            return super().build_graph(*inputs, **named)
        x = self.apply_embeddings([*inputs, *named.values()])
        for i in range(self.config.block_counts["i"]):
            x = self.apply_main_layers(x, i)
        return keras.tree.flatten(self.apply_final_layers(x))

    @property
    def changes_parts(self) -> bool:
        """Whether the class is one of a script that has its own `apply_...`."""
        names = ("apply_embeddings", "apply_main_layers", "apply_final_layers")
        return any(getattr(type(self), name) is not getattr(OldGraph, name) for name in names)

    def apply(self, inputs: Any = None, layer: Any = None, arguments: Any = None, **kwargs: Any):
        """Applies a layer, which is made by `layer(**kwargs)` when its name first comes.

        Without `inputs`, returns the layer.
        """
        name = kwargs.pop("name", None)
        if name is None:
            made = layer(**kwargs)
        else:
            place = next((p for p in self.old_layers if p.name == self.prefix + name), None)
            made = OldLayer(self, place).part if place else self.layer(layer, name, **kwargs)
        return made if inputs is None else made(inputs, **(arguments or {}))

    def apply_embeddings(self, inputs: Sequence[Tensor]) -> Tensor:
        """Embeds ids: token, segment and position ids, as far as the model has them."""
        ids = dict(zip(self.ids, map(as_integers, inputs), strict=True))
        token_ids, segment_ids = ids["token_ids"], ids.get("segment_ids")
        positions = ids.get("position_ids")
        positions = self.positions(token_ids) if positions is None else positions
        self.embeddings = self.embed(token_ids, positions, segment_ids)
        self.context = {
            "bias": self.attention_bias(token_ids, segment_ids),
            "condition": self.current_condition,
            **self.position_context(positions),
        }
        self.attention_scores = None
        return self.embeddings

    def apply_main_layers(self, inputs: Tensor, index: int) -> Tensor:
        """Applies a block, with the attention mask of the last `apply_embeddings`."""
        x, self.attention_scores = self.encode_block(
            index, inputs, self.context, "", self.attention_scores, self.embeddings
        )
        return x

    def apply_final_layers(self, inputs: Tensor) -> Any:
        """Applies the final normalization and the heads."""
        x = self.normalize("final_norm", inputs) if self.config.final_norm else inputs
        outputs = self.output_heads(x) or [x]
        return outputs[0] if len(outputs) == 1 else outputs

    def load_weights_from_checkpoint(self, checkpoint: Any, mapping: Any = None) -> None:
        """Loads a checkpoint with the options of the model, such as `keep_tokens`.

        See `models.Transformer.load_checkpoint`.
        """
        _check_mapping(mapping)
        names = {field.name for field in fields(MatchOptions)} & self.options.keys()
        loading = {name: self.options[name] for name in names}
        self.load_checkpoint(chosen_blocks(checkpoint, self.options), **loading)

    def save_weights_as_checkpoint(self, filename: PathLike, mapping: Any = None) -> None:
        """Saves the weights in a TensorFlow checkpoint, whose files begin with `filename`.

        The config is not written.
        """
        _check_mapping(mapping)
        path = Path(os.fspath(filename))
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent) as folder:
            self.save_checkpoint(folder)
            arrays = dict(open_checkpoint(folder))
            save_checkpoint(path, arrays)

    def load_checkpoint(self, checkpoint: Any, **options: Any) -> set[str]:
        """Loads weights; see `models.Transformer.load_checkpoint`."""
        with _layers_of_keras():
            return super().load_checkpoint(checkpoint, **options)

    def save_checkpoint(self, directory: PathLike, *args: Any, **options: Any) -> None:
        """Saves weights and config; see `models.Transformer.save_checkpoint`."""
        with _layers_of_keras():
            super().save_checkpoint(directory, *args, **options)


def as_integers(ids: Tensor) -> Tensor:
    """Converts ids to integers."""
    return ops.cast(ids, "int32")


def _check_mapping(mapping):
    """Raises if a script passes names of weights of its own."""
    if mapping is not None:
        raise ValueError(
            "mapping: names of weights cannot be passed. Rename them in a dict name -> array:"
            " load_checkpoint({...}) of the Transformer takes it, and open_checkpoint reads a file."
        )


class Transformer(OldGraph, models.Transformer):
    """Base class of the families with one stack; see `models.Transformer`."""


class EncoderDecoder(OldGraph, models.EncoderDecoder):
    """Base class of the families with an encoder and a decoder; see `models.EncoderDecoder`.

    The decoder is that of bert4keras, for which weights were trained: its output is scaled before
    any head, and its attention to the encoder has a position bias (`cross_position_bias=False`:
    none). Google's has neither; `bert4keras_lite.build_transformer_model` builds that.
    """

    def decoded(self, *args: Any, **kwargs: Any) -> Tensor:
        """Computes the last hidden states of the decoder, scaled by `hidden_size ** -0.5`."""
        x, c = super().decoded(*args, **kwargs), self.config
        scale = 1.0 if c.rescales else c.hidden_size**-0.5
        if not keras.utils.is_keras_tensor(x):
            return x * scale
        return self.layer(Scaled, "decoder_scale", scale=scale)([x, self.hidden_states[-1]])


@register
class Scaled(Layer):
    """Multiplies the first of two tensors by a number; its mask is that of the second."""

    def __init__(self, scale: float, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.scale = scale

    def call(self, inputs: list[Tensor]) -> Tensor:
        return inputs[0] * self.scale

    def compute_mask(self, inputs: list[Tensor], previous_mask: Any = None) -> Any:
        return previous_mask and previous_mask[1]


class BERT(Transformer):
    """BERT (arXiv 1810.04805); RoBERTa's Chinese checkpoints are BERTs, too."""

    family = "bert"


class ALBERT(Transformer):
    """ALBERT (arXiv 1909.11942)."""

    family = "albert"


class ALBERT_Unshared(Transformer):
    """ALBERT whose blocks are copies, to be trained apart."""

    family = "albert_unshared"


class NEZHA(Transformer):
    """NEZHA (arXiv 1909.00204)."""

    family = "nezha"


class RoFormer(Transformer):
    """RoFormer (arXiv 2104.09864)."""

    family = "roformer"


class RoFormerV2(Transformer):
    """RoFormerV2 (https://kexue.fm/archives/8998)."""

    family = "roformer_v2"


class ELECTRA(Transformer):
    """ELECTRA (arXiv 2003.10555)."""

    family = "electra"


class GPT(Transformer):
    """GPT."""

    family = "gpt"


class GPT2(Transformer):
    """GPT-2 of CPM (arXiv 2012.00413)."""

    family = "gpt2"


class GPT2_ML(Transformer):
    """GPT-2 of https://github.com/imcaspar/gpt2-ml."""

    family = "gpt2_ml"


class T5(EncoderDecoder):
    """T5 (arXiv 1910.10683)."""

    family = "t5.1.0"


class T5_Encoder(EncoderDecoder):
    """The encoder of T5."""

    family = "t5.1.0_encoder"


class T5_Decoder(EncoderDecoder):
    """The decoder of T5."""

    family = "t5.1.0_decoder"


class LM_Mask:
    """Mixin: a token sees those before it."""

    application = "lm"


class UniLM_Mask:
    """Mixin: the source, segment 0, is seen by all; a token of the target by those after it."""

    application = "unilm"


MODELS: dict[str, type] = {
    "bert": BERT,
    "roberta": BERT,
    "albert": ALBERT,
    "albert_unshared": ALBERT_Unshared,
    "nezha": NEZHA,
    "roformer": RoFormer,
    "roformer_v2": RoFormerV2,
    "electra": ELECTRA,
    "gpt": GPT,
    "gpt2": GPT2,
    "gpt2_ml": GPT2_ML,
    "t5": T5,
    "t5_encoder": T5_Encoder,
    "t5_decoder": T5_Decoder,
}


def class_of(name: str) -> type:
    """Returns the class for a name of `model=`; T5's versions have a class each."""
    if name in MODELS:
        return MODELS[name]
    stacks = "_" + name.rpartition("_")[2] if name.endswith(("_encoder", "_decoder")) else ""
    if name.removesuffix(stacks) not in ("t5.1.0", "t5.1.1", "mt5.1.1", "t5_pegasus"):
        known = ", ".join([*MODELS, "t5.1.0", "t5.1.1", "mt5.1.1"])
        raise ValueError(f"model={name!r}: expected one of {known}, or a class.")
    return type(MODELS[f"t5{stacks}"].__name__, (MODELS[f"t5{stacks}"],), {"family": name})


def extend_with_language_model(BaseModel: type) -> type:
    """Returns a class like the given one with the mask of a language model."""
    return type("LanguageModel", (LM_Mask, BaseModel), {})


def extend_with_unified_language_model(BaseModel: type) -> type:
    """Returns a class like the given one with the mask of a UniLM (arXiv 1905.03197)."""
    return type("UnifiedLanguageModel", (UniLM_Mask, BaseModel), {})


def data_parallel(model: Any, devices: Any = None, parts: Any = None) -> Any:
    """Raises an error: Keras 3 trains on several devices without such a model."""
    raise NotImplementedError(
        "data_parallel: remove it, and call keras.distribution.set_distribution(keras.distribution."
        "DataParallel()) before the model is built (JAX), or use tensorflow.distribute."
        "MirroredStrategy; examples/basic_several_devices.py shows both."
    )


def chosen_blocks(checkpoint: Any, options: dict[str, Any]) -> Any:
    """Returns a checkpoint without the blocks after `options["num_hidden_layers"]`, if it is given.

    Args:
        checkpoint: a path, a dict name -> array, or None.
        options: of `build_transformer_model`.
    """
    count = options.get("num_hidden_layers")
    if checkpoint is None or not count:
        return checkpoint
    weights = checkpoint if isinstance(checkpoint, dict) else open_checkpoint(checkpoint)
    numbers = {name: re.search(r"(?:layer|block|h)s?[_./]?(\d+)[./]", name) for name in weights}
    kept = [name for name, number in numbers.items() if not number or int(number[1]) < count]
    return {name: weights[name] for name in kept}


def build_transformer_model(
    config_path: Any = None,
    checkpoint_path: Any = None,
    model: Any = "bert",
    application: str = "encoder",
    return_keras_model: bool = True,
    **kwargs: Any,
) -> Any:
    """Builds a model with the options of bert4keras, and loads a checkpoint.

    See `bert4keras_lite.build_transformer_model`; `model` is `"bert"` by default. The inputs are
    floats, as in Keras 2, and have the names of bert4keras.
    """
    cls: Any = class_of(model.lower()) if isinstance(model, str) else model
    application = cls.application or application.lower()
    kwargs.pop("version", None)
    in_file = find_files(config_path, None)[0].get("hidden_act") if config_path else None
    if kwargs.get("hidden_act", in_file) == "gelu":
        kwargs["hidden_act"] = GELU["gelu"]
    if issubclass(cls, GPT2 | GPT2_ML):  # whatever the config says, there are no segments
        kwargs["segment_vocab_size"] = 0
    if issubclass(cls, T5 | T5_Decoder):
        kwargs.setdefault("cross_position_bias", True)
    checkpoint = chosen_blocks(checkpoint_path, kwargs)
    transformer = models.build_transformer_model(
        config_path, checkpoint, cls, application, return_keras_model=False, **kwargs
    )
    transformer.options = kwargs
    return transformer.model if return_keras_model else transformer
