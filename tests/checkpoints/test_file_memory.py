"""Models in the memory of a mapped file: used without a copy; nobody else sees what they change."""

import os
import shutil

import keras
import numpy as np
import pytest
from keras import ops

from bert4keras_lite import build_transformer_model
from bert4keras_lite.checkpoints import open_checkpoint
from bert4keras_lite.checkpoints.base import PrivateViews, release
from bert4keras_lite.optimizers import extend_with_gradient_accumulation

pytestmark = pytest.mark.skipif(os.name != "posix", reason="files are copied there")

SIZES = {
    "vocab_size": 60,
    "hidden_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "max_position": 16,
}
IDS = np.arange(1, 9)[None]
WEIGHTS = {"tf": "bert_model.ckpt.data-00000-of-00001", "hf": "model.safetensors"}
TRANSPOSED = "block_0/ffn/input/kernel"


def build(**options):
    return build_transformer_model(return_keras_model=False, **SIZES, **options)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A directory with the same BERT in both formats."""
    directory, transformer = tmp_path_factory.mktemp("bert"), build()
    for format in WEIGHTS:
        transformer.save_checkpoint(directory / format, format)
    return directory


def values(transformer):
    return {path: ops.convert_to_numpy(v).copy() for path, v in transformer.variables.items()}


def assert_equal(actual, expected, **tolerances):
    for path, value in expected.items():
        np.testing.assert_allclose(actual[path], value, err_msg=path, **tolerances or {"rtol": 0})


def train(transformer, optimizer="adam"):
    model = transformer.model
    model.compile(optimizer, "mse")
    model.optimizer.build(model.trainable_variables)
    model.fit([IDS, 0 * IDS], np.ones((1, 8, 32)), epochs=3, verbose=0)


@pytest.mark.parametrize("format", WEIGHTS)
def test_the_model_uses_the_memory_of_the_file(format, saved, monkeypatch):
    views, view_of = [], PrivateViews.view

    def view(self, array):
        views.append(view_of(self, array))
        return views[-1]

    monkeypatch.setattr(PrivateViews, "view", view)
    transformer = build_transformer_model(saved / format, return_keras_model=False)
    before = [view for view in views if view is not None]
    copied = keras.backend.backend() != "torch" and format == "hf"  # kernels, which are transposed
    assert len(before) == len(transformer.variables) - (6 if copied else 0)
    for view in before:
        view += 1
    expected = values(build_transformer_model(saved / "tf", return_keras_model=False))
    changed = [
        path
        for path, value in values(transformer).items()
        if np.array_equal(value, expected[path] + np.float32(1))
    ]
    assert len(changed) == len(before)


@pytest.mark.parametrize("format", WEIGHTS)
def test_training_changes_neither_the_file_nor_another_model(format, saved):
    file = saved / format / WEIGHTS[format]
    content, checkpoint = file.read_bytes(), open_checkpoint(saved / format)
    first, second = build(), build()
    first.load_checkpoint(checkpoint)
    second.load_checkpoint(checkpoint)
    before = values(first)
    train(first)
    assert not np.array_equal(values(first)[TRANSPOSED], before[TRANSPOSED])
    assert_equal(values(second), before)
    second.load_checkpoint(checkpoint)
    assert_equal(values(second), before)
    assert file.read_bytes() == content


@pytest.mark.parametrize("format", WEIGHTS)
@pytest.mark.parametrize("optimizer", ["adam", "extended"])
def test_training_is_that_of_copied_weights(format, optimizer, saved):
    trained = []
    for is_copied in (False, True):
        checkpoint = open_checkpoint(saved / format)
        transformer = build()
        transformer.load_checkpoint(
            {name: np.array(checkpoint[name]) for name in checkpoint} if is_copied else checkpoint
        )
        adam = keras.optimizers.Adam(0.01)
        if optimizer == "extended":
            adam = extend_with_gradient_accumulation(keras.optimizers.Adam)(
                0.01, gradient_accumulation_steps=1
            )
        train(transformer, adam)
        trained.append(values(transformer))
        if keras.backend.backend() == "torch":
            assert all(v.value.is_contiguous() for v in transformer.variables.values())
    assert_equal(*trained, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("format", WEIGHTS)
def test_a_model_is_saved_where_it_was_loaded(format, saved, tmp_path):
    shutil.copytree(saved / format, tmp_path, dirs_exist_ok=True)
    transformer = build_transformer_model(tmp_path, return_keras_model=False)
    train(transformer)
    trained = values(transformer)
    for _ in range(2):
        transformer.save_checkpoint(tmp_path, format)
        assert_equal(values(transformer), trained)
        assert_equal(values(build_transformer_model(tmp_path, return_keras_model=False)), trained)
    shutil.rmtree(tmp_path)
    assert_equal(values(transformer), trained)


def test_values_at_any_address_are_loaded(saved, tmp_path):
    """TensorFlow would abort the process if it got memory at another multiple than of 64."""
    shutil.copytree(saved / "hf", tmp_path, dirs_exist_ok=True)
    content = (saved / "hf" / WEIGHTS["hf"]).read_bytes()
    start = 8 + int.from_bytes(content[:8], "little")
    assert start % 64 == 0
    header = content[8:start] + b" " * 4
    moved = len(header).to_bytes(8, "little") + header + content[start:]
    (tmp_path / WEIGHTS["hf"]).write_bytes(moved)
    expected = values(build_transformer_model(saved / "tf", return_keras_model=False))
    assert_equal(values(build_transformer_model(tmp_path, return_keras_model=False)), expected)


@pytest.mark.once
@pytest.mark.parametrize("format", WEIGHTS)
def test_private_views_are_given_out_once(format, saved):
    checkpoint, views = open_checkpoint(saved / format), PrivateViews()
    name = next(name for name in checkpoint if name.endswith(("word_embeddings", "ings.weight")))
    array = checkpoint[name]
    view = views.view(array[10:])
    np.testing.assert_array_equal(view, array[10:])
    assert views.view(array) is views.view(array[10:]) is views.view(array[20:30, 3:5]) is None
    np.testing.assert_array_equal(views.view(array[:10].T), array[:10].T)
    old = array.copy()
    view[...] = 7
    release(array)
    assert (view == 7).all()
    np.testing.assert_array_equal(array, old)
    assert not array.flags.writeable


@pytest.mark.once
def test_files_that_may_change_have_no_private_views(saved, goldens, tmp_path):
    path, other = tmp_path / "model.safetensors", tmp_path / "other.safetensors"
    for change in (path.unlink, lambda: os.utime(path, (0, 0)), lambda: os.replace(other, path)):
        for copy in (path, other):
            shutil.copy(saved / "hf" / WEIGHTS["hf"], copy)
        checkpoint = open_checkpoint(path)
        array = checkpoint[next(iter(checkpoint))]
        assert PrivateViews().view(array) is not None
        change()
        assert PrivateViews().view(array) is None
    # programs write such files in place
    for file, name in (("torch.pt", "plain"), ("dense.weights.h5", "layers/dense/vars/0")):
        assert PrivateViews().view(open_checkpoint(goldens / file)[name]) is None
    assert PrivateViews().view(np.zeros(3)) is None


@pytest.mark.parametrize("format", WEIGHTS)
def test_weights_in_bfloat16(format, tmp_path):
    transformer = build(dtype="bfloat16")
    transformer.save_checkpoint(tmp_path, format)
    checkpoint = open_checkpoint(tmp_path)
    assert {str(checkpoint.dtype(name)) for name in checkpoint} == {"bfloat16"}
    loaded = build(dtype="bfloat16")
    loaded.load_checkpoint(checkpoint)
    assert {v.dtype for v in loaded.variables.values()} == {"bfloat16"}
    for path, value in values(transformer).items():
        np.testing.assert_array_equal(values(loaded)[path], value)
