"""`K`, functions on tensors, generators, files and the server of `compat`."""

import types
from pathlib import Path

import keras
import numpy as np
import pytest
from goldens.make_old_functions import CALLS

from bert4keras_lite.compat import backend, snippets
from bert4keras_lite.compat.backend import K, search_layer, set_gelu
from bert4keras_lite.compat.layers import Dense, Layer, LayerNormalization
from bert4keras_lite.compat.models import (
    BERT,
    Model,
    build_transformer_model,
    extend_with_unified_language_model,
    load_model,
)
from bert4keras_lite.compat.snippets import AutoRegressiveDecoder, DataGenerator, WebServing
from bert4keras_lite.compat.tokenizers import Tokenizer, load_vocab

GOLDEN = np.load(Path(__file__).parent / "goldens" / "old_functions.npz")
CONFIG = {
    "vocab_size": 20,
    "hidden_size": 8,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 12,
    "hidden_act": "gelu",
    "max_position_embeddings": 16,
}
IDS = np.array([[2, 5, 7, 3], [2, 4, 3, 0]])


def bert(**options):
    return build_transformer_model(CONFIG, return_keras_model=False, **options)


@pytest.mark.parametrize("name", CALLS)
def test_functions_give_what_they_gave(name):
    b = types.SimpleNamespace(
        K=K, backend=backend, snippets=snippets, t=keras.ops.convert_to_tensor,
        strQ2B=snippets.strQ2B,
    )  # fmt: skip
    found = CALLS[name](b)
    found = found if isinstance(found, np.ndarray) else keras.ops.convert_to_numpy(found)
    np.testing.assert_allclose(found, GOLDEN[name], rtol=1e-5, atol=2e-6)


def test_reshape_replaces_axes():
    x = keras.ops.ones((2, 3, 4))
    assert K.reshape(x, (2, -1), -1).shape == (2, 3, 2, 2)
    assert K.reshape(x, (3, 1), 1, (-1, 4), 2).shape == (2, 3, 1, 1, 4)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("gradients", "no symbolic gradients"),
        ("get_session", "no sessions"),
        ("permute_dimension", "Did you mean K.permute_dimensions"),
        ("no_such_thing", "See keras.ops"),
    ],
)
def test_names_without_a_counterpart_say_what_to_use(name, message):
    with pytest.raises(AttributeError, match=message):
        getattr(K, name)


def test_variables_and_functions_of_models():
    x = K.variable(np.ones((2, 2)))
    K.set_value(x, np.full((2, 2), 3.0))
    assert K.eval(x).sum() == 12
    symbol = keras.Input((3,))
    double = K.function([symbol], [2 * symbol])
    assert double([np.ones((1, 3))])[0].sum() == 6
    with pytest.raises(ValueError, match="no value"):
        K.eval(symbol)


def test_layers_know_whether_they_are_trained():
    class Double(Layer):
        def call(self, inputs, mask=None):
            return K.in_train_phase(2 * inputs, inputs)

    layer, x = Double(), np.ones((1, 2), "float32")
    assert np.sum(K.eval(layer(x, training=True))) == 4
    assert np.sum(K.eval(layer(x))) == 2
    with pytest.raises(RuntimeError, match="outside of a layer"):
        K.in_train_phase(x, x)


def test_search_layer_finds_layers_by_both_names():
    model = bert().model
    output = Dense(2)(model.output)
    assert search_layer(output, "Embedding-Token").embeddings.shape == (20, 8)
    assert search_layer(output, "token_embedding") is model.get_layer("token_embedding")
    assert search_layer(output, "Transformer-9-FeedForward") is None
    with pytest.raises(ValueError, match="before compile"):
        search_layer(np.ones(2), "Embedding-Token")


def test_set_gelu_changes_models_built_after_it():
    before = bert(prefix="a-").config.hidden_act
    set_gelu("tanh")
    try:
        after = bert(prefix="b-").config.hidden_act
    finally:
        set_gelu("erf")
    assert (before, after) == ("gelu", "gelu_tanh") or before != after


def test_parts_of_a_model_are_applied_to_other_inputs():
    transformer = bert(prefix="Small-")
    x = transformer.apply_embeddings(transformer.inputs)
    for i in range(transformer.num_hidden_layers):
        x = transformer.apply_main_layers(x, i)
    again = Model(transformer.inputs, transformer.apply_final_layers(x))
    batch = [IDS, 0 * IDS]
    np.testing.assert_allclose(again.predict(batch), transformer.model.predict(batch), atol=1e-6)


