"""A user's own scoring function under bert4keras' interface; constraints; Gibbs sampling."""

import itertools
import json
from collections import namedtuple

import keras
import numpy as np
import pytest
from goldens.recipes import FOLDER, scores_after
from hypothesis import given
from hypothesis import strategies as st

from bert4keras_lite.generation import (
    AutoRegressiveDecoder,
    Substrings,
    Trie,
    generate,
    gibbs_sample,
)
from bert4keras_lite.generation.autoregressive import draw
from bert4keras_lite.models import build_transformer_model

RUNS = json.loads((FOLDER / "generation_decoder.json").read_text())["runs"]
TINY = {
    "vocab_size": 9,
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 16,
    "max_position": 32,
    "initializer_range": 0.5,
}


class OfTable(AutoRegressiveDecoder):
    calls = 0

    @AutoRegressiveDecoder.wraps(default_rtype="logits")
    def predict(self, inputs, output_ids, states):
        self.calls += 1
        return scores_after(output_ids, inputs[0][:, 0])


@pytest.mark.parametrize("run", RUNS, ids=lambda run: f"{run['arguments']}-{run['search']}")
def test_beam_search_is_bert4keras(run):
    writer = OfTable(**run["arguments"])
    alone = [writer.beam_search([[example]], **run["search"]).tolist() for example in range(6)]
    assert alone == run["outputs"]
    writer.calls = 0
    together = writer.beam_search([np.arange(6)[:, None]], batched=True, **run["search"])
    assert [row.tolist() for row in together] == run["outputs"]
    assert writer.calls <= run["arguments"]["maxlen"]


def test_changed_inputs_stay_changed():
    """bert4keras' reading comprehension drops passages without an answer at the first step."""

    class Striking(AutoRegressiveDecoder):
        @AutoRegressiveDecoder.wraps(default_rtype="logits", use_states=True)
        def predict(self, inputs, output_ids, step):
            struck, kept = inputs
            assert len(struck) == len(kept) == len(output_ids)
            if step == 0:
                struck[:, 0] = -1
            assert (struck == [-1, 5]).all() and (kept == [6, 7]).all()
            self.step = step
            return scores_after(output_ids, kept[:, 0]), step + 1

    writer, given_ids = Striking(None, -1, maxlen=4), np.array([4, 5])
    writer.beam_search([given_ids, [6, 7]], topk=3, states=0)
    assert writer.step == 3
    writer.random_sample([given_ids, [6, 7]], n=3, states=0)
    writer.beam_search([given_ids[None], [[6, 7]]], topk=3, states=0, batched=True)
    assert given_ids.tolist() == [4, 5]


def test_no_inputs_at_all():
    class Free(AutoRegressiveDecoder):
        @AutoRegressiveDecoder.wraps(default_rtype="logits")
        def predict(self, inputs, output_ids, states):
            assert inputs == []
            return scores_after(output_ids, [0] * len(output_ids))

    writer, same = Free(1, 2, maxlen=6), OfTable(1, 2, maxlen=6)
    assert writer.beam_search([], 3).tolist() == same.beam_search([[0]], 3).tolist()
    assert len(writer.random_sample([], n=3)) == 3
    for inputs in ([], [np.zeros((2, 1)), np.zeros((3, 1))]):
        with pytest.raises(ValueError, match="batched=True expected"):
            writer.beam_search(inputs, 3, batched=True)


def test_numpys_seed_governs_samples():
    writer, found = OfTable(None, 2, maxlen=6), []
    for seed in (5, 5, 6):
        np.random.seed(seed)
        found.append([ids.tolist() for ids in writer.random_sample([[1]], n=8)])
    assert found[0] == found[1] != found[2]


