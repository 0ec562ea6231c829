"""TFRecord files without TensorFlow: roundtrips, damage, and what TensorFlow itself writes."""

import os
import tracemalloc
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bert4keras_lite.protobuf import encode_field, read_fields
from pretraining import shards
from pretraining.shards import (
    Shard,
    decode_examples,
    decode_varints,
    encode_examples,
    encode_varints,
    index_name,
    read_index,
    shard_name,
    write_shard,
)

pytestmark = pytest.mark.once

GOLDENS = Path(__file__).resolve().parents[1] / "goldens" / "pretraining"
INT64 = st.integers(-(2**63), 2**63 - 1)
ROWS = st.lists(st.lists(st.one_of(INT64, st.integers(0, 30000)), min_size=1), min_size=1)


@given(st.lists(st.one_of(INT64, st.integers(0, 300))))
def test_varints_roundtrip(values):
    data, ends = encode_varints(np.array(values, np.int64))
    decoded, decoded_ends = decode_varints(data)
    assert decoded.tolist() == values
    np.testing.assert_array_equal(ends, decoded_ends)


def test_varints_as_specified():
    # the examples of the specification, and a negative number, which has ten bytes
    data, _ = encode_varints(np.array([1, 150, -1]))
    assert data.tobytes() == b"\x01\x96\x01" + b"\xff" * 9 + b"\x01"
    with pytest.raises(ValueError, match="cut off"):
        decode_varints(data[:-1])
    for digits in (b"\xff" * 10 + b"\x01", b"\x80" * 10 + b"\x00", b"\xff" * 9 + b"\x02"):
        with pytest.raises(ValueError, match="more than 64 bits"):
            decode_varints(np.frombuffer(digits, np.uint8))


def examples_of(rows):
    features = {
        "token_ids": np.array(list(chain.from_iterable(rows)), np.int64),
        "word_starts": np.array(list(chain.from_iterable(rows))) > 0,
    }
    return features, np.array(list(map(len, rows)))


@given(ROWS)
def test_examples_roundtrip(rows):
    features, lengths = examples_of(rows)
    decoded, found = decode_examples(encode_examples(features, lengths), list(features))
    np.testing.assert_array_equal(found, lengths)
    for name, values in features.items():
        np.testing.assert_array_equal(decoded[name], values)


@given(rows=ROWS, damaged=st.data())
def test_damaged_examples_are_errors_or_other_numbers(rows, damaged):
    (record, *_) = encode_examples(*examples_of(rows))
    at = damaged.draw(st.integers(0, len(record) - 1))
    for data in (record[:at], record[:at] + bytes([record[at] ^ 0x81]) + record[at + 1 :]):
        try:
            decode_examples([data], ["token_ids", "word_starts"])
        except ValueError as error:
            assert str(error)


def test_a_missing_list_is_named():
    records = encode_examples({"token_ids": np.array([1])}, [1])
    with pytest.raises(ValueError, match="no list 'word_starts'"):
        decode_examples(records, ["token_ids", "word_starts"])


def example(lists):
    return encode_field(1, encode_field(1, encode_field(1, b"token_ids") + encode_field(2, lists)))


@pytest.mark.parametrize(
    "record",
    [
        example(encode_field(3, b"") * 2),
        example(encode_field(3, encode_field(1, b"\x01") * 2)),
        example(encode_field(2, encode_field(1, b"\x01"))),
        example(encode_field(3, encode_field(2, b"\x01"))),
        example(encode_field(3, b"\x08\x01")),
        example(encode_field(3, b"")) * 2,
        encode_field(
            1,
            encode_field(
                1, encode_field(1, b"token_ids") * 2 + encode_field(2, encode_field(3, b""))
            ),
        ),
        encode_field(1, b"\x08\x01"),
        encode_field(2, b""),
    ],
)
def test_records_of_other_messages_are_errors_at_once(record, monkeypatch):
    """Before the rest of what may be millions of fields is looked at."""
    read = []

    def reading(data):
        for found in read_fields(data):
            read.append(found)
            yield found

    monkeypatch.setattr(shards, "read_fields", reading)
    with pytest.raises(ValueError, match=r"tf\.train\.Example"):
        decode_examples([record + record * 100], ["token_ids"])
    assert len(read) <= 7


