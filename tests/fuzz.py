"""Changes good files at random, and shows that readers give right errors, or open what is left.

    python tests/fuzz.py                                   # 2000 mutations of each format
    python tests/fuzz.py --only torch-zip npz --mutations 40000 --seed 7
    python tests/fuzz.py --only torch-zip --seed 7 --index 1234    # one of them again, here

A mutation depends on the seed, the format and its number alone. Half of them are repaired: what
holds the changed part together (CRC32 of zip archives, CRC32C of TensorFlow's index and data,
lengths of headers and fields) is put right, so that parsers see what lies deeper.

Each file is read in a forked process with limits of the kernel: ten CPU seconds, and beside the
memory at its start 64 MB and eight times the bytes of the files. A process reads some hundred. What
may come out:

- it opens, and all tensors can be read (a text can be encoded and decoded, ...);
- the documented error: `CheckpointError`, else `ValueError`, that names the file, is of a decent
  length, and not about memory.

Everything else is a finding: the file is kept, and a line tells how to make it again. HDF5 files
are read as by `hdf5_child.py`, but without a new interpreter for each; that libhdf5 ends such a
process is foreseen. One in two thousand goes the whole way. The exit status is 1 if there are
findings.
"""

import argparse
import json
import mmap
import os
import pickle
import random
import re
import resource
import shutil
import signal
import struct
import sys
import tempfile
import time
import warnings
import zipfile
from collections import Counter
from io import BytesIO
from pathlib import Path
from typing import NamedTuple

if not os.environ.get("PYTHONPATH"):
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import h5py
import jieba
import numpy as np
import sentencepiece

from bert4keras_lite import configs, tokenizers
from bert4keras_lite.checkpoints import (
    CheckpointError,
    hdf5,
    hdf5_child,
    open_checkpoint,
    save_checkpoint,
)
from bert4keras_lite.checkpoints import tf_bundle as tf
from bert4keras_lite.checkpoints.base import damaged
from bert4keras_lite.checksums import masked_crc32c
from bert4keras_lite.configs import classifiers, published, recognition
from bert4keras_lite.configs.sentences import read_sentence_files
from bert4keras_lite.protobuf import encode_varint, read_varint
from pretraining import documents, texts
from pretraining.config import RECIPES
from pretraining.config import load as load_recipe

GOLDENS = Path(__file__).parent / "goldens" / "checkpoints"
CPU_SECONDS, MEMORY, TIMES = 10, 64 << 20, 8
BATCH = 400  # mutations of one process
WHOLE_WAY = 2000  # of so many HDF5 files one is read by a new interpreter
LONGEST = 1200  # characters of a message, besides the path

INTERESTING = [
    *(0, 1, 2, 3, 7, 8, 15, 16, 31, 32, 33, 63, 64, 65, 100, 127, 128, 255, 256, 1023, 1024, 4096),
    *(32767, 32768, 65535, 65536, (1 << 24) - 1, 1 << 24, (1 << 31) - 1, 1 << 31, (1 << 32) - 1),
    *(1 << 32, 1 << 40, (1 << 60) - 1, 1 << 60, (1 << 63) - 1, 1 << 63, (1 << 64) - 1),
]
JSON_TOKENS = [
    *("null", "true", "false", "0", "-1", "1", "1e999", "NaN", "-Infinity", "0.5", '""', '"a"'),
    *("[]", "{}", "[[]]", '{"a": 1}', "[0]", '["a"]', '"\\ud800"', "1e3", "9" * 30, "9" * 5000),
    *('"' + "长" * 300 + '"', "[" * 150 + "]" * 150, "[" * 2000, "18446744073709551616", "{", "]"),
    *(",", ":", '"', "-0", "65536", "16777216", '"##a"', '"[MASK]"', '"bert"', '"Sequence"'),
]
YAML_TOKENS = [
    *(
        "&a",
        "*a",
        "!!python/name:os",
        "!!binary",
        "!!set",
        "- ",
        "? ",
        ": ",
        "| ",
        "> ",
        "0x",
        "0b_",
    ),
    *(
        "2020-99-99",
        "190:20:30",
        "<<: ",
        "{a: ",
        "[",
        "]",
        "~",
        ".nan",
        "1_0",
        "null",
        "---\n",
        "\t",
    ),
]


# Mutations


def mutated(rng, content, tokens=()):
    """`content` after one to four random changes; `tokens`: what fits into its language."""
    content = bytearray(content)
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        change = rng.choice(CHANGES if not tokens or rng.random() < 0.4 else (_token,))
        content = change(rng, content, tokens)
    return bytes(content)


def _span(rng, content, most=64):
    start = rng.randrange(len(content) + 1)
    longest = len(content) if rng.random() < 0.1 else most
    return start, min(len(content), start + rng.randrange(1, longest + 2))


def _flip(rng, content, tokens):
    if content:
        content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    return content


def _byte(rng, content, tokens):
    if content:
        content[rng.randrange(len(content))] = rng.choice((0, 1, 127, 128, 255, rng.randrange(256)))
    return content


def _integer(rng, content, tokens):
    """An interesting integer, of one to eight bytes, in either order, or as a varint."""
    number, width = rng.choice(INTERESTING), rng.choice((1, 2, 4, 8))
    start = rng.randrange(len(content) + 1)
    if rng.random() < 0.2:
        data = encode_varint(number)
    else:
        order = rng.choice(("little", "little", "big"))
        data = (number & ((1 << 8 * width) - 1)).to_bytes(width, order)
    content[start : start + len(data)] = data
    return content


def _insert(rng, content, tokens):
    start = rng.randrange(len(content) + 1)
    return content[:start] + rng.randbytes(rng.choice((1, 2, 4, 8, 30))) + content[start:]


def _delete(rng, content, tokens):
    start, end = _span(rng, content)
    return content[:start] + content[end:]


def _truncate(rng, content, tokens):
    return content[: rng.randrange(len(content) + 1)]


def _repeat(rng, content, tokens):
    start, end = _span(rng, content)
    times = rng.choice((1, 2, 3, 10, 100 if end - start < 100 else 2))
    return content[:end] + content[start:end] * times + content[end:]