def test_n_best_of_beam_search():
    writer = OfTable(None, 2, maxlen=4)
    best = writer.beam_search([[0]], topk=4, n_best=3)
    assert best[0][0].tolist() == writer.beam_search([[0]], topk=4).tolist()
    for ids, score in best:
        steps = [scores_after(ids[None, :i], [0])[0] for i in range(len(ids))]
        logs = [s[t] - np.log(np.exp(s).sum()) for s, t in zip(steps, ids, strict=True)]
        assert np.isclose(score, sum(logs))
    assert len({tuple(ids) for ids, _ in best}) == 3


def test_samples_follow_the_distribution():
    """Over all texts of two tokens: chi-square, 48 degrees of freedom at most."""
    writer = OfTable(None, -1, maxlen=2)
    count = 20000
    samples = writer.random_sample([[3]], n=count, seed=0)
    first = np.exp(scores_after(np.zeros((1, 0)), [3])[0])
    first /= first.sum()
    chi_square = 0
    for a, b in itertools.product(range(7), range(7)):
        second = np.exp(scores_after(np.array([[a]]), [3])[0])
        expected = count * first[a] * second[b] / second.sum()
        found = sum(1 for s in samples if s.tolist() == [a, b])
        chi_square += (found - expected) ** 2 / expected
    assert chi_square < 84  # p = 0.001
    again = writer.random_sample([[3]], n=3, seed=0)
    assert [s.tolist() for s in again] == [
        s.tolist() for s in writer.random_sample([[3]], n=3, seed=0)
    ]


def test_samples_stay_among_the_likely():
    writer = OfTable(None, 2, maxlen=6)
    for options in ({"topk": 2}, {"topp": 0.5}, {"topk": 4, "topp": 0.4}):
        for ids in writer.random_sample([[1]], n=40, seed=1, **options):
            for i, token in enumerate(ids):
                shares = np.exp(scores_after(ids[None, :i], [1])[0])
                rank = int((shares > shares[token]).sum())
                assert rank < options.get("topk", 7)
                ahead = np.sort(shares)[::-1][:rank].sum()
                top = np.sort(shares)[::-1][: options.get("topk", 7)].sum()
                assert ahead / top < options.get("topp", 1)
    batched = writer.random_sample([np.arange(3)[:, None]], n=4, batched=True, seed=0)
    assert [len(rows) for rows in batched] == [4, 4, 4]


@pytest.mark.parametrize(
    "topk, topp, left", [(3, None, 3), (None, 0.6, 2), (4, 0.7, 2), (None, 1.0, 5)]
)
def test_draws_follow_the_probabilities_left(topk, topp, left):
    """Chi-square, 4 degrees of freedom at most. Of the best 4, two have 0.75 together."""
    shares = np.array([0.05, 0.4, 0.1, 0.3, 0.15])
    expected = np.where(np.argsort(np.argsort(-shares)) < left, shares, 0)
    expected *= 20000 / expected.sum()
    drawn = draw(np.tile(shares, (20000, 1)), topk, topp, np.random.default_rng(0))
    found = np.bincount(drawn, minlength=5)
    assert (found[expected == 0] == 0).all()
    kept = expected > 0
    assert ((found - expected)[kept] ** 2 / expected[kept]).sum() < 18.5  # p = 0.001


def test_states_go_with_their_sequences():
    class Counting(AutoRegressiveDecoder):
        @AutoRegressiveDecoder.wraps(default_rtype="logits", use_states=True)
        def predict(self, inputs, output_ids, states):
            if states is not None:
                assert states["sum"].tolist() == output_ids[:, :-1].sum(1).tolist()
            return scores_after(output_ids, inputs[0][:, 0]), {"sum": output_ids.sum(1), "n": 1}

    writer = Counting(None, 2, maxlen=6)
    writer.beam_search([[4]], topk=3)
    writer.random_sample([[4]], n=5, seed=0)
    writer.beam_search([np.arange(4)[:, None]], topk=3, batched=True)


