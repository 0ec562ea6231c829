"""Writing: cached against uncached, the searches against others' code, options, bad input."""

import inspect
import json
import math
import re

import keras
import numpy as np
import pytest
from goldens.recipes import FOLDER, load_cases
from hypothesis import given
from hypothesis import strategies as st
from keras import ops
from running import in_both_ways, long_but, operation_by_operation, outputs_of
from test_families import build, writers

from bert4keras_lite.generation import (
    Trie,
    compiled_loop,
    generate,
    generate_all,
    generate_text,
    gibbs_sample,
    request,
    search,
    stream,
)
from bert4keras_lite.generation.decoding import generating_transformer
from bert4keras_lite.generation.generate import pieces
from bert4keras_lite.generation.request import GenerationRequest
from bert4keras_lite.models import build_transformer_model
from bert4keras_lite.tokenizers import ByteBPETokenizer, Tokenizer, load_tokenizer
from bert4keras_lite.tokenizers.byte_bpe import ALPHABET

PROMPTS = [[5, 9, 3, 17, 20], [7], [2, 30, 31, 0, 12, 9, 8, 44, 6]]
KINDS = [(*w, {}) for w in writers() if not w[0].endswith("_decoder")] + [
    ("bert", "lm", {"residual_attention_scores": True}),
    ("bert", "unilm", {"hierarchical_position": True, "max_position": 8}),
    ("roformer", "lm", {"rotate_values": True}),
    ("gpt2", "encoder", {"segment_vocab_size": 2}),
    ("gpt2", "encoder", {"attention_key_size": 4}),
    ("mistral", "encoder", {"layer_kinds": ("full", "sliding"), "window": 3}),
    ("qwen3", "encoder", {"num_key_value_heads": 2, "layer_kinds": ("sliding",), "window": 4}),
    *(
        (*kind, {"pad_token_id": pad})
        for kind in (("bert", "lm"), ("bert", "unilm"), ("t5.1.1", "encoder"))
        for pad in (3, -1)
    ),
]


def uncached_scores(transformer, prompt, new):
    """Scores at the last position of the prompt and at each new token, from the plain graph."""
    config = transformer.config
    if config.stacks == "both":
        start = config.decoder_start_id or 0
        inputs, first = [np.array([prompt]), np.array([[start, *new]])], 0
    else:
        inputs, first = [np.array([[*prompt, *new]])], len(prompt) - 1
        if config.has_segments:
            written = int(config.attend == "unilm")
            inputs.append(np.array([[0] * len(prompt) + [written] * len(new)]))
    return outputs_of(transformer.model, inputs)[-1][0, first:]


@in_both_ways
@pytest.mark.parametrize(("name", "application", "options"), KINDS)
def test_cached_scores_are_the_uncached(name, application, options, compiled, monkeypatch):
    """At every position, with prompts of several lengths in a batch, and beams that cross."""
    if not compiled:
        operation_by_operation(monkeypatch)
    transformer = build(name, application=application, with_nsp=False, with_pool=False, **options)
    random = np.random.RandomState(0)
    tokens, parents = (random.randint(*r, (5, len(PROMPTS), 2)) for r in ((1, 60), (0, 2)))

    def choose(config, scores, state, limits):
        now = [ops.take(ops.convert_to_tensor(x), state.num_tokens, 0) for x in (tokens, parents)]
        now = [ops.cast(x, "int32") for x in now]
        return search.append_tokens(config, state, *now)._replace(ended_scores=scores)

    monkeypatch.setattr(compiled_loop, "choose", choose)
    task = GenerationRequest(transformer, PROMPTS, 5, num_beams=2)
    writer = compiled_loop.CompiledLoop(transformer, task.search)
    prompt, limits = task._inputs()
    fixed, state = writer.begin(prompt, limits)
    found = [np.repeat(ops.convert_to_numpy(state.ended_scores), 2, axis=1)]
    for _ in range(4):
        state = writer.step(fixed, state, limits)
        found.append(ops.convert_to_numpy(state.ended_scores))
    for row, prompt in enumerate(PROMPTS):
        for beam in range(2):
            line, scores = [], [found[4][row, beam]]
            for i in (3, 2, 1, 0):
                line.insert(0, tokens[i, row, beam])
                beam = parents[i, row, beam]
                scores.insert(0, found[i][row, beam])
            expected = uncached_scores(transformer, prompt, line)
            scale = max(1, np.abs(expected).max())
            np.testing.assert_allclose(np.stack(scores), expected, rtol=0, atol=1e-5 * scale)


RUNS = {
    library: json.loads((FOLDER / f"generation_{library}.json").read_text())["runs"]
    for library in ("transformers", "bert4keras")
}
CASES = {
    (folder, case.name): case
    for folder in ("bert", "decoders")
    for case in load_cases(FOLDER / folder)
}


@pytest.fixture(scope="module")
def build_case(tmp_path_factory):
    """Makes the model of a golden case, once in each way, as it keeps its programs."""
    models = {}

    def build(folder, name, compiled, **options):
        key = (folder, name, compiled, *options.items())
        if key not in models:
            case = CASES[folder, name]
            path = tmp_path_factory.mktemp(name) / "config.json"
            path.write_text(json.dumps(case.config))
            models[key] = build_transformer_model(path, case.weights, **case.options, **options)
        return models[key]

    return build