def _swap(rng, content, tokens):
    a, b = sorted(_span(rng, content) for _ in range(2))
    if a[1] > b[0]:
        return content
    first, between, second = content[a[0] : a[1]], content[a[1] : b[0]], content[b[0] : b[1]]
    return content[: a[0]] + second + between + first + content[b[1] :]


def _splice(rng, content, tokens):
    start, end = _span(rng, content, 200)
    place = rng.randrange(len(content) + 1)
    return content[:place] + content[start:end] + content[place + end - start :]


def _token(rng, content, tokens):
    """A token of the language of the file, in the place of one that is there, or between two."""
    places = [match.span() for match in TOKEN.finditer(content)]
    if not places or not tokens:
        return _byte(rng, content, tokens)
    start, end = rng.choice(places)
    kind = rng.random()
    if kind < 0.2:
        new = content[slice(*rng.choice(places))]
    elif kind < 0.25:
        new = b""
    else:
        new = rng.choice(tokens)
        new = new.encode() if isinstance(new, str) else new
    if rng.random() < 0.15:
        end = start
    return content[:start] + new + content[end:]


CHANGES = (_flip, _byte, _byte, _integer, _integer, _insert, _delete, _truncate)
CHANGES += (_repeat, _swap, _splice)
TOKEN = re.compile(rb'"(?:[^"\\]|\\.)*"|[-\w.+]+|[\[\]{},:]|[^\s]')
PICKLE_TOKENS = [
    *(
        b"(",
        b")",
        b"]",
        b"}",
        b"t",
        b"u",
        b"s",
        b"a",
        b"e",
        b"R",
        b"b",
        b"Q",
        b".",
        b"0",
        b"1",
        b"2",
    ),
    *(b"N", b"K\x00", b"K\xff", b"J\xff\xff\xff\xff", b"\x8a\x08" + b"\xff" * 7 + b"\x7f"),
    *(b"h\x00", b"q\x00", b"h\x01", b"\x85", b"\x86", b"\x87", b"\x88", b"X\x01\x00\x00\x00a"),
    *(
        b"ctorch\nSize\n",
        b"ccollections\nOrderedDict\n)R",
        b"ctorch\nfloat16\n",
        b"l",
        b"d",
        b"\x94",
    ),
    *(b"ctorch._utils\n_rebuild_tensor_v2\n", b"ctorch\nHalfStorage\n", b"c__builtin__\neval\n"),
    *(
        b"o",
        b"\x81",
        b"\x8f",
        b"\x90",
        b"\x91",
        b"\x92",
        b"\x93",
        b"ios\nsystem\n",
        b"G" + b"\x3f" * 8,
    ),
    *(b"ctorch._utils\n_rebuild_qtensor\n", b"ctorch._tensor\n_rebuild_from_type_v2\n"),
]


# Repairs


def in_zip(tokens=()):
    """A function that changes one member of a zip archive, and makes the archive again."""

    def change(rng, content):
        with zipfile.ZipFile(BytesIO(content)) as archive:
            members = [(info, archive.read(info)) for info in archive.infolist()]
        chosen = rng.randrange(len(members))
        if rng.random() < 0.5:  # the description, where there is one
            named = [i for i, (info, _) in enumerate(members) if info.filename.endswith(".pkl")]
            chosen = named[0] if named else chosen
        out = BytesIO()
        with zipfile.ZipFile(out, "w") as archive:
            for i, (info, data) in enumerate(members):
                if i == chosen:
                    data = mutated(rng, data, tokens if info.filename.endswith(".pkl") else ())
                fresh = zipfile.ZipInfo(info.filename)
                fresh.compress_type = info.compress_type
                archive.writestr(fresh, data)
        return out.getvalue()

    return change


def in_json(rng, content):
    """Changes some of the values, keys and items in a JSON text, which stays one."""
    value = json.loads(content)
    for _ in range(rng.choice((1, 1, 2, 3))):
        places = []  # (container, key or number)
        left = [value]
        while left:
            item = left.pop()
            keys = item.keys() if isinstance(item, dict) else range(len(item))
            places += ((item, key) for key in keys)
            left += (item[key] for key in keys if isinstance(item[key], dict | list))
        if not places:
            break
        container, key = rng.choice(places)
        other = rng.choice(places)
        kind = rng.random()
        if kind < 0.5:
            container[key] = rng.choice(VALUES)
        elif kind < 0.65:
            container[key] = json.loads(json.dumps(other[0][other[1]]))
        elif kind < 0.75:
            del container[key]
        elif kind < 0.85 and isinstance(container, list):
            container.insert(key, rng.choice((container[key], *VALUES)))
        elif isinstance(container, dict):
            container[str(other[1])] = container[key]
        else:
            container[key] = [container[key]]
        value = json.loads(json.dumps(value))  # so that nothing is in it twice
    return json.dumps(value, ensure_ascii=rng.random() < 0.5).encode("utf-8", "replace")


VALUES = [
    *(
        None,
        True,
        False,
        0,
        1,
        -1,
        2,
        3,
        7,
        0.5,
        -0.5,
        1e300,
        float("nan"),
        float("inf"),
        512,
        65536,
    ),
    *(
        1 << 24,
        1 << 31,
        1 << 63,
        10**30,
        -(1 << 63),
        "",
        "a",
        "##a",
        "[MASK]",
        "[CLS]",
        "bert",
        "\0",
    ),
    *(
        "../x",
        "/etc/passwd",
        "长" * 300,
        "a b",
        "\u2028",
        "gelu",
        "linear",
        "true",
        "0",
        [],
        {},
        [0],
    ),
    *([[]], ["a"], ["gelu", "linear"], [None], {"a": 1}, {"content": "<e>"}, {"content": 1}, "F32"),
    *({"type": "Sequence"}, [1, 2], {"id": 1, "content": "<q>"}, "BF16", "BertTokenizer", "t5"),
]


def in_header(rng, content):
    """Changes the header of a safetensors file, and puts its length right."""
    length = int.from_bytes(content[:8], "little")
    header = content[8 : 8 + length]
    header = in_json(rng, header) if rng.random() < 0.5 else mutated(rng, header, JSON_TOKENS)
    return len(header).to_bytes(8, "little") + header + content[8 + length :]