def test_a_class_of_a_script_changes_a_part():
    class Doubled(BERT):
        def apply_final_layers(self, inputs):
            return 2 * super().apply_final_layers(inputs)

    model = build_transformer_model(CONFIG, model=Doubled, return_keras_model=False)
    assert model.changes_parts
    plain = bert()
    for old, new in zip(model.model.weights, plain.model.weights, strict=True):
        new.assign(K.eval(old))
    batch = [IDS, 0 * IDS]
    np.testing.assert_allclose(
        model.model.predict(batch), 2 * plain.model.predict(batch), atol=1e-6
    )
    unilm = extend_with_unified_language_model(BERT)
    assert build_transformer_model(CONFIG, model=unilm).output.shape[-1] == 20


def test_weights_and_models_in_files_of_any_name(tmp_path):
    model = bert().model
    batch = [IDS, 0 * IDS]
    before = model.predict(batch)
    model.save_weights(tmp_path / "best_model.weights")
    model.save(tmp_path / "x.model")
    for variable in model.weights:
        variable.assign(0 * variable)
    model.load_weights(tmp_path / "best_model.weights")
    np.testing.assert_array_equal(model.predict(batch), before)
    np.testing.assert_allclose(load_model(tmp_path / "x.model").predict(batch), before, atol=1e-6)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["best_model.weights", "x.model"]
    with pytest.raises(FileNotFoundError, match="no such file"):
        model.load_weights(tmp_path / "other.weights")


def test_names_and_places_that_are_not_there():
    transformer = bert()
    model = transformer.model
    with pytest.raises(ValueError, match="No such layer: Transformer-7-FeedForward"):
        model.get_layer("Transformer-7-FeedForward")
    with pytest.raises(ValueError, match="its output is not in this graph"):
        _ = model.get_layer("Embedding-Segment").output
    with pytest.raises(ValueError, match="there is no output 1; expected -1 to 0"):
        model.get_layer("Transformer-0-FeedForward-Norm").get_output_at(1)
    part = Model(model.inputs, model.get_layer("Transformer-0-FeedForward-Norm").output)
    with pytest.raises(IndexError, match="only a part of the layers"):
        _ = part.layers[-2]
    other = keras.Input((3,))
    two = Model([*model.inputs, other], [model.output, other])
    with pytest.raises(IndexError, match="with other inputs"):
        _ = two.layers[-2]


def test_frozen_layers_by_name_of_bert4keras():
    model = bert().model
    for layer in model.layers:
        if layer.name.startswith(("Embedding", "Transformer-0")):
            layer.trainable = False
    trained = [variable.path for variable in model.trainable_variables]
    assert trained
    assert all(path.startswith("block_1/") for path in trained)


def test_what_is_trained_is_settled_by_compile():
    model = bert(with_pool=True).model
    model.compile("sgd", "mse")
    for layer in model.layers:
        layer.trainable = False
    before = [np.array(K.eval(weight)) for weight in model.weights]
    model.fit([IDS, 0 * IDS], np.ones((2, 8)), verbose=0)
    assert any((K.eval(w) != b).any() for w, b in zip(model.weights, before, strict=True))
    assert model.trainable_weights == []


def test_a_condition_comes_second():
    x, condition = np.ones((2, 3, 4), "float32"), np.ones((2, 5), "float32")
    layer = LayerNormalization(conditional=True)
    assert layer([x, condition]).shape == (2, 3, 4)
    assert [tuple(w.shape) for w in layer.weights] == [(4,), (4,), (5, 4), (5, 4)]
    with pytest.raises(ValueError, match="unit_variance"):
        LayerNormalization(unit_variance=False)


def test_models_with_train_functions_of_their_own_are_told_what_to_use():
    with pytest.raises(NotImplementedError, match="adversarial_training"):
        bert().model._make_train_function()


class Numbers(DataGenerator):
    def __iter__(self, random=False):
        batch = []
        for is_end, number in self.sample(random):
            batch.append(number)
            if len(batch) == self.batch_size or is_end:
                yield np.array(batch), None
                batch = []