def test_many_numbers_take_little_memory():
    data, _ = encode_varints(np.arange(1 << 20) % 30000)
    tracemalloc.start()
    try:
        values, _ = decode_varints(data)
        assert tracemalloc.get_traced_memory()[1] < 40 << 20
    finally:
        tracemalloc.stop()
    np.testing.assert_array_equal(values, np.arange(1 << 20) % 30000)


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="counts in /proc")
def test_more_shards_than_a_process_may_have_files(tmp_path):
    records = encode_examples(*examples_of([[1, 2]]))
    for i in range(2 * shards._MAPPED):
        write_shard(str(tmp_path / shard_name(i, 1)), records)
    before = len(os.listdir("/proc/self/fd"))
    opened = [Shard(str(path)) for path in tmp_path.glob("*.tfrecord")]
    for _ in range(2):
        assert all(shard[0] == records[0] for shard in opened)
    assert len(os.listdir("/proc/self/fd")) <= before + shards._MAPPED


def test_a_shard_that_another_one_replaces_meanwhile(shard):
    path, rows = shard
    opened = Shard(path)
    write_shard(path, encode_examples(*examples_of(rows[::-1])))
    with pytest.raises(ValueError, match="was changed while it was read"):
        opened[0]


@pytest.fixture
def shard(tmp_path):
    path = str(tmp_path / shard_name(0, 1))
    rows = [[101, 5, 20000, 102], [101, 7, 102], [101, 300, 4, 5, 6, 102]]
    write_shard(path, encode_examples(*examples_of(rows)), lambda: {"tokens": 7})
    return path, rows


def test_shards_roundtrip(shard):
    path, rows = shard
    records = Shard(path)
    assert len(records) == 3
    features, lengths = decode_examples([records[i] for i in (2, 0)], ["token_ids"])
    assert features["token_ids"].tolist() == rows[2] + rows[0] and lengths.tolist() == [6, 4]
    assert read_index(path)[1] == {"tokens": 7}


def test_without_an_index_a_shard_is_read_through(shard):
    path, _ = shard
    with_index = [Shard(path)[i] for i in range(3)]
    Path(index_name(path)).unlink()
    assert [Shard(path)[i] for i in range(3)] == with_index


def test_a_shard_may_be_empty(tmp_path):
    path = str(tmp_path / "a.tfrecord")
    write_shard(path, [])
    assert len(Shard(path)) == 0


def read_all(path):
    return [
        record for shard in [Shard(path)] for record in map(shard.__getitem__, range(len(shard)))
    ]


@settings(max_examples=60)
@given(at=st.floats(0, 0.999), flip=st.integers(1, 255))
def test_every_damaged_byte_is_found(tmp_path_factory, at, flip):
    path = str(tmp_path_factory.mktemp("shard") / "a.tfrecord")
    write_shard(path, encode_examples(*examples_of([[1, 2, 300], [4, 5]])))
    data = bytearray(Path(path).read_bytes())
    number = int(at * len(data))
    for damaged in (
        data[:number],
        data[:number] + bytes([data[number] ^ flip]) + data[number + 1 :],
    ):
        Path(path).write_bytes(damaged)
        with pytest.raises(ValueError, match=r"a\.tfrecord.*make the corpus again"):
            read_all(path)


def test_a_damaged_index_is_named(shard):
    path, _ = shard
    for content in (b"", b"PK\x03\x04nothing", Path(index_name(path)).read_bytes()[:-30]):
        Path(index_name(path)).write_bytes(content)
        with pytest.raises(ValueError, match=r"index\.npz is not an index.*Remove"):
            Shard(path)


SIZE = 1 << 62