def index_blocks(content):
    """The pairs of the index's table, and the bytes of its blocks, `(pairs, table, index)`."""
    footer = content[-tf.FOOTER_SIZE :]
    _, _, position = tf._read_handle(footer, 0)
    offset, size, _ = tf._read_handle(footer, position)
    index = content[offset : offset + size]
    (_, handle), *_ = tf._read_block("", content, offset, size)
    start, length, _ = tf._read_handle(handle, 0)
    pairs = list(tf._read_block("", content, start, length))
    return pairs, content[start : start + length], index


def sealed(block, kind=b"\0"):
    """A block with its kind and its checksum."""
    return block + kind + masked_crc32c(block + kind).to_bytes(4, "little")


def made_index(table, index=None):
    """An index file of a sealed table block; `index`: the block that says where that one is."""
    meta = tf._block([])
    index = tf._block([(b"\xff", tf._handle(0, table))]) if index is None else index
    footer = tf._handle(len(table), meta) + tf._handle(len(table + meta), index)
    return table + meta + index + footer.ljust(40, b"\0") + tf.MAGIC


def in_index(rng, content):
    """Changes a description, a block of them, or the list of blocks; checksums are put right."""
    pairs, table, index = index_blocks(content)
    kind = rng.randrange(4)
    if kind < 2:
        chosen = rng.randrange(len(pairs))
        key, value = pairs[chosen]
        if kind == 0 or not key:
            pairs[chosen] = key, mutated(rng, value)
        else:
            pairs[chosen] = mutated(rng, key), value
        return made_index(tf._block(sorted(pairs)))
    if kind == 2:
        return made_index(sealed(mutated(rng, table)))
    return made_index(sealed(table), sealed(mutated(rng, index)))


def snappy(data):
    """Compresses in Snappy's format: copies where the next four bytes were there before."""
    out, seen, literal, position = bytearray(encode_varint(len(data))), {}, 0, 0

    def flush(end):
        for start in range(literal, end, 60):
            piece = data[start : min(start + 60, end)]
            out.append((len(piece) - 1) << 2)
            out.extend(piece)

    while position < len(data):
        key = data[position : position + 4]
        before = seen.get(key)
        seen[key] = position
        if before is None or len(key) < 4 or position - before > 65535:
            position += 1
            continue
        length = 4
        while length < 64 and data[before + length : before + length + 1] == (
            data[position + length : position + length + 1] or b"?"
        ):
            length += 1
        flush(position)
        out.append((length - 1) << 2 | 2)
        out.extend((position - before).to_bytes(2, "little"))
        position += length
        literal = position
    flush(len(data))
    return bytes(out)


def in_snappy(rng, content):
    """Changes what is compressed, and puts the checksum right."""
    _, table, _ = index_blocks(content)
    return made_index(sealed(mutated(rng, snappy(table)), b"\1"))


def in_fields(rng, content):
    """Changes one field of a protocol buffer, or their order; lengths are put right."""
    fields = []
    position = 0
    while position < len(content):
        tag, start = read_varint(content, position)
        length, start = read_varint(content, start)
        fields.append((tag, content[start : start + length]))
        position = start + length
    chosen = rng.randrange(len(fields))
    if rng.random() < 0.5:  # the settings, which come last
        chosen = len(fields) - 1 - rng.randrange(min(4, len(fields)))
    tag, data = fields[chosen]
    kind = rng.random()
    if kind < 0.8:
        fields[chosen] = tag, mutated(rng, data)
    elif kind < 0.9:
        del fields[chosen]
    else:
        fields.insert(rng.randrange(len(fields) + 1), (tag, data))
    return b"".join(encode_varint(tag) + encode_varint(len(data)) + data for tag, data in fields)


def checksums(folder, name):
    """Puts the checksums of the tensors in a data file right, in the index beside it."""
    prefix = name.split(".data-")[0]
    path = folder / f"{prefix}.index"
    content = path.read_bytes()
    data, pairs = (folder / name).read_bytes(), []
    for key, value in index_blocks(content)[0]:
        if key:
            entry = tf._parse_entry(value)
            old = encode_varint(6 << 3 | 5) + entry.checksum.to_bytes(4, "little")
            part = data[entry.offset : entry.offset + entry.size]
            new = encode_varint(6 << 3 | 5) + masked_crc32c(part).to_bytes(4, "little")
            value = value.replace(old, new)
        pairs.append((key, value))
    path.write_bytes(made_index(tf._block(pairs)))


# What is read


def read_checkpoint(path):
    """Opens a checkpoint and reads all of it."""
    checkpoint = open_checkpoint(path)
    for name in checkpoint:
        if checkpoint.dtype(name).kind == "O":  # no numbers, as it says
            continue
        array = np.asarray(checkpoint[name])
        if array.shape != checkpoint.shape(name):
            raise AssertionError(f"{name!r} has the shape {array.shape}")
        array.sum()


def read_config(path):
    """As `build_transformer_model` does before it makes layers."""
    values, _, where = published.find_files(path, None)
    try:
        family = recognition.recognize(values)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None
    published.check_unknown_keys(values, where)
    values, _ = recognition.resolve_ambiguities(family, values)
    recognition.check_not_roberta(family, values, where)
    kind = classifiers.named_kind(values)
    head = classifiers.classifier_fields(family, kind, values, where)
    configs.Config.from_values(configs.ARCHITECTURES[family] | values | head, where)


TEXTS = (
    "今天天气不错，hello World! [MASK] <extra_id_0> <e>",
    "",
    "Ａé\u0301 \ud800 𝄞 1234567 北京 ",
)


def read_tokenizer(path):
    tokenizer = tokenizers.load_tokenizer(path.parent)
    for text in TEXTS:
        ids = tokenizer.encode(text)[0]
        tokenizer.tokenize(text)
        tokenizer.decode(ids)


def read_chat(path):
    tokenizer = tokenizers.load_tokenizer(path.parent)
    messages = [{"role": role, "content": text} for role in ("user", "assistant") for text in TEXTS]
    try:
        text = tokenizer.apply_chat_template(messages, True)
    except ValueError as error:
        named = str(error).startswith("messages: ") or str(path.parent) in str(error)
        assert named, error
        raise ValueError(f"{path}: {error}") from None
    tokenizer.encode_markup(text)


