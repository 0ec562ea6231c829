"""Models that leave Keras: SavedModel and ONNX, with any batch size and length."""

import os

import keras
import numpy as np
import pytest
from running import long_but

from bert4keras_lite.generation import OnnxWriter, export_writer, generate
from bert4keras_lite.models import build_transformer_model

BACKEND = keras.backend.backend()
APPLICATIONS = long_but(["lm"], ["encoder", "lm", "unilm"])


@pytest.fixture
def model(request):
    return build_transformer_model(
        vocab_size=60,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=56,
        max_position=24,
        with_mlm="linear",
        application=request.param,
    )


def batches():
    for shape in ((2, 7), (1, 12), (3, 1)):
        ids = np.random.RandomState(0).randint(1, 60, shape).astype("int32")
        ids[0, shape[1] // 2 + 1 :] = 0
        yield [ids, (np.arange(shape[1]) > 3).astype("int32") * np.ones_like(ids)]


@pytest.mark.skipif(BACKEND == "torch", reason="Keras exports SavedModel from TensorFlow and JAX")
@pytest.mark.parametrize("model", APPLICATIONS, indirect=True)
def test_saved_model(model, tmp_path):
    tf = pytest.importorskip("tensorflow")
    options = {}
    if BACKEND == "jax":  # both inputs have the same length, which Keras can't know
        shapes = [["(batch, length)", "(batch, length)"]]
        options = {"jax2tf_kwargs": {"native_serialization": True, "polymorphic_shapes": shapes}}
    model.export(tmp_path / "saved", format="tf_saved_model", verbose=False, **options)
    loaded = tf.saved_model.load(tmp_path / "saved")
    for inputs in batches():
        np.testing.assert_allclose(
            loaded.serve(inputs), model.predict_on_batch(inputs), rtol=0, atol=1e-5
        )


@pytest.mark.skipif(BACKEND == "jax", reason="reload the .keras file on TensorFlow or PyTorch")
@pytest.mark.parametrize("model", APPLICATIONS, indirect=True)
def test_onnx(model, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("tf2onnx" if BACKEND == "tensorflow" else "onnxscript")
    expected = [model.predict_on_batch(inputs) for inputs in batches()]
    model.export(tmp_path / "model.onnx", format="onnx", verbose=False)
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    names = [node.name for node in session.get_inputs()]
    for inputs, golden in zip(batches(), expected, strict=True):
        (output,) = session.run(None, dict(zip(names, inputs, strict=True)))
        np.testing.assert_allclose(output, golden, rtol=0, atol=1e-5)


@pytest.mark.skipif(BACKEND != "torch", reason="the exporter that knows the step is PyTorch's")
@pytest.mark.parametrize("family", ["gpt2", "roformer", "nezha", "gau_alpha"])
def test_writing_with_onnxruntime(family, tmp_path):
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    model = build_transformer_model(
        model=family,
        application="lm",
        vocab_size=60,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=56,
        max_position=40,
        initializer_range=0.5,
        with_lm="linear",
    )
    expected = generate(model, [5, 6, 7], 8)[0].ids.tolist()
    path = tmp_path / "writer.onnx"
    export_writer(model, path, slots=16)
    pad = model.transformer.config.pad_token_id
    writer = OnnxWriter(path, end_id=-1, maxlen=8, pad_token_id=pad)
    assert writer.beam_search([[5, 6, 7]], topk=1).tolist() == expected
    beams = generate(model, [5, 6, 7], 8, num_beams=3, early_stopping="best")[0].ids.tolist()
    assert writer.beam_search([[5, 6, 7]], topk=3).tolist() == beams
    with pytest.raises(ValueError, match="more than the 16 tokens"):
        writer.beam_search([[5] * 10], topk=1)
    export_writer(model, tmp_path / "int8.onnx", slots=16, int8=True)
    writer = OnnxWriter(tmp_path / "int8.onnx", end_id=-1, maxlen=8)
    assert len(writer.random_sample([[5, 6, 7]], n=2, topk=5, seed=0)) == 2


@pytest.mark.skipif(BACKEND == "torch", reason="there it works")
def test_writing_with_onnxruntime_needs_torch(tmp_path):
    with pytest.raises(RuntimeError, match="KERAS_BACKEND=torch"):
        export_writer(None, tmp_path / "writer.onnx")


FLOAT, INT, BOOL = "tensor(float)", "tensor(int32)", "tensor(bool)"
FRONT = [(INT, [None, None]), (INT, [1, None]), (BOOL, [None, None, 8])]


@pytest.mark.once
@pytest.mark.parametrize(
    ("inputs", "told"),
    [
        (None, "from onnxruntime"),
        ([(INT, [None, None])], "and 1 outputs"),
        ([*FRONT, *[(FLOAT, [None, "x", 4, "slots"])] * 2], "explain"),
        ([*FRONT, *[(FLOAT, [])] * 2], "explain"),
        ([*FRONT, *[(FLOAT, [None, 1, 1, 1 << 40])] * 2], "explain"),
        ([*FRONT, (FLOAT, [None, 2, 4, 8]), (FLOAT, [None, 2, 4, 9])], "explain"),
        ([*FRONT, *[(FLOAT, [None, 2, 4, 8])] * 2], None),
    ],
)
def test_onnx_files_of_strangers(tmp_path, inputs, told):
    pytest.importorskip("onnxruntime")
    onnx = pytest.importorskip("onnx")
    path = tmp_path / "writer.onnx"
    path.write_bytes(b"hello" if inputs is None else onnx_model(onnx.helper, inputs))
    with pytest.raises(ValueError, match=rf"writer\.onnx: expected .*{told or 'logits of shape'}"):
        writer = OnnxWriter(path, end_id=-1, maxlen=4)
        assert told is None  # only what comes out of it is none of a writer
        writer.beam_search([[2, 3]], topk=1)


@pytest.mark.once
def test_an_onnx_file_that_is_a_pipe_is_not_waited_for(tmp_path):
    pytest.importorskip("onnxruntime")
    os.mkfifo(tmp_path / "writer.onnx")
    with pytest.raises(ValueError, match="expected a file"):
        OnnxWriter(tmp_path / "writer.onnx", end_id=-1, maxlen=4)


def onnx_model(helper, inputs):
    """A model that gives back what it got, as many times as a writer has outputs."""
    types = {FLOAT: 1, INT: 6, BOOL: 9}
    names = [f"in{i}" for i in range(len(inputs))]
    outputs = [f"out{i}" for i in range(max(len(inputs) - 2, 1))]
    values = [
        helper.make_tensor_value_info(name, types[kind], shape)
        for name, (kind, shape) in zip(names, inputs, strict=True)
    ]
    nodes = [helper.make_node("Cast", [names[0]], [name], to=1) for name in outputs]
    results = [helper.make_tensor_value_info(name, 1, None) for name in outputs]
    graph = helper.make_graph(nodes, "graph", values, results)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    return model.SerializeToString()
