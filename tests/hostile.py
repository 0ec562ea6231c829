"""Opens hostile files, each in a process with limits, and tells what came of it: a JSON line each.

    python tests/hostile.py                    # all of them
    python tests/hostile.py torch_copies       # some of them

A process may take ten CPU seconds, and beside the memory that it has at the start 64 MB and eight
times the bytes of the file. The kernel holds it to that (RLIMIT_CPU, RLIMIT_AS); no clock is looked
at. HDF5 is read in a child of that process, which limits itself; so the process is not limited, and
tells how much it grew.

`tests/checkpoints/test_hostile_files.py` says what is to come out.
"""

import bz2
import json
import os
import pickle
import resource
import shutil
import struct
import sys
import tempfile
import warnings
import zipfile
import zlib
from pathlib import Path

if not os.environ.get("PYTHONPATH"):
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import h5py
import numpy as np

from bert4keras_lite import checkpoints, configs, tokenizers
from bert4keras_lite.checkpoints import open_checkpoint
from bert4keras_lite.checkpoints import tf_bundle as tf
from bert4keras_lite.checkpoints.dialects import adapt
from bert4keras_lite.checkpoints.keras_file import read_keras
from bert4keras_lite.checksums import masked_crc32c
from bert4keras_lite.configs import published, recognition
from bert4keras_lite.configs.sentences import read_sentence_files
from bert4keras_lite.protobuf import encode_field, encode_varint
from bert4keras_lite.tokenizers.byte_bpe import ALPHABET
from pretraining import batches, corpus, documents, duplicates, laptop, log, shards, texts
from pretraining.config import load as load_recipe

GOLDENS = Path(__file__).parent / "goldens" / "checkpoints"
CPU_SECONDS, MEMORY, TIMES = 10, 64 << 20, 8
CASES = {}


def read_checkpoint(path):
    """Opens a checkpoint and reads all of it, one tensor at a time."""
    checkpoint = open_checkpoint(path)
    total = 0
    for name in checkpoint:
        total += np.asarray(checkpoint[name]).nbytes
    return f"{len(checkpoint)} tensors, {total} bytes"


def read_tokenizer(path):
    tokenizer = tokenizers.load_tokenizer(path.parent)
    tokenizer.decode(tokenizer.encode("今天天气不错 hello")[0])
    return f"{tokenizer.vocab_size} tokens"


def read_chat(path):
    tokenizer = tokenizers.load_tokenizer(path.parent)
    return tokenizer.apply_chat_template([{"role": "user", "content": "今天天气不错"}])


def read_config(path):
    values = published.read_config(path)
    row = configs.ARCHITECTURES[recognition.recognize(values)]
    recognition.check_not_roberta(recognition.recognize(values), values, str(path))
    return str(configs.Config.from_values(row | values, str(path)))


def read_documents(path):
    return list(documents.read_documents(documents.Part(str(path)), documents.Format()))


def read_corpus(path):
    read = read_documents(path)
    "".join(read).encode()
    return f"{len(read)} documents"


def read_lines(path):
    layout = documents.Format("line")
    return f"{sum(1 for _ in documents.read_documents(documents.Part(str(path)), layout))} lines"


def read_examples(path):
    inputs, _, _ = batches.Examples(str(path.parent), "lm", 1).batch(0)
    return f"{inputs['token_ids'].size} tokens"


def read_pairs(path):
    laptop.write_pairs(path, path.with_suffix(".out"))
    return f"{path.with_suffix('.out').stat().st_size} bytes"


def read_texts(path):
    read = texts.read_texts(str(path))
    "".join(read).encode()
    return f"{len(read)} texts"


def case(read=read_checkpoint, in_child=False):
    """Registers what makes a file in a directory and returns its path."""

    def register(make):
        CASES[make.__name__] = make, read, in_child
        return make

    return register


# PyTorch


def torch_zip(path, content, compression=zipfile.ZIP_STORED):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("m/data.pkl", content, compression)
        archive.writestr("m/data/0", np.arange(4, dtype="float32").tobytes())
    return path


def text(string):
    data = string.encode()
    return b"X" + struct.pack("<I", len(data)) + data


def number(value):
    return pickle.dumps(value, 2)[2:-1]


def sizes(*values):
    return b"(" + b"".join(map(number, values)) + b"t"


def storage_of(kind, count, key="0", view=b""):
    """Instructions that describe a storage: that of `torch_zip`."""
    start = b"(" + text("storage") + f"ctorch\n{kind}\n".encode()
    return start + text(key) + text("cpu") + number(count) + view + b"tQ"


STORAGE = storage_of("FloatStorage", 4)


def tensor(shape=(4,), strides=(1,), storage=STORAGE, offset=0):
    """Instructions that make a tensor of the storage of `torch_zip`."""
    call = b"ctorch._utils\n_rebuild_tensor\n("
    return call + storage + number(offset) + sizes(*shape) + sizes(*strides) + b"tR"


@case()
def torch_copies(folder):
    """A long list is made a shape again and again."""
    pickled = b"\x80\x02](" + b"N" * 60000 + b"eq\x00ctorch\nSize\nq\x010("
    return torch_zip(folder / "m.pt", pickled + b"h\x01h\x00\x85R" * 7000 + b"t.")


@case()
def torch_dictionaries(folder):
    """A long list of pairs is made an ordered dictionary again and again."""
    pairs = b"".join(b"(" + text(f"{i}") + b"Nt" for i in range(20000))
    pickled = b"\x80\x02](" + pairs + b"eq\x00ccollections\nOrderedDict\nq\x010("
    return torch_zip(folder / "m.pt", pickled + b"h\x01h\x00\x85R" * 3000 + b"t.")


@case()
def torch_deep_key(folder):
    """To hash such a key would end the process."""
    return torch_zip(folder / "m.pt", b"\x80\x02})" + b"\x85" * 150_000 + b"Ns.")


@case()
def torch_deep_storage_key(folder):
    pickled = b"\x80\x02}(" + text("storage") + b"ctorch\nFloatStorage\n)" + b"\x85" * 150_000
    return torch_zip(folder / "m.pt", pickled + text("cpu") + b"K\x04tQ.")


@case()
def torch_deep_list(folder):
    """To free such a list takes a deep stack."""
    count = 100_000
    return torch_zip(folder / "m.pt", b"\x80\x02" + b"]" * count + b"a" * (count - 1) + b".")


@case()
def torch_deep_dictionaries(folder):
    count = 20_000
    opened = (b"}" + text("a")) * count
    return torch_zip(folder / "m.pt", b"\x80\x02" + opened + tensor() + b"s" * count + b".")


@case()
def torch_colliding_keys(folder):
    """Integers that Python's dictionaries put into one place."""
    prime = 2**61 - 1
    items = b"".join(number(prime * (i + 1)) + b"N" for i in range(30000))
    return torch_zip(folder / "m.pt", b"\x80\x02}(" + items + b"u.")


@case()
def torch_compressed(folder):
    """64 MB of instructions in a few kilobytes."""
    pickled = b"\x80\x02}" + b"N" * (1 << 25) + b"0" * (1 << 25) + b"."
    return torch_zip(folder / "m.pt", pickled, zipfile.ZIP_DEFLATED)


@case()
def torch_compressed_instructions(folder):
    """Seven megabytes of instructions that take time, and no memory."""
    pickled = b"\x80\x02}" + b"p0\n" * 2_400_000 + text("a") + tensor() + b"s."
    return torch_zip(folder / "m.pt", pickled, zipfile.ZIP_DEFLATED)


@case()
def torch_compressed_text(folder):
    """A text of which each character takes four bytes in memory."""
    pickled = b"\x80\x02}" + text("𝄞" + "a" * (8 << 20)) + b"Ns."
    return torch_zip(folder / "m.pt", pickled, zipfile.ZIP_DEFLATED)


@case()
def torch_long_names(folder):
    """A long name of a group, before the name of each of its tensors."""
    inner = b"".join(text(f"{i}") + b"h\x05" for i in range(2000))
    start = b"\x80\x02" + tensor() + b"q\x050}(" + text("weights") + b"N" + text("k" * 100_000)
    return torch_zip(folder / "m.pt", start + b"}(" + inner + b"uu.")


@case()
def torch_many_names(folder):
    """More tensors than any model has, in nested groups that are shared."""
    group = b"}(" + b"".join(text(f"{i}") + b"h\x05" for i in range(1000)) + b"u"
    groups = b"".join(text(f"g{i}") + group for i in range(51))
    pickled = b"\x80\x02" + tensor() + b"q\x050}(" + text("n") + b"N" + groups + b"u."
    return torch_zip(folder / "m.pt", pickled)


@case()
def torch_tiny_tensors(folder):
    """Nearly as many tensors as are allowed: a large description of nearly nothing."""
    group = b"".join(text(f"{i}") + b"h\x05" for i in range(49_000))
    pickled = b"\x80\x02" + tensor() + b"q\x050}(" + group + b"u."
    return torch_zip(folder / "m.pt", pickled)


@case()
def torch_repeated_values(folder):
    """A stride of zero: 8 GB in 200 kB."""
    items = b"".join(text(f"{i}") + tensor((1 << 20,), (0,)) for i in range(2000))
    return torch_zip(folder / "m.pt", b"\x80\x02}(" + items + b"u.")


@case()
def torch_overlapping_windows(folder):
    """Windows of a storage of four values that lie on each other, without a stride of zero."""
    items = b"".join(text(f"{i}") + tensor((2,) * 3, (1,) * 3) for i in range(200_000 // 64))
    wide = text("w") + tensor((2, 2, 1 << 21), (1, 1, 0))
    return torch_zip(folder / "m.pt", b"\x80\x02}(" + items + wide + b"u.")


@case()
def torch_repeated_complex(folder):
    """Values that repeat are counted in bytes: as many as the file has bytes."""
    wide = tensor((3 << 20,), (0,), storage_of("ComplexDoubleStorage", 1))
    path = torch_zip(folder / "m.pt", b"\x80\x02}" + text("a") + wide + b"s.")
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("m/data/1", bytes(3 << 20))
    return path


@case()
def torch_storage_of_more(folder):
    """A storage that should have more values than there are."""
    pickled = b"\x80\x02}" + text("a") + tensor(storage=storage_of("FloatStorage", 5)) + b"s."
    return torch_zip(folder / "m.pt", pickled)


@case()
def torch_storage_of_two_dtypes(folder):
    """PyTorch would read all of it in the first dtype."""
    half = tensor(storage=storage_of("HalfStorage", 8))
    return torch_zip(
        folder / "m.pt", b"\x80\x02}(" + text("a") + tensor() + text("b") + half + b"u."
    )


@case()
def torch_two_of_one_name(folder):
    items = text("a.b") + tensor() + text("a") + b"}" + text("b") + tensor() + b"s"
    return torch_zip(folder / "m.pt", b"\x80\x02}(" + items + b"u.")


@case()
def torch_huge_shape(folder):
    return torch_zip(folder / "m.pt", b"\x80\x02}" + text("a") + tensor((1 << 70,), (0,)) + b"s.")


@case()
def torch_huge_integer(folder):
    """An integer whose decimal digits would take seconds."""
    huge = b"\x8b" + struct.pack("<i", 1_000_000) + b"\x7f" * 1_000_000
    call = b"ctorch._utils\n_rebuild_tensor\n(" + STORAGE + number(0)
    pickled = b"\x80\x02}" + text("a") + call + b"(" + huge + b"t" + sizes(1) + b"tRs."
    return torch_zip(folder / "m.pt", pickled)


def shared_tuples(depth=60):
    """A tuple of another twice, and so on: its `repr` and its hash would never end."""
    return b")" + b"q\x20h\x20\x86" * depth


@case()
def torch_shape_of_tuples(folder):
    call = b"ctorch._utils\n_rebuild_tensor\n(" + STORAGE + number(0)
    pickled = b"\x80\x02}" + text("a") + call + shared_tuples() + sizes(1) + b"tRs."
    return torch_zip(folder / "m.pt", pickled)


@case()
def torch_strides_of_tuples(folder):
    call = b"ctorch._utils\n_rebuild_tensor\n(" + STORAGE + number(0)
    pickled = b"\x80\x02}" + text("a") + call + sizes(4) + shared_tuples() + b"tRs."
    return torch_zip(folder / "m.pt", pickled)


@case()
def torch_keys_of_tuples(folder):
    """As keys of dictionaries, of which torch.save makes one, and of storages."""
    items = shared_tuples() + tensor() + text("a") + tensor()
    return torch_zip(folder / "m.pt", b"\x80\x02}(" + items + b"u.")


@case()
def torch_legacy_key_of_tuples(folder):
    """Where the keys of storages stand, in the order of the file."""
    start = [0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}]
    weights = b"\x80\x02}" + text("a") + tensor() + b"s."
    keys = b"\x80\x02]" + shared_tuples() + b"a."
    content = b"".join(pickle.dumps(part, 2) for part in start) + weights + keys
    (folder / "m.pt").write_bytes(content + struct.pack("<Q", 4) + bytes(16))
    return folder / "m.pt"


# Paddle


ARRAY = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\nK\x00\x85C\x01btR"
FLOAT32 = b"cnumpy\ndtype\n(X\x02\x00\x00\x00f4\x89\x88tR(K\x03X\x01\x00\x00\x00<NNNtb"


def array_of(shape, data, dtype=FLOAT32):
    """Instructions that make a NumPy array of the instructions of its bytes."""
    return ARRAY + b"(K\x01" + sizes(*shape) + dtype + b"\x89" + data + b"tb"


def paddle_file(folder, items, protocol=2):
    path = folder / "m.pdparams"
    path.write_bytes(b"\x80" + bytes([protocol]) + b"}" + items + b".")
    return path


def latin1(data):
    """Instructions that encode text to bytes, as protocols before 3 do."""
    return b"c_codecs\nencode\n(" + data + text("latin1") + b"tR"


@case()
def paddle_copies(folder):
    """A text is encoded again and again."""
    start = text("a" * 4000) + b"q\x020"
    repeated = b"c_codecs\nencode\nq\x010" + (b"h\x01h\x02" + text("latin1") + b"\x86R") * 20_000
    return paddle_file(folder, start + repeated + b"0" * 20_000)


@case()
def paddle_long_text(folder):
    """Text for an array that is not made of bytes."""
    data = latin1(text("长" * 4000))
    return paddle_file(folder, text("a") + array_of([3000], data) + b"s")


ONE_FLOAT = b"C\x04abcd"


@case()
def paddle_number_as_name(folder):
    return paddle_file(folder, b"K\x05" + array_of([1], ONE_FLOAT) + b"s", 3)


@case()
def paddle_after_its_end(folder):
    return paddle_file(folder, text("a") + array_of([1], ONE_FLOAT) + b"s.more", 3)


@case()
def paddle_wrong_size(folder):
    return paddle_file(folder, text("a") + array_of([1 << 40], b"C\x04abcd") + b"s", 3)


@case()
def paddle_huge_shape(folder):
    return paddle_file(folder, text("a") + array_of([1 << 70], b"C\x04abcd") + b"s", 3)


@case()
def paddle_shape_of_tuples(folder):
    state = b"(K\x01" + shared_tuples() + FLOAT32 + b"\x89C\x04abcdtb"
    return paddle_file(folder, text("a") + ARRAY + state + b"s", 3)


@case()
def paddle_state_of_nothing(folder):
    """An array that is never described."""
    return paddle_file(folder, text("a") + ARRAY + b"s", 3)


@case()
def paddle_dtype_of_tuples(folder):
    dtype = b"cnumpy\ndtype\n(" + shared_tuples() + b"tR"
    return paddle_file(folder, text("a") + array_of([1], b"C\x04abcd", dtype) + b"s", 3)


@case()
def paddle_deep(folder):
    return paddle_file(folder, text("a") + b"]" * 100_000 + b"a" * 99_999 + b"s")


@case()
def paddle_tuple_bomb(folder):
    """A long list is made the pair of a name and an array again and again."""
    start = b"](" + b"N" * 60_000 + b"eq\x000cbuiltins\ntuple\nq\x010("
    return paddle_file(folder, start + b"h\x01h\x00\x85R" * 7000 + b"t0", 3)


@case()
def paddle_many_names(folder):
    array = array_of([0], b"C\x00") + b"q\x050"
    items = b"".join(text(f"{i}") + b"h\x05" for i in range(50_001))
    return paddle_file(folder, array + b"(" + items + b"u", 3)


@case()
def paddle_one_array(folder):
    """One array under many names, as tied weights are."""
    array = array_of([1], b"C\x04abcd") + b"q\x050"
    items = b"".join(text(f"{i}") + b"h\x05" for i in range(40_000))
    return paddle_file(folder, array + b"(" + items + b"u", 3)


def view_of(key, offset, count):
    """What describes a view, at the end of the description of a storage."""
    return text(key) + number(offset) + number(count) + b"\x87"


def torch_views(folder, *tensors):
    """A file of before PyTorch 1.6, a storage of six values: view, offset, size of each tensor."""
    items = b"".join(
        text(name)
        + tensor(
            (count,), storage=storage_of("FloatStorage", 6, view=view_of(*view)), offset=offset
        )
        for name, (view, offset, count) in zip("ab", tensors, strict=False)
    )
    start = [0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}]
    content = b"".join(pickle.dumps(part, 2) for part in start)
    content += b"\x80\x02}(" + items + b"u." + pickle.dumps(["0"], 2) + struct.pack("<Q", 6)
    path = folder / "m.pt"
    path.write_bytes(content + np.arange(6, dtype="float32").tobytes())
    return path


