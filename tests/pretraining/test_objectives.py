"""Each objective's loss against NumPy, or against the graph that scores everything."""

import keras
import numpy as np
import pytest
from keras import ops
from running import long_but, outputs_of

from bert4keras_lite.losses import electra_loss
from bert4keras_lite.models import build_transformer_model
from bert4keras_lite.optimizers import SGD
from pretraining import objectives

VOCABULARY, BATCH, LENGTH, PREDICTIONS, WRITTEN = 40, 3, 11, 4, 6
SHAPE = {"vocab_size": VOCABULARY, "hidden_size": 12, "num_hidden_layers": 2}
SHAPE |= {"num_attention_heads": 3, "intermediate_size": 20}


def build(objective, model=None, **options):
    return objectives.build(objective, model=SHAPE | (model or {}), **options)


def batch(objective, seed=0):
    """A batch as `Examples` gives it: one row shorter, one with fewer predictions."""
    random = np.random.default_rng(seed)

    def ids(*shape):
        return random.integers(5, VOCABULARY, shape).astype("int32")

    token_ids, segment_ids = ids(BATCH, LENGTH), np.zeros((BATCH, LENGTH), "int32")
    token_ids[:, 0], token_ids[1, 8:], segment_ids[:, 5:] = 2, 0, objective == "unilm"
    inputs = {"token_ids": token_ids, "segment_ids": segment_ids}
    size = {"mlm": PREDICTIONS, "electra": PREDICTIONS, "t5": WRITTEN}.get(objective, LENGTH)
    targets, weights = ids(BATCH, size), np.ones((BATCH, size), "float32")
    weights[0, 2:] = 0
    if objective in ("mlm", "electra"):
        places = [1 + random.permutation(LENGTH - 4)[:PREDICTIONS] for _ in range(BATCH)]
        positions = np.sort(places).astype("int32")
        positions[weights == 0] = targets[weights == 0] = 0
        np.put_along_axis(token_ids, np.where(weights > 0, positions, 0), 4, axis=1)
        token_ids[:, 0] = 2
        inputs["masked_positions"] = positions
    if objective == "t5":
        inputs = {"encoder_token_ids": token_ids, "decoder_token_ids": ids(BATCH, WRITTEN)}
    return inputs, targets, weights


def of_model(objective, inputs):
    return {name: inputs[name] for name in objective.inputs}


def loss_of(objective, inputs, targets, weights):
    """The loss of a batch, as `evaluate` computes it."""
    objective.model.compile(SGD(0.0))
    return objective.model.evaluate(
        of_model(objective, inputs), targets, sample_weight=weights, return_dict=True, verbose=0
    )


def step(objective, data, rate=1.0):
    """What one step of gradient descent adds to each variable."""
    inputs, targets, weights = data
    variables = objective.model.trainable_variables
    before = [ops.convert_to_numpy(v) + 0 for v in variables]
    objective.model.compile(SGD(rate), run_eagerly=True)  # a single step
    objective.model.train_on_batch(of_model(objective, inputs), targets, sample_weight=weights)
    return {v.path: ops.convert_to_numpy(v) - old for v, old in zip(variables, before, strict=True)}


def expected_loss(scores, targets, weights):
    """NumPy: the weighted mean of the cross entropy, and the share of right answers."""
    scores = scores - scores.max(-1, keepdims=True)
    logs = scores - np.log(np.exp(scores).sum(-1, keepdims=True))
    losses = -np.take_along_axis(logs, targets[..., None], -1)[..., 0]
    right = scores.argmax(-1) == targets
    return (losses * weights).sum() / weights.sum(), (right * weights).sum() / weights.sum()


def all_scores(objective, inputs):
    """Those of the plain model, which scores every position."""
    model = objective.transformer.model
    names = [tensor.name for tensor in model.inputs]
    if objective.name == "t5":
        names = ["encoder_token_ids", "decoder_token_ids"]
    return outputs_of(model, [inputs[name] for name in names])[0]