def test_last_token():
    model = build_transformer_model(**TINY, application="lm")
    writer = OfTable(None, 2, maxlen=2)
    ids = np.array([[3, 4, 5]])
    last = writer.last_token(model)
    assert writer.last_token(model) is last
    np.testing.assert_allclose(
        last.predict_on_batch([ids, ids * 0]), model.predict_on_batch([ids, ids * 0])[:, -1]
    )


def test_bad_input():
    writer = OfTable(None, 2, maxlen=2)
    for call in (
        lambda: writer.beam_search([[0]], topk=0),
        lambda: writer.random_sample([[0]], n=0),
        lambda: writer.random_sample([[0]], n=1, topp=1.5),
        lambda: writer.random_sample([[0]], n=1, topk=0),
        lambda: writer.beam_search([[0]], topk=2, n_best=0),
        lambda: writer.beam_search([[0]], topk=2, temperature=0),
        lambda: writer.beam_search([[0]], topk=2, temperature=1e-46),
        lambda: writer.random_sample([[0]], n=1, topp=1e-50),
        lambda: OfTable(None, 2, maxlen=0),
        lambda: AutoRegressiveDecoder.wraps("scores"),
    ):
        with pytest.raises(ValueError, match="expected"):
            call()


@pytest.mark.parametrize(
    "use_states, found, message",
    [
        (False, np.ones(5), "a row for each"),
        (False, np.ones((2, 5)), r"shape \(2, 5\); expected \(1, vocabulary\)"),
        (False, np.full((1, 5), np.nan), "NaN"),
        (False, np.array([[0.5, np.inf, 0, 0, 0]]), "expected finite ones, at least 0"),
        (False, np.array([[1.5, -0.5, 0, 0, 0]]), "expected finite ones, at least 0"),
        (False, (np.ones((1, 5)), 1), "scores alone"),
        (True, np.ones((2, 5)), r"expected \(scores, states\)"),
        (False, np.zeros((1, 5)), "all 0"),
    ],
)
@pytest.mark.filterwarnings("ignore:invalid value")
def test_wrong_predictions(use_states, found, message):
    class Wrong(AutoRegressiveDecoder):
        @AutoRegressiveDecoder.wraps(use_states=use_states)
        def predict(self, inputs, output_ids, states):
            return found

    with pytest.raises(ValueError, match=message):
        Wrong(None, 2, 3).random_sample([[0]], 1)


SEQUENCES = st.lists(st.lists(st.integers(1, 5), min_size=1, max_size=5), min_size=1, max_size=8)


@given(SEQUENCES)
def test_a_trie_allows_its_sequences_and_no_other(sequences):
    trie, found, open_ = Trie(sequences, stop_id=0), set(), [()]
    while open_:
        prefix = open_.pop()
        for token in trie(list(prefix)):
            if token == 0:
                found.add(prefix)
            else:
                open_.append((*prefix, token))
    assert found == {tuple(s) for s in sequences}
    assert trie([9]) == []


@given(st.lists(st.integers(1, 3), min_size=1, max_size=7))
def test_substrings_are_all_that_can_be_written(source):
    allowed, found, open_ = Substrings(source, stop_id=0), set(), [()]
    while open_:
        prefix = open_.pop()
        for token in allowed(list(prefix)):
            if token == 0:
                found.add(prefix)
            else:
                open_.append((*prefix, token))
    runs = {tuple(source[i:j]) for i in range(len(source)) for j in range(i + 1, len(source) + 1)}
    assert found == runs


def test_long_sequences():
    """Longer than Python's stack is deep."""
    sequence = list(range(1, 3001))
    assert Trie([sequence])(sequence[:2000]) == [2001]
    assert Substrings(sequence, stop_id=0)(sequence[:2000]) == [0, 2001]


def test_copying_n_grams():
    allowed = Substrings([1, 2, 3, 1, 4], stop_id=0, n=2)
    assert allowed([]) == [1, 2, 3, 4]
    assert allowed([2, 3, 1]) == [0, 2, 4]  # 1 is followed by 2 and by 4
    with pytest.raises(ValueError, match="at least 1"):
        Substrings([1], n=0)
    with pytest.raises(ValueError, match="begins with another"):
        Trie([[1], [1, 2]])
    with pytest.raises(ValueError, match="Trie, sequences: expected at least one"):
        Trie([])