@case()
def torch_legacy_views(folder):
    return torch_views(folder, (("v", 0, 3), 0, 3), (("w", 3, 3), 1, 2))


@case()
def torch_legacy_view_twice(folder):
    """PyTorch gives both tensors the view that it met first."""
    return torch_views(folder, (("v", 0, 3), 0, 3), (("v", 3, 3), 0, 3))


@case()
def torch_legacy_view_as_storage(folder):
    """To PyTorch, a view with the key of its storage is all of it."""
    return torch_views(folder, (("0", 2, 3), 0, 3))


@case()
def torch_legacy_beyond_its_view(folder):
    return torch_views(folder, (("v", 2, 2), 0, 4))


@case()
def torch_letters(folder):
    """PyTorch gives the first of the members whose names differ in capital letters."""
    items = b"".join(
        text(key) + tensor((1,), storage=storage_of("FloatStorage", 1, key)) for key in "xX"
    )
    with zipfile.ZipFile(folder / "m.pt", "w") as archive:
        archive.writestr("m/data.pkl", b"\x80\x02}(" + items + b"u.")
        for i, key in enumerate("xX"):
            archive.writestr(f"m/data/{key}", np.float32(i).tobytes())
    return folder / "m.pt"


@case()
def torch_two_pickles(folder):
    path = torch_zip(folder / "m.pt", b"\x80\x02}" + text("a") + tensor() + b"s.")
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("m/Data.pkl", b"\x80\x02}.")
    return path


@case()
def torch_view_in_an_archive(folder):
    view = tensor(storage=storage_of("FloatStorage", 4, view=view_of("v", 0, 4)))
    return torch_zip(folder / "m.pt", b"\x80\x02}" + text("a") + view + b"s.")


def torch_models(folder, *offsets):
    """A model as `state_dict`, and as `model`; their tensors have the same name."""
    models = b"".join(
        text(name) + b"}" + text("a") + tensor((2,), offset=offset) + b"s"
        for name, offset in zip(("state_dict", "model"), offsets, strict=True)
    )
    return torch_zip(folder / "m.pt", b"\x80\x02}(" + models + b"u.")


@case()
def torch_two_models(folder):
    return torch_models(folder, 0, 2)


@case()
def torch_one_model_twice(folder):
    return torch_models(folder, 2, 2)


@case()
def torch_legacy_pickles(folder):
    """Each of the five pickles may take some memory, all of them together no more."""
    start = pickle.dumps(0x1950A86A20F9469CFC6C, 2)
    large = b"\x80\x02](" + b"]" * 250_000 + b"e."
    (folder / "m.pt").write_bytes(start + large * 4)
    return folder / "m.pt"


@case()
def torch_nested_names(folder):
    """A long name of a group in a group of the same name, and so on."""
    start = b"\x80\x02" + tensor() + b"q\x050" + text("k" * 100_000) + b"q\x060}"
    items = b"h\x06}" * 800 + text("a") + b"h\x05" + b"s" * 801
    return torch_zip(folder / "m.pt", start + text("b") + b"Ns" + items + b".")


@case()
def torch_wide_names(folder):
    """Names of which each character takes four bytes in memory."""
    group = b"}(" + b"".join(text(f"{i}") + b"h\x05" for i in range(300)) + b"u"
    start = b"\x80\x02" + tensor() + b"q\x050}(" + text("n") + b"h\x05" + text("𝄞" + "k" * 100_000)
    return torch_zip(folder / "m.pt", start + group + b"u.")


@case()
def torch_memo(folder):
    """One value that is remembered again and again, which takes memory."""
    return torch_zip(folder / "m.pt", b"\x80\x04}" + b"\x94" * 1_200_000 + b".")


@case()
def torch_marks(folder):
    return torch_zip(folder / "m.pt", b"\x80\x02}" + b"(" * 1_200_000 + b".")


@case()
def torch_another_root(folder):
    """Another checkpoint within the directory that PyTorch reads."""
    with zipfile.ZipFile(folder / "m.pt", "w") as archive:
        archive.writestr("m/inner/data.pkl", b"\x80\x02}" + text("b") + tensor() + b"s.")
        archive.writestr("m/data.pkl", b"\x80\x02}" + text("a") + tensor() + b"s.")
        for name in ("m/data/0", "m/inner/data/0"):
            archive.writestr(name, bytes(16))
    return folder / "m.pt"


@case()
def torch_two_roots(folder):
    path = torch_zip(folder / "m.pt", b"\x80\x02}" + text("a") + tensor() + b"s.")
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("n/data.pkl", b"\x80\x02}.")
    return path


def torch_weight(folder, instructions):
    return torch_zip(folder / "m.pt", b"\x80\x04}" + text("a") + instructions + b"s.")


@case()
def torch_memo_numbers(folder):
    """MEMOIZE counts what is remembered: the second tensor, of one value, has number 1."""
    one = tensor(shape=(1,))
    return torch_weight(folder, tensor() + b"q\x05" + one + b"\x94" + b"00" + b"h\x01")


@case()
def torch_attributes(folder):
    """A tensor is given another storage in place of its own."""
    return torch_weight(folder, tensor() + b"(" + STORAGE + sizes(4) + sizes(1) + b"tb")


@case()
def torch_attributes_of_parameter(folder):
    state = b"}" + text("data") + tensor() + b"s"
    call = b"ctorch._utils\n_rebuild_parameter_with_state\n("
    return torch_weight(folder, call + tensor() + b"\x89)" + state + b"tR")


@case()
def torch_attributes_of_dictionary(folder):
    state = b"}" + text("items") + b"Ns"
    return torch_weight(folder, b"ccollections\nOrderedDict\n)R" + state + b"b")


@case()
def torch_items_of_default(folder):
    items = b"}" + text("b") + tensor() + b"s"
    return torch_weight(folder, b"ccollections\ndefaultdict\nN" + items + b"\x86R")


@case()
def torch_before_a_mark(folder):
    return torch_weight(folder, tensor() + text("b") + b"(0" + b"0")


@case()
def torch_foreign_names(folder):
    """Names of functions out of two long texts, again and again."""
    names = text("a" * 100_000) + b"q\x00" + text("b" * 100_000) + b"q\x01"
    pickled = b"\x80\x04](" + names + b"h\x00h\x01\x93" * 100_000 + b"e."
    return torch_zip(folder / "m.pt", pickled)


@case()
def torch_foreign_calls(folder):
    """Functions that are not called, again and again; and tensors of unknown kinds."""
    calls = b"cos\nsystem\nq\x000" + b"h\x00)R0" * 100_000
    calls += b"ctorch._utils\n_rebuild_any\nq\x000](" + b"h\x00)R" * 60_000 + b"e0"
    pickled = b"\x80\x02" + calls + b"}" + text("a") + tensor() + b"s."
    return torch_zip(folder / "m.pt", pickled)


@case()
def torch_unknown_kinds(folder):
    """More tensors of unknown kinds than any model has, with a long name of their kind."""
    start = b"\x80\x02ctorch\n_rebuild_" + b"k" * 180 + b"\n)Rq\x050}("
    group = b"".join(text(f"{i}") + b"h\x05" for i in range(49_000))
    return torch_zip(folder / "m.pt", start + text("a") + tensor() + group + b"u.")


@case()
def torch_idle(folder):
    """A megabyte of instructions that do nothing."""
    count = 1_000_000
    pickled = b"\x80\x02" + b"N0" * (count // 2) + b"}" + text("a") + tensor() + b"s."
    return torch_zip(folder / "m.pt", pickled)


@case()
def torch_itself(folder):
    """A dictionary in itself, and a wrapper in itself."""
    return torch_zip(folder / "m.pt", b"\x80\x02}q\x00" + text("model") + b"h\x00s.")


@case()
def torch_legacy_huge_storage(folder):
    content = bytearray((GOLDENS / "torch_legacy.pt").read_bytes())
    at = content.rfind(b".", 0, len(content) - 200)
    content[at + 1 : at + 9] = b"\xff" * 8
    path = folder / "m.pt"
    path.write_bytes(content)
    return path


@case()
def torch_flipped_value(folder):
    """The zip's checksum would reveal it; it is left to `verify` of formats that have their own."""
    content = bytearray((GOLDENS / "torch.pt").read_bytes())
    with zipfile.ZipFile(GOLDENS / "torch.pt") as archive:
        info = archive.getinfo("torch/data/0")
        start = info.header_offset + 30 + len(info.filename)
        start += int.from_bytes(
            content[info.header_offset + 28 : info.header_offset + 30], "little"
        )
    content[start] ^= 1
    path = folder / "m.pt"
    path.write_bytes(content)
    return path


# Zip archives


@case()
def zip_many_members(folder):
    """A list of members that takes seventeen times its length in memory."""
    record = b"PK\1\2" + bytes(24) + struct.pack("<H", 1) + bytes(16) + b"a"
    path, count = folder / "m.pt", 300_000
    listed = record * count
    end = b"PK\5\6" + struct.pack("<HHHHIIH", 0, 0, count % 65536, count % 65536, len(listed), 4, 0)
    path.write_bytes(b"PK\3\4" + listed + end)
    return path


@case()
def zip_64(folder):
    """The numbers of large archives, which have 64 bits and stand elsewhere: read as any other."""
    zipfile.ZIP_FILECOUNT_LIMIT = 1  # in this process alone
    member = npy(described("<f4", (3,)), data=bytes(12))
    return npz(folder / "m.npz", [("a.npy", member), ("b.npy", member)])


@case()
def zip_comment(folder):
    """An archive within the comment of another: readers could disagree on which is meant."""
    path = folder / "m.pt"
    shutil.copy(GOLDENS / "torch.pt", path)
    with zipfile.ZipFile(path, "a") as archive:
        archive.comment = (GOLDENS / "arrays.npz").read_bytes()
    return path


@case()
def zip_members_at_one_place(folder):
    """All members are the same bytes: 65 GB in 1.2 MB."""
    path = folder / "m.npz"
    with zipfile.ZipFile(path, "w") as archive:
        np.lib.format.write_array(archive.open("a.npy", "w"), np.zeros(1 << 18, "f4"))
    content = path.read_bytes()
    start = content.rfind(b"PK\1\2")
    record = content[start : content.rfind(b"PK\5\6")]
    records = b"".join(record.replace(b"a.npy", b"%05d.npy" % i) for i in range(4000))
    records = b"".join(
        record[:28] + struct.pack("<H", 9) + record[30:46] + b"%05d.npy" % i + record[51:]
        for i in range(4000)
    )
    end = b"PK\5\6" + struct.pack("<HHHHIIH", 0, 0, 4000, 4000, len(records), start, 0)
    path.write_bytes(content[:start] + records + end)
    return path


@case()
def zip_members_that_overlap(folder):
    """Fields of 1,700 local headers lead to the same bytes: 900,000 empty blocks, and an array."""
    count, size, content = 1700, 38, npy(described("<f4", (2,))) + bytes(8)
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    packed = b"\0\0\0\xff\xff" * 900_000 + packer.compress(content) + packer.flush()
    headers = records = b""
    for i in range(count):
        name, at = b"%04d.npy" % i, len(headers)
        common = struct.pack(
            "<HHHHHIII", 20, 0, 8, 0, 33, zlib.crc32(content), len(packed), len(content)
        )
        records += b"PK\1\2\x14\0" + common + struct.pack("<HHHHHII", 8, 0, 0, 0, 0, 0, at) + name
        headers += b"PK\3\4" + common + struct.pack("<HH", 8, size * (count - 1 - i)) + name
    start = len(headers) + len(packed)
    end = b"PK\5\6" + struct.pack("<HHHHIIH", 0, 0, count, count, len(records), start, 0)
    path = folder / "m.npz"
    path.write_bytes(headers + packed + records + end)
    return path


def torch_of_two(folder, change):
    """A file with two storages of one size, whose list of members is changed."""
    second = text("b") + tensor(storage=STORAGE.replace(text("0"), text("1")))
    path = torch_zip(folder / "m.pt", b"\x80\x02}(" + text("a") + tensor() + second + b"u.")
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("m/data/1", bytes(16))
    content = path.read_bytes()
    start = content.find(b"PK\1\2")
    records = [b"PK\1\2" + rest for rest in content[start:].split(b"PK\1\2")[1:]]
    path.write_bytes(content[:start] + b"".join(change(*map(bytearray, records))))
    return path


@case()
def zip_another_member(folder):
    """One whose place in the archive is that of another."""

    def change(first, second, third):
        third[42:46] = second[42:46]
        return first, second, third

    return torch_of_two(folder, change)


@case()
def zip_encrypted(folder):
    def change(first, second, third):
        second[8] |= 1
        return first, second, third

    return torch_of_two(folder, change)


# NumPy


def npz(path, members, compression=zipfile.ZIP_STORED):
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members:
            archive.writestr(name, content, compression)
    return path


def npy(header, version=1, data=b""):
    length = struct.pack("<H" if version == 1 else "<I", len(header))
    return b"\x93NUMPY" + bytes([version, 0]) + length + header + data


def described(dtype, shape):
    return f"{{'descr': {dtype!r}, 'fortran_order': False, 'shape': {shape!r}, }}\n".encode()


@case()
def npz_zeros(folder):
    """128 MB of zeros in 600 kB."""
    path = folder / "m.npz"
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
        archive.open("a.npy", "w", force_zip64=True) as file,
    ):
        file.write(npy(described("<f4", (1 << 25,))))
        for _ in range(128):
            file.write(bytes(1 << 20))
    return path