@pytest.mark.parametrize("name", ["mlm", "lm", "unilm", "t5"])
@pytest.mark.parametrize("chunk", [None, 16])
def test_loss_is_that_of_numpy(name, chunk):
    objective = build(name, vocabulary_chunk=chunk)
    inputs, targets, weights = batch(name)
    scores = all_scores(objective, inputs)
    if name == "mlm":
        scores = np.take_along_axis(scores, inputs["masked_positions"][..., None], 1)
    loss, accuracy = expected_loss(scores, targets, weights)
    logs = loss_of(objective, inputs, targets, weights)
    np.testing.assert_allclose(logs["loss"], loss, rtol=2e-5)
    if chunk is None:
        np.testing.assert_allclose(logs["accuracy"], accuracy, rtol=1e-6)


@pytest.mark.parametrize(
    ("name", "model"),
    long_but(
        [("mlm", {}), ("t5", {"family": "t5.1.0"})],
        [
            ("mlm", {}),
            ("lm", {"family": "gpt2"}),
            ("lm", {"family": "bert"}),
            ("t5", {"family": "t5.1.1"}),
            ("t5", {"family": "t5.1.0"}),
        ],
    ),
)
def test_a_vocabulary_in_parts_gives_the_same_gradients(name, model):
    data, steps = batch(name), []
    for chunk in (None, 16):
        keras.utils.set_random_seed(1)
        steps.append(step(build(name, model, vocabulary_chunk=chunk), data))
    assert steps[0].keys() == steps[1].keys()
    for path, change in steps[0].items():
        np.testing.assert_allclose(steps[1][path], change, atol=2e-6, err_msg=path)
    assert all(np.abs(change).max() > 0 for path, change in steps[0].items() if "kernel" in path)


def test_masked_positions_alone_give_the_gradients_of_all():
    inputs, targets, weights = batch("mlm")
    keras.utils.set_random_seed(1)
    some = step(build("mlm"), (inputs, targets, weights))
    keras.utils.set_random_seed(1)
    everything = build("mlm")
    transformer = everything.transformer
    everything.model = objectives.TokenPrediction(transformer.inputs, transformer.outputs[0])
    everywhere, counted = np.zeros_like(inputs["token_ids"]), np.zeros((BATCH, LENGTH), "float32")
    np.put_along_axis(everywhere, inputs["masked_positions"], targets, 1)
    np.put_along_axis(counted, inputs["masked_positions"], weights, 1)
    for path, change in step(everything, (inputs, everywhere, counted)).items():
        np.testing.assert_allclose(some[path], change, atol=2e-6, err_msg=path)


def test_nothing_to_predict_is_no_loss():
    inputs, targets, weights = batch("mlm")
    logs = loss_of(build("mlm"), inputs, targets, weights * 0)
    assert logs["loss"] == 0


def electra_outputs(objective, inputs):
    return {
        name: np.array(ops.convert_to_numpy(value))
        for name, value in objective.model(of_model(objective, inputs)).items()
    }


def test_electra_loss_is_that_of_numpy():
    objective = build("electra", seed=3)
    inputs, targets, weights = batch("electra")
    logs = loss_of(objective, inputs, targets, weights)
    # the same noise once more
    again = build("electra", seed=3)
    for new, old in zip(again.model.variables, objective.model.variables, strict=True):
        if "seed" not in new.path:
            new.assign(old)
    outputs = electra_outputs(again, inputs)

    token_ids, positions = inputs["token_ids"], inputs["masked_positions"]
    read, replaced = token_ids.copy(), np.zeros_like(token_ids)
    for row, slot in np.argwhere(weights):
        read[row, positions[row, slot]] = guess = outputs["guesses"][row, slot]
        replaced[row, positions[row, slot]] = guess != targets[row, slot]
    assert (read != token_ids).any()
    judged = again.transformer.model.predict([read, inputs["segment_ids"]], verbose=0)
    np.testing.assert_allclose(outputs["judged"], judged, atol=1e-5)

    generator, accuracy = expected_loss(outputs["logits"], targets, weights)
    right = np.where(replaced, judged[..., 0], -judged[..., 0])
    discriminator = np.log1p(np.exp(-right))[token_ids != 0].mean()
    np.testing.assert_allclose(logs["generator_loss"], generator, rtol=1e-5)
    np.testing.assert_allclose(logs["discriminator_loss"], discriminator, rtol=1e-5)
    np.testing.assert_allclose(logs["loss"], generator + 50 * discriminator, rtol=1e-5)
    np.testing.assert_allclose(logs["accuracy"], accuracy, rtol=1e-5)
    np.testing.assert_allclose(
        logs["detected"], (judged[..., 0] > 0)[replaced > 0].mean(), rtol=1e-5
    )
    known = np.where(weights > 0, targets, -1), np.where(token_ids != 0, replaced, -1)
    ours = electra_loss(known, (outputs["logits"], outputs["judged"]))
    np.testing.assert_allclose(logs["loss"], float(ours), rtol=1e-5)