@pytest.mark.parametrize(
    "arrays",
    [
        {},
        {"offsets": np.array(0)},
        {"offsets": np.array([], np.int64)},
        {"offsets": np.array([0.0, 50.0])},
        {"offsets": np.array([[0, 50]])},
        {"offsets": np.array([16, 50])},
        {"offsets": np.array([0, 50, 40])},
        {"offsets": np.array([0, 5])},
        {"offsets": np.array([0, SIZE, -SIZE, 50])},
        {"offsets": np.array([0, 50]), "tokens": np.array([1, 2])},
        {"offsets": np.array([0, 50]), "tokens": np.array(np.inf)},
        {"offsets": np.array([0, 50]), "tokens": np.array(-1)},
        {"offsets": np.array(["a"])},
    ],
)
def test_an_index_with_other_values_is_named(shard, arrays):
    path, _ = shard
    np.savez(index_name(path), **arrays)
    with pytest.raises(ValueError, match=r"index\.npz is not an index.*Remove"):
        Shard(path)


def test_an_index_that_unpacks_to_far_more_is_refused(shard):
    path, _ = shard
    np.savez_compressed(index_name(path), offsets=np.zeros(6 << 20, np.int64))
    with pytest.raises(ValueError, match="is larger than can be"):
        read_index(path)


def make_directory(path):
    path.mkdir()


@pytest.mark.skipif(os.name != "posix", reason="needs named pipes")
@pytest.mark.parametrize("make", [make_directory, os.mkfifo])
@pytest.mark.parametrize("name", [str, index_name])
def test_what_is_no_file_is_not_waited_for(shard, make, name):
    path, _ = shard
    Path(name(path)).unlink()
    make(Path(name(path)))
    with pytest.raises(ValueError, match="expected a file, and it is a directory, a pipe"):
        Shard(path)


def test_what_is_no_tfrecord_file_is_an_error(tmp_path):
    for content in (b"hello", b"a long text that is no TFRecord file at all"):
        (tmp_path / "a.tfrecord").write_bytes(content)
        with pytest.raises(ValueError, match=r"a\.tfrecord: record 0"):
            Shard(str(tmp_path / "a.tfrecord"))


def test_an_exception_leaves_what_was_there(shard, tmp_path):
    path, _ = shard
    before = read_all(path)

    def failing():
        yield b"half"
        raise RuntimeError("no more")

    for name in (path, str(tmp_path / "new.tfrecord")):
        with pytest.raises(RuntimeError, match="no more"):
            write_shard(name, failing())
    assert read_all(path) == before
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(
        [shard_name(0, 1), index_name(shard_name(0, 1))]
    )


# TensorFlow


def test_reads_what_tensorflow_wrote():
    shard = Shard(str(GOLDENS / "tensorflow.tfrecord"))
    expected = np.load(GOLDENS / "tensorflow.npz")
    features, lengths = decode_examples(
        [shard[i] for i in range(len(shard))], ["token_ids", "word_starts"]
    )
    np.testing.assert_array_equal(lengths, expected["lengths"])
    np.testing.assert_array_equal(features["token_ids"], expected["token_ids"])
    np.testing.assert_array_equal(features["word_starts"], expected["word_starts"])


def test_writes_the_frames_that_tensorflow_writes(tmp_path):
    path = GOLDENS / "tensorflow.tfrecord"
    write_shard(str(tmp_path / "a.tfrecord"), read_all(str(path)))
    assert (tmp_path / "a.tfrecord").read_bytes() == path.read_bytes()


def test_tensorflow_reads_it(shard):
    tf = pytest.importorskip("tensorflow")
    path, rows = shard
    found = []
    for record in tf.data.TFRecordDataset(path):
        features = tf.train.Example.FromString(record.numpy()).features.feature
        found.append(list(features["token_ids"].int64_list.value))
        assert list(features["word_starts"].int64_list.value) == [1] * len(found[-1])
        parsed = tf.io.parse_single_example(record, {"token_ids": tf.io.VarLenFeature(tf.int64)})
        assert parsed["token_ids"].values.numpy().tolist() == found[-1]
    assert found == rows


def test_files_behind_a_scheme(tmp_path):
    pytest.importorskip("tensorflow")
    path = f"file://{tmp_path}/a.tfrecord"
    write_shard(path, [b"one", b"two"], lambda: {"tokens": 3})
    assert read_index(path)[1] == {"tokens": 3}
    assert read_all(str(tmp_path / "a.tfrecord")) == [b"one", b"two"]
