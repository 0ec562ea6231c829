"""Writing with onnxruntime, which needs no Keras and multiplies 8-bit integers fast on a CPU."""

import copy
import math
import tempfile
from contextlib import contextmanager
from pathlib import Path

import keras
import numpy as np
from keras import ops

from ..arguments import checks_flags
from ..files import complete, saving
from ..layers import Cache
from ..parsing import FREE, shown, size_of
from .autoregressive import AutoRegressiveDecoder
from .generate import transformer_of


@checks_flags
def export_writer(model, path, slots=512, int8=False):
    """Writes a model that writes as an ONNX file, for `OnnxWriter`.

    Args:
        model: a language model of one stack (GPT, or `application="lm"`). Keras must run on
            PyTorch, whose exporter is the only one that knows all of its operations: save the
            model, and load it there.
        path: of the file.
        slots: how many tokens a prompt and what is written may have together.
        int8: weights and activations as 8-bit integers, by onnxruntime's dynamic quantization:
            a quarter of the size, and faster on a CPU.

    Raises:
        RuntimeError: Keras runs on another backend.
        ValueError: the model is another, or the path a directory.
        ImportError: `int8` needs onnxruntime.
        OSError: the file cannot be written; then what was there is unchanged.
    """
    if keras.backend.backend() != "torch":
        raise RuntimeError(
            "export_writer needs Keras on PyTorch: save the model, set KERAS_BACKEND=torch, load "
            "it again."
        )
    if int8:
        from onnxruntime.quantization import quantize_dynamic
    transformer = transformer_of(model)
    c = transformer.config
    path = Path(path)
    if path.is_dir():
        raise ValueError(f"path={str(path)!r}: expected the name of a file, got a directory.")
    if c.stacks != "one" or c.attend != "lm" or transformer.condition is not None:
        raise ValueError(f"{c.family}: only a language model of one stack can be exported so far.")
    keys, values = [
        (1, c.key_size, slots), (1, c.intermediate_size, slots)
    ] if c.attention == "gau" else [
        (1, c.num_attention_heads, size, slots) for size in (c.key_size, c.head_size)
    ]  # fmt: skip
    shapes = [shape for _ in range(c.num_hidden_layers) for shape in (keys, values)]
    example = [np.ones((1, 2), "int32"), np.arange(2, dtype="int32")[None]]
    example += [np.ones((1, 2, slots), bool), *(np.zeros(shape, "float32") for shape in shapes)]
    step = OneStep(transformer)
    step(example)
    signature = [((None, None), "int32"), ((1, None), "int32"), ((None, None, slots), "bool")]
    signature += [((None, *shape[1:]), "float32") for shape in shapes]
    signature = [[keras.InputSpec(shape=shape, dtype=dtype) for shape, dtype in signature]]
    with saving(path.parent) as stage, tempfile.TemporaryDirectory() as folder:
        whole = Path(folder if int8 else stage) / path.name
        step.export(whole, format="onnx", input_signature=signature, verbose=False)
        if int8:
            quantize_dynamic(whole, stage / path.name, extra_options={"MatMulConstBOnly": True})


class OneStep(keras.Model):
    """Tokens, their slots, what each sees, and all keys and values, to scores and what is new.

    Call arguments:
        inputs: list of `tokens` `(rows, length)`, `slots` `(1, length)`, `visible`
            `(rows, length, all slots)`, and of each block the keys and the values
            `(rows, ..., all slots)`.

    Returns:
        A list: scores `(rows, length, vocab_size)`, and of each block the keys and the values of
        these tokens, `(rows, ..., length)`.
    """

    def __init__(self, transformer):
        super().__init__()
        self.model = transformer.model  # whose weights are exported
        self.transformer = transformer

    def call(self, inputs):
        tokens, slots, visible, *arrays = inputs
        transformer = copy.copy(self.transformer)
        transformer.hidden_states = []
        pairs = zip(arrays[::2], arrays[1::2], strict=True)
        caches = [{"attention": RecordingCache(*pair, slots[0, 0])} for pair in pairs]
        scores = transformer.decode_step(
            caches,
            tokens,
            ops.zeros_like(tokens) if transformer.config.has_segments else None,
            ops.zeros_like(slots[:, :1]),
            slots,
            ops.arange(visible.shape[2], dtype="int32")[None],
            visible=visible,
        )
        return [scores, *(x for block in caches for x in block["attention"].new)]