def read_corpus(path):
    for read in (
        documents.read_documents(documents.Part(str(path)), documents.Format()),
        texts.read_texts(str(path)),
    ):
        "".join(map(documents.clean, read)).encode()


class Here:
    """As `hdf5._Child`, in this process."""

    def __init__(self, path, parts):
        self.path, self.owner = path, os.getpid()
        files = [(str(part.file.path), part.start, part.size) for part in parts]
        room = MEMORY + 8 * sum(part.size for part in parts)
        self.reader = hdf5_child.Reader(files, room)

    def ask(self, request):
        try:
            return bytes(self.reader.answer(request))
        except Exception as error:
            raise damaged(self.path, f"{type(error).__name__}: {error!s:.200}") from None


Child = hdf5._Child


# Formats


class Format(NamedTuple):
    """What is changed, and how.

    Attributes:
        seeds: a function that gives a list of `(files, name)`: the bytes of each file of a
            directory by their names, and which of them is changed.
        tokens: of the file's language.
        repaired: a function `(rng, content)` that changes a file and puts the rest right; None: no
            part of it holds another together.
        read: a function that reads a path.
        target: what is given to it: a name in the directory, `""` for the directory, None for the
            file that is changed.
        error: what may be raised: a class, or several.
        may_die: whether the process may end, as a child's does in the end.
        after: a function `(folder, name)` that repairs other files.
    """

    seeds: object
    tokens: tuple = ()
    repaired: object = None
    read: object = read_checkpoint
    target: str | None = None
    error: type | tuple = CheckpointError
    may_die: bool = False
    after: object = None


def of_goldens(*names):
    """Seeds: files of `tests/goldens/checkpoints`, with all in their directories."""

    def seeds():
        found = []
        for name in names:
            path = GOLDENS / name
            beside = path.parent.iterdir() if path.parent != GOLDENS else [path]
            found.append(({file.name: file.read_bytes() for file in beside}, path.name))
        return found

    return seeds


def of_texts(name, *contents, **beside):
    """Seeds: texts or values for a file of a name, with others beside it."""

    def encoded(content):
        if isinstance(content, dict | list):
            return json.dumps(content, ensure_ascii=False).encode()
        return content if isinstance(content, bytes) else content.encode()

    others = {key.replace("__", "."): encoded(content) for key, content in beside.items()}
    return lambda: [({**others, name: encoded(content)}, name) for content in contents]


def written(make, name):
    """Seeds: a file that `make(path)` writes."""

    def seeds():
        with tempfile.TemporaryDirectory() as folder:
            make(Path(folder) / name)
            return [({name: (Path(folder) / name).read_bytes()}, name)]

    return seeds


def write_safetensors(path):
    tensors = {
        "embeddings/词": np.arange(12, dtype="float32").reshape(3, 4),
        "a.half": np.ones((2, 2), "float16"),
        "b.empty": np.zeros((0, 3), "int64"),
        "c.flag": np.array(True),
    }
    save_checkpoint(path, tensors, format="safetensors")


def write_chunked(libver):
    def write(path):
        with h5py.File(path, "w", libver=libver) as file:
            chunks = {"chunks": (8, 4), "maxshape": (None, None)}
            plain = np.arange(160, dtype="f4").reshape(40, 4)
            file.create_dataset("layers/dense/vars/0", data=plain, compression="gzip", **chunks)
            file.create_dataset("layers/dense/vars/1", data=plain, fletcher32=True, **chunks)
            file.create_dataset("fill", (100,), "f8", chunks=(10,), fillvalue=2.0)
            file["layers/dense/vars"].attrs["name"] = "dense"

    return write


def write_user_block(path):
    with h5py.File(path, "w", userblock_size=512) as file:
        file["layers/dense/vars/0"] = np.arange(12, dtype="f4").reshape(3, 4)
        file["layers/dense/vars"].attrs["name"] = "dense"


def keras_shards():
    """A model in two files of HDF5, and the index of these, which is changed."""
    groups = {"/layers/dense/vars": ["m_00000.weights.h5", "m_00001.weights.h5"]}
    groups["/layers/norm/vars"] = "m_00001.weights.h5"
    index = {"metadata": {"total_size": 24}, "weight_map": groups}
    files = {"m.weights.json": json.dumps(index).encode()}
    names = [("dense/vars/0",), ("dense/vars/1", "norm/vars/0")]
    with tempfile.TemporaryDirectory() as folder:
        for shard, keys in zip(groups["/layers/dense/vars"], names, strict=True):
            with h5py.File(Path(folder) / shard, "w") as file:
                for key in keys:
                    file[f"layers/{key}"] = np.arange(2, dtype="f4")
            files[shard] = (Path(folder) / shard).read_bytes()
    return [(files, "m.weights.json")]


def training_pickle():
    """Weights, and what trainers keep beside them, of protocol 4."""
    from hostile import tensor, text

    namespace = text("argparse") + text("Namespace") + b"\x93\x94)\x81}" + text("a") + b"K\x01sb"
    history = text("collections") + text("defaultdict") + b"\x93N\x85R" + text("x") + b"]s"
    unknown = b"ctorch._utils\n_rebuild_meta_tensor_no_storage\n(ctorch\nfloat32\nK\x02\x85tR"
    items = {
        "args": namespace,
        "history": history,
        "options": b"}K\x01K\x02\x86N\x8f(K\x03\x90\x86s",
        "state_dict": b"}(" + text("w") + tensor() + text("meta") + unknown + b"u",
    }
    return b"\x80\x04}(" + b"".join(text(key) + item for key, item in items.items()) + b"u."


def write_training(path):
    from hostile import torch_zip

    torch_zip(path, training_pickle())


def write_legacy_training(path):
    start = [0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}]
    pickles = [pickle.dumps(part, 4) for part in start] + [training_pickle(), pickle.dumps(["0"])]
    path.write_bytes(b"".join(pickles) + struct.pack("<Q", 4) + bytes(16))