def test_no_gradient_goes_through_the_guesses():
    steps = []
    for weight in (0.0, 50.0):
        keras.utils.set_random_seed(1)
        objective = build("electra", discriminator_weight=weight, seed=1)
        steps.append(step(objective, batch("electra")))
    shared = ("token_embedding", "segment_embedding", "position_embedding", "embedding_norm")
    own = [path for path in steps[0] if not path.startswith("discriminator_")]
    assert own and all(path.split("/")[0] not in shared for path in own)
    for path in own:
        np.testing.assert_array_equal(steps[0][path], steps[1][path], err_msg=path)
    judges = [path for path in steps[0] if path.startswith("discriminator_block")]
    assert judges and not any(steps[0][path].any() for path in judges)
    assert all(np.isfinite(steps[1][path]).all() for path in judges)
    assert any(steps[1][path].any() for path in judges)


def test_guesses_are_drawn_from_the_softmax():
    scores = np.log(np.array([0.6, 0.3, 0.1, 1e-9], "float32"))
    layer = objectives.GumbelSample(seed=0)
    drawn = ops.convert_to_numpy(layer(np.broadcast_to(scores, (20, 500, 4))))
    shares = np.bincount(drawn.ravel(), minlength=4) / drawn.size
    np.testing.assert_allclose(shares, [0.6, 0.3, 0.1, 0], atol=0.02)
    next_ones = ops.convert_to_numpy(layer(np.broadcast_to(scores, (20, 500, 4))))
    assert (next_ones != drawn).any()
    same = objectives.GumbelSample(seed=0)(np.broadcast_to(scores, (20, 500, 4)))
    np.testing.assert_array_equal(ops.convert_to_numpy(same), drawn)


def test_electra_halves_share_embeddings_and_are_saved_apart(tmp_path):
    objective = build("electra", {"embedding_size": 8}, generator_size=0.34)
    discriminator, generator = objective.parts["discriminator"], objective.parts["generator"]
    assert objective.transformer is discriminator
    assert generator.config.hidden_size == 4 and generator.config.num_attention_heads == 1
    for name in ("token_embedding/embeddings", "position_embedding/embeddings"):
        assert discriminator.variables[name] is generator.variables[name]
    step(objective, batch("electra"), rate=0.01)
    folders = objective.save(tmp_path, "tf")
    assert [folder.name for folder in folders] == ["discriminator", "generator"]
    inputs, _, _ = batch("electra")
    plain = [inputs["token_ids"], inputs["segment_ids"]]
    for name, head in (("discriminator", "with_discriminator"), ("generator", "with_lm")):
        loaded = build_transformer_model(tmp_path / name, **{head: "linear"})
        expected = objective.parts[name].model.predict(plain, verbose=0)
        np.testing.assert_allclose(loaded.predict(plain, verbose=0), expected, atol=1e-5)
    again = objectives.build(
        "electra",
        checkpoint=str(tmp_path / "discriminator"),
        generator_checkpoint=str(tmp_path / "generator"),
        generator_size=0.34,
    )
    for name, part in objective.parts.items():
        for path, variable in again.parts[name].variables.items():
            expected = ops.convert_to_numpy(part.variables[path])
            np.testing.assert_array_equal(ops.convert_to_numpy(variable), expected, err_msg=path)


