"""A batch is a function of corpus, seed and step, whoever asks for it and when."""

import json
import os
import shutil
from collections import Counter
from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from pretraining import corpus
from pretraining.batches import Examples
from pretraining.masking import FEATURES
from pretraining.shards import encode_examples, write_shard


@pytest.fixture(scope="module")
def make(documents, vocab, tmp_path_factory):
    """A function mode -> directory of a small corpus in three shards."""
    folder = tmp_path_factory.mktemp("corpora")
    (folder / "texts.txt").write_text("\n".join(documents[:150]), "utf-8")

    def made(mode):
        output = str(folder / mode)
        if not Path(output).exists():
            settings = corpus.Settings(output, mode, vocab, 32, 3, words="tokens", document="line")
            run = lambda function, tasks, name: list(map(function, tasks))  # noqa: E731
            corpus.make_corpus(settings, [str(folder / "texts.txt")], run)
        return output

    return made


def assert_same(one, other):
    for a, b in zip(one, other, strict=True):
        if isinstance(a, dict):
            assert a.keys() == b.keys()
            assert_same(a.values(), b.values())
        else:
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("objective", ["mlm", "electra", "lm", "unilm", "t5"])
def test_batches_are_what_the_spec_says(make, objective):
    examples = Examples(make(objective), objective, 8)
    inputs, targets, weights = examples.batch(0)
    expected_inputs, *expected = examples.spec
    assert {name: (array.shape, array.dtype) for name, array in inputs.items()} == expected_inputs
    assert [(array.shape, array.dtype) for array in (targets, weights)] == expected
    assert weights.sum() > 8
    for array in (*inputs.values(), targets):
        assert array.min() >= 0 and array.max() < examples.manifest["vocab_size"]


@pytest.mark.parametrize("objective", ["mlm", "t5"])
def test_the_same_batch_again(make, objective):
    examples = Examples(make(objective), objective, 8, seed=5)
    batches = [examples.batch(step) for step in range(3)]
    again = Examples(make(objective), objective, 8, seed=5)
    assert_same(again.batch(2), batches[2])
    for batch, expected in zip(again.from_step(1), batches[1:], strict=False):
        assert_same(batch, expected)
    other = Examples(make(objective), objective, 8, seed=6).batch(0)
    assert (other[1] != batches[0][1]).any()


@pytest.mark.parametrize("hosts", [1, 2, 4])
def test_hosts_have_parts_of_one_batch(make, hosts):
    whole = Examples(make("mlm"), "mlm", 8).batch(7)
    parts = [Examples(make("mlm"), "mlm", 8, hosts=hosts, host=i) for i in range(hosts)]
    assert parts[0].spec[1][0][0] == 8 // hosts
    batches = [part.batch(7) for part in parts]
    inputs = {name: np.concatenate([b[0][name] for b in batches]) for name in whole[0]}
    assert_same((inputs, *(np.concatenate([b[i] for b in batches]) for i in (1, 2))), whole)


def test_corpora_are_read_as_often_as_they_should(make, tmp_path):
    """Every example of each in an epoch, so many times, with masks of its own each time."""
    one, other = Examples(make("mlm"), "mlm", 1), tmp_path / "other"
    shutil.copytree(make("mlm"), other)
    shard = one.manifest["shards"][0]
    manifest = one.manifest | {"shards": [shard]}
    (other / "corpus.json").write_text(json.dumps(manifest), "utf-8")
    few = shard["examples"]
    mixed = Examples({make("mlm"): 1, str(other): 3}, "mlm", 1)
    assert len(mixed) == len(one) + 3 * few
    rows = []
    for step in range(len(mixed)):
        inputs, targets, weights = mixed.batch(step)
        ids = inputs["token_ids"][0].copy()
        places = inputs["masked_positions"][0][weights[0] > 0]
        ids[places] = targets[0][weights[0] > 0]
        rows.append((ids.tobytes(), places.tobytes()))
    counts = Counter(Counter(text for text, _ in rows).values())
    assert counts == {1: len(one) - few, 4: few}
    assert len(set(rows)) > len(rows) - few


def test_corpora_that_do_not_go_together(make, tmp_path):
    with pytest.raises(ValueError, match=r"lm has mode 'lm', and .*mlm has 'mlm'; expected"):
        Examples({make("mlm"): 1, make("lm"): 1}, "mlm", 1)
    for corpora in ({make("mlm"): 0}, {make("mlm"): 1.5}, {make("mlm"): 10**10}, {}):
        with pytest.raises(ValueError, match=r"corpus.*expected"):
            Examples(corpora, "mlm", 1)


