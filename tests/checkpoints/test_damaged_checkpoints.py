"""Damaged files give a `CheckpointError` or right data: no other error, no hang, no huge array."""

import json
import pickle
import random
import re
import shutil
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest
from make_checkpoints import expected

from bert4keras_lite.checkpoints import CheckpointError, open_checkpoint

pytestmark = pytest.mark.once

EXPECTED = expected()
FILES = [
    "shards/model.ckpt.index",
    "shards/model.ckpt.data-00000-of-00002",
    "partitioned/model.ckpt.index",
    "torch.pt",
    "torch_legacy.pt",
    "torch_nested.bin",
    "torch_sharded/pytorch_model.bin.index.json",
    "brain.safetensors",
    "arrays.npz",
    "compressed.npz",
    "dense.weights.h5",
    "dense.keras",
]
CHECKED = ("shards", "partitioned")  # with checksums of everything


def read_all(path):
    """All tensors, or None where there is a `CheckpointError`; fails on everything else."""
    tracemalloc.start()
    try:
        return {name: np.array(array) for name, array in open_checkpoint(path, verify=True).items()}
    except CheckpointError as error:
        assert str(path.parent) in str(error)
        return None
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 100 * 2**20


@pytest.fixture(params=FILES)
def victim(request, goldens, tmp_path):
    """A copy of a golden file, to be damaged, with what belongs to it."""
    source = goldens / request.param
    if "/" in request.param:
        shutil.copytree(source.parent, tmp_path, dirs_exist_ok=True)
    else:
        shutil.copy(source, tmp_path)
    return tmp_path / source.name


@pytest.mark.parametrize("part", range(3))
def test_mutated_bytes(victim, part, request):
    rng = random.Random(part)
    content = victim.read_bytes()
    name = request.node.callspec.params["victim"]
    for _ in range(80):
        damaged = bytearray(content)
        for _ in range(rng.choice((1, 1, 3))):
            damaged[rng.randrange(len(content))] = rng.choice((0, 255, rng.randrange(256)))
        victim.write_bytes(damaged)
        found = read_all(victim)
        if found is not None and name.startswith(CHECKED):
            wanted = next(t for file, t in EXPECTED.items() if name.startswith(file))
            assert set(found) == set(wanted)
            for key, array in found.items():
                np.testing.assert_array_equal(array, wanted[key])