@pytest.mark.parametrize("name", long_but(["mlm", "t5"], list(objectives.DEFAULT_FAMILIES)))
def test_training_learns_and_is_saved(name, tmp_path):
    objective = build(name)
    inputs, targets, weights = batch(name)
    objective.model.compile(keras.optimizers.Adam(0.01))
    objective.model.optimizer.build(objective.model.trainable_variables)
    data = of_model(objective, inputs)
    logs = [
        objective.model.train_on_batch(data, targets, sample_weight=weights, return_dict=True)
        for _ in range(15)
    ]
    assert logs[-1]["loss"] < 0.9 * logs[0]["loss"]
    objective.save(tmp_path, "tf")
    assert list(tmp_path.rglob("*.index"))


@pytest.mark.parametrize("name", long_but(["mlm"], ["mlm", "electra"]))
def test_half_precision_and_recomputation_change_little(name):
    losses = []
    for policy, remat in (("float32", False), ("mixed_bfloat16", True)):
        keras.config.set_dtype_policy(policy)
        try:
            keras.utils.set_random_seed(2)
            objective = build(name, {"num_hidden_layers": 1}, remat=remat)
        finally:
            keras.config.set_dtype_policy("float32")
        inputs, targets, weights = batch(name)
        objective.model.compile(SGD(0.01))
        objective.model.optimizer.build(objective.model.trainable_variables)
        data = of_model(objective, inputs)
        for _ in range(2):
            logs = objective.model.train_on_batch(
                data, targets, sample_weight=weights, return_dict=True
            )
        losses.append(float(logs["loss"]))
    np.testing.assert_allclose(losses[1], losses[0], rtol=0.03)


def test_flops_are_those_counted_by_hand():
    objective = build("mlm")
    hidden, inner, layers = 12, 20, 2
    blocks = layers * LENGTH * (4 * hidden**2 + 2 * hidden * inner)
    attention = layers * 2 * LENGTH**2 * hidden
    head = PREDICTIONS * (hidden**2 + hidden * VOCABULARY)
    expected = 3 * 2 * (blocks + attention + head)
    assert objective.flops_per_example(LENGTH, PREDICTIONS) == expected
    albert = build("mlm", {"family": "albert"})
    assert albert.flops_per_example(LENGTH, PREDICTIONS) == expected


def test_flops_of_an_encoder_and_a_decoder():
    objective = build("t5", {"family": "t5.1.0"})
    hidden, inner, layers = 12, 20, 2
    encoder = LENGTH * (4 * hidden**2 + 2 * hidden * inner) + 2 * LENGTH**2 * hidden
    decoder = WRITTEN * (6 * hidden**2 + 2 * hidden * inner) + LENGTH * 2 * hidden**2
    decoder += 2 * WRITTEN * (WRITTEN + LENGTH) * hidden
    head = WRITTEN * hidden * VOCABULARY
    expected = 3 * 2 * (layers * (encoder + decoder) + head)
    assert objective.flops_per_example(LENGTH, WRITTEN, WRITTEN) == expected


def test_what_does_not_fit_is_one_error(tmp_path):
    with pytest.raises(ValueError, match="vocabulary of 41 tokens"):
        build("mlm", vocab_size=41)
    with pytest.raises(ValueError, match="t5 is for models with an encoder and a decoder"):
        build("mlm", {"family": "t5.1.1"})
    with pytest.raises(ValueError, match="t5 is for models with an encoder and a decoder"):
        build("t5", {"family": "bert"})
    with pytest.raises(ValueError, match="segment_vocab_size"):
        build("unilm", {"family": "gpt2"})


def test_starts_from_a_checkpoint(tmp_path):
    first = build("mlm")
    first.save(tmp_path, "hf")
    inputs, targets, weights = batch("mlm")
    expected = loss_of(first, inputs, targets, weights)["loss"]
    again = objectives.build("mlm", checkpoint=str(tmp_path))
    np.testing.assert_allclose(
        loss_of(again, inputs, targets, weights)["loss"], expected, rtol=1e-5
    )
