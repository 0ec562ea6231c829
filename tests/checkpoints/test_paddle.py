"""Paddle's `.pdparams`: read without Paddle, and without running what they contain."""

import json
import pickle
import re
from pathlib import Path

import numpy as np
import pytest

from bert4keras_lite.checkpoints import CheckpointError, open_checkpoint
from bert4keras_lite.checkpoints.dialects import adapt
from bert4keras_lite.configs import ARCHITECTURES, Config
from bert4keras_lite.configs.published import translate
from bert4keras_lite.configs.recognition import (
    infer_from_weights,
    recognize,
    resolve_ambiguities,
    unmatched_names,
)
from bert4keras_lite.configs.weights import match_weights
from bert4keras_lite.shapes import shapes_of

pytestmark = pytest.mark.once

RANDOM = np.random.default_rng(0)
GRID = RANDOM.standard_normal((300, 40)).astype("float32")
ARRAYS = {
    "turned": GRID.T[:7, :5],
    "fortran": np.asfortranarray(GRID[:7, :5]),
    "large": GRID,
    "tied": GRID,
    "词": np.arange(3),
    "scalar": np.array(5, "float32"),
    "empty": np.zeros((0, 4), "float32"),
    "half": GRID[:2].astype("float16"),
    "window": GRID[:, :7],
}


def paddle_file(folder, content, protocol):
    path = folder / "model_state.pdparams"
    path.write_bytes(pickle.dumps(content, protocol))
    return path


@pytest.mark.parametrize("protocol", [2, 3, 4])
@pytest.mark.parametrize("is_named", [False, True])
def test_arrays_of_every_protocol(tmp_path, protocol, is_named, assert_same):
    """Since 2.1 a dict that is no state_dict has pairs of a name and an array."""
    content = {name: (name, array) if is_named else array for name, array in ARRAYS.items()}
    content["StructuredToParameterName@@"] = dict.fromkeys(ARRAYS, "embedding_0.w_0")
    paddle_file(tmp_path, content, protocol)
    checkpoint = open_checkpoint(tmp_path)
    assert checkpoint.format == "paddle"
    assert_same(checkpoint, ARRAYS)


@pytest.mark.parametrize("protocol", [2, 4])
@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({}, "holds no arrays by name; expected a state_dict"),
        ({"a": {"b": GRID}}, "holds no arrays by name"),
        ({"a": GRID, "UnpackBigParamInfor@@": {}}, "its large arrays are in parts"),
        ({"a": GRID.astype(">f4")}, "'a' holds values of kind big-endian f4"),
        ({"a": GRID.astype("complex64")}, "'a' holds values of kind c8"),
    ],
)
def test_what_cannot_be_read(tmp_path, protocol, content, message):
    with pytest.raises(CheckpointError, match=f"model_state.pdparams: {message}"):
        dict(open_checkpoint(paddle_file(tmp_path, content, protocol)))


class Malice:
    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return Path(self.target).touch, ()


@pytest.mark.parametrize("protocol", [2, 4])
def test_code_is_not_run(tmp_path, protocol):
    target = tmp_path / "executed"
    path = paddle_file(tmp_path, {"a": Malice(target), "b": GRID}, protocol)
    assert set(open_checkpoint(path)) == {"b"} and not target.exists()
    pickle.loads(path.read_bytes())
    assert target.exists()  # so the test would have noticed


# names of PaddleNLP