class RecordingCache(Cache):
    """A cache that also keeps what was written last by itself."""

    new = ()

    def written(self, slots, new):
        self.new = (*self.new, new)
        return super().written(slots + 0, new)  # the graph's inputs stay as they are


class OnnxWriter(AutoRegressiveDecoder):
    """Writes with a file of `export_writer`: `beam_search` and `random_sample` on token ids.

    Args:
        path: of the file.
        end_id: the token that ends a sequence; -1: none.
        maxlen: how many tokens to write at most.
        pad_token_id: of the model's config: what no later token sees; -1 (GPT, GPT-2): all is seen.
        options: `onnxruntime.SessionOptions`, or None.

    Raises:
        ValueError: the file is no model of `export_writer`; also when it is asked to generate.
        ImportError: onnxruntime is missing.
        OSError: the file is not there.

    Example:
        >>> export_writer(gpt, "gpt.onnx", slots=256, int8=True)
        >>> writer = OnnxWriter("gpt.onnx", tokenizer.token_end_id, maxlen=100)
        >>> tokenizer.decode(writer.random_sample([ids], n=1, topp=0.9)[0])
    """

    def __init__(self, path, end_id, maxlen, pad_token_id=-1, options=None):
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
                f"{path}: expected the inputs and outputs of a model of export_writer, with keys and"
                f" values that {size} bytes explain, got {shown(described)} and {outputs} outputs."
                " Export the model again."
            )
        self.slots = self.shapes[0][-1]

    @AutoRegressiveDecoder.wraps(default_rtype="logits", use_states=True)
    def predict(self, inputs, output_ids, states):
        tokens = output_ids[:, -1:]
        if states is None:
            tokens = np.asarray(inputs[0])
            caches = [np.zeros((len(tokens), *shape), "float32") for shape in self.shapes]
            states = {"count": 0, "caches": caches}
        begin, caches = states["count"], states["caches"]
        end = begin + tokens.shape[1]
        if end > self.slots:
            raise ValueError(
                f"the prompt and what is written have more than the {self.slots} tokens that the "
                "file has room for: export it with more slots."
            )
        places = np.arange(begin, end, dtype="int32")[None]
        visible = np.arange(self.slots) <= places[0][:, None]
        visible = np.repeat(visible[None], len(tokens), axis=0)
        text = np.concatenate([inputs[0], output_ids], axis=1)
        visible[:, :, 1 : text.shape[1]] &= text[:, None, 1:] != self.pad_token_id
        feed = [tokens.astype("int32"), places, visible, *caches]
        with _errors_of(self.path):
            scores, *new = self.session.run(None, dict(zip(self.names, feed, strict=True)))
            if scores.ndim != 3 or scores.shape[:2] != tokens.shape:
                raise ValueError(f"logits of shape {scores.shape} for tokens of {tokens.shape}")
            for slots, columns in zip(caches, new, strict=True):
                slots[..., begin:end] = columns
        return scores[:, -1], {"count": end, "caches": caches}


@contextmanager
def _errors_of(path):
    """Turns errors of onnxruntime, each of a type of its own, and of what it gives into one."""
    try:
        yield
    except Exception as error:
        raise ValueError(
            f"{path}: expected a model of export_writer, got from onnxruntime:"
            f" {error!s:.200}. Export the model again."
        ) from error


def _is_writer(inputs, outputs):
    """Whether a model takes and returns what that of `export_writer` does."""
    if len(inputs) < 5 or outputs != len(inputs) - 2:
        return False
    slots = inputs[3].shape[-1:]
    kinds = [(node.type, len(node.shape)) for node in inputs[:3]]
    return (
        kinds == [("tensor(int32)", 2), ("tensor(int32)", 2), ("tensor(bool)", 3)]
        and all(node.type == "tensor(float)" for node in inputs[3:])
        and all(len(node.shape) > 2 and node.shape[-1:] == slots for node in inputs[3:])
        and all(type(n) is int and n > 0 for node in inputs[3:] for n in node.shape[1:])
    )


def _bytes_of(shapes):
    """What keys and values of these shapes take for one row."""
    return 4 * sum(map(math.prod, shapes))