def places_of(run):
    """The marks of a run: the search is one for all families, and `make test` tries it with BERT.

    Of the others it takes one run without beams and one with all that changes scores; of
    bert4keras' two tokens to stop at. A second such token is no matter of the backend, either.
    """
    arguments, stops = run["arguments"], run["arguments"]["stop_ids"]
    plain = arguments.keys() == {"max_new_tokens", "stop_ids"}
    kept = plain or {"num_beams", "repetition_penalty"} <= arguments.keys()
    kept = kept and "no_repeat_ngram_size" not in arguments
    quick = {"bert": True, "unilm": stops in ([13], [31])}.get(
        run["name"], kept and len(stops) == 1
    )
    return [pytest.mark.once] * (len(stops) > 1) + [pytest.mark.long] * (not quick)


@in_both_ways
@pytest.mark.parametrize(
    "run",
    [pytest.param(run, marks=places_of(run)) for runs in RUNS.values() for run in runs],
    ids=lambda r: f"{r['name']}-{r['arguments']}",
)
def test_same_tokens_and_scores_as_others(run, compiled, build_case, monkeypatch):
    """All prompts in one batch, theirs one by one."""
    if not compiled:
        operation_by_operation(monkeypatch)
    model = build_case(*run["case"], compiled, **run["options"])
    found = generate(model, run["inputs"], **run["arguments"])
    for ours, theirs in zip(found, run["outputs"], strict=True):
        assert len(ours) == len(theirs)
        for one, (ids, score, finished) in zip(ours, theirs, strict=True):
            assert one.ids.tolist() == ids
            assert one.finished == finished
            if score is not None:
                assert math.isclose(one.score, score, rel_tol=1e-4, abs_tol=1e-4)


TINY = {
    "vocab_size": 12,
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "max_position": 32,
    "initializer_range": 0.6,
}


@pytest.fixture(scope="module")
def gpt2():
    keras.utils.set_random_seed(2)
    return build_transformer_model(**TINY, model="gpt2", with_lm="linear")


def shares_after(model, ids):
    scores = np.asarray(model.predict_on_batch(np.array([ids])))[0, -1].astype("float64")
    shares = np.exp(scores - scores.max())
    return shares / shares.sum()


@pytest.mark.parametrize(
    "options", [{}, {"temperature": 0.7}, {"top_k": 4}, {"top_p": 0.6}, {"top_k": 6, "top_p": 0.8}]
)
def test_samples_have_the_models_distribution(gpt2, options):
    """Of all texts of two tokens, by chi-square; nothing is written that may not be."""
    count = 3000
    found = generate(
        gpt2, [3, 1, 4], 2, do_sample=True, num_return_sequences=count, seed=1, **options
    )
    written = np.zeros((12, 12))
    for one in found:
        written[tuple(one.ids)] += 1

    def wanted(ids):
        shares = shares_after(gpt2, ids) ** (1 / options.get("temperature", 1))
        order = np.argsort(-shares)
        shares[order[options.get("top_k", 12) :]] = 0
        shares /= shares.sum()
        before = np.cumsum(shares[order]) - shares[order]
        shares[order[before >= options.get("top_p", 1)]] = 0
        return shares / shares.sum()

    first = wanted([3, 1, 4])
    expected = count * np.array([first[a] * wanted([3, 1, 4, a]) for a in range(12)])
    assert not written[expected == 0].any()
    rare = expected < 5
    parts = [(written[~rare], expected[~rare]), (written[rare].sum(), expected[rare].sum() + 1e-9)]
    chi_square = sum(np.sum((w - e) ** 2 / e) for w, e in parts)
    degrees = max(1, int((~rare).sum()))
    assert chi_square < degrees + 4 * (2 * degrees) ** 0.5 + 6  # beyond p = 0.001


@pytest.mark.parametrize("length_penalty", [-10.0, -3.0, -1.0, 0.0, 2.0, 10.0])
def test_beams_for_all_sequences_are_those_of_the_formula(gpt2, length_penalty):
    """With a beam for each sequence nothing is cut off: by enumeration, in double precision."""
    prompt, stop, most = [3, 1, 4], 5, 3
    expected, open_ = [], [((), 0.0)]
    for ids, score in open_:
        for token in (2, stop, 6):
            text = (*ids, token)
            total = score + math.log(shares_after(gpt2, [*prompt, *ids])[token])
            if token == stop or len(text) == most:
                expected.append((total / len(text) ** length_penalty, text))
            else:
                open_.append((text, total))
    expected.sort(reverse=True)
    found = generate(
        gpt2, prompt, most, num_beams=16, num_return_sequences=16, stop_ids=stop,
        allowed_tokens=[2, stop, 6], length_penalty=length_penalty,
    )  # fmt: skip
    assert len(found) == len(expected) == 15
    for one, (score, text) in zip(found, expected, strict=True):
        assert (*one.ids, *[stop] * one.finished) == text
        assert one.score == pytest.approx(score, rel=1e-4)


def test_a_length_penalty_beyond_float32_is_refused():
    model = build_transformer_model(**TINY | {"max_position": 2048}, model="gpt2", with_lm="linear")
    words = r"length_penalty=-10: expected -9\.97 to 9\.97 for max_new_tokens=1024"
    with pytest.raises(ValueError, match=words):
        generate(model, [1], 1024, num_beams=2, length_penalty=-10)