def test_constraints_in_generate():
    model = build_transformer_model(**TINY, application="lm", with_lm="linear")
    names = [[3, 4], [3, 4, 5], [6]]
    best = generate(
        model, [7, 8], num_beams=5, num_return_sequences=3, stop_ids=1, length_penalty=0.0,
        allowed_tokens=Trie(names, stop_id=1), max_new_tokens=6,
    )  # fmt: skip
    assert sorted(one.ids.tolist() for one in best) == names  # fewer than beams: each once
    assert [one.score for one in best] == sorted((one.score for one in best), reverse=True)
    sources = [[2, 3, 2, 4], [5, 6, 7]]
    found = generate(
        model, [[2], [8, 8]], max_new_tokens=4, stop_ids=1, num_beams=2,
        allowed_tokens=[Substrings(s, stop_id=1) for s in sources],
    )  # fmt: skip
    for (one,), source in zip(found, sources, strict=True):
        text, written = ("".join(map(str, ids)) for ids in (source, one.ids))
        assert written in text
    only = generate(model, [2], 6, allowed_tokens=[3, 5])[0]
    assert set(only.ids) <= {3, 5}
    with pytest.raises(ValueError, match="allows no further token"):
        generate(model, [2], 6, allowed_tokens=Trie([[3]]))
    with pytest.raises(TypeError, match="result of the function: expected a list, got None"):
        generate(model, [2], 6, allowed_tokens=lambda ids: None)


def test_gibbs_sampling_has_the_models_distribution():
    """One free position: its tokens are independent draws, so chi-square tells."""
    model = build_transformer_model(**TINY, with_mlm="linear")
    ids = np.tile([1, 5, 3, 2], (4000, 1))
    rows = gibbs_sample(model, ids, 1, mask_id=4, positions=[2], seed=0)
    assert (rows[:, [0, 1, 3]] == ids[:, [0, 1, 3]]).all()
    masked = np.array([[1, 5, 4, 2]])
    scores = np.asarray(model.predict_on_batch([masked, masked * 0]))[0, 2]
    expected = 4000 * np.exp(scores) / np.exp(scores).sum()
    found = np.bincount(rows[:, 2], minlength=9)
    kept = expected > 1
    assert ((found - expected) ** 2 / expected)[kept].sum() < 26  # p = 0.001 of 8 degrees
    again = gibbs_sample(model, ids, 1, mask_id=4, positions=[2], seed=0)
    np.testing.assert_array_equal(rows, again)


def test_gibbs_sampling_options():
    model = build_transformer_model(**TINY, with_mlm=True)
    seen = []
    row = gibbs_sample(
        model, [1, 5, 3, 5, 2], 30, mask_id=4, forbidden_tokens=range(5), seed=3,
        callback=lambda step, rows: seen.append(rows.copy()),
    )  # fmt: skip
    assert row.shape == (5,) and row[0] == 1 and row[-1] == 2
    assert len(seen) == 30 and (np.array(seen)[3:, 0, 1:4] >= 5).all()
    assert {tuple(r[0]) for r in seen} != {tuple(row)}
    with pytest.raises(ValueError, match="expected one or more from 0 to 4"):
        gibbs_sample(model, [1, 5, 3, 5, 2], 30, mask_id=4, positions=[5])


def test_gibbs_sampling_knows_probabilities_from_scores():
    outputs = []
    for head in (True, "linear"):
        keras.utils.set_random_seed(1)
        model = build_transformer_model(**TINY, with_mlm=head)
        outputs.append(
            gibbs_sample(model, [[1, 5, 3, 2]] * 50, 4, mask_id=4, temperature=2, seed=0)
        )
    np.testing.assert_array_equal(*outputs)