def megatron_seeds():
    from hostile import sizes, tensor, text, torch_zip  # noqa: F401

    shapes = {"x.query_key_value.weight": (3, 1), "y.mlp.dense_4h_to_h.weight": (2, 2), "z": (4,)}
    body = b"".join(
        text(name) + tensor(shape, [int(np.prod(shape[i + 1 :])) for i in range(len(shape))])
        for name, shape in shapes.items()
    )
    pickled = b"\x80\x02}" + text("module") + b"}(" + body + b"us."
    with tempfile.TemporaryDirectory() as folder:
        content = torch_zip(Path(folder) / "m.pt", pickled).read_bytes()
    files = {f"mp_rank_{rank:02d}_model_states.pt": content for rank in range(2)}
    return [(files, name) for name in files]


def write_pieces(path):
    sentences = ["今天天气不错", "hello world", "自然 语言 处理", "a b c d e f g"] * 20
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(sentences), model_prefix=str(path.with_suffix("")), vocab_size=60,
        hard_vocab_limit=False, minloglevel=5, num_threads=1, byte_fallback=False,
    )  # fmt: skip


WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"今天气不错a", "##b", "hello", "，", "!"]
VOCAB = "\n".join(WORDS)
WORDPIECE_JSON = {
    "version": "1.0",
    "added_tokens": [
        {"id": 2, "content": "[CLS]", "special": True, "normalized": False},
        {"id": len(WORDS), "content": "<e>", "special": False, "lstrip": True},
    ],
    "normalizer": {
        "type": "BertNormalizer", "clean_text": True, "handle_chinese_chars": True,
        "lowercase": True,
    },
    "pre_tokenizer": {"type": "BertPreTokenizer"},
    "post_processor": {
        "type": "TemplateProcessing",
        "single": [
            {"SpecialToken": {"id": "[CLS]", "type_id": 0}},
            {"Sequence": {"id": "A", "type_id": 0}},
        ],
        "pair": [
            {"SpecialToken": {"id": "[CLS]", "type_id": 0}},
            {"Sequence": {"id": "A", "type_id": 0}},
            {"Sequence": {"id": "B", "type_id": 1}},
        ],
        "special_tokens": {"[CLS]": {"id": "[CLS]", "ids": [2], "tokens": ["[CLS]"]}},
    },
    "decoder": {"type": "WordPiece", "prefix": "##"},
    "model": {
        "type": "WordPiece", "unk_token": "[UNK]", "max_input_chars_per_word": 100,
        "vocab": {word: i for i, word in enumerate(WORDS)},
    },
}  # fmt: skip
BPE_JSON = {
    "added_tokens": [{"id": 257, "content": "<|endoftext|>", "special": True}],
    "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False},
    "decoder": {"type": "ByteLevel"},
    "model": {
        "type": "BPE",
        "vocab": {
            **{char: i for i, char in enumerate(tokenizers.byte_bpe.ALPHABET)},
            "ab": 256, "<|endoftext|>": 257,
        },
        "merges": ["a b"],
    },
}  # fmt: skip
SPLIT_JSON = {
    **BPE_JSON,
    "normalizer": {"type": "NFC"},
    "pre_tokenizer": {
        "type": "Sequence",
        "pretokenizers": [
            {
                "type": "Split", "pattern": {"Regex": r"\p{N}{1,3}|[^\r\n\p{L}]?\p{L}+|\s+(?!\S)"},
                "behavior": "Isolated", "invert": False,
            },
            {"type": "Digits", "individual_digits": True},
            {"type": "ByteLevel", "add_prefix_space": False, "use_regex": False},
        ],
    },
    "post_processor": {
        "type": "RobertaProcessing", "sep": ["ab", 256], "cls": ["ab", 256],
        "trim_offsets": True, "add_prefix_space": False,
    },
}  # fmt: skip
UNIGRAM_JSON = {
    "added_tokens": [{"id": 0, "content": "<s>", "special": True}],
    "pre_tokenizer": {
        "type": "Sequence",
        "pretokenizers": [
            {"type": "WhitespaceSplit"}, {"type": "Metaspace", "replacement": "▁"},
        ],
    },
    "decoder": {"type": "Metaspace", "replacement": "▁"},
    "model": {
        "type": "Unigram", "unk_id": 1,
        "vocab": [["<s>", 0.0], ["<unk>", 0.0], ["▁", -2.0], ["今天", -3.5], ["ab", -4.25]],
    },
}  # fmt: skip
TOKENIZER_CONFIG = {
    "do_lower_case": True, "strip_accents": None, "tokenize_chinese_chars": True,
    "cls_token": "[CLS]", "sep_token": {"content": "[SEP]", "lstrip": False},
    "tokenizer_class": "BertTokenizer", "model_max_length": 512, "never_split": None,
    "additional_special_tokens": ["<x>"], "max_input_chars_per_word": 100,
    "added_tokens_decoder": {"20": {"content": "<e>", "special": False, "normalized": True}},
}  # fmt: skip
CHATS = (
    "{% for m in messages %}<{{ m['role'] }}>{{ m.content | trim }}{{ '\n' * 2 }}{% endfor %}"
    "{%- if add_generation_prompt %}<a>{% endif %}",
    "{% macro f(x, n=1) %}{{ x ~ n }}{% endmacro %}{% set ns = namespace(t='') %}"
    "{% for m in messages[::-1] %}{% set ns.t = ns.t + f(m.content[:3], loop.index0 * 2) %}"
    "{% endfor %}{{ ns.t | replace('a', 'b') }}{{ messages | tojson(indent=2) }}",
)
CHAT_CONFIG = {"chat_template": [{"name": "default", "template": CHATS[0]}]}
JINJA_TOKENS = (
    "{%", "%}", "{{", "}}", "for i in range(99999)", "{% endfor %}", "|", "~", "*", "**", "(", ")",
    "[", "]", "999999999", "messages", "ns.t", "f(", "tojson", "join(", ".replace(", "__class__",
)  # fmt: skip
CONFIGS = (
    {
        "vocab_size": 21128, "hidden_size": 768, "num_hidden_layers": 12, "hidden_act": "gelu",
        "num_attention_heads": 12, "intermediate_size": 3072, "max_position_embeddings": 512,
        "type_vocab_size": 2, "model_type": "bert", "hidden_dropout_prob": 0.1,
        "layer_norm_eps": 1e-12, "pad_token_id": 0, "architectures": ["BertForMaskedLM"],
    },
    {
        "vocab_size": 250112, "d_model": 512, "d_ff": 1024, "d_kv": 64, "num_layers": 8,
        "num_decoder_layers": 8, "num_heads": 6, "feed_forward_proj": "gated-gelu",
        "is_encoder_decoder": True, "model_type": "mt5", "tie_word_embeddings": False,
    },
    {"n_vocab": 50257, "n_ctx": 1024, "n_embd": 768, "n_head": 12, "n_layer": 12},
    {
        "vocab_size": 100, "hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4,
        "intermediate_size": 64, "max_position_embeddings": 99, "model_type": "modernbert",
        "layer_types": ["full_attention", "sliding_attention", "sliding_attention"],
        "global_attn_every_n_layers": 3, "local_attention": 8, "norm_eps": 1e-5,
        "rope_parameters": {
            "full_attention": {"rope_type": "default", "rope_theta": 160000.0},
            "sliding_attention": {"rope_type": "default", "rope_theta": 10000.0},
        },
    },
    {
        "vocab_size": 100, "hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4,
        "intermediate_size": 64, "max_position_embeddings": 99, "model_type": "new",
        "rope_theta": 20000.0, "rope_scaling": {"type": "ntk", "factor": 2.0},
        "position_embedding_type": "rope", "pack_qkv": True, "type_vocab_size": 1,
        "architectures": ["NewForSequenceClassification"], "id2label": {"0": "差评", "1": "好评"},
        "label2id": {"差评": 0, "好评": 1}, "problem_type": "multi_label_classification",
    },
    {
        "init_class": "UIE",
        "init_args": [{
            "init_class": "ErnieModel", "vocab_size": 100, "hidden_size": 32,
            "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 64,
            "max_position_embeddings": 99, "type_vocab_size": 4, "task_type_vocab_size": 3,
            "use_task_id": True, "hidden_act": "gelu", "pad_token_id": 0,
        }],
    },
)  # fmt: skip
LINES = "\n".join(
    json.dumps(row, ensure_ascii=False)
    for row in (
        {"text": "今天天气真不错，我们去公园吧。"},
        {"text": "a\nb", "id": 3, "more": [{"x": ["自然语言处理很有意思"]}]},
        {"text": "\U0001d11e 一二三四五六七"},
    )
)