SIZES = {
    "vocab_size": 60,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 128,
    "max_position": 40,
    "segment_vocab_size": 4,
    "task_vocab_size": 3,
}
ERNIE = Config.from_values(ARCHITECTURES["ernie"] | SIZES)
CONFIG = {
    "vocab_size": 60,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 40,
    "hidden_act": "gelu",
    "type_vocab_size": 4,
    "task_type_vocab_size": 3,
    "use_task_id": True,
    "task_id": 0,
    "initializer_range": 0.02,
}
# model_config.json, in which a class has the arguments of another
PADDLE_CONFIG = {
    "init_args": [{"init_args": [CONFIG], "init_class": "ErnieModel"}],
    "init_class": "UIE",
}
UIE_CONFIG = CONFIG | {"architectures": ["UIE"], "layer_norm_eps": 1e-12, "intermediate_size": 128}
POINTERS = {
    f"linear_{side}.{end}": RANDOM.standard_normal(shape).astype("float32")
    for side in ("start", "end")
    for end, shape in (("weight", (1, 32)), ("bias", (1,)))
}
PADDLE_NAMES = [
    (r"\.layer\.(\d+)\.", r".layers.\1."),
    (r"attention\.self\.(q)uery|attention\.self\.(k)ey|attention\.self\.(v)alue", None),
    (r"attention\.output\.dense", "self_attn.out_proj"),
    (r"attention\.output\.LayerNorm", "norm1"),
    (r"intermediate\.dense", "linear1"),
    (r"(layers\.\d+\.)output\.dense", r"\1linear2"),
    (r"(layers\.\d+\.)output\.LayerNorm", r"\1norm2"),
    ("LayerNorm", "layer_norm"),
]


def in_paddle(name, array):
    """The name and the array as PaddleNLP stores them: matrices as they are multiplied."""
    is_matrix = name.endswith("weight") and array.ndim == 2 and "embeddings" not in name
    for pattern, new in PADDLE_NAMES:
        new = new or (lambda match: f"self_attn.{match[0].split('.')[-1][0]}_proj")
        name = re.sub(pattern, new, name)
    return name, array.T if is_matrix else array


@pytest.fixture(scope="module")
def weights():
    """An ERNIE's weights, with the names of transformers."""
    from bert4keras_lite import mappings
    from bert4keras_lite.checkpoints.matching import gather

    arrays = {path: RANDOM.standard_normal(s, "float32") for path, s in shapes_of(ERNIE).items()}
    table = mappings.WEIGHTS["ernie"]
    named = gather(arrays, table, mappings.ROLES, "hf", ERNIE.block_counts)
    return {name: np.array(read()) for name, read in named.items()}


@pytest.mark.parametrize("prefix", ["encoder.", "ernie.", ""])
@pytest.mark.parametrize("form", ["torch", "paddle"])
def test_names_of_uie(weights, prefix, form):
    """uie_pytorch has transformers' names, but for the prefix; both have two pointers."""
    raw = UIE_CONFIG if form == "torch" else PADDLE_CONFIG
    theirs = {name.replace("ernie.", prefix, 1): array for name, array in weights.items()}
    theirs |= POINTERS
    if form == "paddle":
        theirs = dict(in_paddle(name, array) for name, array in theirs.items())
    ours = adapt(theirs)
    values = translate(json.loads(json.dumps(raw)))
    family = recognize(values, list(ours))
    assert family == "ernie"
    values, warnings = resolve_ambiguities(family, values, ours)
    inferred = infer_from_weights(ours, family, values)
    config = Config.from_values(ARCHITECTURES[family] | inferred | values)
    assert (config.task_vocab_size, config.segment_vocab_size, warnings) == (3, 4, [])
    assert config.norm_epsilon == 1e-12  # set by PaddleNLP's `init_weights`
    for name, array in weights.items():
        found = ours[name if name in ours else name.removeprefix("ernie.")]
        np.testing.assert_array_equal(found, array, name)
    for end in ("weight", "bias"):
        both = [POINTERS[f"linear_{side}.{end}"] for side in ("start", "end")]
        np.testing.assert_array_equal(ours[f"qa_outputs.{end}"], np.concatenate(both))
    assert not unmatched_names(ours, ARCHITECTURES[family])
    assert match_weights(shapes_of(config), ours, config, "x")


@pytest.mark.parametrize("shape", [(2, 32), (1, 31)])
def test_pointers_of_other_shapes(weights, shape):
    wrong = POINTERS | {"linear_start.weight": np.zeros(shape, "float32")}
    with pytest.raises(CheckpointError, match="expected both, with one row each"):
        adapt(weights | wrong)
    del wrong["linear_start.weight"]
    with pytest.raises(CheckpointError, match="expected both, with one row each"):
        adapt(weights | wrong)