def test_any_top_k_takes_the_same_program(gpt2):
    """What is sampled is what a program of just that size samples."""
    drawn, programs = {}, vars(generating_transformer(gpt2)).setdefault("programs", {})
    options = {"do_sample": True, "num_return_sequences": 3, "temperature": 3.0, "seed": 4}
    programs.clear()
    for top_k in range(1, 13):
        for more in ({}, {"top_p": 0.7}):
            found = generate(gpt2, [1, 2], 8, top_k=top_k, **more, **options)
            drawn[top_k, len(more)] = [one.ids.tolist() for one in found]
    assert len(programs) == 1 and len({str(found) for found in drawn.values()}) > 12
    generate(gpt2, [1, 2], 8, top_p=0.3, repetition_penalty=1.0, **options | {"temperature": 0.2})
    assert len(programs) == 1
    assert drawn[1, 0] == drawn[1, 1] and drawn[1, 0][0] == drawn[1, 0][1]  # the likeliest
    scores = ops.convert_to_tensor(np.random.default_rng(0).normal(size=(50, 1, 12)), "float32")
    noise = ops.convert_to_tensor(np.random.default_rng(1).random((50, 1)), "float32")
    for top_k in range(2, 13):
        limits = {"top_k": top_k, "top_p": np.inf}
        few, all_of_them = (
            search.sample(scores, noise, search.DecodingConfig("sample", likeliest=size), limits)
            for size in (top_k, 12)
        )
        np.testing.assert_array_equal(*map(ops.convert_to_numpy, (few, all_of_them)))


def test_few_programs_are_kept(gpt2, monkeypatch):
    """Each is for arrays of one shape; which was used last is not dropped."""
    monkeypatch.setattr(request, "PROGRAMS", 2)
    monkeypatch.setattr(request, "CompiledLoop", lambda *_: object())
    monkeypatch.setattr(generating_transformer(gpt2), "programs", {}, raising=False)
    program = {rows: GenerationRequest(gpt2, [[1]] * rows, 1)._program() for rows in (1, 2, 1, 3)}
    assert list(generating_transformer(gpt2).programs.values()) == [program[1], program[3]]
    assert GenerationRequest(gpt2, [[1, 2]], 5)._program() is program[1]  # of the same shape


def test_a_seed_repeats_and_is_the_same_on_every_backend(gpt2):
    options = {"do_sample": True, "num_return_sequences": 4, "top_p": 0.9}
    first, again, other = (
        [one.ids.tolist() for one in generate(gpt2, [1, 2], 8, seed=s, **options)]
        for s in (5, 5, 6)
    )
    assert first == again != other
    assert first[0] != first[1]
    # the random numbers come from NumPy, and a longer text begins like a shorter one
    longer = generate(gpt2, [1, 2], 20, seed=5, do_sample=True)[0].ids.tolist()
    assert longer[:3] == generate(gpt2, [1, 2], 3, seed=5, do_sample=True)[0].ids.tolist()


def test_scores_are_log_probabilities(gpt2):
    for options in ({}, {"do_sample": True, "seed": 0}, {"num_beams": 3, "length_penalty": 0.0}):
        one = generate(gpt2, [7, 3], 6, **options)[0]
        ids = [7, 3]
        total = 0.0
        for token in one.ids:
            total += np.log(shares_after(gpt2, ids)[token])
            ids.append(int(token))
        assert math.isclose(one.score, total, abs_tol=1e-4)


def test_prompts_of_near_lengths_share_a_program(gpt2, monkeypatch):
    generate(gpt2, [[1, 2, 3]], 20)
    monkeypatch.setattr(compiled_loop, "decode_step", lambda *a, **k: pytest.fail("compiled again"))
    generate(gpt2, [[5] * 11], 12)
    generate(gpt2, [[2, 9]], 8, temperature=1.0, stop_ids=4)  # a stop token changes no shape


def test_weights_may_change_between_calls(gpt2):
    model = build_transformer_model(**TINY, model="gpt2", with_lm="linear")
    before = generate(model, [1, 2, 3], 8)[0].ids.tolist()
    model.set_weights(gpt2.get_weights())
    assert generate(model, [1, 2, 3], 8)[0].ids.tolist() != before
    assert (
        generate(model, [1, 2, 3], 8)[0].ids.tolist()
        == generate(gpt2, [1, 2, 3], 8)[0].ids.tolist()
    )


def test_a_condition_decides_what_is_written():
    condition = keras.Input((4,), name="condition")
    transformer = build(
        "bert", application="lm", layer_norm_cond=condition, additional_input_layers=condition,
        with_nsp=False,
    )  # fmt: skip
    random = np.random.RandomState(1)
    for path, variable in transformer.variables.items():
        if "_dense/kernel" in path:
            variable.assign(random.standard_normal(variable.shape))
    values = random.standard_normal((2, 4)).astype("float32")
    first, second = generate(transformer, [[5, 6], [5, 6]], 6, more_inputs=[values])
    assert first[0].ids.tolist() != second[0].ids.tolist()
    ids = [5, 6]
    for token in first[0].ids:
        inputs = [np.array([ids]), np.zeros((1, len(ids)), "int32"), values[:1]]
        scores = keras.tree.flatten(transformer.model.predict_on_batch(inputs))[-1]
        assert np.asarray(scores)[0, -1].argmax() == token
        ids.append(int(token))


@pytest.mark.long
def test_quantized_file(tmp_path):
    """Sub-layers come back from a `.keras` file as they were quantized."""
    config = {"vocab_size": 30, "hidden_size": 16, "num_hidden_layers": 2}
    config |= {"num_attention_heads": 2, "intermediate_size": 32, "max_position": 16}
    model = build_transformer_model(**config, model="gpt2", with_lm="linear")
    model.quantize("int8")
    model.save(tmp_path / "int8.keras")
    again = keras.models.load_model(tmp_path / "int8.keras")
    ids = np.array([[3, 7, 1, 20]])
    np.testing.assert_array_equal(*(ops.convert_to_numpy(m(ids)) for m in (model, again)))
    kinds = [str(v.dtype) for v in again.variables]
    assert kinds == [str(v.dtype) for v in model.variables] and kinds.count("int8") == 13