def sentence_seeds():
    """A directory of sentence-transformers, without its encoder; each file is changed."""
    kinds = ("Transformer", "Pooling", "Dense", "LayerNorm", "Normalize")
    folders = ["", *(f"{i}_{kind}" for i, kind in enumerate(kinds[1:], 1))]
    rows = [
        {"idx": i, "name": str(i), "path": folder, "type": f"sentence_transformers.models.{kind}"}
        for i, (kind, folder) in enumerate(zip(kinds, folders, strict=True))
    ]
    files = {
        "modules.json": rows,
        "1_Pooling/config.json": {
            "word_embedding_dimension": 4, "pooling_mode_cls_token": True,
            "pooling_mode_mean_tokens": False, "include_prompt": True,
        },
        "2_Dense/config.json": {
            "in_features": 4, "out_features": 3, "bias": True,
            "activation_function": "torch.nn.modules.activation.Tanh",
        },
        "3_LayerNorm/config.json": {"dimension": 3},
        "sentence_bert_config.json": {"max_seq_length": 512, "do_lower_case": False},
        "config_sentence_transformers.json": {
            "prompts": {"query": "查询：", "passage": ""}, "default_prompt_name": "query",
            "truncate_dim": 2,
        },
    }  # fmt: skip
    weights = {
        "2_Dense": {"linear.weight": np.ones((3, 4), "f"), "linear.bias": np.ones(3, "f")},
        "3_LayerNorm": {"norm.weight": np.ones(3, "f"), "norm.bias": np.ones(3, "f")},
    }
    contents = {name: json.dumps(content).encode() for name, content in files.items()}
    with tempfile.TemporaryDirectory() as folder:
        for name, tensors in weights.items():
            path = Path(folder) / "model.safetensors"
            save_checkpoint(path, tensors, "safetensors")
            contents[f"{name}/{path.name}"] = path.read_bytes()
    return [(contents, name) for name in files]


def recipes():
    return [({"r.yaml": path.read_bytes()}, "r.yaml") for path in sorted(RECIPES.glob("*.yaml"))]


def state_seeds():
    """Two checkpoints, of which the state file names one."""
    ((files, name),) = of_goldens("tf2/checkpoint")()
    others = {file.replace("ckpt-1", "ckpt-2"): content for file, content in files.items()}
    return [({**others, **files}, name)]


def snappy_seeds():
    return of_goldens("shards/model.ckpt.index", "partitioned/model.ckpt.index")()