def test_gibbs_sampling_leaves_padding_alone():
    model = build_transformer_model(**TINY, with_mlm=True)
    short, long = [1, 5, 3, 2, 0, 0], [1, 5, 3, 5, 6, 2]
    rows = gibbs_sample(model, [short, long], 20, mask_id=4, forbidden_tokens=range(5), seed=0)
    assert rows[0, [0, 3, 4, 5]].tolist() == [1, 2, 0, 0] and rows[1, [0, 5]].tolist() == [1, 2]
    assert (rows[0, 1:3] >= 5).all() and (rows[1, 1:5] >= 5).all()


@pytest.mark.once
@pytest.mark.parametrize("value", [-np.inf, np.inf])
def test_logits_that_are_all_infinite(value):
    class Wrong(AutoRegressiveDecoder):
        @AutoRegressiveDecoder.wraps(default_rtype="logits")
        def predict(self, inputs, output_ids, states):
            return np.full((len(output_ids), 5), value)

    for write in (lambda x: x.beam_search([[0]], 2), lambda x: x.random_sample([[0]], 2)):
        with pytest.raises(ValueError, match="a row of logits whose largest is infinite"):
            write(Wrong(None, 2, 3))


@pytest.mark.once
@pytest.mark.parametrize("temperature", [100.0, 0.5, 0.01, 0.001])
@pytest.mark.parametrize("rtype", ["probas", "logits"])
def test_probabilities_at_every_temperature(rtype, temperature):
    probs = np.array([[0.3, 0.2, 0.5]], "float32")

    class Fixed(AutoRegressiveDecoder):
        @AutoRegressiveDecoder.wraps(default_rtype=rtype)
        def predict(self, inputs, output_ids, states):
            return probs if rtype == "probas" else np.log(probs)

    found, _ = Fixed(None, 2, 3).predict([], [[]], None, temperature, "probas")
    expected = np.exp(np.log(probs / 0.5).astype("float64") / temperature)
    np.testing.assert_allclose(found, expected / expected.sum(), rtol=1e-4, atol=1e-12)


@pytest.mark.parametrize(
    "heads, options, message",
    [
        ({"with_mlm": True, "with_nsp": True}, {}, "2 outputs"),
        ({}, {}, "no language-model head"),
        ({"with_mlm": True}, {"forbidden_tokens": range(9)}, "forbidden_tokens: no token can be"),
        ({"with_mlm": True}, {"forbidden_tokens": [9]}, "forbidden_tokens=9: expected a whole"),
        ({"with_mlm": True}, {"forbidden_tokens": [-1]}, "forbidden_tokens=-1: expected a whole"),
        ({"with_mlm": True}, {"segment_ids": [0, 0.9, 0, 0]}, "segment_ids: expected integers"),
        ({"with_mlm": True}, {"segment_ids": [0, 9, 0, 0]}, "segment_ids: ids from 0 to 9"),
        ({"with_mlm": True}, {"segment_ids": [0, 1]}, "segment_ids: expected the shape"),
        ({"with_mlm": True}, {"positions": [1.5]}, "positions: expected integers"),
    ],
)
def test_gibbs_sampling_bad_input(heads, options, message):
    model = build_transformer_model(**TINY, **heads)
    with pytest.raises(ValueError, match=message):
        gibbs_sample(model, [1, 5, 3, 2], 3, mask_id=4, **options)


def test_states_may_be_a_named_tuple():
    kind = namedtuple("States", "rows count")

    class Writer(AutoRegressiveDecoder):
        @AutoRegressiveDecoder.wraps(use_states=True)
        def predict(self, inputs, output_ids, states):
            assert states is None or states.rows.shape == (len(output_ids), 2)
            return np.full((len(output_ids), 6), 1 / 6), kind(np.zeros((len(output_ids), 2)), 1)

    assert len(Writer(1, 2, 4).beam_search([[1]], 3)) > 1