@case()
def npz_allowed_zeros(folder):
    """The most that may be in so small a file."""
    path = folder / "m.npz"
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
        archive.open("a.npy", "w") as file,
    ):
        file.write(npy(described("|i1", (32 << 20,))))
        for _ in range(32):
            file.write(bytes(1 << 20))
    return path


@case()
def npz_many_headers(folder):
    """Headers that repeat themselves, each of which takes milliseconds."""
    repeated = "'descr': '<f4', " * 600
    header = "{" + repeated + "'fortran_order': False, 'shape': (0,)}"
    content = b"\x93NUMPY\2\0" + struct.pack("<I", len(header)) + header.encode()
    path = folder / "m.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for i in range(150):
            archive.writestr(f"{i}.npy", content)
    return path


@case()
def npz_brackets(folder):
    return npz(folder / "m.npz", [("a.npy", npy(b"(" * 4000 + b")" * 4000, 2))])


@case()
def npz_minuses(folder):
    return npz(folder / "m.npz", [("a.npy", npy(b"-" * 9000 + b"1", 2))])


@case()
def npz_long_description(folder):
    header = b" " * (28 << 20)
    return npz(folder / "m.npz", [("a.npy", npy(header, 2))], zipfile.ZIP_DEFLATED)


@case()
def npz_second_version(folder):
    """Version 2 of the description, which NumPy writes for long ones: read as any other."""
    data = np.arange(3, dtype="<f4").tobytes()
    return npz(folder / "m.npz", [("a.npy", npy(described("<f4", (3,)), 2, data))])


@case()
def npz_twice(folder):
    member = npy(described("<f4", (1,)), 1, bytes(4))
    content = npz(folder / "m.npz", [("a.npy", member), ("b.npy", member)]).read_bytes()
    (folder / "m.npz").write_bytes(content.replace(b"b.npy", b"a.npy"))
    return folder / "m.npz"


def unpacks_to_more(path, name, size):
    """A member by bzip2 that says it has 4 kB and holds `size` bytes of zeros."""
    packed, claimed = bz2.compress(bytes(size)), bytes(4096)
    data = packed_member(name, packed, claimed, zipfile.ZIP_BZIP2)
    path.write_bytes(data)
    return path


def packed_member(name, packed, claimed, method):
    """A zip archive of one member whose sizes and checksum are those of `claimed`."""
    name = name.encode()
    fields = (method, 0, 0, zlib.crc32(claimed), len(packed), len(claimed), len(name), 0)
    local = struct.pack("<4s5H3L2H", b"PK\3\4", 46, 0, *fields) + name + packed
    listed = struct.pack("<4s6H3L5H2L", b"PK\1\2", 46, 46, 0, *fields, 0, 0, 0, 0, 0) + name
    end = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 1, 1, len(listed), len(local), 0)
    return local + listed + end


def npz_packed(folder, data):
    """An array of a million zeros whose member holds other bytes than it tells."""
    header = npy(described("|i1", (1_000_000,)))
    packer = zlib.compressobj(wbits=-15)
    packed = packer.compress(header + data) + packer.flush()
    claimed = header + bytes(1_000_000)
    content = packed_member("a.npy", packed, claimed, zipfile.ZIP_DEFLATED)
    (folder / "m.npz").write_bytes(content)
    return folder / "m.npz"


@case()
def npz_packed_more(folder):
    return npz_packed(folder, bytes(200_000_000))


@case()
def npz_packed_fewer(folder):
    return npz_packed(folder, bytes(999_999))


@case()
def npz_packed_others(folder):
    return npz_packed(folder, bytes(999_999) + b"\1")


@case()
def npz_packed_arrays(folder):
    """More than any model has: the list of members is not read again for each of them."""
    member = npy(described("<f4", (3,)), data=bytes(12))
    members = [(f"{i}.npy", member) for i in range(10_000)]
    return npz(folder / "m.npz", members, zipfile.ZIP_DEFLATED)


@case()
def npz_bzip2(folder):
    """256 MB of zeros in 300 bytes, by a method that unpacks without a limit."""
    return unpacks_to_more(folder / "m.npz", "a.npy", 256 << 20)


@case()
def torch_bzip2(folder):
    return unpacks_to_more(folder / "m.pt", "m/data.pkl", 256 << 20)


@case()
def torch_twice(folder):
    path = torch_zip(folder / "m.pt", b"\x80\x02}" + text("a") + tensor() + b"s.")
    with zipfile.ZipFile(path, "a") as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        archive.writestr("m/data/0", bytes(16))
    return path


@case()
def npz_flipped_value(folder):
    np.savez(folder / "m.npz", a=np.arange(1000, dtype="f4"))
    content = bytearray((folder / "m.npz").read_bytes())
    content[content.find(struct.pack("<f", 777.0)) + 3] ^= 1
    (folder / "m.npz").write_bytes(content)
    return folder / "m.npz"


@case()
def npz_objects(folder):
    """An array of Python objects: a pickle, which is not read."""
    np.savez(folder / "m.npz", a=np.array([{}], object))
    return folder / "m.npz"


# HDF5


@case(in_child=True)
def hdf5_chunk(folder):
    """One element, in a compressed chunk of 256 MB."""
    path = folder / "m.weights.h5"
    with h5py.File(path, "w") as file:
        chunked = {"maxshape": (None,), "chunks": (1 << 26,), "compression": "gzip"}
        dataset = file.create_dataset("a", (1,), "f4", **chunked)
        packer = zlib.compressobj(1)
        parts = [packer.compress(bytes(1 << 24)) for _ in range(4)] + [packer.flush()]
        dataset.id.write_direct_chunk((0,), b"".join(parts))
    return path


@case(in_child=True)
def hdf5_fill(folder):
    """Half a gigabyte that is nowhere in the file."""
    path = folder / "m.weights.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("a", (1 << 27,), "f4", chunks=(1 << 20,), fillvalue=1.0)
    return path


@case(in_child=True)
def hdf5_many_fills(folder):
    """Each is allowed by itself, all of them are not."""
    path = folder / "m.weights.h5"
    with h5py.File(path, "w") as file:
        for i in range(100):
            file.create_dataset(f"{i}", (1 << 20,), "f4", chunks=(1 << 20,), fillvalue=1.0)
    return path


@case(in_child=True)
def hdf5_filtered(folder):
    """Compressed, in chunks: read as any other."""
    path = folder / "m.weights.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("a", data=np.arange(1000.0), chunks=(100,), compression="gzip")
    return path


def read_backwards(path):
    """Reads all of a checkpoint in another order than the file's."""
    checkpoint = open_checkpoint(path)
    total = sum(checkpoint[name].nbytes for name in reversed(list(checkpoint)))
    return f"{len(checkpoint)} tensors, {total} bytes"


@case(read_backwards, in_child=True)
def hdf5_backwards(folder):
    """Compressed, as a user may write them."""
    path = folder / "m.weights.h5"
    with h5py.File(path, "w") as file:
        for i in range(200):
            file.create_dataset(f"{i}", data=np.full((64, 64), i, "f4"), compression="gzip")
    return path


@case(in_child=True)
def hdf5_allowed_fills(folder):
    """As much as may be filled in: it is in memory once."""
    path = folder / "m.weights.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("a", (13 << 20,), "f4", chunks=(1 << 16,), fillvalue=1)
    return path


@case(in_child=True)
def hdf5_many_chunks(folder):
    path = folder / "m.weights.h5"
    with h5py.File(path, "w") as file:
        for i in range(125):
            file.create_dataset(f"{i}", (530_000,), "i1", chunks=(530_000,), fillvalue=1)
    return path


@case(in_child=True)
def hdf5_unknown_filter(folder):
    path = folder / "m.weights.h5"
    with h5py.File(path, "w") as file:
        properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        properties.set_chunk((4,))
        properties.set_filter(31999, h5py.h5z.FLAG_OPTIONAL, (1,))
        space = h5py.h5s.create_simple((4,))
        h5py.h5d.create(file.id, b"a", h5py.h5t.IEEE_F32LE, space, properties)
        file["a"].id.write_direct_chunk((0,), b"x" * 16)
    return path


@case(in_child=True)
def hdf5_cycle(folder):
    """A group in itself, and a link to itself."""
    path = folder / "m.weights.h5"
    with h5py.File(path, "w") as file:
        file["group/a"] = np.zeros(3, "f4")
        file["group/again"] = file["group"]
        file["group/soft"] = h5py.SoftLink("/group/soft")
    return path


@case(in_child=True)
def hdf5_two_names(folder):
    """A group under two names, of which a walk through the file meets one."""
    path = folder / "m.weights.h5"
    with h5py.File(path, "w") as file:
        file["a/vars/0"] = np.zeros(3, "f4")
        file["b"] = file["a"]
    return path


@case(in_child=True)
def hdf5_name_of_bytes(folder):
    """Of a group, which h5py cannot open by the name that it gives."""
    path = folder / "m.weights.h5"
    with h5py.File(path, "w") as file:
        group = h5py.h5g.create(file.id, b"layers\xff")
        h5py.h5d.create(group, b"0", h5py.h5t.IEEE_F32LE, h5py.h5s.create_simple((3,)))
    return path


@case(in_child=True)
def hdf5_layer_of_bytes(folder):
    path = folder / "m.weights.h5"
    with h5py.File(path, "w") as file:
        file["layers/dense/vars/0"] = np.zeros(3, "f4")
        file["layers/dense/vars"].attrs["name"] = b"dense\xff"
    return path


@case(in_child=True)
def hdf5_external(folder):
    """Values out of a file that the sender could not read."""
    path = folder / "m.weights.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("a", (16,), "u1", external=[("/etc/passwd", 0, 16)])
    return path


@case(in_child=True)
def hdf5_external_link(folder):
    path = folder / "m.weights.h5"
    with h5py.File(folder / "other.h5", "w") as file:
        file["a"] = np.zeros(3, "f4")
    with h5py.File(path, "w") as file:
        file["a"] = h5py.ExternalLink(str(folder / "other.h5"), "/a")
        file["b"] = np.zeros(3, "f4")
    return path


@case(in_child=True)
def hdf5_virtual(folder):
    path = folder / "m.weights.h5"
    with h5py.File(path, "w") as file:
        layout = h5py.VirtualLayout((16,), "u1")
        layout[:] = h5py.VirtualSource("/etc/hostname", "a", (16,))
        file.create_virtual_dataset("a", layout)
    return path


def hdf5_typed(folder, kind, count, data=None):
    """Values of a type that HDF5 has and NumPy has not."""
    path = folder / "m.weights.h5"
    with h5py.File(path, "w") as file:
        dataset = h5py.h5d.create(file.id, b"a", kind, h5py.h5s.create_simple((count,)))
        if data is not None:
            dataset.write(h5py.h5s.ALL, h5py.h5s.ALL, data, mtype=kind)
    return path


@case(in_child=True)
def hdf5_times(folder):
    """For which NumPy has no dtype."""
    return hdf5_typed(folder, h5py.h5t.UNIX_D32LE, 4, np.zeros(4, "<i4"))


@case(in_child=True)
def hdf5_large_converted(folder):
    """Nothing of it is in the file, and HDF5 would make 8 GB of it."""
    kind = h5py.h5t.IEEE_F32LE.copy()
    kind.set_ebias(100)
    return hdf5_typed(folder, kind, 1 << 30)


@case(in_child=True)
def hdf5_many_groups(folder):
    """More than any model has, of a few bytes each, in one group that has many names."""
    path = folder / "m.weights.h5"
    with h5py.File(path, "w", libver="latest") as file:
        for i in range(3000):
            file.create_dataset(f"{i}", (0,), "f4")
    return path


@case(in_child=True)
def hdf5_repeating_names(folder):
    """A group with a long name, which all that is in it has in its path."""
    path = folder / "m.weights.h5"
    with h5py.File(path, "w", libver="latest") as file:
        group = file.create_group("n" * 60_000)
        for i in range(200):
            group.create_dataset(f"{i}", (0,), "f4")
    return path


# `.keras` archives


@case(in_child=True)
def keras_plain(folder):
    """Its `config.json` is a bomb, which weights do not need."""
    path = folder / "m.keras"
    with (
        zipfile.ZipFile(GOLDENS / "dense.keras") as source,
        zipfile.ZipFile(path, "w") as archive,
    ):
        archive.writestr("model.weights.h5", source.read("model.weights.h5"))
        archive.writestr("config.json", b"[" * 1_000_000, zipfile.ZIP_DEFLATED)
    return path


@case(in_child=True)
def keras_compressed(folder):
    path = folder / "m.keras"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("model.weights.h5", bytes(1 << 24))
    return path


def read_probed(path):
    """What is looked at before Keras reads a `.keras` file."""
    return f"{len(read_keras(path, probe=True)[0])} tensors"