@pytest.mark.parametrize("kind", long_but(["float16"], ["int8", "bfloat16", "float16"]))
def test_small_numbers(kind):
    """Quantized weights and half precision write what the same model says uncached."""
    policy = kind if kind == "int8" else f"mixed_{kind}"
    previous = keras.config.dtype_policy()
    try:
        if kind != "int8":
            keras.config.set_dtype_policy(policy)
        model = build_transformer_model(**TINY, model="gpt2", with_lm="linear")
    finally:
        keras.config.set_dtype_policy(previous)
    if kind == "int8":
        size = sum(np.array(w).nbytes for w in model.weights)
        with pytest.warns(UserWarning, match="quantize"):
            model.quantize("int8")
        assert sum(np.array(w).nbytes for w in model.weights) < size / 2
    ids = [4, 5, 6]
    for token in generate(model, ids, 8)[0].ids:
        scores = np.asarray(model.predict_on_batch(np.array([ids])), "float32")[0, -1]
        assert scores.max() - scores[token] < 0.05  # as likely as any, but for rounding
        ids.append(int(token))


TOKENS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "你", "好", "天", "气", "，", "##a", "b", "12"]


def test_a_data_set_is_generated_in_batches_of_one_size(gpt2, monkeypatch):
    prompts = [[5, 9, 3], [7], [2, 10, 11, 9], [8, 1], [4, 4, 4]]
    options = {"num_beams": 2, "num_return_sequences": 2}
    expected = [generate(gpt2, prompt, 4, **options) for prompt in prompts]
    sizes = []

    def noting(model, inputs, *arguments, **options):
        sizes.append(len(inputs))
        return generate(model, inputs, *arguments, **options)

    monkeypatch.setitem(generate_all.__globals__, "generate", noting)
    rows = generate_all(gpt2, prompts, 4, batch_size=2, **options)
    assert sizes == [2, 2, 2]
    for row, single in zip(rows, expected, strict=True):
        assert [x.ids.tolist() for x in row] == [x.ids.tolist() for x in single]
    # each prompt has its own function
    functions = [lambda new, i=i: [i + 1] for i in range(len(prompts))]
    rows = generate_all(gpt2, prompts, 2, batch_size=2, allowed_tokens=functions)
    assert [row[0].ids.tolist() for row in rows] == [[i + 1] * 2 for i in range(len(prompts))]
    rows = generate_all(gpt2, prompts, 2, allowed_tokens=[3])
    assert all(row[0].ids.tolist() == [3, 3] for row in rows)
    with_segments = build_transformer_model(
        **TINY, model="gpt2", with_lm="linear", segment_vocab_size=2
    )
    segments = [[i % 2] * len(prompt) for i, prompt in enumerate(prompts)]
    rows = generate_all(with_segments, prompts, 3, batch_size=2, segment_ids=segments)
    for row, prompt, ids in zip(rows, prompts, segments, strict=True):
        (single,) = generate(with_segments, prompt, 3, segment_ids=ids)
        assert row[0].ids.tolist() == single.ids.tolist()
    with pytest.raises(ValueError, match=r"allowed_tokens: expected 5 entries, .* got 4"):
        generate_all(gpt2, prompts, 2, allowed_tokens=functions[:4])


def test_texts(gpt2):
    tokenizer = Tokenizer({token: i for i, token in enumerate(TOKENS)})
    both = generate_text(gpt2, tokenizer, ["你好", "天"], 10)
    (one,) = generate_text(gpt2, tokenizer, "你好", 10)
    np.testing.assert_array_equal(both[0][0].ids, one.ids)
    assert one.text == tokenizer.decode(one.ids)
    (same,) = generate(gpt2, [2, 4, 5], 10, stop_ids=3)
    np.testing.assert_array_equal(one.ids, same.ids)
    pieces = list(stream(gpt2, tokenizer, "你好", 10))
    assert "".join(pieces) == one.text and len(pieces) > 1


JOINED = ["'", "b'", "##'", "s", "##s", "r", "##e", "l", "ll", "t", "1", "2.", ".", "##.", "(", "-"]
JOINED = Tokenizer({token: i for i, token in enumerate([*TOKENS, *JOINED, "\u3000", "’", "，a"])})


@given(st.lists(st.integers(4, JOINED.vocab_size - 1), min_size=1, max_size=12))
def test_streamed_pieces_make_the_text(ids):
    begun = (ids[: i + 1] for i in range(len(ids)))
    assert "".join(pieces(JOINED, begun)) == JOINED.decode(ids)


def test_a_contraction_is_streamed_when_it_is_one():
    ids = JOINED.tokens_to_ids(["b", "'", "s", "b", "'", "s", "##s", "'", "ll"])
    found = list(pieces(JOINED, (ids[: i + 1] for i in range(len(ids)))))
    assert found == ["b", "'", "s b", "'", " ss", "'", " ll"]
    assert "".join(found) == JOINED.decode(ids) == "b's b' ss' ll"


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\ufffd"), min_size=1))
def test_a_stream_has_no_half_characters(text):
    tokenizer = ByteBPETokenizer({character: i for i, character in enumerate(ALPHABET)}, [])
    ids = tokenizer.encode(text)[0]  # a token a byte
    assert len(ids) == len(text.encode())
    found = list(pieces(tokenizer, (ids[: i + 1] for i in range(len(ids)))))
    assert "".join(found) == text and "\ufffd" not in "".join(found)
    assert len(found) == len(text)


