"""Generation with onnxruntime, which needs no Keras and has fast 8-bit arithmetic on a CPU."""

import math
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import ops

from ..arguments import checks_flags
from ..files import complete, saving
from ..layers import TransformerBlock
from ..layers.cache import Cache
from ..parsing import FREE, shown, size_of
from ..types import PathLike, Shape
from .autoregressive import AutoRegressiveDecoder
from .decoding import decode_step, generating_transformer

__all__ = ["OnnxWriter", "export_writer"]


@checks_flags
def export_writer(model: keras.Model, path: PathLike, slots: int = 512, int8: bool = False) -> None:
    """Exports one decode step of a causal language model as an ONNX file, for `OnnxWriter`.

    Args:
        model: a causal language model of one stack (GPT, or `application="lm"`). Keras must run
            on PyTorch, as only its exporter supports all operations of the model: save the model,
            and load it there.
        path: path of the file.
        slots: number of cache positions: the maximum length of a prompt and the new tokens
            together.
        int8: quantize weights and activations to 8-bit integers, with onnxruntime's dynamic
            quantization: a quarter of the size, and faster on a CPU.

    Raises:
        RuntimeError: Keras runs on another backend.
        ValueError: the model is not supported, or the path is a directory.
        ImportError: `int8` needs onnxruntime.
        OSError: the file cannot be written; an existing file is unchanged.
    """
    if keras.backend.backend() != "torch":
        raise RuntimeError(
            "export_writer: it needs the PyTorch backend of Keras. Save the model, set "
            "KERAS_BACKEND=torch and load it again."
        )
    if int8:
        from onnxruntime.quantization import quantize_dynamic
    transformer = generating_transformer(model)
    c = transformer.config
    path = Path(path)
    if path.is_dir():
        raise ValueError(f"path={str(path)!r}: expected the name of a file, got a directory.")
    if c.stacks != "one" or c.attend != "lm" or transformer.condition is not None:
        raise ValueError(
            f"{c.family}: expected a causal language model of one stack without conditional layer "
            "normalization. Others cannot be exported."
        )
    block = next(x for x in transformer.layers.values() if isinstance(x, TransformerBlock))
    shapes = block.branches["attention"].cache_shapes(1, slots) * c.num_hidden_layers
    example = [np.ones((1, 2), "int32"), np.arange(2, dtype="int32")[None]]
    example += [np.ones((1, 2, slots), bool), *(np.zeros(shape, "float32") for shape in shapes)]
    step = OneStep(transformer)
    step(example)
    signature: list[tuple[Shape, str]] = [
        ((None, None), "int32"),
        ((1, None), "int32"),
        ((None, None, slots), "bool"),
    ]
    signature += [((None, *shape[1:]), "float32") for shape in shapes]
    specs = [keras.InputSpec(shape=shape, dtype=dtype) for shape, dtype in signature]
    with saving(path.parent) as stage, tempfile.TemporaryDirectory() as folder:
        exported = Path(folder if int8 else stage) / path.name
        step.export(exported, format="onnx", input_signature=[specs], verbose=False)
        if int8:
            quantize_dynamic(exported, stage / path.name, extra_options={"MatMulConstBOnly": True})


class OneStep(keras.Model):
    """A decode step as a Keras model, with the cache as inputs and outputs.

    Call arguments:
        inputs: list of `tokens` `(rows, length)`, their cache positions `(1, length)`, an
            attention mask `(rows, length, slots)`, and the keys and values of each block,
            `(rows, ..., slots)`.

    Returns:
        A list: logits `(rows, length, vocab_size)`, and the keys and values of these tokens in
        each block, `(rows, ..., length)`.
    """

    def __init__(self, transformer):
        super().__init__()
        self.model = transformer.model  # so that its weights are exported
        self.transformer = transformer

    def call(self, inputs):
        tokens, cache_positions, attention_mask, *arrays = inputs
        pairs = zip(arrays[::2], arrays[1::2], strict=True)
        caches = [{"attention": RecordingCache(*pair, cache_positions[0, 0])} for pair in pairs]
        logits = decode_step(
            self.transformer,
            caches,
            tokens,
            ops.zeros_like(tokens) if self.transformer.config.has_segments else None,
            ops.zeros_like(cache_positions[:, :1]),
            cache_positions,
            ops.arange(attention_mask.shape[2], dtype="int32")[None],
            attention_mask,
        )
        return [logits, *(x for block in caches for x in block["attention"].new)]


class RecordingCache(Cache):
    """A cache that also keeps the keys and values of the last step, in `new`."""

    new = ()

    def written(self, slots, new):
        self.new = (*self.new, new)
        return super().written(slots + 0, new)  # a copy: inputs of the graph must not be modified