def keras_archive(folder, fill):
    """An archive whose weights are in a file of HDF5 that `fill(file)` fills."""
    with h5py.File(folder / "model.weights.h5", "w") as file:
        fill(file)
    with zipfile.ZipFile(folder / "m.keras", "w") as archive:
        archive.write(folder / "model.weights.h5", "model.weights.h5")
    (folder / "model.weights.h5").unlink()
    return folder / "m.keras"


@case(read_probed, in_child=True)
def keras_probed(folder):
    """All that Keras writes: numbers, bfloat16, and names of layers; here also in chunks."""

    def fill(file):
        file["layers/dense/vars/0"] = np.zeros((2, 3), "f4")
        file["layers/dense/vars"].attrs["name"] = "dense_1"
        file["vars/0"] = np.zeros(3, "V2")
        file["vars/0"].attrs["dtype"] = "bfloat16"
        file["vars/1"] = np.float64(1)
        file["vars/2"] = np.array([True])
        file.create_dataset("vars/3", data=np.arange(1000), chunks=(100,), compression="gzip")

    return keras_archive(folder, fill)


@case(read_probed, in_child=True)
def keras_external(folder):
    return keras_archive(
        folder,
        lambda file: file.create_dataset("a", (16,), "u1", external=[("/etc/passwd", 0, 16)]),
    )


@case(read_probed, in_child=True)
def keras_compound(folder):
    """Two gigabytes of nothing, each value of which has an array of them in it."""
    kind = np.dtype([("a", "u1", (1 << 21,))])
    return keras_archive(folder, lambda file: file.create_dataset("a", (1000,), kind))


@case(read_probed, in_child=True)
def keras_texts(folder):
    """Texts that all lie at one place, as HDF5 allows."""

    def fill(file):
        file.create_dataset("a", data=["x" * 100_000] + [""] * 2000, dtype=h5py.string_dtype())

    return keras_archive(folder, fill)


@case(read_probed, in_child=True)
def keras_references(folder):
    return keras_archive(
        folder, lambda file: file.create_dataset("a", data=file.ref, dtype=h5py.ref_dtype)
    )


@case(read_probed, in_child=True)
def keras_nothing(folder):
    """An array without a shape."""
    return keras_archive(folder, lambda file: file.create_dataset("a", data=h5py.Empty("f4")))


def told_dtype(folder, dtype, values):
    """An array that tells a dtype, as Keras' of bfloat16 do."""

    def fill(file):
        file["a"] = values
        file["a"].attrs["dtype"] = dtype

    return keras_archive(folder, fill)


@case(read_probed, in_child=True)
def keras_told_dtype(folder):
    """Floating point numbers, which Keras would read as bfloat16."""
    return told_dtype(folder, "bfloat16", np.zeros(3, "f4"))


@case(read_probed, in_child=True)
def keras_told_dtypes(folder):
    return told_dtype(folder, ["bfloat16"] * 3, np.zeros(3, "V2"))


@case(read_probed, in_child=True)
def keras_told_numbers(folder):
    return told_dtype(folder, np.zeros((100, 100), "u1"), np.zeros(3, "f4"))


@case(read_probed, in_child=True)
def keras_soft_link(folder):
    return keras_archive(folder, lambda file: file.update({"a": h5py.SoftLink("/b")}))


@case(read_probed, in_child=True)
def keras_external_link(folder):
    link = h5py.ExternalLink("/etc/hostname", "/a")
    return keras_archive(folder, lambda file: file.update({"a": link}))


@case(read_probed, in_child=True)
def keras_type(folder):
    """A type with a name, which is neither a group nor an array."""
    return keras_archive(folder, lambda file: file.update({"a": np.dtype("f4")}))


def keras_shards(folder, groups, count=1, **options):
    """An index of files of HDF5, each with one array."""
    for i in range(count):
        with h5py.File(folder / f"{i:05}.weights.h5", "w", libver="latest") as file:
            file.create_dataset(f"{i}/vars/0", data=np.zeros(1, "f4"), **options)
    path = folder / "m.weights.json"
    path.write_text(json.dumps({"weight_map": groups}))
    return path


@case(in_child=True)
def keras_shards_many(folder):
    """A process for each of them, or for each of their arrays, would take minutes."""
    groups = {f"/{i}/vars": f"{i:05}.weights.h5" for i in range(500)}
    return keras_shards(folder, groups, 500, chunks=(1,))


@case(in_child=True)
def keras_shards_itself(folder):
    return keras_shards(folder, {f"/{i}/vars": ["m.weights.json"] for i in range(20_000)})


@case(in_child=True)
def keras_shards_repeated(folder):
    """One file, as often as a description of its size may say so."""
    return keras_shards(folder, {"/0/vars": ["00000.weights.h5"] * 200_000})


@case(in_child=True)
def keras_shards_above(folder):
    return keras_shards(folder, {"/0/vars": ["../m.weights.h5"]})


@case(in_child=True)
def keras_shards_missing(folder):
    return keras_shards(folder, {"/0/vars": ["00000.weights.h5", "00001.weights.h5"]})


@case(in_child=True)
def keras_shards_elsewhere(folder):
    groups = {"/0/vars": "00000.weights.h5", "/1/vars": ["00000.weights.h5"]}
    return keras_shards(folder, groups)


@case(in_child=True)
def keras_shards_twice(folder):
    """An array that is in two files: readers could disagree on which is meant."""
    path = keras_shards(folder, {"/0/vars": ["00000.weights.h5", "00001.weights.h5"]})
    shutil.copy(folder / "00000.weights.h5", folder / "00001.weights.h5")
    return path


@case(in_child=True)
def keras_shards_of_numbers(folder):
    return keras_shards(folder, {"/0/vars": [[0]]})


@case(in_child=True)
def keras_shards_of_another_format(folder):
    shutil.copy(GOLDENS / "brain.safetensors", folder)
    return keras_shards(folder, {"/0/vars": "brain.safetensors"})


@case(in_child=True)
def keras_shards_damaged(folder):
    """Which of them it is, is told."""
    path = keras_shards(folder, {f"/{i}/vars": f"{i:05}.weights.h5" for i in range(3)}, 3)
    content = (folder / "00001.weights.h5").read_bytes()
    (folder / "00001.weights.h5").write_bytes(content[:100])
    return path


# TensorFlow


def tf_block(content, kind=b"\0"):
    content += kind
    return content + masked_crc32c(content).to_bytes(4, "little")


def tf_listed(folder, blocks, index):
    """An index file of blocks and the block that lists them; returns its path."""
    meta = tf._block([])
    footer = tf._handle(len(blocks), meta) + tf._handle(len(blocks + meta), index)
    path = folder / "m.index"
    path.write_bytes(blocks + meta + index + footer.ljust(40, b"\0") + tf.MAGIC)
    return path


def tf_index(folder, table, handles=1, data=None):
    """An index whose only block of entries is `table`; returns its path."""
    index = tf._block([(b"\xff%05d" % i, tf._handle(0, table)) for i in range(handles)])
    path = tf_listed(folder, table, index)
    if data is not None:
        tf.data_path(folder / "m", 0, 1).write_bytes(data)
    return path


HEADER = (b"", encode_field(1, 1) + encode_field(3, encode_field(1, 1)))


def tf_entry(shape, offset, size, data=b"", slices=(), dtype=1):
    dimensions = b"".join(encode_field(2, encode_field(1, n)) for n in shape)
    entry = encode_field(1, dtype) + encode_field(2, dimensions) + encode_field(4, offset)
    entry += encode_field(5, size)
    entry += encode_varint(6 << 3 | 5) + masked_crc32c(data).to_bytes(4, "little")
    for extents in slices:
        parts = [encode_field(1, encode_field(1, a) + encode_field(2, n)) for a, n in extents]
        entry += encode_field(7, b"".join(parts))
    return entry


def tf_sliced(folder, shape, slices, offsets, data):
    """A variable of `shape` in slices of (start, length) pairs, which lie at `offsets`."""
    entries = [HEADER, (b"a", tf_entry(shape, 0, 0, slices=slices))]
    for extents, offset in zip(slices, offsets, strict=True):
        lengths = [length for _, length in extents]
        size = 4 * int(np.prod(lengths))
        entry = tf_entry(lengths, offset, size, data[offset : offset + size])
        entries.append((tf._slice_key(b"a", extents), entry))
    return tf_index(folder, tf._block(sorted(entries)), data=data)


@case()
def tf_long_prefix(folder):
    """A long key, of which each of the next has all."""
    length, count = 400_000, 20_000
    block = bytearray(encode_varint(0) + encode_varint(length) + encode_varint(0) + b"k" * length)
    for i in range(count):
        block += encode_varint(length + i) + encode_varint(1) + encode_varint(0) + b"x"
    return tf_index(folder, tf_block(bytes(block + struct.pack("<II", 0, 1))))


@case()
def tf_one_block_often(folder):
    table = tf._block([(b"%07d" % i, b"") for i in range(20_000)])
    return tf_index(folder, table, 5000)


@case()
def tf_long_index_keys(folder):
    """The same in the list of blocks, each of which is empty."""
    length, block = 1_000_000, tf_block(b"")
    index = bytearray()
    for i in range(60):
        handle = tf._handle(i * len(block), block)
        shared, key = (length + i - 1, b"x") if i else (0, b"k" * length)
        index += b"".join(map(encode_varint, (shared, len(key), len(handle)))) + key + handle
    return tf_listed(folder, block * 60, tf_block(bytes(index + struct.pack("<II", 0, 1))))


@case()
def tf_many_blocks(folder):
    block, count = tf_block(b""), 50_001
    handles = [(b"%06d" % i, tf._handle(i * len(block), block)) for i in range(count)]
    return tf_listed(folder, block * count, tf._block(handles))


@case()
def tf_empty_blocks(folder):
    """Many blocks of no length at one place."""
    return tf_index(folder, tf_block(b""), 50_000)


def snappy(size, body):
    return tf_block(encode_varint(size) + body, b"\1")