def test_streaming_begins_at_once(gpt2):
    """The first piece comes before the second token is computed."""
    tokenizer = Tokenizer({token: i for i, token in enumerate(TOKENS)})
    task = GenerationRequest(gpt2, [2, 4], 10)
    states = task.steps()
    assert int(ops.convert_to_numpy(next(states).num_tokens)) == 1
    with pytest.raises(ValueError, match="num_beams=1"):
        next(stream(gpt2, tokenizer, "你", 5, num_beams=2))


@pytest.mark.parametrize(
    ("inputs", "options", "words"),
    [
        ([1] * 33, {"max_new_tokens": 1}, "33 tokens and max_new_tokens=1 need more than the 32"),
        ([1] * 30, {"max_new_tokens": 3}, "need more than the 32 positions"),
        ([1] * 32, {"stop_ids": 1}, "a prompt of 32 tokens need more than the 32"),
        ([1], {}, "max_new_tokens, stop_ids: both are missing"),
        ([], {"max_new_tokens": 1}, "inputs: expected at least one prompt"),
        ([[1], []], {"max_new_tokens": 1}, "row 1: the prompt is empty"),
        ([1, 12], {"max_new_tokens": 1}, "inputs, row 0: expected ids from 0 to 11"),
        ([1.5], {"max_new_tokens": 1}, "inputs, row 0: expected integers, got float64"),
        ([1], {"max_new_tokens": 0}, "max_new_tokens=0"),
        ([1], {"max_new_tokens": 1, "top_k": 0, "do_sample": True}, "top_k=0"),
        ([1], {"max_new_tokens": 1, "top_p": 0.0, "do_sample": True}, "top_p=0.0"),
        ([1], {"max_new_tokens": 1, "temperature": 0}, "temperature=0"),
        ([1], {"max_new_tokens": 1, "temperature": 1e-46, "do_sample": True}, "temperature=1e-46"),
        ([1], {"max_new_tokens": 1, "temperature": 1e39, "do_sample": True}, "temperature=1e+39"),
        ([1], {"max_new_tokens": 1, "temperature": None}, "temperature=None: expected a number"),
        ([1], {"max_new_tokens": 1, "temperature": "1"}, "temperature='1'"),
        ([1], {"max_new_tokens": 1, "top_p": 1e-50, "do_sample": True}, "top_p=1e-50"),
        ([1], {"max_new_tokens": 1, "repetition_penalty": 1e-50}, "repetition_penalty=1e-50"),
        (
            [1],
            {"max_new_tokens": 1, "length_penalty": 1e9, "num_beams": 2},
            "length_penalty=1000000000.0",
        ),
        ([1], {"max_new_tokens": 1, "length_penalty": math.nan}, "length_penalty=nan"),
        ([1], {"max_new_tokens": 10**10}, "max_new_tokens=10000000000"),
        ([1], {"max_new_tokens": 10**5000}, "max_new_tokens=<an integer of"),
        ([1], {"max_new_tokens": 1, "num_beams": math.inf}, "num_beams=inf: expected a whole"),
        ([1], {"max_new_tokens": 1, "num_beams": 100_000}, "num_beams=100000"),
        ([1], {"max_new_tokens": 1, "num_beams": 2.0}, "num_beams=2.0: expected a whole"),
        ([1], {"max_new_tokens": 1, "seed": 1.0, "do_sample": True}, "seed=1.0: expected a whole"),
        ([1], {"max_new_tokens": 1, "seed": -1, "do_sample": True}, "seed=-1"),
        ([1], {"max_new_tokens": 1, "top_k": 3}, "are for do_sample=True"),
        ([1], {"max_new_tokens": 1, "num_beams": 2, "do_sample": True}, "exclude each other"),
        ([1], {"max_new_tokens": 1, "num_return_sequences": 2}, "expected at most num_beams=1"),
        ([1], {"max_new_tokens": 1, "early_stopping": "soon"}, "early_stopping='soon'"),
        ([1], {"max_new_tokens": 1, "stop_ids": 12}, "stop_ids: expected ids from 0"),
        (
            [1],
            {"max_new_tokens": 1, "allowed_tokens": []},
            "allowed_tokens: expected at least one id",
        ),
        ([1], {"max_new_tokens": 1, "no_repeat_ngram_size": -1}, "no_repeat_ngram_size=-1"),
        ([1], {"max_new_tokens": 1, "no_repeat_ngram_size": 2.0}, "size=2.0: expected a whole"),
        (
            [1],
            {"max_new_tokens": 1, "bad_words_ids": [[1], []]},
            "bad_words_ids: expected at least",
        ),
        ([1], {"max_new_tokens": 1, "bad_words_ids": [[12]]}, "word 0: expected ids from 0 to 11"),
        ([1], {"max_new_tokens": 1, "suppress_tokens": [12]}, "suppress_tokens: expected ids from"),
        ([1], {"max_new_tokens": 1, "suppress_tokens": range(12)}, "they forbid all tokens"),
        (
            [1],
            {"max_new_tokens": 1, "allowed_tokens": [3], "begin_suppress_tokens": [3]},
            "they forbid all tokens",
        ),
        (
            [1],
            {"max_new_tokens": 4, "allowed_tokens": [3, 4], "no_repeat_ngram_size": 1},
            "the options forbid every token within the first",
        ),
        (
            [1],
            {"max_new_tokens": 4, "allowed_tokens": lambda ids: [3], "suppress_tokens": [3]},
            "the options forbid every token within the first",
        ),
        ([1], {"max_new_tokens": 1, "segment_ids": [0]}, "has no segments"),
        ([1], {"max_new_tokens": 1, "more_inputs": [[1]]}, "more_inputs: expected 0 arrays"),
    ],
)
def test_bad_input(gpt2, inputs, options, words):
    with pytest.raises(ValueError, match=re.escape(words)):
        generate(gpt2, inputs, **options)