class OnnxWriter(AutoRegressiveDecoder):
    """Generates with a file of `export_writer`: `beam_search` and `random_sample` on token ids.

    Args:
        path: path of the file.
        end_id: the token that ends a sequence; -1: none.
        maxlen: maximum number of new tokens.
        pad_token_id: that of the model's config: later tokens do not attend to it; -1 (GPT,
            GPT-2): no token is masked.
        options: `onnxruntime.SessionOptions`, or None.

    Raises:
        ValueError: the file is not a model of `export_writer`; also raised when generating.
        ImportError: onnxruntime is missing.
        OSError: the file does not exist.

    Example:
        >>> export_writer(gpt, "gpt.onnx", slots=256, int8=True)
        >>> writer = OnnxWriter("gpt.onnx", tokenizer.token_end_id, maxlen=100)
        >>> tokenizer.decode(writer.random_sample([ids], n=1, topp=0.9)[0])
    """

    def __init__(
        self, path: PathLike, end_id: int, maxlen: int, pad_token_id: int = -1, options: Any = None
    ) -> None:
        import onnxruntime

        super().__init__(None, end_id, maxlen)
        self.pad_token_id = pad_token_id
        self.path = path
        complete(Path(path).parent)
        size = size_of(path)
        with _errors_of(path):
            self.session = onnxruntime.InferenceSession(
                path, options, providers=["CPUExecutionProvider"]
            )
        inputs = self.session.get_inputs()
        self.names = [node.name for node in inputs]
        self.shapes = [node.shape[1:] for node in inputs[3:]]
        outputs = len(self.session.get_outputs())
        if not _is_writer(inputs, outputs) or _bytes_of(self.shapes) > 2 * FREE + 8 * size:
            described = [(node.name, node.type, node.shape) for node in inputs]
            raise ValueError(
                f"{path}: expected the inputs and outputs of export_writer, and a cache of a size "
                f"that a file of {size} bytes explains; got {shown(described)} and {outputs} "
                "outputs. Export the model again."
            )
        self.slots = self.shapes[0][-1]

    @AutoRegressiveDecoder.wraps(default_rtype="logits", use_states=True)
    def predict(self, inputs: list[np.ndarray], output_ids: np.ndarray, states: Any) -> Any:
        tokens = output_ids[:, -1:]
        if states is None:
            tokens = np.asarray(inputs[0])
            caches = [np.zeros((len(tokens), *shape), "float32") for shape in self.shapes]
            states = {"count": 0, "caches": caches}
        begin, caches = states["count"], states["caches"]
        end = begin + tokens.shape[1]
        if end > self.slots:
            raise ValueError(
                f"{self.path}: the prompt and the new tokens are more than the {self.slots} tokens "
                "of its cache. Export the model with more slots."
            )
        cache_positions = np.arange(begin, end, dtype="int32")[None]
        attention_mask = np.arange(self.slots) <= cache_positions[0][:, None]
        attention_mask = np.repeat(attention_mask[None], len(tokens), axis=0)
        text = np.concatenate([inputs[0], output_ids], axis=1)
        attention_mask[:, :, 1 : text.shape[1]] &= text[:, None, 1:] != self.pad_token_id
        feed = [tokens.astype("int32"), cache_positions, attention_mask, *caches]
        with _errors_of(self.path):
            logits, *new = self.session.run(None, dict(zip(self.names, feed, strict=True)))
            if logits.ndim != 3 or logits.shape[:2] != tokens.shape:
                raise ValueError(f"logits of shape {logits.shape} for tokens of {tokens.shape}")
            for array, columns in zip(caches, new, strict=True):
                array[..., begin:end] = columns
        return logits[:, -1], {"count": end, "caches": caches}


@contextmanager
def _errors_of(path):
    """Turns all errors of onnxruntime, and of using its outputs, into a `ValueError`."""
    try:
        yield
    except Exception as error:
        raise ValueError(
            f"{path}: expected a model of export_writer, got from onnxruntime:"
            f" {error!s:.200}. Export the model again."
        ) from error


def _is_writer(inputs, outputs):
    """Returns whether a model has the inputs and outputs of a file of `export_writer`."""
    if len(inputs) < 5 or outputs != len(inputs) - 2:
        return False
    slots = inputs[3].shape[-1:]
    types = [(node.type, len(node.shape)) for node in inputs[:3]]
    return (
        types == [("tensor(int32)", 2), ("tensor(int32)", 2), ("tensor(bool)", 3)]
        and all(node.type == "tensor(float)" for node in inputs[3:])
        and all(len(node.shape) > 2 and node.shape[-1:] == slots for node in inputs[3:])
        and all(type(n) is int and n > 0 for node in inputs[3:] for n in node.shape[1:])
    )


def _bytes_of(shapes):
    """Returns the number of bytes of keys and values of these shapes, for one row."""
    return 4 * sum(map(math.prod, shapes))