@case()
def tf_snappy_zeros(folder):
    size = 60_000_000
    copies = bytes([63 << 2 | 2, 1, 0]) * (size // 64)
    return tf_index(folder, snappy(size, b"\0x" + copies))


@case()
def tf_snappy_before_start(folder):
    return tf_index(folder, snappy(100, b"\0x" + bytes([63 << 2 | 2, 2, 0])))


@case()
def tf_snappy_long_literal(folder):
    return tf_index(folder, snappy(100, b"\xfc" + b"\xff" * 4 + b"x"))


@case()
def tf_snappy_grows(folder):
    """More than was announced."""
    return tf_index(folder, snappy(10, b"\0x" + bytes([63 << 2 | 2, 1, 0]) * 100_000))


def tf_described(folder, description):
    """A tensor of six values, with other bytes in place of its dtype and shape."""
    data = np.arange(6, dtype="f4").tobytes()
    plain = tf_entry((6,), 0, len(data), data)
    value = description + plain[plain.index(encode_field(5, len(data))) :]
    return tf_index(folder, tf._block([HEADER, (b"a", value)]), data=data)


def tf_shape(*sizes):
    return encode_field(2, b"".join(encode_field(2, encode_field(1, size)) for size in sizes))


@case()
def tf_shape_twice(folder):
    """Two messages, which TensorFlow makes one shape (1, 6) of."""
    return tf_described(folder, encode_field(1, 1) + tf_shape(1) + tf_shape(6))


@case()
def tf_size_twice(folder):
    sizes = encode_field(2, encode_field(2, encode_field(1, 3) + encode_field(1, 6)))
    return tf_described(folder, encode_field(1, 1) + sizes)


@case()
def tf_type_of_field(folder):
    """A second dtype in four bytes, which is none for TensorFlow."""
    other = bytes([1 << 3 | 5]) + (3).to_bytes(4, "little")
    return tf_described(folder, encode_field(1, 1) + other + tf_shape(6))


@case()
def tf_unknown_rank(folder):
    shape = encode_field(2, encode_field(3, 1) + encode_field(2, encode_field(1, 6)))
    return tf_described(folder, encode_field(1, 1) + shape)


@case()
def tf_many_fields(folder):
    """A description of a tensor with six million fields, compressed."""
    copies = 2000
    value = b"\x78\x01" * 32 * (copies + 1)
    start, end = tf._block([HEADER, (b"a", value)])[:-5].split(value)
    body = bytes([(len(start) + 1) << 2]) + start + b"\x78\x01"
    body += bytes([61 << 2 | 2, 2, 0]) + bytes([63 << 2 | 2, 2, 0]) * copies
    body += bytes([(len(end) - 1) << 2]) + end
    return tf_index(folder, snappy(len(start) + 64 * (copies + 1) + len(end), body))


@case()
def tf_long_descriptions(folder):
    """Descriptions of many fields each, which are all the same, compressed."""
    value = b"\x08\x01" * 32 * 1000
    blocks, handles, count = b"", [], 100
    for i in range(count):
        start, end = tf._block([(b"%03d" % i, value)])[:-5].split(value)
        body = bytes([(len(start) + 1) << 2]) + start + b"\x08\x01"
        body += bytes([61 << 2 | 2, 2, 0]) + bytes([63 << 2 | 2, 2, 0]) * 999
        body += bytes([(len(end) - 1) << 2]) + end
        block = snappy(len(start + value + end), body)
        handles.append((b"%03d" % i, tf._handle(len(blocks), block)))
        blocks += block
    return tf_listed(folder, blocks, tf._block(handles))


@case()
def tf_wide_slices(folder):
    """Slices of many axes, which take much memory if they are taken apart."""
    entry = encode_field(7, encode_field(1, b"") * 32) * 490
    entries = [HEADER, *((b"\0%06d" % i, b"") for i in range(49_000))]
    entries += [(b"a%03d" % i, encode_field(1, 1) + entry) for i in range(99)]
    return tf_index(folder, tf._block(entries), data=b"")


@case()
def tf_slices_of_variables_of_many_axes(folder):
    """Each variable has few enough, but all of them together would take 16 seconds."""
    shape, extents = (0, *[1] * 31), [(0, -1)] * 32
    entry = tf_entry(shape, 0, 0) + encode_field(7, encode_field(1, b"") * 32) * 8192
    entries = [HEADER, *((b"\0\0%05d" % i, b"") for i in range(49_000))]
    for name in (b"%d" % i for i in range(6)):
        entries += [(name, entry), (tf._slice_key(name, extents), tf_entry(shape, 0, 0))]
    return tf_index(folder, tf._block(sorted(entries)), data=b"")


@case()
def tf_field_in_a_slice(folder):
    """One that no slice has, and which would be parsed again for each reading."""
    slice_of_all = encode_field(1, encode_field(3, 0))
    entries = [
        HEADER,
        (b"a", tf_entry((1,), 0, 0) + encode_field(7, slice_of_all)),
        (tf._slice_key(b"a", [(0, -1)]), tf_entry((1,), 0, 4, bytes(4))),
    ]
    return tf_index(folder, tf._block(sorted(entries)), data=bytes(4))


@case()
def tf_many_slices(folder):
    """More slices than there are entries of slices."""
    entry = tf_entry((4,), 0, 16) + encode_field(7, b"") * 500
    table = tf._block([HEADER, *((b"%05d" % i, entry) for i in range(3000))])
    return tf_index(folder, table, data=bytes(16))


@case()
def tf_most_slices(folder):
    """Ninety variables, each in as many slices as are allowed."""
    entries = [HEADER]
    for i in range(90):
        slices = [[(j, 1)] for j in range(512)]
        entries.append((b"%d" % i, tf_entry((512,), 0, 0, slices=slices)))
        for j, extents in enumerate(slices):
            at = 4 * (512 * i + j)
            entry = tf_entry((1,), at, 4, bytes(4))
            entries.append((tf._slice_key(b"%d" % i, extents), entry))
    return tf_index(folder, tf._block(sorted(entries)), data=bytes(4 * 512 * 90))


@case()
def tf_slices_of_one(folder):
    """One variable, in nearly as many slices as a file may have tensors."""
    count = 49_000
    slices = [[(i, 1)] for i in range(count)]
    return tf_sliced(folder, (count,), slices, range(0, 4 * count, 4), bytes(4 * count))


@case()
def tf_slices_of_many_axes(folder):
    """Few slices, whose edges make a huge grid."""
    slices = [[(i, 1)] * 8 for i in range(20)]
    return tf_sliced(folder, (20,) * 8, slices, range(0, 80, 4), bytes(80))


@case()
def tf_slices_of_a_grid(folder):
    """Edges that make as many cells as are allowed, in as many variables."""
    entries, size = [HEADER], 1000
    for i in range(40):
        name = b"%02d" % i
        slices = [[(j, 1), (j, 1)] for j in range(size)]
        entries.append((name, tf_entry((size, size), 0, 0, slices=slices)))
        for j, extents in enumerate(slices):
            at = 4 * (i * size + j)
            entries.append((tf._slice_key(name, extents), tf_entry((1, 1), at, 4, bytes(4))))
    return tf_index(folder, tf._block(sorted(entries)), data=bytes(4 * 40 * size))


@case()
def tf_slices_overlap(folder):
    slices = [[(0, 3)], [(2, 2)]]
    return tf_sliced(folder, (5,), slices, [0, 12], bytes(20))


@case()
def tf_slices_of_another_dtype(folder):
    """Of floating point numbers, in a variable of integers."""
    values, extent = bytes(12), [(0, 3)]
    entries = [
        HEADER,
        (b"a", tf_entry((3,), 0, 0, slices=[extent], dtype=3)),
        (tf._slice_key(b"a", extent), tf_entry((3,), 0, 12, values, dtype=1)),
    ]
    return tf_index(folder, tf._block(sorted(entries)), data=values)


@case()
def tf_slices_of_a_long_name(folder):
    """Each of them is found by the name, which would be looked up 20,000 times."""
    name, extent, count = b"n" * 2_000_000, [(0, 1)], 20_000
    entries = [
        HEADER,
        (tf._slice_key(name, extent), tf_entry((1,), 0, 4, bytes(4))),
        (name, tf_entry((count,), 0, 0, slices=[extent] * count)),
        *((b"a%05d" % i, encode_field(1, 7)) for i in range(count)),
    ]
    return tf_index(folder, tf._block(sorted(entries)), data=bytes(4))


@case()
def tf_slices_out_of_range(folder):
    slices = [[(0, 3)], [(4, 2)]]
    return tf_sliced(folder, (5,), slices, [0, 12], bytes(20))


@case()
def tf_slices_at_one_place(folder):
    """Slices that share their values: 400 MB of one."""
    slices = [[(i << 18, 1 << 18)] for i in range(400)]
    return tf_sliced(folder, (400 << 18,), slices, [0] * 400, bytes(1 << 20))


@case()
def tf_slices_of_nothing(folder):
    slices = [[(0, 1 << 59), (0, 1 << 59), (0, 0)]]
    return tf_sliced(folder, (1 << 59, 1 << 59, 0), slices, [0], b"")


@case()
def tf_tensors_at_one_place(folder):
    """The same values under many names, each with a checksum to be checked."""
    data = bytes(1 << 20)
    entry = tf_entry((1 << 18,), 0, 1 << 20, data)
    table = tf._block([HEADER, *((b"%05d" % i, entry) for i in range(40_000))])
    return tf_index(folder, table, data=data)


@case()
def tf_flipped_value(folder):
    for path in (GOLDENS / "shards").iterdir():
        shutil.copy(path, folder)
    path = folder / "model.ckpt.data-00000-of-00002"
    content = bytearray(path.read_bytes())
    content[0] ^= 1
    path.write_bytes(content)
    return folder


@case()
def tf_many_shards(folder):
    """A header that tells of more data files than there are numbers for."""
    header = (b"", encode_field(1, (1 << 63) - 1))
    entry = tf_entry((1,), 0, 4) + encode_field(3, (1 << 62))
    return tf_index(folder, tf._block([header, (b"a", entry)]), data=bytes(4))


def tf_misled(folder, points, limits=(b"w",)):
    """A block with restart points in the values of an entry, in which other entries are written."""
    values = np.arange(8, dtype="float32").tobytes()
    first, second = (tf_entry((4,), at, 16, values[at : at + 16]) for at in (0, 16))

    def record(key, value):
        return encode_varint(0) + encode_varint(len(key)) + encode_varint(len(value)) + key + value

    hidden = record(b"b", b"") + record(b"w", second)
    start = record(*HEADER) + record(b"a", first + encode_field(15, hidden))
    places = {"start": 0, "last": len(start), "hidden": len(start) - len(hidden)}
    points = [places[name] for name in points]
    content = (
        start + record(b"w", first) + struct.pack(f"<{len(points) + 1}I", *points, len(points))
    )
    table = tf_block(content)
    tf.data_path(folder / "m", 0, 1).write_bytes(values)
    return tf_listed(folder, table, tf._block([(key, tf._handle(0, table)) for key in limits]))


@case()
def tf_restart_in_a_value(folder):
    """Where TensorFlow finds "w" by a restart point, another tensor is written."""
    return tf_misled(folder, ["start", "hidden"])


@case()
def tf_no_restart_at_first(folder):
    return tf_misled(folder, ["last"])


@case()
def tf_restarts(folder):
    return tf_misled(folder, ["start", "last"])


@case()
def tf_restarts_beyond(folder):
    return tf_index(folder, tf_block(b"\0\0\0" + struct.pack("<I", 9)))


@case()
def tf_block_before_its_names(folder):
    """The list of blocks says that all names of the block come before "b"."""
    return tf_misled(folder, ["start", "last"], [b"b"])


@case()
def tf_repeats_too_much(folder):
    """A key of which more is repeated than the key before it has: TensorFlow ends there."""
    block = encode_varint(0) * 3 + encode_varint(3) + encode_varint(1) + encode_varint(0) + b"x"
    return tf_index(folder, tf_block(block + struct.pack("<II", 0, 1)))


@case()
def tf_no_header(folder):
    return tf_index(folder, tf._block([(b"a", tf_entry((1,), 0, 4))]), data=bytes(4))


@case()
def tf_slice_missing(folder):
    sliced = tf_entry((1,), 0, 0, slices=[[(0, 1)]])
    return tf_index(folder, tf._block([HEADER, (b"a", sliced)]), data=bytes(4))


@case()
def tf_tensors_that_overlap(folder):
    entries = [(name, tf_entry((1,), at, 4, bytes(4))) for name, at in ((b"a", 0), (b"b", 2))]
    return tf_index(folder, tf._block([HEADER, *entries]), data=bytes(8))


@case()
def tf_index_pipe(folder):
    os.mkfifo(folder / "m.index")
    return folder


@case()
def tf_data_pipe(folder):
    tf_index(folder, tf._block([HEADER, (b"a", tf_entry((1,), 0, 4))]))
    os.mkfifo(tf.data_path(folder / "m", 0, 1))
    return folder / "m"


def tf_state(folder, content):
    (folder / "checkpoint").write_bytes(content)
    return folder


@case()
def tf_state_of_bytes(folder):
    return tf_state(folder, b'model_checkpoint_path: "\\377\\376"\n')


@case()
def tf_state_long(folder):
    return tf_state(folder, b'model_checkpoint_path: "' + b"a" * 300 + b'"\n')


@case()
def tf_state_elsewhere(folder):
    return tf_state(folder, f'model_checkpoint_path: "{GOLDENS}/shards/../../x"\n'.encode())


@case()
def tf_state_twice(folder):
    return tf_state(folder, b'model_checkpoint_path: "a"\nmodel_checkpoint_path: "b"\n')


@case()
def tf_state_pipe(folder):
    os.mkfifo(folder / "checkpoint")
    return folder


@case()
def tf_state_null(folder):
    return tf_state(folder, b'model_checkpoint_path: "a\\000b"\n')


# Safetensors


def safetensors(path, header, data=b""):
    header = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(header)) + header + data)
    return path


def described_floats(begin, end):
    return {"dtype": "F32", "shape": [(end - begin) // 4], "data_offsets": [begin, end]}


@case()
def safetensors_deep(folder):
    header = b'{"a":' + b"[" * 1_000_000 + b"]" * 1_000_000 + b"}"
    return safetensors(folder / "m.safetensors", header)


@case()
def safetensors_less_deep(folder):
    """Deep enough for what repeats it in a message."""
    return safetensors(folder / "m.safetensors", b'{"a":' + b"[" * 800 + b"]" * 800 + b"}")


@case()
def safetensors_wide(folder):
    return safetensors(folder / "m.safetensors", b'{"a":[' + b"[]," * 2_000_000 + b"[]]}")


@case()
def safetensors_wide_objects(folder):
    return safetensors(folder / "m.safetensors", b'{"a":[' + b"{}," * 2_000_000 + b"{}]}")


@case()
def safetensors_wide_text(folder):
    """One character makes all of them four bytes wide."""
    header = '{"a":"𝄞' + "a" * (12 << 20) + '"}'
    return safetensors(folder / "m.safetensors", header.encode())


@case()
def safetensors_huge_number(folder):
    header = b'{"a":{"dtype":"F32","shape":[' + b"9" * 100_000 + b'],"data_offsets":[0,4]}}'
    return safetensors(folder / "m.safetensors", header, bytes(4))


@case()
def safetensors_infinity(folder):
    header = b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,Infinity]}}'
    return safetensors(folder / "m.safetensors", header, bytes(4))


@case()
def safetensors_overlap(folder):
    header = {"a": described_floats(0, 8), "b": described_floats(4, 12)}
    return safetensors(folder / "m.safetensors", header, bytes(12))


@case()
def safetensors_twice(folder):
    one, two = (json.dumps(described_floats(8 * i, 8 * i + 8)) for i in range(2))
    header = f'{{"a": {one}, "a": {two}}}'.encode()
    return safetensors(folder / "m.safetensors", header, bytes(16))


@case()
def safetensors_gap(folder):
    return safetensors(folder / "m.safetensors", {"a": described_floats(8, 16)}, bytes(64))


@case()
def safetensors_trailing(folder):
    return safetensors(folder / "m.safetensors", {"a": described_floats(0, 8)}, bytes(64))


@case()
def safetensors_tiny_tensors(folder):
    """As many tensors as are allowed."""
    header = {
        f"{i}": {"dtype": "U8", "shape": [1], "data_offsets": [i, i + 1]} for i in range(49_000)
    }
    return safetensors(folder / "m.safetensors", header, bytes(49_000))


def read_names(path):
    """Compares the names of a checkpoint with all that are known."""
    checkpoint = adapt(open_checkpoint(path))
    recognition.recognize({}, list(checkpoint))
    unknown = [
        name
        for row in configs.ARCHITECTURES.values()
        for name in recognition.unmatched_names(checkpoint, row)
    ]
    return f"{len(set(unknown))} unknown names"