@pytest.mark.parametrize("value", ["false", "x", {}, {"a": 1}, 1.5j, [[1.5]], [True]], ids=str)
def test_every_option_has_a_kind(gpt2, value):
    for name in inspect.signature(GenerationRequest.__init__).parameters.keys() - {
        "self",
        "model",
        "inputs",
    }:
        with pytest.raises((ValueError, TypeError), match=name):
            generate(gpt2, [1], **({"max_new_tokens": 1} | {name: value}))
    with pytest.raises((ValueError, TypeError), match="inputs"):
        generate(gpt2, value, 1)


def test_segment_ids_that_are_no_whole_numbers():
    with pytest.raises(ValueError, match="segment_ids, row 0: expected integers"):
        generate(build("bert", application="lm"), [1, 2], 1, segment_ids=[0, 0.7])


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ("top_x", "did you mean 'top_k'|'top_p'"),
        ("max_length", "did you mean 'max_new_tokens'"),
        ("bad_word_ids", "did you mean 'bad_words_ids'"),
        ("no_repeat_ngrams", "did you mean 'no_repeat_ngram_size'"),
    ],
)
def test_an_unknown_option_suggests_the_nearest(gpt2, option, words):
    tokenizer = object()  # options are looked at first
    for name, write in (
        ("generate", lambda **option: generate(gpt2, [1], 1, **option)),
        ("generate_text", lambda **option: generate_text(gpt2, tokenizer, "a", **option)),
        ("stream", lambda **option: list(stream(gpt2, tokenizer, "a", **option))),
    ):
        with pytest.raises(TypeError, match=f"^{name} .*({words})"):
            write(**{option: 3})


def test_models_that_cannot_write():
    for model, words in (
        (build_transformer_model(**TINY), "application='lm' or 'unilm'"),
        (build_transformer_model(**TINY, model="gpt2", with_lm=False), "no language-model head"),
        (
            build_transformer_model(**TINY, model="t5.1.1_encoder"),
            "only the encoder of an encoder-decoder",
        ),
        (keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)]), "found no layers of one"),
    ):
        with pytest.raises(ValueError, match=words):
            generate(model, [1, 2], 3)


def test_which_tokens_occur():
    tokens = np.array([[4, 4, 0, 2], [5, 1, 1, 3]], "int32")
    is_token = np.array([[1, 1, 1, 0], [0, 1, 1, 1]], bool)
    found = compiled_loop.which_occur(*map(ops.convert_to_tensor, (tokens, is_token)), 6)
    expected = [[True, False, False, False, True, False], [False, True, False, True, False, False]]
    assert ops.convert_to_numpy(found).tolist() == expected


@pytest.mark.skipif(keras.backend.backend() != "torch", reason="others compile it")
def test_a_penalty_takes_no_room_of_prompts_times_vocabulary():
    from torch.utils._python_dispatch import TorchDispatchMode

    largest = []

    class Watched(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            found = function(*args, **kwargs or {})
            largest.extend(x.numel() for x in keras.tree.flatten(found) if hasattr(x, "numel"))
            return found

    tokens, is_token = ops.zeros((2, 300), "int32"), ops.ones((2, 300), "bool")
    with Watched():
        compiled_loop.which_occur(tokens, is_token, 1000)
    assert 0 < max(largest) <= 2 * 1001


def test_padding_of_an_array_is_no_prompt():
    model = build_transformer_model(**TINY, application="lm", with_lm="linear")
    rows = np.array([[3, 4, 5, 6], [7, 8, 0, 0]])
    found = [row[0].ids.tolist() for row in generate(model, rows, 5)]
    assert found == [row[0].ids.tolist() for row in generate(model, [[3, 4, 5, 6], [7, 8]], 5)]


def test_segment_ids_have_the_shape_of_a_padded_array():
    model = build_transformer_model(**TINY, application="lm", with_lm="linear")
    options = {"max_new_tokens": 3}
    rows, segments = np.array([[3, 4, 5, 6], [7, 8, 0, 0]]), np.array([[0, 1, 1, 1], [0, 1, 0, 0]])
    expected = generate(
        model, [[3, 4, 5, 6], [7, 8]], segment_ids=[[0, 1, 1, 1], [0, 1]], **options
    )
    for found, row in zip(
        generate(model, rows, segment_ids=segments, **options), expected, strict=True
    ):
        assert found[0].ids.tolist() == row[0].ids.tolist() and found[0].score == row[0].score
    with pytest.raises(ValueError, match="segment_ids, row 0: expected integers, got float64"):
        generate(model, [3, 4], segment_ids=[0.0, 0.9], **options)
    with pytest.raises(ValueError, match="segment_ids: expected as many"):
        generate(model, rows, segment_ids=segments[:1], **options)


@pytest.mark.parametrize(
    "rows", [[[0, 0, 7, 8], [3, 4, 5, 6]], [[0, 7, 8], [4, 5, 6]], [[0, 0, 7]]]
)
def test_rows_that_are_padded_on_the_left(rows):
    model = build_transformer_model(**TINY, application="lm", with_lm="linear")
    bert = build_transformer_model(**TINY, with_mlm=True)
    for write in (lambda: generate(model, rows, 2), lambda: gibbs_sample(bert, rows, 2, 4)):
        with pytest.raises(ValueError, match=r"row 0: begins with [12] times the padding id 0"):
            write()
    generate(model, [[0, 7, 8], [0, 4, 5]], 2)  # a start token of that id begins all rows


def test_stop_ids_that_are_none_are_named_whatever_is_allowed():
    model = build_transformer_model(**TINY, application="lm", with_lm="linear")
    for allowed in (None, [3], lambda ids: [3]):
        with pytest.raises(ValueError, match="stop_ids: expected ids from"):
            generate(model, [3], 2, stop_ids=10_000, allowed_tokens=allowed)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"do_sample": True, "seed": 1, "temperature": 100.0},
        {"num_beams": 3},
        {"num_beams": 3, "early_stopping": "best"},
    ],
)
def test_what_is_not_allowed_is_never_written_to_reach_a_length(gpt2, options):
    options = {"stop_ids": 3, "min_new_tokens": 5, **options}
    (found,) = generate(gpt2, [5], 6, allowed_tokens=Trie([[7, 8]], stop_id=3), **options)
    assert (found.ids.tolist(), found.finished) == ([7, 8], True)
    (found,) = generate(gpt2, [5], 6, allowed_tokens=[3], **options)
    assert (found.ids.tolist(), found.finished) == ([], True)
    (found,) = generate(gpt2, [5], 6, allowed_tokens=[3, 4], **options)
    assert found.ids.tolist()[:5] == [4] * 5