def test_truncated(victim):
    content = victim.read_bytes()
    for length in {*range(0, len(content), max(1, len(content) // 60)), len(content) - 1}:
        victim.write_bytes(content[:length])
        assert read_all(victim) is None


def test_grown(victim):
    """Bytes behind the end are harmless for some formats, and must not hurt in any."""
    with open(victim, "ab") as file:
        file.write(bytes(100))
    read_all(victim)


def test_shifted_zip_member(goldens, tmp_path):
    """The length of a member's extra field stands in one place only, and moves all its values."""
    content = bytearray((goldens / "torch.pt").read_bytes())
    with zipfile.ZipFile(goldens / "torch.pt") as archive:
        header = archive.getinfo("torch/data/0").header_offset
    for change in (-4, 4, 16):
        shifted = content.copy()
        shifted[header + 28] += change
        (tmp_path / "m.pt").write_bytes(shifted)
        with pytest.raises(CheckpointError, match="torch/data/0"):
            open_checkpoint(tmp_path / "m.pt")


@pytest.mark.parametrize(
    "content, message",
    [
        (b"", "is empty"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n", "git lfs pull"),
        (b"<!DOCTYPE html>" * 9, "not a checkpoint of a known format"),
        (b"{}" * 300, "not a checkpoint of a known format"),
        (b"x".ljust(257, b"\0") + b"ustar\0", "tar archive"),
        ((1 << 30).to_bytes(8, "little") + b"{}", "its header should take 1073741824 bytes"),
        (b"\2\0\0\0\0\0\0\0{]", "damaged"),
    ],
)
@pytest.mark.parametrize("name", ["m.safetensors", "pytorch_model.bin", "m.npz", "m.weights.h5"])
def test_what_is_no_checkpoint(tmp_path, content, message, name):
    (tmp_path / name).write_bytes(content)
    for path in (tmp_path, tmp_path / name):
        with pytest.raises(CheckpointError, match=message) as error:
            open_checkpoint(path)
        assert name in str(error.value)


def test_missing_files(goldens, tmp_path):
    with pytest.raises(CheckpointError, match=r"no such file, nor m\.ckpt\.index"):
        open_checkpoint(tmp_path / "m.ckpt")
    with pytest.raises(CheckpointError, match=r"m\.index: cannot be read: No such file"):
        open_checkpoint(tmp_path / "m.data-00000-of-00001")
    shutil.copytree(goldens / "shards", tmp_path / "tf")
    (tmp_path / "tf" / "model.ckpt.data-00001-of-00002").unlink()
    with pytest.raises(CheckpointError, match=r"shard \(2 of 2\) is missing.*model\.ckpt\.index"):
        open_checkpoint(tmp_path / "tf")
    shutil.copytree(goldens / "torch_sharded", tmp_path / "torch")
    (tmp_path / "torch" / "pytorch_model-00002-of-00003.bin").unlink()
    with pytest.raises(CheckpointError, match=r"00002-of-00003\.bin: this shard.*is missing"):
        open_checkpoint(tmp_path / "torch")


def test_sharded_index_and_shards_must_agree(goldens, tmp_path):
    shutil.copytree(goldens / "torch_sharded", tmp_path, dirs_exist_ok=True)
    index = tmp_path / "pytorch_model.bin.index.json"
    files = json.loads(index.read_text())["weight_map"]
    for change, message in [
        ({"lost": "pytorch_model-00001-of-00003.bin"}, "'lost' should be in this file"),
        ({"out": "../pytorch_model.bin"}, "outside of its directory"),
        ({"out": 3}, "damaged"),
    ]:
        index.write_text(json.dumps({"weight_map": files | change}))
        with pytest.raises(CheckpointError, match=message):
            open_checkpoint(tmp_path)


@pytest.mark.parametrize(
    "shape, offsets, dtype",
    [
        ([1 << 62], [0, 1 << 64], "F32"),
        ([1 << 31, 1 << 31, 4], [0, 0], "F32"),
        ([2], [4, 12], "F32"),
        ([2], [-8, 0], "F32"),
        ([-2], [8, 0], "F32"),
        ([-2, -1], [0, 8], "F32"),
        ([2.0], [0, 8], "F32"),
        ([1] * 100, [0, 4], "F32"),
        ([2], [0, 8], 33),
        ([2], [0, 8], ["F32"]),
        ([2], [0, 7], "F4"),
        ([2], [8, 0], "F4"),
        ([-2], [0, 8], "F4"),
        ("12", [0, 8], "F32"),
        (None, [0, 8], "F32"),
    ],
)
def test_lying_safetensors_header(tmp_path, shape, offsets, dtype):
    header = json.dumps({"x": {"dtype": dtype, "shape": shape, "data_offsets": offsets}}).encode()
    path = tmp_path / "m.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header + bytes(8))
    with pytest.raises(CheckpointError):
        open_checkpoint(path)


# pickles


def torch_zip(path, content):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("m/data.pkl", content)
        archive.writestr("m/data/0", np.arange(4, dtype="float32").tobytes())


class Malice:
    def __init__(self, call, *arguments):
        self.reduced = call, arguments

    def __reduce__(self):
        return self.reduced


@pytest.mark.parametrize("protocol", range(2, 6))
@pytest.mark.parametrize("legacy", [False, True])
def test_pickles_are_not_run(tmp_path, protocol, legacy):
    import os

    target = tmp_path / "executed"
    for malice, name in [
        (Malice(os.system, f"touch {target}"), "system"),
        (Malice(exec, f"open({str(target)!r}, 'w')"), "exec"),
        (Malice(Path(target).touch), "getattr|Path"),
    ]:
        content = pickle.dumps({"a": malice}, protocol)
        path = tmp_path / "m.bin"
        if legacy:
            start = [0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}]
            path.write_bytes(b"".join(pickle.dumps(s, 2) for s in start) + content)
        else:
            torch_zip(path, content)
        with pytest.raises(CheckpointError, match=name):
            open_checkpoint(path)
        assert not target.exists()
    pickle.loads(pickle.dumps(Malice(Path(target).touch)))
    assert target.exists()  # so the test would have noticed


STORAGE = (
    b"(X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpuK\x04tQ"
)


def tensor_pickle(offset, shape, strides):
    """The pickle of {"a": a tensor}, with these numbers in it."""
    numbers = b"".join(pickle.dumps(part, 2)[2:-1] for part in (offset, shape, strides))
    build = b"ctorch._utils\n_rebuild_tensor\n(" + STORAGE + numbers + b"tR"
    return b"\x80\x02}X\x01\x00\x00\x00a" + build + b"s."


@pytest.mark.parametrize(
    "offset, shape, strides",
    [
        (1, (4,), (1,)),
        (0, (5,), (1,)),
        (-1, (1,), (1,)),
        (3, (4,), (-1,)),
        (0, (2, 2), (3, 1)),
        (0, (1 << 40,), (0,)),
        (0, (1 << 62, 1 << 62), (0, 0)),
        (0, (-4,), (1,)),
        (0, (4,), (1, 1)),
        (0, (4.0,), (1,)),
        (0, 4, 1),
        (None, (4,), (1,)),
    ],
)
def test_lying_torch_tensors(tmp_path, offset, shape, strides):
    torch_zip(tmp_path / "m.pt", tensor_pickle(0, (2, 2), (1, 2)))
    np.testing.assert_array_equal(open_checkpoint(tmp_path / "m.pt")["a"], [[0, 2], [1, 3]])
    torch_zip(tmp_path / "m.pt", tensor_pickle(offset, shape, strides))
    with pytest.raises(CheckpointError):
        open_checkpoint(tmp_path / "m.pt")


@pytest.mark.parametrize("protocol", range(1, 6))
def test_pickles_beside_weights_are_not_run(tmp_path, protocol):
    import os

    target = tmp_path / "executed"
    weights = tensor_pickle(0, (2, 2), (1, 2))[:-1] + b"X\x01\x00\x00\x00b"
    for malice in (Malice(os.system, f"touch {target}"), Malice(Path(target).touch)):
        content = re.sub(rb"^\x80.(\x95.{8})?", b"", pickle.dumps(malice, protocol), flags=re.S)
        torch_zip(tmp_path / "m.pt", weights + content[:-1] + b"s.")
        checkpoint = open_checkpoint(tmp_path / "m.pt")
        assert list(checkpoint) == ["a"] and checkpoint["a"].shape == (2, 2)
        assert not target.exists()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b".",
        b"\x80\x02}",
        b"\x80\x02r\xff\xff\xff\x7f.",
        b"\x80\x02}r\xff\xff\xff\x7f.",  # a huge place in the memo
        b"\x80\x04\x8e" + b"\xff" * 7 + b"\x7f.",  # a huge bytes object
        b"\x80\x02(((((.",
        b"\x80\x02K\x01K\x02R.",
        b"\x80\x02ctorch\nFloatStorage\n)R.",
        b"\x80\x02K\x05Q.",
        b"\x80\x02(X\x06\x00\x00\x00moduletQ.",
        b"\x80\x02ctorch._utils\n_rebuild_tensor\n)R.",
        b"\x80\x02c__builtin__\neval\n.",
        b"\x80\x02" + b"(" * 50000 + b"t" * 50000 + b".",
        b"\x80\x02" + b"}X\x01\x00\x00\x00a" * 50000 + b"}" + b"s" * 50000 + b".",
    ],
)
def test_odd_pickles(tmp_path, content):
    torch_zip(tmp_path / "m.pt", content)
    with pytest.raises(CheckpointError):
        open_checkpoint(tmp_path / "m.pt")