def test_batch_size_divides_the_same_stream(make):
    large = Examples(make("lm"), "lm", 12).batch(1)[1]
    small = Examples(make("lm"), "lm", 4)
    np.testing.assert_array_equal(np.concatenate([small.batch(i)[1] for i in (3, 4, 5)]), large)


def test_an_epoch_has_each_example_once_in_an_order_of_its_own(make):
    examples = Examples(make("lm"), "lm", 1)
    count = len(examples)
    rows = [examples.batch(step)[0]["token_ids"][0].tobytes() for step in range(2 * count)]
    assert len(set(rows[:count])) == count
    assert sorted(rows[:count]) == sorted(rows[count:])
    assert rows[:count] != rows[count:]


def test_an_epoch_has_masks_of_its_own(make):
    examples = Examples(make("mlm"), "mlm", 1)
    epochs = [{}, {}]
    for step in range(2 * len(examples)):
        inputs, targets, weights = examples.batch(step)
        hidden = inputs["masked_positions"][0][weights[0] > 0]
        original = inputs["token_ids"][0].copy()
        original[hidden] = targets[0][weights[0] > 0]
        epochs[step // len(examples)][original.tobytes()] = hidden.tolist()
    assert epochs[0].keys() == epochs[1].keys()
    different = [epochs[0][row] != epochs[1][row] for row in epochs[0]]
    assert np.mean(different) > 0.9


def test_a_batch_may_be_larger_than_the_corpus(make):
    examples = Examples(make("lm"), "lm", 1)
    count = len(examples)
    batch = Examples(make("lm"), "lm", 3 * count).batch(0)[0]["token_ids"]
    _, counts = np.unique(batch, axis=0, return_counts=True)
    assert (counts == 3).all()


def test_options_reach_the_objective(make):
    examples = Examples(make("mlm"), "mlm", 8, rate=0.5, random_share=0.2)
    assert examples.batch(0)[2].sum() > 8 * 10


def test_mlm_and_electra_share_a_corpus(make):
    assert len(Examples(make("mlm"), "electra", 4)) == len(Examples(make("mlm"), "mlm", 4))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"objective": "bart"}, "expected one of mlm"),
        ({"objective": "lm"}, "was made for 'mlm'; make a corpus with --mode lm"),
        ({"batch_size": 0}, "batch_size=0"),
        ({"hosts": 3}, "a multiple of hosts"),
        ({"host": 1}, "a host from 0"),
    ],
)
def test_bad_arguments(make, options, message):
    with pytest.raises(ValueError, match=message):
        Examples(make("mlm"), **{"objective": "mlm", "batch_size": 8, **options})


def test_what_is_no_finished_corpus(make, tmp_path):
    with pytest.raises(ValueError, match=r"has no corpus\.json"):
        Examples(str(tmp_path), "mlm", 8)
    (tmp_path / "corpus.json").write_text('{"settings": {}}')
    with pytest.raises(ValueError, match="not finished; run the same"):
        Examples(str(tmp_path), "mlm", 8)
    (tmp_path / "corpus.json").write_text("{")
    with pytest.raises(ValueError, match="is not JSON"):
        Examples(str(tmp_path), "mlm", 8)
    shutil.copytree(make("mlm"), tmp_path / "copy")
    manifest = json.loads((tmp_path / "copy" / "corpus.json").read_text())
    manifest["shards"][0]["examples"] += 1
    (tmp_path / "copy" / "corpus.json").write_text(json.dumps(manifest))
    with pytest.raises(ValueError, match="examples and its"):
        Examples(str(tmp_path / "copy"), "mlm", 8)


def changed(directory, change):
    """Changes the contents of a corpus' `corpus.json`."""
    manifest = json.loads((directory / "corpus.json").read_text())
    change(manifest)
    (directory / "corpus.json").write_text(json.dumps(manifest))