WAYS = [
    {},
    {"do_sample": True, "seed": 1, "temperature": 0.5},
    {"num_beams": 2},
    {"num_beams": 2, "early_stopping": "best"},
]


def ngrams(ids, size):
    return [tuple(ids[i : i + size]) for i in range(len(ids) - size + 1)]


@pytest.mark.parametrize("options", WAYS)
@pytest.mark.parametrize("size", [1, 2])
def test_no_ngram_occurs_twice(gpt2, options, size):
    """Nor one of the prompt; without the option, some do."""
    prompts, most = [[5, 1, 5, 2], [7], [3, 3, 4]], 6 if size == 1 else 16
    free = generate(gpt2, prompts, most, **options)
    found = generate(gpt2, prompts, most, no_repeat_ngram_size=size, **options)
    repeats = []
    for prompt, (before, *_), (after, *_) in zip(prompts, free, found, strict=True):
        (old, new) = ([*prompt, *x.ids.tolist()] for x in (before, after))
        own = ngrams(prompt, size)
        new_ones = ngrams(new, size)[len(own) :]
        assert len(set(new_ones)) == len(new_ones) == most - max(0, size - 1 - len(prompt))
        assert not set(new_ones) & set(own)
        repeats.append(len(set(ngrams(old, size))) < len(ngrams(old, size)))
    assert any(repeats)


@pytest.mark.parametrize("options", WAYS)
def test_bad_words_are_not_generated(gpt2, options):
    """Each of those of the text without them; the first token of one may be in the prompt."""
    prompt = [3, 1, 4]
    (free,) = generate(gpt2, prompt, 8, **options)
    ids = free.ids.tolist()
    for word in (ids[:1], [4, ids[0]], ids[1:5], [9, 9, 9, *ids[:2]]):
        (found,) = generate(gpt2, prompt, 8, bad_words_ids=[word, [10, 10, 10, 10]], **options)
        assert tuple(word) not in ngrams([4, *found.ids.tolist()], len(word))
        assert (found.ids.tolist() == ids) == (word[0] == 9)
    (found,) = generate(gpt2, prompt, 8, stop_ids=ids[3], bad_words_ids=[[ids[3]]], **options)
    (same,) = generate(gpt2, prompt, 8, stop_ids=ids[3], **options)
    assert found.ids.tolist() == same.ids.tolist()  # a stop token alone is not a bad word


def test_suppressed_tokens(gpt2):
    (free,) = generate(gpt2, [3, 1, 4], 8)
    first = int(free.ids[0])
    (found,) = generate(gpt2, [3, 1, 4], 8, suppress_tokens=[first])
    assert first not in found.ids
    rows = generate(gpt2, [[3, 1, 4]] * 2, 2, begin_suppress_tokens=[first])
    assert all(row[0].ids[0] != first for row in rows)
    other, stop = [i for i in range(12) if i != first][:2]
    options = {"allowed_tokens": [first, other], "begin_suppress_tokens": [other, stop]}
    (found,) = generate(gpt2, [3, 1, 4], 8, no_repeat_ngram_size=2, stop_ids=stop, **options)
    assert found.ids.tolist() == [first, *found.ids[1:]] and found.finished


def test_sizes_of_what_is_forbidden_share_a_program(gpt2):
    def programs():
        return len(vars(gpt2.transformer).get("programs", {}))

    generate(gpt2, [1, 2], 4, bad_words_ids=[[1, 2], [3, 4, 5]], no_repeat_ngram_size=3)
    known = programs()
    generate(gpt2, [1, 2], 4, bad_words_ids=[[7, 2, 3, 4]] * 9, no_repeat_ngram_size=4)
    assert programs() == known


def test_bad_words_as_texts(gpt2):
    tokenizer = Tokenizer({token: i for i, token in enumerate(TOKENS)})
    (free,) = generate_text(gpt2, tokenizer, "你", 8, stop_ids=[], seed=0, do_sample=True)
    known = [i for i in free.ids.tolist() if TOKENS[i][0] != "["]
    word = TOKENS[known[0]]
    (found,) = generate_text(
        gpt2, tokenizer, "你", 8, stop_ids=[], bad_words=[word], seed=0, do_sample=True
    )
    assert known[0] not in found.ids
    options = {"stop_ids": [], "bad_words": [word], "bad_words_ids": [[known[-1]]]}
    text = "".join(stream(gpt2, tokenizer, "你", 8, **options))
    assert word not in text
    with pytest.raises(ValueError, match="bad_words: '鑫' has characters that are not in"):
        generate_text(gpt2, tokenizer, "你", 8, bad_words=["鑫"])
    with pytest.raises(ValueError, match="bad_words: expected texts, got 3"):
        generate_text(gpt2, tokenizer, "你", 8, bad_words=[3])
    with pytest.raises(TypeError, match="generate has no option 'bad_words'"):
        generate(gpt2, [1], 8, bad_words=["你"])