def test_generators():
    data = Numbers(list(range(7)), batch_size=3)
    assert len(data) == 3
    assert [batch.tolist() for batch, _ in data] == [[0, 1, 2], [3, 4, 5], [6]]
    endless = data.forfit()
    numbers = [number for _ in range(3) for number in next(endless)[0].tolist()]
    assert sorted(numbers) == list(range(7))
    assert next(data.fortest()).tolist() == [0, 1, 2]
    stream = Numbers(iter(range(50)), batch_size=10, buffer_size=5)
    found = [n for batch, _ in stream.__iter__(random=True) for n in batch.tolist()]
    assert sorted(found) == list(range(50))
    assert found != list(range(50))
    with pytest.raises(TypeError, match="steps_per_epoch"):
        len(stream)
    with pytest.raises(NotImplementedError, match="define __iter__"):
        next(DataGenerator([1]).forfit())


def double(x):
    return 2 * x


@pytest.mark.parametrize("dummy", [True, False])
def test_parallel_apply(dummy):
    found = snippets.parallel_apply(double, range(9), 2, 4, dummy=dummy, unordered=False)
    assert found == [2 * i for i in range(9)]
    taken = []
    assert snippets.parallel_apply(double, range(3), 2, 4, taken.append, dummy=True) is None
    assert sorted(taken) == [0, 2, 4]


def test_files_with_indexed_lines(tmp_path):
    path = tmp_path / "lines.txt"
    with snippets.open(path, "w", encoding="utf-8") as file:
        file.write("一\n二\n三\n")
    with snippets.open(path, indexable=str(tmp_path / "index.json")) as file:
        assert len(file) == 3
        assert file[2] == "三\n"
        assert file[0] == "一\n"
    with snippets.open(path, indexable=str(tmp_path / "index.json")) as file:
        assert file[1] == "二\n"
        assert list(file) == ["三\n"]


def test_tokenizer_keeps_case_by_default(tmp_path):
    path = tmp_path / "vocab.txt"
    path.write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "A", "a", "##b"]))
    vocabulary = load_vocab(dict_path=path)
    assert Tokenizer(vocabulary).tokenize("A a") == ["[CLS]", "A", "a", "[SEP]"]
    assert Tokenizer(vocabulary, do_lower_case=True).tokenize("A") == ["[CLS]", "a", "[SEP]"]
    assert Tokenizer(vocabulary)._token_end_id == 3
    assert Tokenizer.stem("##b") == "b"


def test_vocabularies_without_special_tokens():
    tokenizer = Tokenizer({"a": 0, "b": 1})
    with pytest.raises(ValueError, match="_token_unk_id"):
        tokenizer.encode("a")
    tokenizer._token_unk_id = 0
    assert tokenizer.encode("abc b")[0] == [0, 0, 1, 0]
    assert tokenizer.ids_to_tokens([0, 1]) == ["a", "b"]


def test_the_first_blocks_of_a_checkpoint(tmp_path):
    transformer = bert()
    transformer.save_checkpoint(tmp_path)
    first = build_transformer_model(CONFIG, tmp_path, num_hidden_layers=1, return_keras_model=False)
    batch = [IDS, 0 * IDS]
    whole = Model(transformer.inputs, transformer.hidden_states[0])
    np.testing.assert_allclose(first.model.predict(batch), whole.predict(batch), atol=1e-6)


def test_decoders_run_as_they_did(capsys):
    model = bert(application="lm").model

    class Text(AutoRegressiveDecoder):
        @AutoRegressiveDecoder.wraps(default_rtype="probas")
        def predict(self, inputs, output_ids, states):
            ids = np.concatenate([inputs[0], output_ids], 1)
            return self.last_token(model).predict([ids, np.zeros_like(ids)])

    decoder = Text(start_id=None, end_id=3, maxlen=3)
    capsys.readouterr()
    assert 1 <= len(decoder.beam_search([[2, 5]], topk=2)) <= 3
    assert len(decoder.random_sample([[2, 5]], 2, topk=3)) == 2
    assert capsys.readouterr().out == ""


def test_web_serving():
    client = pytest.importorskip("fastapi.testclient")
    web = WebServing()
    web.route("/twice", lambda text, n=1: text * n, {"text": (None, True), "n": (int, False)})
    web.route("/post", lambda text: text, {"text": (None, True)}, method="POST")
    http = client.TestClient(web.app)
    assert http.get("/twice", params={"text": "好", "n": 2}).json() == {
        "code": 0,
        "desc": "succeeded",
        "data": "好好",
    }
    assert http.get("/twice").json()["code"] == 1
    assert http.get("/twice", params={"text": "x", "n": "y"}).json()["code"] == 2