@pytest.mark.once
@pytest.mark.parametrize(
    ("name", "value"),
    [
        *[("mode", value) for value in (None, "bert", [])],
        *[("sequence_length", value) for value in ("128", 0, 128.5, True, 10**30)],
        *[("sequence_length", 2**17 + 1), ("record_length", None), ("record_length", 48)],
        *[("vocab_size", 10**12), ("vocabulary_sha256", 1)],
        *[("special_ids", value) for value in ([], {}, {"pad": 0}, {"pad": "0", "mask": 1})],
        ("special_ids", {"pad": 0, "cls": 1, "sep": 2, "mask": 10**6}),
        ("special_ids", {"pad": 0, "unk": 1, "cls": 2, "sep": 3, "mask": 1}),
        *[("sentinel_ids", value) for value in (None, ["a"], [-1], [10**6])],
        *[("shards", value) for value in (None, {}, ["a"], [{}], [{"name": "a.tfrecord"}])],
        ("shards", [{"name": "a.tfrecord", "examples": -1}]),
        ("shards", [{"name": "a.tfrecord", "examples": 1}] * 2),
    ],
)
def test_a_manifest_with_other_values_is_named(make, tmp_path, name, value):
    shutil.copy(f"{make('mlm')}/corpus.json", tmp_path)
    changed(tmp_path, lambda manifest: manifest.update({name: value}))
    with pytest.raises(ValueError, match=rf"corpus\.json: {name}: expected .*, got .*again"):
        Examples(str(tmp_path), "mlm", 8)


@pytest.mark.once
@pytest.mark.parametrize("how", ["../{}", "{}/../{}", "/{}", "./{}", "{}\0", "..", "", "x/{}"])
def test_shards_are_files_of_the_directory(make, tmp_path, how):
    shutil.copytree(make("mlm"), tmp_path / "copy")

    def renamed(manifest):
        shard = manifest["shards"][0]
        shard["name"] = how.format(shard["name"], shard["name"])

    changed(tmp_path / "copy", renamed)
    for directory in (str(tmp_path / "copy"), f"file://{tmp_path / 'copy'}"):
        with pytest.raises(ValueError, match=r"NAME\.tfrecord in the directory, got"):
            Examples(directory, "mlm", 8, cache=str(tmp_path / "cache"))
        assert not (tmp_path / "cache").exists()


@pytest.mark.once
def test_a_manifest_that_is_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "corpus.json")
    with pytest.raises(ValueError, match=r"corpus\.json: expected a file"):
        Examples(str(tmp_path), "mlm", 8)


@pytest.mark.once
@pytest.mark.parametrize(
    ("mode", "ids", "others", "told"),
    [
        ("mlm", [10**6], [0], "token_ids: expected numbers from 0"),
        ("mlm", [-1], [0], "token_ids: expected numbers from 0"),
        ("mlm", [5] * 500, [1] * 500, "a record of 500 tokens"),
        ("mlm", [5] * 5000, [1] * 5000, "a record of 10051 bytes; expected one of 32"),
        ("mlm", [5], [2], "word_starts: expected numbers from 0 to 1"),
        ("unilm", [5, 5], [0, 7], "segment_ids: expected numbers from 0 to 1"),
        ("unilm", [5, 5], [0, -1], "segment_ids: expected numbers from 0 to 1"),
    ],
)
def test_records_that_do_not_fit_the_corpus(make, tmp_path, mode, ids, others, told):
    shutil.copytree(make(mode), tmp_path / "copy")
    features = {"token_ids": np.array(ids), FEATURES[mode][1]: np.array(others)}
    write_shard(str(tmp_path / "copy" / "a.tfrecord"), encode_examples(features, [len(ids)]))
    shards = [{"name": "a.tfrecord", "examples": 1}]
    changed(tmp_path / "copy", lambda manifest: manifest.update(shards=shards))
    with pytest.raises(ValueError, match=f"copy: .*{told}.*make the corpus again"):
        Examples(str(tmp_path / "copy"), mode, 8).batch(0)


@pytest.mark.once
@pytest.mark.parametrize("name", [1, None, True, 1.5])
def test_corpora_have_names_of_directories(name):
    with pytest.raises(ValueError, match="corpus: expected names of directories"):
        Examples({name: 1}, "mlm", 8)


def test_a_damaged_shard_ends_the_iterator(make, tmp_path):
    shutil.copytree(make("mlm"), tmp_path / "copy")
    (path, *_) = sorted((tmp_path / "copy").glob("*.tfrecord"))
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    examples = Examples(str(tmp_path / "copy"), "mlm", 8)
    with pytest.raises(ValueError, match=rf"{path.name}: record \d+ has another"):
        list(islice(examples.from_step(0), len(examples)))


def test_a_remote_corpus_is_copied(make, tmp_path):
    pytest.importorskip("tensorflow")
    remote = f"file://{make('mlm')}"
    with pytest.raises(ValueError, match="expected cache="):
        Examples(remote, "mlm", 8)
    for _ in range(2):
        examples = Examples(remote, "mlm", 8, cache=str(tmp_path / "cache"))
        assert_same(examples.batch(3), Examples(make("mlm"), "mlm", 8).batch(3))