def repeating_names(folder, *parts):
    """Names in which a part of a pattern occurs again and again; no `.*` reaches their end."""
    names = [part * (400_000 // len(part)) + "\nx" for part in parts]
    entry = {"dtype": "U8", "shape": [0], "data_offsets": [0, 0]}
    return safetensors(folder / "m.safetensors", dict.fromkeys(names, entry))


@case(read_names)
def safetensors_repeating_names(folder):
    return repeating_names(folder, "/LAMB", "_slot_v", "decoder.", "encoder/layer_1/", "/")


@case(read_names)
def safetensors_repeating_states(folder):
    """Of what is skipped."""
    return repeating_names(folder, "rng_state", "relative_positions_encoding")


@case(read_names)
def safetensors_repeating_quantization(folder):
    return repeating_names(folder, ".quant_state.")


@case()
def safetensors_many_tensors(folder):
    header = {f"{i}": {"dtype": "U8", "shape": [0], "data_offsets": [0, 0]} for i in range(50_001)}
    return safetensors(folder / "m.safetensors", header)


@case()
def safetensors_surrogate(folder):
    header = b'{"\\ud800":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'
    return safetensors(folder / "m.safetensors", header, bytes(4))


@case()
def safetensors_text_as_shape(folder):
    """A text, each character of which would be a size of its own."""
    shape = b'"' + "\U000e0001".encode() * 1_200_000 + b'"'
    header = b'{"a":{"dtype":"F32","shape":' + shape + b',"data_offsets":[0,4]}}'
    return safetensors(folder / "m.safetensors", header, bytes(4))


@case()
def safetensors_list(folder):
    return safetensors(folder / "m.safetensors", b'{"a":[1]}')


# Shards


def shard_index(folder, files):
    path = folder / "m.safetensors.index.json"
    path.write_text(json.dumps({"weight_map": files}))
    return path


def sharded(folder, names, shards, pattern):
    """Tensors of a byte each in some shards, whose names `pattern` gives; returns their index."""
    files = {}
    for i in range(shards):
        own, shard = names[i::shards], pattern.format(i + 1)
        header = {
            name: {"dtype": "U8", "shape": [1], "data_offsets": [j, j + 1]}
            for j, name in enumerate(own)
        }
        safetensors(folder / shard, header, bytes(len(own)))
        files |= dict.fromkeys(own, shard)
    return shard_index(folder, files)


@case()
def shards_itself(folder):
    return shard_index(folder, {f"a{i}": "m.safetensors.index.json" for i in range(20_000)})


@case()
def shards_of_indexes(folder):
    """Each of two names two more, 22 deep: four million ways."""
    for i in range(22):
        for side in "ab":
            files = {"x": f"{i + 1}a.index.json", "y": f"{i + 1}b.index.json"}
            (folder / f"{i}{side}.index.json").write_text(json.dumps({"weight_map": files}))
    return folder / "0a.index.json"


@case()
def shards_of_many_tensors(folder):
    """As large as that of DeepSeek-V3, with names like its own."""
    parts = [("gate_proj", "up_proj", "down_proj"), ("weight", "weight_scale_inv")]
    names = [
        f"model.layers.{layer}.mlp.experts.{expert}.{part}.{kind}"
        for layer in range(3, 63)
        for expert in range(256)
        for part in parts[0]
        for kind in parts[1]
    ]
    return sharded(folder, names[:91_991], 163, "model-{:05d}-of-000163.safetensors")


@case()
def shards_of_short_names(folder):
    """As many tensors as are allowed, in as few bytes as that takes."""
    return sharded(folder, [f"{i:048d}" for i in range(60_000)], 5, "{}.safetensors")


def many_names(path, first=0):
    """A file of PyTorch, compressed: one tensor under 49,000 names, numbers from `first` on."""
    group = b"".join(text(f"{i}") + b"h\x05" for i in range(first, first + 49_000))
    pickled = b"\x80\x02" + tensor() + b"q\x050}(" + group + b"u."
    return torch_zip(path, pickled, zipfile.ZIP_DEFLATED)


@case()
def shards_of_torch_names(folder):
    """Many names in each shard, of which one is listed."""
    for i in range(8):
        many_names(folder / f"{i}.bin", 49_000 * i)
    return shard_index(folder, {f"{49_000 * i}": f"{i}.bin" for i in range(8)})


@case()
def shards_of_unlisted_names(folder):
    """More names in the shards than are listed: only those are kept."""
    unlisted = [f"{i}" for i in range(5, 49_000)]
    for i in range(5):
        names = [f"{i}", *unlisted]
        header = {n: {"dtype": "U8", "shape": [0], "data_offsets": [0, 0]} for n in names}
        safetensors(folder / f"{i}.safetensors", header)
    return shard_index(folder, {f"{i}": f"{i}.safetensors" for i in range(5)})


@case()
def shards_of_too_many_tensors(folder):
    return sharded(folder, [f"{i}" for i in range(100_000)], 5, "{}.safetensors")


@case()
def shards_above(folder):
    return shard_index(folder, {"x": ".."})


@case()
def shards_null(folder):
    return shard_index(folder, {"x": "a\0b"})


@case()
def shards_nothing(folder):
    return shard_index(folder, {})


@case()
def shards_list(folder):
    return shard_index(folder, ["a"])


@case()
def shards_deep(folder):
    path = folder / "m.safetensors.index.json"
    path.write_bytes(b"[" * 1_000_000)
    return path


@case()
def shards_long_name(folder):
    return shard_index(folder, {"x": "a" * 5000})


@case()
def shards_hdf5(folder):
    """Each would be read by a process of its own."""
    shutil.copy(GOLDENS / "arrays.npz", folder)
    return shard_index(folder, {"x": "arrays.npz"})


@case()
def shards_link(folder):
    """A link to a file elsewhere: as in the caches of hubs."""
    (folder / "x.safetensors").symlink_to(GOLDENS / "brain.safetensors")
    names = list(open_checkpoint(GOLDENS / "brain.safetensors"))
    return shard_index(folder, dict.fromkeys(names, "x.safetensors"))


@case()
def shards_links_to_one(folder):
    """It would be opened for each of them."""
    header = {
        f"t{i}": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]} for i in range(45_000)
    }
    safetensors(folder / "x.safetensors", header)
    for i in range(40):
        (folder / f"{i}.safetensors").symlink_to("x.safetensors")
    return shard_index(folder, {f"t{i}": f"{i}.safetensors" for i in range(40)})


@case()
def shards_pipe(folder):
    os.mkfifo(folder / "x.safetensors")
    return shard_index(folder, {"x": "x.safetensors"})


# Megatron


def megatron(folder, shapes, numbers=(0, 1), name="x.query_key_value.weight"):
    """A file for each rank, with one tensor of each of `shapes`."""
    for rank, shape in zip(numbers, shapes, strict=True):
        strides = [int(np.prod(shape[i + 1 :])) for i in range(len(shape))]
        pickled = (
            b"\x80\x02}" + text("module") + b"}" + text(name) + tensor(shape, strides) + b"ss."
        )
        torch_zip(folder / f"mp_rank_{rank:02d}_model_states.pt", pickled)
    return folder


@case()
def megatron_links(folder):
    path = megatron(folder, [(3, 4)], [0])
    (path / "mp_rank_01_model_states.pt").symlink_to("mp_rank_00_model_states.pt")
    return path


@case()
def megatron_scalar(folder):
    return megatron(folder, [(), ()])


@case()
def megatron_no_third(folder):
    return megatron(folder, [(2, 2), (2, 2)])


@case()
def megatron_vector(folder):
    return megatron(folder, [(4,), (4,)], name="y.mlp.dense_4h_to_h.weight")


@case()
def megatron_gap(folder):
    return megatron(folder, [(3,), (3,)], (0, 2))


@case()
def megatron_repeated(folder):
    """Values that repeat: 800 MB in 18 kB, once the ranks are joined."""
    wide = tensor((1 << 20,), (0,), storage_of("ComplexDoubleStorage", 1))
    for rank in range(50):
        pickled = b"\x80\x02}" + text("word_embeddings.weight") + wide + b"s."
        torch_zip(folder / f"mp_rank_{rank:02d}_model_states.pt", pickled)
    return folder


@case()
def megatron_many_names(folder):
    for rank in range(8):
        many_names(folder / f"mp_rank_{rank:02d}_model_states.pt")
    return folder


@case()
def megatron_two_of_one_name(folder):
    items = b"".join(
        text(f"x.query_key_value.{name}") + tensor((3,)) for name in ("query.weight", "weight")
    )
    torch_zip(folder / "mp_rank_00_model_states.pt", b"\x80\x02}(" + items + b"u.")
    return folder


def megatron_ranks(folder, strides=(1, 1), **counters):
    """Two ranks with a vector that both have, and with counters: name -> its value in each rank."""
    for rank, stride in enumerate(strides):
        module = b"}" + text("position_embeddings.weight") + tensor((2,), (stride,)) + b"s"
        told = b"".join(text(name) + number(values[rank]) for name, values in counters.items())
        torch_zip(
            folder / f"mp_rank_{rank:02d}_model_states.pt",
            b"\x80\x02}(" + text("module") + module + told + b"u.",
        )
    return folder


@case()
def megatron_one_checkpoint(folder):
    counters = {"iteration": (5, 5), "mp_world_size": (2, 2), "checkpoint_version": (0, 0)}
    return megatron_ranks(folder, **counters)


@case()
def megatron_two_checkpoints(folder):
    """What is the same in all ranks of one checkpoint differs."""
    return megatron_ranks(folder, (1, 3))


@case()
def megatron_two_iterations(folder):
    return megatron_ranks(folder, iteration=(5, 6))


@case()
def megatron_rank_missing(folder):
    return megatron_ranks(folder, mp_world_size=(4, 4))


@case()
def megatron_other_layout(folder):
    """Since version 1, queries, keys and values lie otherwise in the file."""
    return megatron_ranks(folder, checkpoint_version=(2, 2))


@case()
def megatron_shapes(folder):
    return megatron(folder, [(3, 1), (3,)])


# What is no file


@case()
def name_too_long(folder):
    return folder / ("a" * 300)


@case()
def name_with_null(folder):
    return folder / "a\0b"


@case()
def pipe(folder):
    os.mkfifo(folder / "a.safetensors")
    return folder


@case()
def device(folder):
    (folder / "a.safetensors").symlink_to("/dev/zero")
    return folder


# Configs

SIZES = {
    "vocab_size": 9, "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2,
    "intermediate_size": 8,
}  # fmt: skip


def config(folder, content):
    path = folder / "config.json"
    path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    return path


@case(read_config)
def config_no_activation(folder):
    return config(folder, SIZES | {"hidden_act": []})


@case(read_config)
def config_no_heads(folder):
    return config(folder, SIZES | {"num_attention_heads": 0})


@case(read_config)
def config_no_layers(folder):
    return config(folder, SIZES | {"num_hidden_layers": 0})


@case(read_config)
def config_huge_size(folder):
    """Larger than any floating point number."""
    return config(folder, SIZES | {"hidden_size": 10**400})


@case(read_config)
def config_infinite_rate(folder):
    return config(folder, SIZES | {"initializer_range": float("inf")})


@case(read_config)
def config_dropout_of_two(folder):
    return config(folder, SIZES | {"hidden_dropout_prob": 2})


@case(read_config)
def config_huge_gpt(folder):
    return config(folder, {"n_embd": [0] * 1000, "n_head": 1, "n_layer": 1, "n_vocab": 9})


@case(read_config)
def config_gate_of_nothing(folder):
    return config(folder, SIZES | {"model_type": "t5", "feed_forward_proj": "gated-"})


@case(read_config)
def config_unknown_keys(folder):
    """Each would be compared with all that are known."""
    return config(folder, SIZES | {f"made_up_{i}": 1 for i in range(60_000)})


@case(lambda path: len(published.read_config(path)))
def config_repeating_key(folder):
    return config(folder, {"token_id" * 100_000 + "\nx": 1})


@case(lambda path: len(published.check_unknown_keys(published.read_config(path), str(path))))
def config_repeating_geometry(folder):
    return config(folder, {"norm_" * 100_000 + "\nx": 1})


@case(lambda path: recognition.recognize(published.read_config(path)))
def config_repeating_class(folder):
    return config(folder, {"architectures": ["ForA" * 1_000_000 + "!"]})


@case(lambda path: len(published.read_config(path)))
def config_many_notes(folder):
    """An object with nearly as many keys as may be."""
    notes = ",".join(f'"_{i:x}":0' for i in range(300_000))
    return config(folder, f"{{{notes}}}".encode())


@case(read_config)
def config_deep(folder):
    return config(folder, b"[" * 1_000_000)


@case(read_config)
def config_deep_value(folder):
    return config(folder, b'{"unknown_size":' + b"[" * 900 + b"]" * 900 + b"}")


@case(read_config)
def config_wide(folder):
    return config(folder, b"[" + b"[]," * 2_000_000 + b"[]]")


@case(read_config)
def config_nested_objects(folder):
    """An object takes more memory than anything else does for its length."""
    nested = b'{"a":' * 90 + b"1" + b"}" * 90
    return config(folder, b'{"a":[' + b",".join([nested] * 9000) + b"]}")


@case(read_config)
def config_huge_number(folder):
    return config(folder, b'{"hidden_size":' + b"9" * 100_000 + b"}")


@case(read_config)
def config_surrogate(folder):
    return config(folder, b'{"model_type": "\\ud800"}')


@case(read_config)
def config_unhashable_type(folder):
    return config(folder, SIZES | {"model_type": ["bert"]})


@case(read_config)
def config_list_of_positions(folder):
    return config(folder, SIZES | {"max_position_embeddings": {}, "type_vocab_size": 1})


@case(read_config)
def config_pipe(folder):
    os.mkfifo(folder / "config.json")
    return folder / "config.json"


@case(lambda path: published.check_unknown_keys(published.read_config(path), str(path)))
def config_long_key(folder):
    (folder / "config.json").write_text(json.dumps({"k" * 4_900_000: 1}))
    return folder / "config.json"


@case(read_config)
def config_device(folder):
    (folder / "config.json").symlink_to("/dev/zero")
    return folder / "config.json"


# Tokenizers


def vocabulary(folder, **files):
    """A small vocabulary, with files beside it; returns the path of the last of these."""
    path = folder / "vocab.txt"
    path.write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"今天天气不错"]))
    for name, content in files.items():
        path = folder / f"{name}.json"
        path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    return path


DEEP = b'{"a":' + b"[" * 200_000 + b"]" * 200_000 + b"}"
WIDE = b'{"a":[' + b"[]," * 2_000_000 + b"[]]}"


@case(read_tokenizer)
def tokenizer_json_deep(folder):
    return vocabulary(folder, tokenizer=DEEP)


@case(read_tokenizer)
def tokenizer_json_wide(folder):
    return vocabulary(folder, tokenizer=WIDE)


@case(read_tokenizer)
def tokenizer_json_nested_parts(folder):
    part = {"type": "BertPreTokenizer"}
    for _ in range(20):
        part = {"type": "Sequence", "pretokenizers": [part]}
    for _ in range(20):
        part = {"type": "Sequence", "pretokenizers": part}
    model = {"type": "WordPiece", "vocab": {"[UNK]": 0}}
    content = {"model": model, "normalizer": NORMALIZER, "pre_tokenizer": part}
    return vocabulary(folder, tokenizer=content)


NORMALIZER = {
    "type": "BertNormalizer", "clean_text": True, "handle_chinese_chars": True, "lowercase": True,
}  # fmt: skip


def wordpiece(vocab, **fields):
    """The contents of a `tokenizer.json`."""
    return {
        "normalizer": NORMALIZER,
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "model": {
            "type": "WordPiece", "unk_token": "[UNK]", "max_input_chars_per_word": 100,
            "vocab": vocab, **fields,
        },
    }  # fmt: skip


@case(read_tokenizer)
def tokenizer_json_huge_id(folder):
    content = wordpiece({"[UNK]": 0, "[CLS]": 1 << 40, "[SEP]": 2})
    path = vocabulary(folder, tokenizer=content)
    (folder / "vocab.txt").unlink()
    return path


@case(read_tokenizer)
def tokenizer_config_deep(folder):
    return vocabulary(folder, tokenizer_config=DEEP)


@case(read_tokenizer)
def tokenizer_config_lists(folder):
    return vocabulary(folder, tokenizer_config={"never_split": [[[]]], "do_lower_case": True})


@case(read_tokenizer)
def generation_config_deep(folder):
    return vocabulary(folder, generation_config=DEEP)


@case(read_tokenizer)
def generation_config_end(folder):
    return vocabulary(folder, generation_config={"eos_token_id": ["x" * 100_000]})


@case(read_chat)
def chat_template_list(folder):
    return vocabulary(folder, tokenizer_config={"chat_template": [{"name": [], "template": "a"}]})


@case(read_chat)
def chat_template_loops(folder):
    loop = "{% for i in range(100000) %}" * 5 + "{% endfor %}" * 5
    return vocabulary(folder, tokenizer_config={"chat_template": loop})