def test_more_tokens_than_may_be_written(gpt2):
    with pytest.raises(ValueError, match="min_new_tokens=10: expected at most 3, which is max_new"):
        generate(gpt2, [5], 3, min_new_tokens=10)


def test_texts_end_where_the_checkpoint_says(gpt2, tmp_path):
    tokenizer = Tokenizer({token: i for i, token in enumerate(TOKENS)})
    options = {"max_new_tokens": 10, "allowed_tokens": range(3, len(TOKENS))}
    (free,) = generate_text(gpt2, tokenizer, "你", stop_ids=[], **options)
    stop = next(i for i in free.ids.tolist()[::-1] if i != 3)
    gpt2.transformer.save_checkpoint(tmp_path, "hf", vocab=tokenizer)
    config = json.loads((tmp_path / "config.json").read_text()) | {"eos_token_id": stop}
    (tmp_path / "config.json").write_text(json.dumps(config))
    tokenizer = load_tokenizer(tmp_path)
    assert tokenizer.stop_ids == [3, stop]
    (found,) = generate_text(gpt2, tokenizer, "你", **options)
    end = np.flatnonzero(np.isin(free.ids, (3, stop)))[0]
    assert (found.ids.tolist(), found.finished) == (free.ids[:end].tolist(), True)
    assert "".join(stream(gpt2, tokenizer, "你", **options)) == found.text
    (same,) = generate_text(gpt2, tokenizer, "你", stop_ids=[], **options)
    assert same.ids.tolist() == free.ids.tolist()


def test_rows_that_are_no_tokens_are_not_written(gpt2):
    tokenizer = Tokenizer({token: i for i, token in enumerate(TOKENS[:6])})
    size = generating_transformer(gpt2).config.vocab_size
    assert tokenizer.vocab_size == 6 < size
    for options in ({}, {"allowed_tokens": None}, {"do_sample": True, "seed": 0, "top_k": size}):
        (found,) = generate_text(gpt2, tokenizer, "你", 10, stop_ids=[], **options)
        assert max(found.ids) < 6 and found.text == tokenizer.decode(found.ids)
    with pytest.raises(ValueError, match="id 9 is not in the vocabulary of 6 tokens"):
        generate_text(gpt2, tokenizer, "你", 2, stop_ids=[], allowed_tokens=[9])


def test_ids_without_an_embedding():
    bert = build_transformer_model(
        vocab_size=9, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, max_position=16,
        intermediate_size=8, segment_vocab_size=2, application="unilm", with_mlm=True,
    )  # fmt: skip
    with pytest.raises(ValueError, match=r"segment_ids, row 0: .* from 0 to 1, got 0 to 2"):
        generate(bert, [2, 5, 3], 2, segment_ids=[0, 2, 0])
    for ids, mask_id in (([2, 9, 3], 4), ([2, -1, 3], 4), ([2, 5, 3], 9)):
        with pytest.raises(ValueError, match=r"token_ids, mask_id: .* expected 0 to 8"):
            gibbs_sample(bert, ids, 1, mask_id)


@pytest.mark.parametrize("stop_ids", [list(range(TINY["vocab_size"])), [3] * 40])
def test_stop_ids_may_be_many_or_repeated(gpt2, stop_ids):
    (found,) = generate(gpt2, [5], 3, num_beams=2, stop_ids=stop_ids)
    once = generate(gpt2, [5], 3, num_beams=2, stop_ids=sorted(set(stop_ids)))
    np.testing.assert_array_equal(found.ids, once[0].ids)
    assert found.score == once[0].score and (len(stop_ids) == 40 or len(found.ids) == 0)


def test_a_decoder_begins_with_something():
    model = build_transformer_model(**TINY, model="t5.1.1", with_lm="linear")
    with pytest.raises(ValueError, match="start_ids: expected at least one id"):
        generate(model, [5], 3, start_ids=[])


@pytest.mark.parametrize("family", ["gpt2", "t5.1.1"])
def test_gibbs_sampling_needs_tokens_that_see_what_follows(family):
    model = build_transformer_model(**TINY, model=family, with_lm="linear")
    with pytest.raises(ValueError, match="expected a bidirectional model of one stack"):
        gibbs_sample(model, [2, 5, 6, 3], 3, 1)


def test_gibbs_sampling_of_rows_with_padding():
    model = build_transformer_model(**TINY, with_mlm=True)
    rows = [[2, 5, 3, 0, 0, 0], [2, 5, 6, 7, 8, 3]]
    with pytest.raises(ValueError, match=r"positions: 4 is in the padding of a row; .* at most 2"):
        gibbs_sample(model, rows, 4, 1, positions=[1, 4])
    with pytest.raises(ValueError, match=r"token_ids: expected one row .* shape \(1, 1, 3\)"):
        gibbs_sample(model, [[[1, 2, 3]]], 3, 1)
    assert gibbs_sample(model, rows, 4, 1, positions=[1], seed=0)[0, 2:].tolist() == [3, 0, 0, 0]