FORMATS = {
    "safetensors": Format(
        lambda: (
            of_goldens("brain.safetensors")() + written(write_safetensors, "m.safetensors")()
        ),
        repaired=in_header,
    ),
    "torch-zip": Format(
        lambda: (
            of_goldens("torch.pt", "torch_module.bin", "torch_nested.bin")()
            + written(write_training, "m.pt")()
        ),
        repaired=in_zip(PICKLE_TOKENS),
    ),
    "torch-legacy": Format(
        lambda: of_goldens("torch_legacy.pt")() + written(write_legacy_training, "m.pt")(),
        repaired=lambda rng, content: mutated(rng, content, PICKLE_TOKENS),
    ),
    "paddle": Format(
        of_goldens("paddle_2.pdparams", "paddle_4.pdparams", "paddle_layer.pdparams"),
        repaired=lambda rng, content: mutated(rng, content, PICKLE_TOKENS),
    ),
    "npz": Format(of_goldens("arrays.npz", "compressed.npz"), repaired=in_zip()),
    "hdf5-contiguous": Format(
        lambda: (
            of_goldens("dense.weights.h5")() + written(write_user_block, "m.weights.h5")()
        ),
        may_die=True,
    ),
    "hdf5-chunked": Format(
        lambda: [
            seed
            for libver in ("earliest", "latest")
            for seed in written(write_chunked(libver), "m.weights.h5")()
        ],
        may_die=True,
    ),
    "keras": Format(of_goldens("dense.keras"), repaired=in_zip(), may_die=True),
    "tf-index": Format(
        of_goldens(
            "shards/model.ckpt.index", "partitioned/model.ckpt.index", "tf2/ckpt-1.index"
        ),
        repaired=in_index,
    ),
    "tf-data": Format(
        of_goldens("partitioned/model.ckpt.data-00000-of-00001", "tf2/ckpt-1.data-00000-of-00001"),
        repaired=lambda rng, content: mutated(rng, content),
        after=checksums,
    ),
    "tf-state": Format(state_seeds, tokens=('"', "\\", "\\377", "/", ".."), target=""),
    "snappy": Format(snappy_seeds, repaired=in_snappy),
    "shard-index": Format(
        lambda: of_goldens("torch_sharded/pytorch_model.bin.index.json")() + keras_shards(),
        tokens=tuple(JSON_TOKENS),
        repaired=in_json,
    ),
    "megatron": Format(megatron_seeds, repaired=in_zip(PICKLE_TOKENS), target=""),
    "config": Format(
        of_texts("config.json", *CONFIGS),
        repaired=in_json, tokens=tuple(JSON_TOKENS), read=read_config, error=ValueError,
    ),
    "vocab": Format(
        of_texts("vocab.txt", VOCAB), tokens=("\n", "\r", " ", "\u2028", "##", "[CLS]"),
        read=read_tokenizer, error=ValueError,
    ),
    "tokenizer-json": Format(
        lambda: (
            of_texts("tokenizer.json", WORDPIECE_JSON, BPE_JSON, SPLIT_JSON, UNIGRAM_JSON)()
            + of_texts("tokenizer.json", WORDPIECE_JSON, vocab__txt=VOCAB)()
        ),
        repaired=in_json, tokens=tuple(JSON_TOKENS), read=read_tokenizer, error=ValueError,
    ),
    "tokenizer-config": Format(
        of_texts("tokenizer_config.json", TOKENIZER_CONFIG, vocab__txt=VOCAB),
        repaired=in_json, tokens=tuple(JSON_TOKENS), read=read_tokenizer, error=ValueError,
    ),
    "chat-template": Format(
        lambda: (
            of_texts("tokenizer_config.json", CHAT_CONFIG, vocab__txt=VOCAB)()
            + of_texts("chat_template.jinja", *CHATS, vocab__txt=VOCAB)()
        ),
        tokens=JINJA_TOKENS, read=read_chat, error=ValueError,
    ),
    "sentencepiece": Format(
        written(write_pieces, "spiece.model"),
        repaired=in_fields, read=read_tokenizer, error=ValueError,
    ),
    "sentences": Format(
        sentence_seeds, tokens=tuple(JSON_TOKENS), repaired=in_json,
        read=read_sentence_files, target="", error=(ValueError, CheckpointError),
    ),
    "json-lines": Format(
        of_texts("corpus.jsonl", LINES),
        tokens=(*JSON_TOKENS, "\n"), read=read_corpus, error=ValueError,
    ),
    "recipes": Format(
        recipes, tokens=(*YAML_TOKENS, *JSON_TOKENS), read=load_recipe, error=ValueError
    ),
}  # fmt: skip


# Running


class Case(NamedTuple):
    """One mutation: the files of a directory, which of them was changed, and whether repaired."""

    files: dict
    name: str
    repaired: bool


def make_case(format, seeds, seed, name, index):
    """The mutation of a number."""
    rng = random.Random(f"{seed}/{name}/{index}")
    files, changed = rng.choice(seeds)
    repaired = format.repaired is not None and rng.random() < 0.5
    content = files[changed]
    new = format.repaired(rng, content) if repaired else mutated(rng, content, format.tokens)
    return Case({**files, changed: new}, changed, repaired)


def read_case(format, case, folder):
    """Writes the files of a case and reads them: `("opened" or "refused", "")`, or a finding."""
    for name, content in case.files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(content)
    if case.repaired and format.after:
        format.after(folder, case.name)
    path = folder / (case.name if format.target is None else format.target)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            format.read(path)
    except format.error as error:
        message = str(error)
        if folder.name not in message:
            return "finding", f"names no file: {type(error).__name__}: {message:.300}"
        if len(message) > LONGEST + message.count(folder.name) * len(str(folder)):
            return "finding", f"a message of {len(message)} characters: {message:.300}"
        if "MemoryError" in message:
            return "finding", f"over its memory: {message:.300}"
        return "refused", message
    except Exception as error:
        return "finding", f"{type(error).__name__}: {error!s:.300}"
    return "opened", ""


def pages():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[0])


def read_batch(format, seeds, options, name, numbers, folder, shared, writer):
    """In a forked process: reads some mutations, and tells of findings and counts by `writer`."""
    most = max(sum(map(len, files.values())) for files, _ in seeds) * 2
    memory = pages() * resource.getpagesize() + MEMORY + TIMES * most
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    counts = Counter()
    for index in numbers:
        shared[:8] = struct.pack("<q", index)
        hdf5._Child = Child if index % WHOLE_WAY == 0 else Here
        unlimited = index % WHOLE_WAY == 0 and format.may_die
        if unlimited:  # the interpreter that is started would have these limits
            counts["whole way"] += 1
        # of a process that may end some do not: that it ends sooner costs less
        seconds = int(time.process_time()) + (2 if format.may_die else CPU_SECONDS)
        resource.setrlimit(resource.RLIMIT_CPU, (seconds, resource.RLIM_INFINITY))
        case = make_case(format, seeds, options.seed, name, index)
        outcome, said = read_case(format, case, folder)
        counts[outcome] += 1
        if outcome == "finding":
            writer.write(json.dumps([index, said]) + "\n")
            writer.flush()
        shared[8:24] = struct.pack("<qq", counts["opened"], counts["refused"])