@case(read_chat)
def chat_template_doubles(folder):
    text = "{% set n = namespace(l=[[]]) %}{% for i in range(100) %}{% set n.l = n.l + n.l %}"
    return vocabulary(folder, tokenizer_config={"chat_template": text + "{% endfor %}{{ n.l }}"})


@case(read_chat)
def chat_template_class(folder):
    text = "{{ ''.__class__.__mro__[1].__subclasses__() }}"
    return vocabulary(folder, tokenizer_config={"chat_template": text})


@case(read_chat)
def chat_template_pipe(folder):
    os.mkfifo(folder / "chat_template.jinja")
    return vocabulary(folder)


@case(read_chat)
def chat_template_long(folder):
    (folder / "chat_template.jinja").write_text("{{ a }}" * 100_000)
    return vocabulary(folder)


@case(read_tokenizer)
def tokenizer_config_class(folder):
    return vocabulary(folder, tokenizer_config={"tokenizer_class": 0.5})


@case(read_tokenizer)
def tokenizer_config_long_key(folder):
    return vocabulary(folder, tokenizer_config={"k" * 100_000: "v" * 100_000})


@case(read_tokenizer)
def tokenizer_config_repeating_key(folder):
    return vocabulary(folder, tokenizer_config={"template" * 100_000 + "\nx": 1})


@case(read_tokenizer)
def added_tokens_many(folder):
    """Nearly as many as are allowed."""
    return vocabulary(folder, added_tokens={f"<{i}>": 11 + i for i in range(60_000)})


@case(read_tokenizer)
def added_tokens_too_many(folder):
    return vocabulary(folder, added_tokens={f"<{i}>": 11 + i for i in range(200_000)})


@case(read_tokenizer)
def added_tokens_of_all_lengths(folder):
    return vocabulary(folder, added_tokens={"今" * (i + 2): 11 + i for i in range(700)})


@case(read_tokenizer)
def added_tokens_deep(folder):
    return vocabulary(folder, added_tokens=DEEP)


@case(read_tokenizer)
def added_tokens_huge_id(folder):
    return vocabulary(folder, added_tokens={"<a>": 1 << 62})


@case(read_tokenizer)
def added_tokens_surrogate(folder):
    return vocabulary(folder, added_tokens=b'{"\\ud800": 11}')


@case(read_tokenizer)
def special_tokens_wide(folder):
    return vocabulary(folder, special_tokens_map=WIDE)


@case(read_tokenizer)
def tokenizer_config_pipe(folder):
    vocabulary(folder)
    os.mkfifo(folder / "tokenizer_config.json")
    return folder / "tokenizer_config.json"


@case(lambda path: tokenizers.Tokenizer(path).vocab_size)
def vocab_pipe(folder):
    os.mkfifo(folder / "vocab.txt")
    return folder / "vocab.txt"


@case(lambda path: tokenizers.Tokenizer(path).vocab_size)
def vocab_device(folder):
    (folder / "vocab.txt").symlink_to("/dev/zero")
    return folder / "vocab.txt"


@case(lambda path: tokenizers.Tokenizer(path).vocab_size)
def vocab_short_lines(folder):
    """A million tokens of up to five digits each."""
    lines = b"".join(b"%x\n" % i for i in range(1_000_000))
    (folder / "vocab.txt").write_bytes(lines)
    return folder / "vocab.txt"


@case(lambda path: tokenizers.Tokenizer(path).vocab_size)
def vocab_empty_lines(folder):
    (folder / "vocab.txt").write_bytes(b"[UNK]\n[CLS]\n[SEP]\n" + b"\n" * 5_000_000 + b"a")
    return folder / "vocab.txt"


@case(read_tokenizer)
def vocab_long_line(folder):
    """Of words that would each take as much memory as ten times their length."""
    path = vocabulary(folder)
    path.write_text(path.read_text() + "\na " + "ab " * 5_000_000)
    return path


@case(read_tokenizer)
def tokenizer_json_long_token(folder):
    return vocabulary(folder, tokenizer=wordpiece({"[UNK]": 0, "ab " * 5_000_000: 1}))


@case(read_tokenizer)
def tokenizer_json_long_word(folder):
    content = wordpiece({"[UNK]": 0}, max_input_chars_per_word=-1)
    return vocabulary(folder, tokenizer=content)


@case(read_tokenizer)
def tokenizer_json_long_words(folder):
    content = wordpiece({"[UNK]": 0, "a" * 8000: 1}, max_input_chars_per_word=2**31 - 1)
    return vocabulary(folder, tokenizer=content)


@case(read_tokenizer)
def tokenizer_config_long_words(folder):
    return vocabulary(folder, tokenizer_config={"max_input_chars_per_word": 1001})


@case(read_tokenizer)
def tokenizer_json_long_merge(folder):
    model = {"type": "BPE", "vocab": {"a": 0}, "merges": ["ab " * 5_000_000]}
    content = {"model": model, "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False}}
    (folder / "tokenizer.json").write_text(json.dumps(content))
    return folder / "tokenizer.json"


@case(read_tokenizer)
def tokenizer_json_many_patterns(folder):
    """Each takes a twentieth of a second to compile."""
    slow = "(?:a|b)?" * 100
    parts = [
        {"type": "Split", "pattern": {"Regex": f"(?:{slow}){{{i}}}"}, "behavior": "Isolated"}
        for i in range(1, 1000)
    ]
    parts = [{**part, "invert": False} for part in parts]
    parts.append({"type": "ByteLevel", "add_prefix_space": False})
    splits = {"type": "Sequence", "pretokenizers": parts}
    content = {"model": {"type": "BPE", "vocab": {"a": 0}, "merges": []}, "pre_tokenizer": splits}
    (folder / "tokenizer.json").write_text(json.dumps(content))
    return folder / "tokenizer.json"


@case(lambda path: f"{len(read_sentence_files(path.parent).modules)} modules")
def sentences_of_one_module(folder):
    """A layer is in the list again and again, and would take memory each time."""
    (folder / "2_Dense").mkdir()
    weights = {"linear.weight": np.ones((1024, 1024), "float16")}
    checkpoints.save_checkpoint(folder / "2_Dense/model.safetensors", weights, "safetensors")
    kinds = [("Transformer", ""), ("Pooling", "1_Pooling"), *[("Dense", "2_Dense")] * 62]
    rows = [{"type": f"sentence_transformers.models.{kind}", "path": path} for kind, path in kinds]
    (folder / "modules.json").write_text(json.dumps(rows))
    return folder / "modules.json"


@case(lambda path: tokenizers.SpTokenizer(path).vocab_size)
def sentencepiece_pipe(folder):
    os.mkfifo(folder / "spiece.model")
    return folder / "spiece.model"


@case(lambda path: tokenizers.SpTokenizer(path).vocab_size)
def sentencepiece_zeros(folder):
    (folder / "spiece.model").write_bytes(bytes(1 << 20))
    return folder / "spiece.model"


def pieces(folder, *plain):
    """A sentencepiece model."""
    special = [("<unk>", 2), ("<s>", 3), ("</s>", 3)]
    fields = []
    for i, (piece, kind) in enumerate([*special, *((piece, 1) for piece in plain)]):
        field = encode_field(1, piece.encode()) + b"\x15" + struct.pack("<f", -i / 1e4)
        fields.append(encode_field(1, field + encode_field(3, kind)))
    (folder / "spiece.model").write_bytes(b"".join(fields))
    return folder / "spiece.model"


@case(read_tokenizer)
def sentencepiece_many_pieces(folder):
    return pieces(folder, *(f"{i:x}" for i in range(300_000)))


def short_pieces(folder, count):
    """As many pieces of four letters, without scores: eight bytes each."""
    letters = "".join(map(chr, range(0x30, 0x7F)))
    texts = ("".join(letters[i // 79**n % 79] for n in range(4)) for i in range(count))
    fields = (encode_field(1, encode_field(1, text.encode())) for text in texts)
    path = pieces(folder)
    path.write_bytes(path.read_bytes() + b"".join(fields))
    return path


@case(read_tokenizer)
def sentencepiece_most_pieces(folder):
    """As many as may be in so small a file; and all of them are put in another order."""
    (folder / "keep_tokens.json").write_text(json.dumps([0, 2, 1, *range(270_002, 2, -1)]))
    return short_pieces(folder, 270_000)


@case(read_tokenizer)
def sentencepiece_too_many_pieces(folder):
    return short_pieces(folder, 700_000)


@case(read_tokenizer)
def sentencepiece_symbols(folder):
    """Empty texts among the settings, each of which takes 13 times its bytes."""
    return with_replacements(folder, encode_field(2, encode_field(31, b"") * 3_000_000))


@case(read_tokenizer)
def sentencepiece_of_xlm_r(folder):
    """As large as XLM-R's: 250,002 pairs of a piece and its score in 9 MB, and an emoji."""
    names = ["<unk>", "<s>", "</s>", "😂"]
    for i in range(249_998):
        digits = [i // 20**n % 20 for n in range(5)]
        letters = (
            "的一是在不了有和人这中大为上个国我以要他" if i % 4 == 0 else "etaoinsrhldcumfpgwyb"
        )
        piece = "".join(letters[n] for n in digits)
        names.append(f"▁{piece}")
    path = pieces(folder, *names[3:])
    scored = [[name, float(np.float32(-i / 1e4))] for i, name in enumerate(names)]
    model = {"type": "Unigram", "unk_id": 0, "vocab": scored}
    cut = [{"type": "WhitespaceSplit"}, {"type": "Metaspace", "replacement": "▁"}]
    content = {"model": model, "pre_tokenizer": {"type": "Sequence", "pretokenizers": cut}}
    text = json.dumps(content, ensure_ascii=False, separators=(",", ":"))
    (folder / "tokenizer.json").write_text(text)
    return path


def with_unknown_fields(folder, *fields):
    """A sentencepiece model to be reduced, with fields that sentencepiece does not know."""
    path = pieces(folder, "▁", "a", "b")
    path.write_bytes(path.read_bytes() + b"".join(fields))
    (folder / "keep_tokens.json").write_text("[0, 2, 1, 4, 3, 5]")
    return path


@case(read_tokenizer)
def sentencepiece_long_number(folder):
    """A text of a megabyte that looks like a number, where a field before it has a length."""
    long = encode_field(101, b"\xff" * 1_000_000)
    return with_unknown_fields(folder, encode_field(100, len(long) - 1_000_000), long)


@case(read_tokenizer)
def sentencepiece_numbers(folder):
    """Numbers of all widths."""
    wide = encode_varint(102 << 3 | 1) + b"\xff" * 8 + encode_varint(103 << 3 | 5) + b"\xff" * 4
    return with_unknown_fields(folder, wide, encode_field(100, 200))


@case(read_tokenizer)
def sentencepiece_group(folder):
    return with_unknown_fields(folder, encode_varint(100 << 3 | 3) + encode_varint(100 << 3 | 4))


def with_replacements(folder, *fields):
    """A sentencepiece model with fields of what normalizes a text."""
    path = pieces(folder, "▁", "a")
    path.write_bytes(path.read_bytes() + b"".join(fields))
    return path


def charsmap(text):
    """A table that replaces each "a" by a text: the size of a trie, its 512 units, the text."""
    units = [0] * 512
    units[0] = 256 << 10
    units[256 ^ ord("a")] = 1 << 10 | 1 << 8 | ord("a")
    units[256 ^ ord("a") ^ 1] = 1 << 31
    return struct.pack("<I512I", 2048, *units) + text + b"\0"


@case(lambda path: tokenizers.SpTokenizer(path, token_end=None).encode("a" * 40))
def sentencepiece_long_replacement(folder):
    """Each "a" would become 16 MB."""
    return with_replacements(folder, encode_field(3, encode_field(2, charsmap(b"x" * (16 << 20)))))


@case(lambda path: tokenizers.SpTokenizer(path, token_end=None).decode([4] * 40))
def sentencepiece_long_replacement_decoding(folder):
    return with_replacements(folder, encode_field(5, encode_field(2, charsmap(b"x" * (16 << 20)))))


@case(lambda path: tokenizers.SpTokenizer(path, token_end=None).decode([0] * 40))
def sentencepiece_long_unknown(folder):
    return with_replacements(folder, encode_field(2, encode_field(44, b"x" * (16 << 20))))


@case(lambda path: tokenizers.SpTokenizer(path, token_end=None).encode("a" * 40))
def sentencepiece_wide_tag(folder):
    """The number of a field, of which sentencepiece takes 32 bits: field 3 to it."""
    normalizer = encode_field(2, charsmap(b"x" * (16 << 20)))
    wide = encode_varint(1 << 32 | 3 << 3 | 2) + encode_varint(len(normalizer)) + normalizer
    return with_replacements(folder, wide)


@case(lambda path: tokenizers.SpTokenizer(path, token_end=None).vocab_size)
def sentencepiece_no_text(folder):
    path = pieces(folder, "ab")
    path.write_bytes(path.read_bytes().replace(b"ab", b"a\xff"))
    return path


@case(read_tokenizer)
def extra_ids_many(folder):
    """As many as are allowed."""
    (folder / "tokenizer_config.json").write_text('{"extra_ids": 65536}')
    return pieces(folder, "a")


@case(read_tokenizer)
def extra_ids_too_many(folder):
    (folder / "tokenizer_config.json").write_text('{"extra_ids": 1000000000}')
    return pieces(folder, "a")


@case(read_tokenizer)
def extra_ids_negative(folder):
    (folder / "tokenizer_config.json").write_text('{"extra_ids": -5}')
    return pieces(folder, "a")


@case(lambda path: tokenizers.ByteBPETokenizer(path, path.with_name("merges.txt")).vocab_size)
def byte_bpe_deep(folder):
    (folder / "merges.txt").write_text("a b\n")
    (folder / "vocab.json").write_bytes(DEEP)
    return folder / "vocab.json"


@case(lambda path: tokenizers.ByteBPETokenizer(path.with_name("vocab.json"), path).vocab_size)
def byte_bpe_binary_merges(folder):
    (folder / "merges.txt").write_bytes(b"\xff" * 100)
    (folder / "vocab.json").write_text('{"a": 0}')
    return folder / "merges.txt"


@case(lambda path: tokenizers.ByteBPETokenizer(path.with_name("vocab.json"), path).vocab_size)
def byte_bpe_long_line(folder):
    (folder / "merges.txt").write_text("ab " * 5_000_000)
    (folder / "vocab.json").write_text('{"a": 0}')
    return folder / "merges.txt"


def four_letters(count, splits):
    """A vocabulary with so many tokens of four letters, and merges of each at so many places."""
    letters = "".join(map(chr, range(0x23, 0x5B)))
    tokens = ["".join(letters[i // 56**n % 56] for n in range(4)) for i in range(count)]
    vocab = {token: i for i, token in enumerate([*ALPHABET, *tokens])}
    return vocab, [f"{t[:n]} {t[n:]}" for n in range(1, splits + 1) for t in tokens]


def byte_bpe(folder, vocab, merges):
    (folder / "merges.txt").write_text("\n".join(merges))
    (folder / "vocab.json").write_text(json.dumps(vocab, separators=(",", ":")))
    return folder / "vocab.json"


@case(lambda path: tokenizers.ByteBPETokenizer(path, path.with_name("merges.txt")).vocab_size)
def byte_bpe_most_merges(folder):
    """Nearly as many as may be in so small files; their symbols are no tokens."""
    return byte_bpe(folder, *four_letters(80_000, 2))


@case(lambda path: tokenizers.ByteBPETokenizer(path.with_name("vocab.json"), path).vocab_size)
def byte_bpe_too_many_merges(folder):
    return byte_bpe(folder, *four_letters(130_000, 3)).with_name("merges.txt")


@case(read_tokenizer)
def tokenizer_json_too_many_merges(folder):
    vocab, merges = four_letters(130_000, 3)
    model = {"type": "BPE", "vocab": vocab, "merges": merges}
    content = {"model": model, "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False}}
    content["decoder"] = {"type": "ByteLevel"}
    (folder / "tokenizer.json").write_text(json.dumps(content, separators=(",", ":")))
    return folder / "tokenizer.json"


# Corpora and recipes


def lines(folder, *content):
    (folder / "a.jsonl").write_bytes(b"\n".join(content))
    return folder / "a.jsonl"


BRACKETS = b"[" * 200_000


@case(read_corpus)
def corpus_brackets(folder):
    return lines(folder, '{"text": "今天天气不错"}'.encode(), BRACKETS)


@case(read_corpus)
def corpus_surrogate(folder):
    return lines(folder, b'{"text": "a\\ud800b"}', b'{"text": "\\ud834\\udd1e"}')


def shard_of(folder, lists):
    """A corpus of one row, as long as one may be, with such lists in its record."""
    length = batches.LONGEST
    described = {"mode": "lm", "sequence_length": length, "record_length": length, "settings": {}}
    described |= {"vocab_size": 300, "vocabulary_sha256": "", "sentinel_ids": []}
    described |= {"special_ids": dict.fromkeys(("pad", "unk", "cls", "sep", "mask"), 0)}
    described |= {"shards": [{"name": "a.tfrecord", "examples": 1}]}
    (folder / shards.MANIFEST).write_text(json.dumps(described))
    entry = encode_field(1, b"token_ids") + encode_field(2, lists)
    shards.write_shard(str(folder / "a.tfrecord"), [encode_field(1, encode_field(1, entry))])
    return folder / "a.tfrecord"


@case(read_examples)
def shard_of_a_long_row(folder):
    numbers = b"\xff\x01" * batches.LONGEST
    return shard_of(folder, encode_field(3, encode_field(1, numbers)))


@case(read_examples)
def shard_of_a_longer_row(folder):
    numbers = b"\xff\x01" * (batches.LONGEST * 4)
    return shard_of(folder, encode_field(3, encode_field(1, numbers)))


@case(read_examples)
def shard_of_empty_lists(folder):
    return shard_of(folder, b"\x1a\x00" * (batches.LONGEST * 4))


@case(read_examples)
def shard_of_pieces(folder):
    return shard_of(folder, encode_field(3, b"\x0a\x02\xff\x01" * (batches.LONGEST * 3)))


@case(read_pairs)
def pairs_of_short_rows(folder):
    (folder / "a.tsv").write_bytes(b"\t\t\n" * 1_600_000)
    return folder / "a.tsv"


@case(read_pairs)
def pairs_of_many_columns(folder):
    (folder / "a.tsv").write_bytes("中\t".encode() * 4_000_000 + b"\n")
    return folder / "a.tsv"


@case(read_corpus)
def corpus_wide(folder):
    return lines(folder, b"[" + b"[]," * 2_000_000 + b"[]]")


def packed_lines(path, line, times, begin=b"", end=b""):
    """A compressed file with a piece of text again and again."""
    packer = zlib.compressobj(9, wbits=31)
    with open(path, "wb") as file:
        file.write(packer.compress(begin))
        for _ in range(times):
            file.write(packer.compress(line))
        file.write(packer.compress(end) + packer.flush())
    return path


@case(read_corpus)
def corpus_packed_line(folder):
    """600 MB of one line in 600 kB."""
    return packed_lines(folder / "a.txt.gz", b"a" * (1 << 20), 600)


@case(read_corpus)
def corpus_packed_json(folder):
    packed_lines(folder / "a.jsonl.gz", b"a" * (1 << 20), 600, b'{"text": "', b'"}')
    return folder / "a.jsonl.gz"


@case(read_corpus)
def corpus_packed_most(folder):
    """The longest line that may be, of characters that take four bytes each in memory."""
    packed_lines(folder / "a.jsonl.gz", b"a" * (1 << 20), 2, '{"text": "𝄞'.encode(), b'"}')
    return folder / "a.jsonl.gz"


@case(read_corpus)
def corpus_packed_document(folder):
    """Short lines without an empty one."""
    return packed_lines(folder / "a.txt.gz", b"a\n" * (1 << 19), 100)


@case(read_corpus)
def corpus_zstd_line(folder):
    import zstandard

    path = folder / "a.txt.zst"
    with open(path, "wb") as file, zstandard.ZstdCompressor().stream_writer(file) as packer:
        for _ in range(600):
            packer.write(b"a" * (1 << 20))
    return path


def read_cleaned(path):
    selection = documents.Selection(min_chinese=0.5)
    texts = [documents.clean(text) for text in read_documents(path)]
    chinese = sum(map(len, map(selection, texts)))
    digests = [duplicates.digest(text) for text in texts]
    return f"{sum(map(len, texts))} characters, {chinese} Chinese, {len(digests)} texts"


def packed_text(folder, piece):
    """A line of JSON of 4 MB, which is a piece of text again and again."""
    times = (4 << 20) // len(piece.encode())
    return packed_lines(folder / "a.jsonl.gz", piece.encode(), times, b'{"text":"', b'"}')


@case(read_cleaned)
def corpus_run_of_signs(folder):
    return packed_text(folder, "!")


@case(read_cleaned)
def corpus_runs_of_signs(folder):
    return packed_text(folder, "!!!!!!??????")


@case(read_cleaned)
def corpus_entities(folder):
    return packed_text(folder, "&a;")


@case(read_cleaned)
def corpus_short_words(folder):
    return packed_text(folder, "ab ")


@case(read_cleaned)
def corpus_short_tags(folder):
    return packed_text(folder, "ab<a>")


@case(read_cleaned)
def corpus_chinese(folder):
    path = folder / "a.jsonl"
    path.write_text(json.dumps({"text": "今天" * 700_000}, ensure_ascii=False), "utf-8")
    return path


@case(read_lines)
def corpus_packed_lines(folder):
    """60 MB of lines in 60 kB."""
    return packed_lines(folder / "a.txt.gz", (b"a" * 63 + b"\n") * (1 << 14), 60)


@case(read_lines)
def corpus_zstd_lines(folder):
    import zstandard

    (folder / "a.txt.zst").write_bytes(zstandard.compress((b"a" * 63 + b"\n") * (1 << 20)))
    return folder / "a.txt.zst"


@case(lambda path: "".join(map(documents.clean, read_documents(path)))[-9:])
def corpus_huge_entity(folder):
    """A number of more digits than Python reads."""
    return lines(folder, b'{"text": "&#' + b"1" * 5000 + b'; &amp; b"}')


@case(read_texts)
def texts_wide(folder):
    return lines(folder, b"[" + b"[]," * 2_000_000 + b"[]]")


@case(read_texts)
def texts_columns(folder):
    (folder / "a.txt").write_bytes(b"ab\t" * 3_000_000)
    return folder / "a.txt"


@case(read_texts)
def texts_brackets(folder):
    return lines(folder, '{"text": "今天天气真不错"}'.encode(), BRACKETS)


@case(read_texts)
def texts_deep(folder):
    deep = b"[" * 900 + '"今天天气真不错"'.encode() + b"]" * 900
    return lines(folder, deep)


@case(read_texts)
def texts_surrogate(folder):
    return lines(folder, '{"text": "今天天气真不错\\ud800"}'.encode())


def read_fingerprints(path):
    settings = corpus.Settings(str(path.parent), "mlm", "", 8, 1, document="line", unique=True)
    task = corpus.Task(settings, 0, (documents.Part(str(path)),))
    corpus.make_fingerprints(task)
    return f"{os.path.getsize(task.fingerprints_path)} bytes"


@case(read_fingerprints)
def corpus_short_lines(folder):
    (folder / "a.txt").write_bytes(b"a\n" * 1_000_000)
    return folder / "a.txt"


def read_log(path):
    table = log.Log(path, 10)
    table.write({"step": 2, "another": 1.5})
    return f"{sum(1 for _ in table.rows)} rows"


def table(folder, content):
    (folder / "log.csv").write_bytes(content)
    return folder / "log.csv"


@case(read_log)
def log_short_rows(folder):
    return table(folder, b"step,a,b,c\n" + b"1,1.5,1.5,1.5\n" * 400_000)


@case(read_log)
def log_many_columns(folder):
    return table(folder, b"step" + b"".join(b",%d" % i for i in range(1_000_000)) + b"\n")


def recipe(folder, content):
    (folder / "r.yaml").write_bytes(content)
    return folder / "r.yaml"


@case(load_recipe)
def recipe_references(folder):
    """A thousand million laughs."""
    levels = [b"a0: &a0 [lol, lol]"]
    levels += [
        b"a%d: &a%d [%s]" % (i, i, b", ".join([b"*a%d" % (i - 1)] * 9)) for i in range(1, 10)
    ]
    return recipe(folder, b"\n".join(levels))


@case(load_recipe)
def recipe_deep(folder):
    return recipe(folder, b"steps: " + b"[" * 5000)


@case(load_recipe)
def recipe_code(folder):
    return recipe(folder, b"steps: !!python/object/apply:os.system [exit]")


@case(load_recipe)
def recipe_date(folder):
    return recipe(folder, b"steps: 2020-99-99")


@case(load_recipe)
def recipe_huge_number(folder):
    """Larger than any floating point number."""
    return recipe(folder, b"learning_rate: 1" + b"0" * 400)


@case(load_recipe)
def recipe_long_number(folder):
    return recipe(folder, b"seed: 0x" + b"f" * 100_000)


@case(load_recipe)
def recipe_long_number_within(folder):
    return recipe(folder, b"masking: {rates: [1, 0x" + b"f" * 100_000 + b"]}")


@case(load_recipe)
def recipe_long_name(folder):
    return recipe(folder, b"? 0x" + b"f" * 100_000 + b"\n: 1")


@case(load_recipe)
def recipe_infinity(folder):
    return recipe(folder, b"learning_rate: .inf")


@case(load_recipe)
def recipe_sexagesimal(folder):
    """A floating point number in parts of sixty, larger than any."""
    return recipe(folder, b"seed: 1" + b":59" * 300 + b".5")


@case(load_recipe)
def recipe_minutes(folder):
    """A number in parts of sixty: 90, for YAML 1.1."""
    return recipe(folder, b"steps: 1:30")


@case(load_recipe)
def recipe_octal(folder):
    """15, for YAML 1.1."""
    return recipe(folder, b"steps: 017")


@case(load_recipe)
def recipe_null(folder):
    return recipe(folder, b'output: "a\\0b"')


@case(load_recipe)
def recipe_surrogate(folder):
    return recipe(folder, b'output: "a\\ud800b"')


@case(load_recipe)
def recipe_long(folder):
    return recipe(folder, b"steps: 1\n" * 100_000)


@case(load_recipe)
def recipe_of_short_values(folder):
    return recipe(folder, b"exclude_from_weight_decay: [%s]" % (b"1," * 110_000))


@case(load_recipe)
def recipe_of_key_marks(folder):
    """Each of which begins a mapping of nothing to nothing."""
    return recipe(folder, b"exclude_from_weight_decay: [%s]" % (b"?," * 65_000))


@case(load_recipe)
def recipe_pipe(folder):
    os.mkfifo(folder / "r.yaml")
    return folder / "r.yaml"


# Running


def limit(size, memory=True):
    """Limits this process: CPU seconds beside those it has taken, and memory beside what it has."""
    seconds = int(sum(os.times()[:2])) + CPU_SECONDS
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 1))
    if memory:
        with open("/proc/self/statm") as file:
            pages = int(file.read().split()[0])
        most = pages * resource.getpagesize() + MEMORY + TIMES * size
        resource.setrlimit(resource.RLIMIT_AS, (most, most))


def in_fork(function):
    """What `function()` returns, a string, of a fork of this process; and its wait status."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            os.close(reader)
            os.write(writer, function().encode("utf-8", "replace")[:60_000])
            status = 0
        finally:
            os._exit(status)
    os.close(writer)
    with open(reader, "rb") as file:
        said = file.read().decode("utf-8", "replace")
    return said, os.waitpid(child, 0)[1]


def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def outcome(read, path, size, in_child):
    """What comes of reading, as JSON."""
    before, started = peak(), sum(os.times()[:4])
    limit(size, memory=not in_child)
    try:
        told = {"outcome": "opened", "message": str(read(path))}
    except checkpoints.CheckpointError as error:
        told = {"outcome": "CheckpointError", "message": str(error)}
    except Exception as error:
        told = {"outcome": type(error).__name__, "message": str(error)}
    told |= {"grew": (peak() - before) << 10, "seconds": sum(os.times()[:4]) - started}
    return json.dumps(told)


def run(name, folder):
    """The outcome of one case: a dict."""
    make, read, in_child = CASES[name]
    folder.mkdir()
    said, status = in_fork(lambda: str(make(folder)))
    if status:
        raise RuntimeError(f"{name}: the file could not be made.")
    path = Path(said)
    files = [file for file in folder.rglob("*") if file.is_file() and not file.is_symlink()]
    size = sum(file.stat().st_size for file in files)
    told, status = in_fork(lambda: outcome(read, path, size, in_child))
    told = json.loads(told) if told else {"outcome": "died", "message": "", "grew": 0, "seconds": 0}
    return {"name": name, "size": size, "status": status, "path": str(path)} | told


def main():
    for name in sys.argv[1:] or CASES:
        with tempfile.TemporaryDirectory() as folder:
            print(json.dumps(run(name, Path(folder) / name)), flush=True)


if __name__ == "__main__":
    main()