def fork_batch(format, seeds, options, name, numbers, folder, shared):
    """Reads mutations until the process ends: `(findings, opened, refused, where it died)`."""
    reader, writer = os.pipe()
    shared[:24] = struct.pack("<qqq", -1, 0, 0)
    child = os.fork()
    if child == 0:
        status = 1
        try:
            os.close(reader)
            with open(writer, "w") as file:
                read_batch(format, seeds, options, name, numbers, folder, shared, file)
            status = 0
        except BaseException as error:
            print(f"{name}: {type(error).__name__}: {error}", file=sys.stderr)
        finally:
            os._exit(status)
    os.close(writer)
    with open(reader) as file:
        findings = [json.loads(line) for line in file]
    status = os.waitpid(child, 0)[1]
    index, opened, refused = struct.unpack("<qqq", shared[:24])
    return findings, opened, refused, (index, status) if status else None


def fuzz(name, options, folder, keep, progress):
    """Reads all mutations of a format; returns its row of the table."""
    format, row = FORMATS[name], Counter()
    seeds = format.seeds()
    shared = mmap.mmap(-1, 64)
    folder.mkdir()
    hdf5._Child = Here
    if format.read is read_tokenizer:
        jieba.setLogLevel("ERROR")
        jieba.initialize()  # some vocabularies need it, and then it is here already
    for files, changed in seeds:
        outcome = read_case(format, Case(files, changed, False), folder)
        if outcome[0] != "opened":
            raise RuntimeError(f"{name}: {changed} cannot be read before it is changed: {outcome}.")
    next_one, end = options.start, options.start + options.mutations

    def finding(index, said):
        row["findings"] += 1
        command = f"python tests/fuzz.py --only {name} --seed {options.seed} --index {index}"
        print(f"\nFINDING {name} {index}: {said}\n  {command}", flush=True)
        case = make_case(format, seeds, options.seed, name, index)
        place = keep / f"{name}-{options.seed}-{index}"
        place.mkdir(parents=True, exist_ok=True)
        for file, content in case.files.items():
            (place / file).parent.mkdir(exist_ok=True)
            (place / file).write_bytes(content)

    while next_one < end and row["findings"] < options.most:
        if format.may_die and next_one % WHOLE_WAY == 0:
            numbers = range(next_one, next_one + 1)
        else:
            limit = min(end, next_one + BATCH)
            if format.may_die:
                limit = min(limit, -(-(next_one + 1) // WHOLE_WAY) * WHOLE_WAY)
            numbers = range(next_one, limit)
        findings, opened, refused, death = fork_batch(
            format, seeds, options, name, numbers, folder, shared
        )
        row["opened"] += opened
        row["refused"] += refused
        for index, said in findings:
            finding(index, said)
        next_one = numbers.stop
        if death:
            index, status = death
            next_one = index + 1 if index >= 0 else numbers.stop
            killed = os.WIFSIGNALED(status)
            if format.may_die and killed:
                row["died"] += 1
            else:
                number = os.WTERMSIG(status) if killed else 0
                how = signal.Signals(number).name if killed else f"exit status {status >> 8}"
                finding(index, f"the process died: {how}")
        progress(name, next_one - options.start, row)
    row["mutations"] = next_one - options.start
    shutil.rmtree(folder)
    return row


def show_progress(options):
    """A function that shows, at most once in two seconds, how far it is."""
    last = [time.monotonic()]

    def show(name, done, row):
        if time.monotonic() - last[0] > 2:
            last[0] = time.monotonic()
            text = f"{name}: {done:,} of {options.mutations:,}, {row['findings']} findings"
            end = "" if sys.stderr.isatty() else "\n"
            print(f"\r{text}\033[K" if not end else text, end=end, file=sys.stderr, flush=True)

    return show


def again(name, options):
    """One mutation, without a process of its own: what is raised is seen whole."""
    format = FORMATS[name]
    case = make_case(format, format.seeds(), options.seed, name, options.index)
    with tempfile.TemporaryDirectory() as folder:
        print(f"{case.name}, {'repaired' if case.repaired else 'as it is'}:")
        print(repr(case.files[case.name])[:2000])
        print(*read_case(format, case, Path(folder)))
        path = Path(folder) / (case.name if format.target is None else format.target)
        format.read(path)


def main(arguments=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="+", choices=FORMATS, default=list(FORMATS))
    parser.add_argument("--mutations", type=int, default=2000, help="of each format (2000)")
    parser.add_argument("--seed", type=int, default=0, help="of all mutations (0)")
    parser.add_argument("--start", type=int, default=0, help="number of the first (0)")
    parser.add_argument("--index", type=int, help="only this one, in this process")
    parser.add_argument("--most", type=int, default=20, help="findings of a format, then stop (20)")
    parser.add_argument("--keep", type=Path, default=Path("fuzz-findings"), metavar="DIRECTORY")
    options = parser.parse_args(arguments)
    os.environ["HDF5_PLUGIN_PRELOAD"] = "::"
    if options.index is not None:
        return again(options.only[0], options)
    progress, rows, cpu = show_progress(options), {}, {}
    fast = Path("/dev/shm")  # a file system in memory, where there is one
    with tempfile.TemporaryDirectory(dir=fast if fast.is_dir() else None) as folder:
        for name in options.only:
            before = sum(os.times()[:4])
            place = Path(folder) / f"reading-{name}"
            rows[name] = fuzz(name, options, place, options.keep, progress)
            cpu[name] = sum(os.times()[:4]) - before
    print("\n| format | mutations | opened | refused | HDF5 died | findings | CPU seconds |")
    print("|---|---|---|---|---|---|---|")
    total = Counter()
    for name, row in rows.items():
        total += row
        shown = (f"{row[key]:,}" for key in ("mutations", "opened", "refused", "died", "findings"))
        print(f"| {name} | {' | '.join(shown)} | {cpu[name]:.0f} |")
    shown = (f"{total[key]:,}" for key in ("mutations", "opened", "refused", "died", "findings"))
    print(f"| all | {' | '.join(shown)} | {sum(cpu.values()):.0f} |")
    return int(total["findings"] > 0)


if __name__ == "__main__":
    sys.exit(main())
